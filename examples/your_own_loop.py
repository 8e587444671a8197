"""A training loop of your own, a model of your own, no task: interventions, a schedule, captured attention, a view.

The model learns to repeat what it read. Its first layer is helped to look in the right place from a fifth to two fifths
of the training; `advance` is the one line that a loop adds for that.

Run it: python examples/your_own_loop.py [STEPS]     (default 200: ten seconds)
"""

import shutil
import sys

import torch
from transformer_lens import HookedTransformer, HookedTransformerConfig

from plateau_interp import Capture, Captured, advance, intervening, metrics, views
from plateau_interp.hooks import BiasAttention, ClipGradient, During

STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 200
LENGTH, WORDS, OUT = 12, 24, "runs/your_own_loop"
PATTERN = "blocks.0.attn.hook_pattern"

config = HookedTransformerConfig(
    n_layers=2,
    n_heads=2,
    d_model=64,
    d_head=32,
    n_ctx=2 * LENGTH - 1,
    d_vocab=WORDS,
    act_fn="gelu",
    normalization_type="LN",
    seed=0,
)
model = HookedTransformer(config)
optimizer = torch.optim.Adam(model.parameters(), lr=3e-4)
generator = torch.Generator().manual_seed(0)

# Row LENGTH - 1 + i has to predict word i, which stands at position i: the entries of a diagonal. The causal mask is
# the model's affair; a map says what is meant, [query, key].
rows = torch.arange(LENGTH - 1, 2 * LENGTH - 1)
targets = torch.zeros(2 * LENGTH - 1, 2 * LENGTH - 1, dtype=torch.bool)
targets[rows, rows - (LENGTH - 1)] = True

interventions = [
    During(BiasAttention(factor=20.0, layers=[0], targets=targets), start=STEPS // 5, stop=2 * STEPS // 5),
    ClipGradient(1.0),
    Capture((PATTERN,), out=OUT, every=max(1, STEPS // 10), sequences=16),
]

shutil.rmtree(OUT, ignore_errors=True)  # what an earlier run recorded
with intervening(model, *interventions) as receipts:
    measured: dict[str, float] = {}
    for step in range(STEPS):
        advance(model, step=step, metrics=measured)
        words = torch.randint(WORDS, (64, LENGTH), generator=generator)
        tokens = torch.cat([words, words], dim=1)
        logits = model(tokens[:, :-1])[:, LENGTH - 1 :]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, LENGTH:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        measured = {"loss": loss.item()}  # what a `When` reads at the next step
        if step % 20 == 0:
            print(f"step {step:3d}  loss {loss.item():.3f}")

for intervention, receipt in zip(interventions, receipts, strict=True):
    print(f"{type(intervention).__name__} acted {receipt.fired} times")

captured = Captured(OUT)  # one tensor at a time; what training saw, the edit included
for step in captured.steps:
    share = metrics.attention_progress(captured[step, PATTERN][:, :, rows], targets[None, rows]).mean().item()
    print(f"step {step:3d}  attention on what is to be repeated {share:.2f}")
print(f"The view: {views.attention_view(captured, layer=0, steps=captured.steps).save(f'{OUT}.html')}")
