# %% [markdown]
"""# Attention views: of a tensor, a cache, a run, a change, and two runs side by side.

A view shows itself where a notebook displays it, and `save` writes it as one file that needs no network.
"""

# %%
import torch
from IPython.display import display

from plateau_interp import ModelOptions, Recipe, Run, TrainingOptions, toy_model
from plateau_interp.hooks import BiasAttention
from plateau_interp.optimizers import Adam
from plateau_interp.tasks import MovingWindowSum
from plateau_interp.views import attention_view, side_by_side

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
# fixed batch, and the signed pattern of one sequence.

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
fork = parent.fork(at=20, interventions=[BiasAttention(factor=10.0)], out="runs/attention_views/biased")
for _ in fork.train():
    pass
steps = [20, 30, 40, 50, 60]
pair = side_by_side(attention_view(parent, steps=steps), attention_view(fork, steps=steps), title="Run and fork")
display(pair)
print(f"drop at step {parent.summary.drop_step} without, {fork.summary.drop_step} with the factor")

# %% [markdown]
# ## A file
# One HTML file for a colleague, a talk or a paper's web page; pages with several views hold the JavaScript
# once.

# %%
for path in (view.save("runs/attention_views/view.html"), pair.save("runs/attention_views/pair.html")):
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
