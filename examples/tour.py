# %% [markdown]
"""# A tour: train, look, intervene, compare.

You know TransformerLens; this shows what the suite adds: what happens *during* training, and what would have happened
if something had been different. It takes about a minute on two cores and keeps its runs in `runs/tour`; run again, it
reads them from there. Open it as a notebook with jupytext (JupyterLab, VS Code), or `jupytext --to ipynb tour.py`;
`python tour.py` prints the numbers and saves the pictures.
"""

# %%
# %matplotlib inline
import pandas as pd
import torch

from plateau_interp import MeasuringOptions, ModelOptions, Recipe, Run, TrainingOptions, intervening
from plateau_interp.analysis.forming import circuits
from plateau_interp.analysis.plateaus import compare
from plateau_interp.hooks import AblateHeads, BiasAttention, FixAttention, FreezeWeights
from plateau_interp.tasks import MovingWindowSum
from plateau_interp.training.optimizers import Adam
from plateau_interp.views import attention_view, circuit_view, curves_figure, save_figure, side_by_side

try:
    from IPython.display import display
except ModuleNotFoundError:  # run as a script; pictures are files in the end
    display = print

# %% [markdown]
# ## The task
# Twelve numbers, a separator `|`, twelve answers: the first answer copies the first number, each other one is
# the sum of two neighbours, modulo 17. The model reads everything and predicts the next token at each position.
# To answer it has to find out *where to look*; the task knows where (`task.optimal_attention`).

# %%
task = MovingWindowSum(n=12)
batch = task.sample(256, generator=torch.Generator().manual_seed(1))
print(*task.tokens_to_text(batch.tokens[0]))
print(task.levels)

# %% [markdown]
# `levels` are losses in closed form, in nats: of uniform guessing; of knowing the first answer alone (the
# plateau); of knowing all answers (the floor: the twelve numbers are random, nobody can predict them).
#
# ## Train
# A recipe says everything a run depends on. The run lives in a folder: metrics, checkpoints, resumable at any
# time.

# %%
recipe = Recipe(
    task,
    model=ModelOptions(d_model=128),  # one layer, one head, linear attention
    training=TrainingOptions(steps=160, batch_size=128, optimizer=Adam(learning_rate=1e-3)),
    measuring=MeasuringOptions(every=2),
)


def finish(run: Run) -> Run:
    """Train what is left of a run; the loop's body could measure, save or stop."""
    for step in run.train():
        if step.step % 20 == 0:
            print(f"{run.path.name}: step {step.step:3d}  loss {step.loss:.3f}  cosine {step.metrics['cosine']:.2f}")
    return run


run = finish(Run.create("runs/tour/plain", recipe))

# %% [markdown]
# The loss stood still, then fell at once. The summary reads both off the metrics, next to the closed form:

# %%
summary = run.summary
display(pd.DataFrame(summary.rows(), columns=["", run.path.name]).set_index(""))
figure = curves_figure(
    run.metrics, ["loss", "attention_progress", "cosine"], levels=task.levels, drops=[summary.drop_step]
)
display(figure)

# %% [markdown]
# On the plateau only the first answer is right, and early on the hidden states of all answers point the same way: the
# *cosine* is close to 1. *Attention progress*, the share of attention on the right positions, rises all along the
# plateau, while the loss hardly moves. At the plateau's first and last step:

# %%
by_step = run.metrics.set_index("step")
for when in (summary.start, summary.end):
    if when is not None:  # there is a plateau
        row = by_step.loc[when]
        print(f"step {when:3d}: loss {row.loss:.3f}, attention progress {row.attention_progress:.2f}")

# %% [markdown]
# ## Look
# The same through the checkpoints: move the slider, hover over a cell. Outlined cells are those the solution
# reads.

# %%
display(attention_view(run, steps=run.checkpoints))

# %% [markdown]
# ## Watch its circuit form
# A head's attention says where it looks; a circuit, which edges between the parts carry the answer. Every prompt is
# there twice, the second time with one number changed; an edge's score is about what the model's preference for the
# right answer changes by when that edge alone is cut. Move the slider: on the plateau the head writes to the logits,
# with the drop to the MLP, which knows how to add.

# %%
forming = circuits(run, n_pairs=32)
display(circuit_view(forming, run=run))
display(forming.edges().head(4))

# %% [markdown]
# `step` is the first checkpoint from which on an edge has half of its last score.
#
# ## Intervene on a forward pass
# `run.model(step)` is a HookedTransformer: `run_with_cache` and hooks work as ever. `intervening` attaches
# edits in the order given and takes them off again. Here: no attention at all, and the optimal map in place of
# the model's.

# %%
plans = {"as it is": [], "no attention": [AblateHeads([0])], "optimal map": [FixAttention()]}
losses = pd.DataFrame(index=list(plans), columns=["step 80", "step 160"], dtype=float)
for step in (80, 160):
    model = run.model(step)
    for name, plan in plans.items():
        with torch.no_grad(), intervening(model, *plan):
            losses.loc[name, f"step {step}"] = task.loss(model(batch.inputs), batch).item()
display(losses.round(3))

# %% [markdown]
# The trained model works almost as well with the optimal map, and knows nothing without attention. On the
# plateau the optimal map alone does not help: the rest of the model has not learned to use it. So what if
# training had gone on with better attention, or with none that learns?
#
# ## Intervene on training
# A fork goes on from a step, on the very batches its parent saw. One has its attention to the right positions
# multiplied by five from step 60 on; in the other, nothing that shapes the attention map learns any more.

# %%
biased = finish(run.fork(at=60, interventions=[BiasAttention(factor=5.0)], out="runs/tour/biased"))
frozen = finish(run.fork(at=60, interventions=[FreezeWeights("attention map")], out="runs/tour/frozen"))

# %% [markdown]
# ## Compare

# %%
runs = {each.path.name: each for each in (run, biased, frozen)}
table = compare({name: each.summary for name, each in runs.items()}).set_index("run")
display(table[["drop_step", "drop_step_change", "samples_to_95", "samples_to_95_change"]])
display(curves_figure({name: each.metrics for name, each in runs.items()}, ["loss", "accuracy"], levels=task.levels))

# %%
for name, each in runs.items():
    drop = each.summary.drop_step
    when = "no drop" if drop is None else f"the drop is at step {drop}"
    print(f"{name}: {when}; final loss {each.summary.final_loss:.3f}, plateau {task.levels.plateau:.3f}")

# %% [markdown]
# Helped to look, the model leaves the plateau earlier; forbidden to learn where, it stays. Side by side, with
# one slider (the weights' own attention; the edits are not applied):

# %%
steps = [60, 100, 120, 160]
pair = side_by_side(attention_view(run, steps=steps), attention_view(frozen, steps=steps))
display(pair)

# %% [markdown]
# A figure becomes a PNG, PDF or SVG, a view one HTML file that needs no network:

# %%
print(save_figure(figure, "runs/tour/curves.png"), pair.save("runs/tour/attention.html"))

# %% [markdown]
# Next: `attention_views.py` (all ways to look), `compose_hooks.py` (several edits at once),
# `plateau_interp.hooks` (all edits), `patch_mid_training.py` (training as a plain Python loop). On the command
# line: `plateau train`, `plateau fork`, `plateau compare`, `plateau report`.
