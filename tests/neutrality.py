"""Trains the same small runs with whatever version of the package is imported, and prints a digest of each.

``python tests/neutrality.py OUT.json`` writes, by the name of a case, the digest of all metric rows and of all weights,
and that of every tensor that was captured.
Two versions whose digests are equal on one machine compute the same bits; `test_neutrality.py` compares this checkout
with an earlier commit. It uses what no version may take away: names of plug-ins, recipes as data, and `Run`. It prints
where the package was.
"""

import hashlib
import json
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

STEPS, KILLED_AT, FORKED_AT = 20, 13, 7

SMALL = {"model": {"d_model": 16, "n_heads": 2}, "measuring": {"every": 4, "n_sequences": 8}, "checkpoint_every": 5}
TASKS: dict[str, dict[str, Any]] = {
    "concatenated-windows": {},
    "copy": {"n": 6},
    "histogram": {"n": 6},
    "mixture": {},
    "modular-arithmetic": {"p": 11},
    "moving-window-difference": {"n": 6},
    "moving-window-product": {"n": 6},
    "moving-window-quotient": {"n": 6},
    "moving-window-sum": {"n": 6},
    "multi-digit-addition": {},
    "permutation": {},
    "prefix-sum": {"n": 6},
    "repeat": {"n": 6},
    "reverse": {"n": 6},
}
POINT = "blocks.0.hook_mlp_out"
DONOR = "moving-window-sum"
"""The case whose run the others take patterns, activations and weights from; it is trained first."""


def interventions(donor: Path, scratch: Path) -> dict[str, list[dict[str, Any]]]:
    """Lists of interventions, as they stand in recipes: each by itself, under schedules, and together."""
    source = f"{donor}@{STEPS}"
    bias = {"name": "bias-attention", "factor": 3.0}
    transplant = {"name": "transplant-weights", "source": source, "where": "mlp"}
    alone: dict[str, dict[str, Any]] = {
        "ablate-activation": {"at": POINT, "by": "mean"},
        "ablate-heads": {"heads": [0], "by": "uniform"},
        "ablate-heads mean": {"heads": [0], "by": "mean"},
        "amplify-slow-gradient": {},
        "bias-attention": {"factor": 3.0},
        "capture": {"names": ["blocks.0.attn.hook_pattern"], "out": str(scratch / "captured"), "every": 4},
        "clip-gradient": {"max_norm": 0.01},
        "fix-attention": {},
        "freeze-weights": {"where": "attention map"},
        "mask-attention": {"keys": [0]},
        "mix-attention": {"weight": 0.25},
        "patch-activation": {"at": POINT, "source": source, "positions": [1, 2]},
        "patch-attention": {"source": source, "heads": [1]},
        "scale-activation": {"at": POINT, "factor": 0.5},
        "scale-gradient": {"factor": 0.1, "where": "embeddings"},
        "transplant-weights": transplant,
    }
    listed = {name: [{**fields, "name": name.split()[0]}] for name, fields in alone.items()}
    return listed | {
        "ramp": [{"name": "during", "intervention": bias, "start": 4, "stop": 15, "ramp": 5}],
        "when": [{"name": "when", "intervention": bias, "condition": None, "since": "loss < 100"}],
        "later transplant": [{"name": "during", "intervention": transplant, "start": 6}, *listed["freeze-weights"]],
        "several": [bias, *listed["ablate-heads mean"], *listed["scale-gradient"], *listed["amplify-slow-gradient"]],
    }


def captured(folder: Path) -> dict[str, str]:
    """Of every tensor that a `Capture` wrote, with its place; what else the files and the folder say is whose it is."""
    import safetensors.torch

    tensors = hashlib.sha256()
    for file in sorted(folder.rglob("*.safetensors")):
        content = safetensors.torch.save(safetensors.torch.load_file(file))
        tensors.update(str(file.relative_to(folder)).encode() + content)
    return {"tensors": tensors.hexdigest(), "files": str(len(list(folder.rglob("*.safetensors"))))}


def recipes(scratch: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names and recipes of all cases."""
    for task, fields in sorted(TASKS.items(), key=lambda item: item[0] != DONOR):
        yield task, {"task": {"name": task, **fields}}
    for attention, n_layers in (("softmax", 1), ("linear", 2), ("softmax", 2)):
        model = {**SMALL["model"], "attention": attention, "n_layers": n_layers}
        yield f"{attention} {n_layers}", {"task": {"name": DONOR, "n": 6}, "model": model}
    for optimizer in ("adamw", "muon", "sgd"):
        yield optimizer, {"task": {"name": DONOR, "n": 6}, "training": {"optimizer": {"name": optimizer}}}
    for name, listed in interventions(scratch / DONOR, scratch).items():
        yield f"under {name}", {"task": {"name": DONOR, "n": 6}, "interventions": listed}


def digest(run: Any) -> dict[str, str]:
    """Of all rows that were measured, and of every weight at the end."""
    rows = run.metrics.to_json(orient="records", double_precision=15)
    weights = hashlib.sha256()
    for name, parameter in sorted(run.model().named_parameters()):
        weights.update(name.encode() + parameter.detach().contiguous().numpy().tobytes())
    return {"rows": hashlib.sha256(rows.encode()).hexdigest(), "weights": weights.hexdigest()}


def main(out: Path, scratch: Path) -> None:
    """Train everything: at once, killed and resumed, and forked, with all interventions and with the first gone."""
    import torch

    import plateau_interp
    from plateau_interp import Recipe, Run

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    found: dict[str, dict[str, str]] = {}
    for name, data in recipes(scratch):
        training = {"steps": STEPS, "batch_size": 16, **data.get("training", {})}
        recipe = Recipe.from_dict({**SMALL, **data, "training": training, "seed": 3})
        run = Run.create(scratch / name, recipe)
        for step in run.train():
            if step.step == KILLED_AT:
                break
        run = Run(scratch / name)
        for _ in run.train():
            pass
        found[name] = digest(run)
        ways = {"forked": recipe.interventions[1:], "forked with it": recipe.interventions}
        for way, kept in ways.items() if recipe.interventions else [("forked", ())]:
            fork = run.fork(at=FORKED_AT, interventions=kept, out=scratch / f"{name} {way}")
            for _ in fork.train():
                pass
            found[f"{name}, {way}"] = digest(fork)
    found["captured"] = captured(scratch / "captured")
    out.write_text(json.dumps(found, indent=1) + "\n")
    print(plateau_interp.__file__)


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    main(Path(sys.argv[1]), Path(sys.argv[2]))
