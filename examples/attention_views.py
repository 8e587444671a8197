# %% [markdown]
"""# Attention views: of a tensor, a cache, a run, a change, captured steps, and two runs side by side.

A view shows itself where a notebook displays it, and `save` writes it as one file that needs no network. At the end,
two kinds of maps for a paper: collapse through time, and what each position is worth.
"""

# %%
# %matplotlib inline
import torch

from plateau_interp import ModelOptions, Recipe, Run, TrainingOptions, intervening, toy_model
from plateau_interp.hooks import BiasAttention, MaskAttention
from plateau_interp.interventions.capturing import Capture, Captured
from plateau_interp.tasks import MovingWindowSum
from plateau_interp.training.optimizers import Adam
from plateau_interp.types import answer_rows
from plateau_interp.views import (
    attention_view,
    cosine_figure,
    cosine_matrices,
    effect_figure,
    save_figure,
    side_by_side,
)

try:
    from IPython.display import display
except ModuleNotFoundError:  # run as a script; pictures are files in the end
    display = print

# %% [markdown]
# ## A tensor
# Any pattern `[head, query, key]` or `[layer, head, query, key]`. Negative weights have a colour of their own,
# and the legend states the range: nothing is cut off. Click a head; hover over a cell.

# %%
generator = torch.Generator().manual_seed(0)
pattern = torch.randn(3, 6, 6, generator=generator).tril()
display(attention_view(pattern, tokens=["The", "cat", "sat", "on", "the", "mat"]))

# %% [markdown]
# ## A cache
# What `run_with_cache` returns, of any HookedTransformer; the first sequence of the batch is shown.

# %%
task = MovingWindowSum(n=8, p=11)
softmax = toy_model(task, attention="softmax", n_heads=4, d_model=64)
tokens = task.sample(8, generator=generator).inputs
_, cache = softmax.run_with_cache(tokens)
display(attention_view(cache, layer=0, heads=[0, 3], tokens=task.tokens_to_text(tokens[0])))

# %% [markdown]
# ## A run through training
# A small run, trained here in some seconds. The slider moves through the checkpoints, the marker along the
# loss. Outlined cells are those that the solution reads. Two readings: the share of attention, mean over a
# fixed batch, and the signed pattern of its first sequence.

# %%
recipe = Recipe(
    task,
    model=ModelOptions(d_model=128),
    training=TrainingOptions(steps=60, batch_size=256, optimizer=Adam(learning_rate=1e-3)),
    checkpoint_every=10,
)
parent = Run.create("runs/attention_views/plain", recipe)
for _ in parent.train():
    pass
print(parent)
view = attention_view(parent, steps=parent.checkpoints)
display(view)

# %% [markdown]
# ## The difference between two steps
# `relative_to` takes the map of one step from all of them: what has changed since, in two colours.

# %%
display(attention_view(parent, steps=[20, 40, 60]).relative_to(20))

# %% [markdown]
# ## Two runs side by side
# A fork whose attention to the right positions counts ten times from step 20 on. One slider and one colour scale
# for both. Shown is what the weights do by themselves, without the factor: those of the fork look less at the
# outlined cells, because the factor does it for them.

# %%
captured = "runs/attention_views/captured"
capture = Capture(("blocks.0.attn.hook_pattern",), out=captured, every=5, sequences=16)
fork = parent.fork(at=20, interventions=[BiasAttention(factor=10.0), capture], out="runs/attention_views/biased")
for _ in fork.train():
    pass
steps = [20, 30, 40, 50, 60]
pair = side_by_side(attention_view(parent, steps=steps), attention_view(fork, steps=steps), title="Run and fork")
display(pair)
print(f"drop at step {parent.summary.drop_step} without, {fork.summary.drop_step} with the factor")

# %% [markdown]
# ## Captured steps
# The fork also recorded its patterns while it trained (`Capture`), after the factor: this is what its model used.

# %%
recorded = Captured(captured)
display(attention_view(recorded, steps=recorded.steps, run=fork))

# %% [markdown]
# ## Maps for a paper
# Collapse: the cosine between the hidden states of each two answers. On the plateau all but the first point the
# same way.

# %%
matrices = cosine_figure(cosine_matrices(parent, [0, 20, 40, 60]), [0, 20, 40, 60])
display(matrices)

# %% [markdown]
# Ablation: by how much the loss grows if no answer may look at a position. On the plateau
# only the first number matters, which is copied; in the end each of them is needed.

# %%
batch = task.sample(256, generator=generator)
rows = list(range(*answer_rows(task).indices(task.n_pos)))
effects = torch.zeros(4, task.n)
with torch.no_grad():
    for at, step in enumerate([0, 20, 40, 60]):
        model = parent.model(step)
        before = task.loss(model(batch.inputs), batch)
        for position in range(task.n):
            with intervening(model, MaskAttention(keys=[position], rows=rows)):
                effects[at, position] = task.loss(model(batch.inputs), batch) - before
steps_named, keys_named = [f"step {step}" for step in (0, 20, 40, 60)], [f"x_{key + 1}" for key in range(task.n)]
change = {"title": "A position is hidden", "label": "change of the loss (nats)"}
display(effect_figure(effects, rows=steps_named, columns=keys_named, **change))
save_figure(matrices, "runs/attention_views/collapse.pdf")

# %% [markdown]
# ## A file
# One HTML file for a colleague, a talk or a paper's web page; pages with several views hold the JavaScript
# once.

# %%
for path in (view.save("runs/attention_views/view.html"), pair.save("runs/attention_views/pair.html")):
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
