"""Interventions composed at random, entered and left in any way: the model is as it was, its forwards the same."""

import random
import warnings
from pathlib import Path
from typing import Any

import torch

from fuzz.harness import Finding
from plateau_interp import hooks, intervening, toy_model, train
from plateau_interp.tasks import MovingWindowSum

TASK = MovingWindowSum(n=3)
POINTS = [
    "blocks.0.hook_mlp_out",
    "blocks.*.attn.hook_z",
    "blocks.0.hook_resid_pre",
    "nowhere",
    "blocks.1.attn.hook_pattern",
]


class _Stop(Exception):
    """Raised inside a context, as a user's code might."""


def fuzz(rng: random.Random, folder: Path) -> str:
    """Compose some, nest contexts, train a little or not, leave by an exception or not.

    Raises:
        Finding: if anything of the model is not as it was, or an error is not a ValueError.
    """
    kind: dict[str, Any] = {"attention": rng.choice(["linear", "softmax"]), "n_layers": rng.choice([1, 2])}
    model = toy_model(TASK, d_model=8, n_heads=2, seed=1, **kind)
    other = toy_model(TASK, d_model=8, n_heads=2, seed=2, **kind)
    batch = TASK.sample(4, generator=torch.Generator().manual_seed(0))
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    grads = {name: value.requires_grad for name, value in model.named_parameters()}
    logits = model(batch.inputs).detach().clone()
    outer, inner = ([_one(rng, other) for _ in range(rng.randrange(4))] for _ in range(2))
    trains = rng.random() < 0.4
    what = f"{kind} {outer} {inner} trains={trains}"
    outcome = "done"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with intervening(model, *outer):
                model(batch.inputs)
                with intervening(model, *inner):
                    if trains:
                        for _ in train(model, TASK, steps=3, batch_size=4):
                            pass
                    total = model(batch.inputs).sum()
                    if rng.random() < 0.5 and total.requires_grad:  # with everything frozen there is no gradient
                        total.backward()
                    if rng.random() < 0.3:
                        raise _Stop
    except _Stop:
        outcome = "stopped"
    except ValueError:
        outcome = "refused"
    except Exception as error:
        raise Finding(f"{what}: {type(error).__name__}: {error}") from error
    for name, value in model.named_parameters():
        if value.requires_grad != grads[name]:
            raise Finding(f"{what}: requires_grad of {name} is {value.requires_grad}")
        if not trains and not torch.equal(value, before[name]):
            raise Finding(f"{what}: {name} changed")
    if any(point.fwd_hooks or point.bwd_hooks for point in model.hook_dict.values()):
        raise Finding(f"{what}: hooks are left")
    if not trains and not torch.equal(model(batch.inputs), logits):
        raise Finding(f"{what}: another forward came out")
    return outcome


def _one(rng: random.Random, other: Any, *, depth: int = 0) -> Any:
    index = rng.choice([None, None, [0], [1], [0, 1]] + [[-1], [7]] * (rng.random() < 0.2))
    makers = [
        lambda: hooks.AblateActivation(rng.choice(POINTS), by=rng.choice(["zero", "mean", "resample"])),
        lambda: hooks.AblateHeads(
            rng.choice([[0], [1], [0, 1], [0, 1], [5]]), by=rng.choice(["zero", "uniform", "mean"])
        ),
        lambda: hooks.AmplifySlowGradient(decay=rng.choice([0.5, 0.98])),
        lambda: hooks.BiasAttention(rng.choice([0.0, 1.0, 3.0]), rows=index, at=rng.choice(["pattern", "scores"])),
        lambda: hooks.ClipGradient(rng.choice([0.1, 5.0])),
        lambda: hooks.FixAttention(heads=index),
        lambda: hooks.FreezeWeights(rng.choice(["mlp", "attention", "attention map", "embeddings", "*", "blocks.0.*"])),
        lambda: hooks.MaskAttention(keys=[rng.choice([0, 1, 1, 1, 30])], at=rng.choice(["pattern", "scores"])),
        lambda: hooks.MixAttention(rng.choice([0.0, 0.5, 1.0])),
        lambda: hooks.PatchActivation(rng.choice(POINTS), source=other, positions=index),
        lambda: hooks.PatchAttention(other, layers=index),
        lambda: hooks.ScaleActivation(rng.choice(POINTS), factor=rng.choice([0.0, 0.5, 1.0])),
        lambda: hooks.ScaleGradient(rng.choice([0.0, 0.1]), where=rng.choice(["mlp", "embeddings"])),
        lambda: hooks.TransplantWeights(other, rng.choice(["mlp", "embeddings", "*"])),
    ]
    if depth < 3 and rng.random() < 0.3:
        inside = _one(rng, other, depth=depth + 1)
        if rng.random() < 0.5:
            return hooks.During(inside, start=rng.randrange(3), ramp=rng.choice([0, 0, 1, 2]), every=rng.choice([1, 2]))
        return hooks.When(inside, rng.choice(["loss < 100", "loss > 100", "nothing > 1"]))
    try:
        return rng.choice(makers)()
    except ValueError:  # a value that its constructor refuses
        return hooks.BiasAttention()
