# %% [markdown]
"""# Complete matrices: watch a model begin to fill in what it cannot see.

An encoder reads a matrix of rank 1, entry by entry, some of which are missing, and gives a number for each. For long it
copies what it sees and says 0 of the rest; then its loss drops. This is the small sister of "Abrupt Learning in
Transformers" (arXiv 2410.22244). It takes about a minute on two cores and keeps its run in `runs/matrix_completion`;
run again, it reads it from there. Open it as a notebook with jupytext, or run `python matrix_completion.py`.
"""

# %%
# %matplotlib inline
import pandas as pd
import torch

from plateau_interp import MeasuringOptions, Recipe, Run, TrainingOptions, intervening
from plateau_interp.analysis.answer_grids import grids_through_training
from plateau_interp.hooks import AblateHeads
from plateau_interp.reproductions.matrix_completion import copy_check
from plateau_interp.tasks import MatrixCompletion
from plateau_interp.views import attention_view, curves_figure, grid_figure, grid_view, save_figure

try:
    from IPython.display import display
except ModuleNotFoundError:  # run as a script; pictures are files in the end
    display = print

# %% [markdown]
# ## The task
# `X = u vᵀ` with fresh factors for each matrix, rounded to one decimal; three entries in ten are missing. The model
# reads a row of tokens, and should say a row of numbers:

# %%
task = MatrixCompletion(shapes=((3, 3),))
batch = task.sample(512, generator=torch.Generator().manual_seed(1))
print("reads:", *task.tokens_to_text(batch.tokens[0]))
print("right:", *(f"{value:.1f}" for value in batch.labels[0].tolist()))

# %% [markdown]
# What a model does that copies what it sees, and says 0 of what is missing, has a closed form:

# %%
display(pd.DataFrame(task.closed_forms, index=["all entries", "seen", "missing"]).round(4))

# %% [markdown]
# ## Train

# %%
recipe = Recipe(
    task,
    training=TrainingOptions(steps=3000),
    measuring=MeasuringOptions(every=20),
    checkpoint_every=250,
)
run = Run.create("runs/matrix_completion", recipe)
for step in run.train():
    if step.step % 500 == 0:
        print(f"step {step.step:4d}: missing entries {step.metrics['loss_missing']:.3f}, loss {step.loss:.3f}")

# %%
columns = ["loss_missing", "attention_on_row", "attention_on_column"]
figure = curves_figure(run.metrics.query("step >= 100"), columns, drops=[run.summary.drop_step])
display(figure)

# %% [markdown]
# ## Look at its answers
# On the left what is right, on the right what the model says. Outlined entries are missing. Move the slider: what is
# seen is copied after a few hundred steps; the outlined cells stay white until the drop.

# %%
view = grid_view(run)
display(view)

# %% [markdown]
# The same as a still picture, of one matrix:

# %%
steps = [0, 250, run.checkpoints[-1]]
grids = grids_through_training(run, steps=steps, batch=batch.take(torch.tensor([0])))
display(
    grid_figure(
        torch.stack([grids.truth[0], *grids.said[:, 0]]),
        ["right", *(f"step {step}" for step in steps)],
        asked=grids.asked[0],
    )
)

# %% [markdown]
# ## Which heads read rows and columns
# The share of each head's attention that is on the query's row, its column, itself, and on what is seen:

# %%
last = run.metrics.iloc[-1]
kinds = ("row", "column", "self", "observed")
heads = [(layer, head) for layer in range(2) for head in range(4)]
shares = {f"{layer}.{head}": [last[f"attention_on_{kind}_{layer}_{head}"] for kind in kinds] for layer, head in heads}
display(pd.DataFrame(shares, index=[f"on {kind}" for kind in kinds]).T.round(2))
print(task.remark(dict(last)))

# %%
display(attention_view(run, layer=0))

# %% [markdown]
# Without the heads of the first layer, that is, with each of them reading all entries alike, missing entries are lost
# again, and what is seen is copied still:

# %%
for name, plan in {
    "as it is": [],
    "first layer reads all alike": [AblateHeads([0, 1, 2, 3], layers=[0], by="uniform")],
}.items():
    model = run.model()
    with torch.no_grad(), intervening(model, *plan):
        losses = task.entry_losses(model(batch.inputs), batch)
    print(f"{name}: seen {float(losses.observed):.4f}, missing {float(losses.missing):.4f}")

# %% [markdown]
# ## Put a number where an entry is missing
# On the plateau the model copies whatever stands there; does it still, once it fills in what is missing? `to_value` is
# the mean squared distance of its answer from the number.

# %%
display(copy_check(run, steps=[1000, 3000], values=[0.4, -0.2]).round(4))

# %% [markdown]
# A figure becomes a PNG, PDF or SVG, a view one HTML file that needs no network:

# %%
print(save_figure(figure, "runs/matrix_completion/curves.png"), view.save("runs/matrix_completion/answers.html"))

# %% [markdown]
# Next: `plateau train matrix-completion` (4x4, two minutes to the drop), `plateau report` (these pictures on one page),
# and the paper's studies of such a run, `plateau_interp.reproductions.matrix_completion`.
