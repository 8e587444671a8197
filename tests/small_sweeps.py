"""Sweeps that train in a moment, for the tests of them: plain data, and what their folders come to."""

import hashlib
from pathlib import Path

import pandas as pd

BASE = {
    "task": {"name": "moving-window-sum", "n": 4, "p": 5},
    "model": {"d_model": 16},
    "training": {"steps": 6, "batch_size": 4},
    "measuring": {"every": 3, "n_sequences": 4},
    "checkpoint_every": 3,
}
WINDOWS = {"grid": {"task.k": [2, 3]}}


def longer(steps: int) -> dict:
    """The base with more steps, a checkpoint every tenth."""
    return {**BASE, "training": {"steps": steps, "batch_size": 4}, "checkpoint_every": 10}


def results(out: Path) -> dict[str, str]:
    """Digests of all rows and of the last weights of every run in a sweep's folder."""
    found = {}
    for recipe in sorted(out.glob("*/*/recipe.json")):
        run = recipe.parent
        last = max((run / "checkpoints").iterdir(), key=lambda folder: int(folder.name))
        for file in (run / "metrics.jsonl", last / "model.safetensors", last / "optimizer.safetensors"):
            found[str(file.relative_to(out))] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found


def rows_of(table: pd.DataFrame, *columns: str) -> list[tuple]:
    return list(table[list(columns)].itertuples(index=False, name=None))
