# %% [markdown]
"""# Compose interventions on one forward pass and read what each of them did.

Run it: python examples/compose_hooks.py (or open it as a notebook, with jupytext)
"""

# %%
import torch

from plateau_interp import intervening, toy_model
from plateau_interp.hooks import AblateHeads, BiasAttention, FixAttention, MaskAttention
from plateau_interp.metrics import attention_progress
from plateau_interp.tasks import MovingWindowSum
from plateau_interp.types import answer_rows

# %% [markdown]
# An untrained model with four heads, and the positions that the task's solution reads (`target`).

# %%
task = MovingWindowSum()
model = toy_model(task, n_heads=4)
batch = task.sample(64, generator=torch.Generator().manual_seed(0))
rows = answer_rows(task)
(target,) = task.optimal_attention(batch)


def progress() -> float:
    """Share of the answer rows' attention that falls on the target positions."""
    _, cache = model.run_with_cache(batch.inputs, names_filter="blocks.0.attn.hook_pattern")
    return attention_progress(cache["blocks.0.attn.hook_pattern"][:, :, rows], target[:, rows]).mean().item()


# %% [markdown]
# Interventions are plain values. `intervening` applies them in the order given, and what a cache sees is the
# edited pattern. On leaving, also by an error, the model is as it was. Each receipt says how often its
# intervention fired, where and by how much; the changes are over the entries that it touched.

# %%
plans = {
    "nothing": (),
    "ten times the weight on the targets": (BiasAttention(factor=10.0),),
    "the same, and heads 0 and 1 silenced": (BiasAttention(factor=10.0), AblateHeads([0, 1])),
    "the optimal map in place of the model's": (FixAttention(),),
    "the optimal map, its first key forbidden": (FixAttention(), MaskAttention(keys=[0])),
}
for name, plan in plans.items():
    with intervening(model, *plan) as receipts:
        print(f"{name}: attention progress {progress():.3f}")
    for receipt in receipts:
        print("   ", receipt.describe())
