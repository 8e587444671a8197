"""The paper's own matrix completion on a GPU, with its maps: `bash tests/gpu/check.sh WHEELS full-size OUT [SECONDS]`.

Trains the setting of `plateau reproduce matrix-completion full-size` until it is done or the seconds are over, prints
what its claims come to, and keeps what is small: the loss of every step, the measures, and mean attention maps and
completed matrices at some steps.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

from plateau_interp.analysis.observing import captured_patterns
from plateau_interp.reproductions.matrix_completion.drop import LARGE, LARGE_MATRICES
from plateau_interp.reproductions.settings import Outcome, Setting
from plateau_interp.runs.run import Run


def looked_at(run: Run, step: int, device: str) -> dict[str, np.ndarray]:
    """Mean attention [layer, head, query, key] of 256 matrices, and three of them as they are, seen, and completed."""
    task, model = run.recipe.task, run.model(step, device=device)
    batch = task.sample(256, generator=torch.Generator(device).manual_seed(0))
    layers = range(model.cfg.n_layers)
    maps = torch.stack([captured_patterns(model, batch.inputs, layer=layer).mean(dim=0) for layer in layers])
    with torch.no_grad():
        output = model(batch.inputs)
    kept = {"maps": maps, "tokens": batch.tokens[:3], "truth": batch.labels[:3], "output": output[:3, :, 0]}
    return {f"{name}_{step}": tensor.cpu().numpy() for name, tensor in kept.items()}


def main(out: Path, limit: float, setting: Setting = LARGE, device: str = "cuda") -> None:
    began = time.monotonic()
    run = setting.open(out / "runs", 0, device=device)
    losses = []
    for step in run.train(device=device):
        losses.append(step.loss_tensor)
        if step.step % 2000 == 0:
            print(f"step {step.step}: loss {step.loss:.4f}, {time.monotonic() - began:.0f} s")
        if time.monotonic() - began > limit:
            break
    np.save(out / "losses.npy", torch.stack(losses).cpu().numpy())
    run.metrics.to_parquet(out / "metrics.parquet")
    np.savez_compressed(
        out / "looked_at.npz", **{k: v for step in run.checkpoints for k, v in looked_at(run, step, device).items()}
    )
    statements = LARGE_MATRICES.statements({LARGE.name: [Outcome(setting, 0, run.metrics)]})
    told = {
        "torch": torch.__version__,
        "steps": len(losses),
        "seconds": round(time.monotonic() - began, 1),
        "claims": [statement.texts() for statement in statements],
    }
    (out / "claims.json").write_text(json.dumps(told, indent=2) + "\n")
    print(json.dumps(told, indent=2))


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 660)
