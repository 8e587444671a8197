"""Folders of series as `CheckpointSeries` writes them, made of numbers alone, for tests of what is made of them."""

from pathlib import Path

import pandas as pd

from plateau_interp.series.attention import KeptAttention
from plateau_interp.series.folder import Record, SeriesFolder
from plateau_interp.series.prompts import Prompts

PROMPTS = ("Why is the sky blue?", "What is a comet?")


def measured_series(
    path: Path,
    cosines: dict[int, float],
    *,
    source: str = "someone/model",
    prompts: tuple[str, ...] = PROMPTS,
    pieces: tuple[str, ...] = (" a", " a", "\n", " a"),
    tokens: tuple[int, ...] = (),
    same: tuple[int, ...] = (),
    failed: tuple[int, ...] = (),
    interventions: tuple[str | dict[str, object], ...] = (),
    told: dict[str, float] | None = None,
    dtype: str = "float32",
    own: dict[str, float] | None = None,
    attention: dict[int, KeptAttention] | None = None,
    held_out: tuple[str, str] | None = None,
    trained_under: tuple[str, ...] = (),
) -> SeriesFolder:
    """A series with a cosine a step; ``same`` steps share their weights, ``failed`` ones were not to be had.

    Attention is kept of the steps for which there is one. Without ``tokens`` each piece is a token. ``held_out`` is the
    name of a text and its digest; ``told`` are columns of interventions.
    """
    settings = {
        "source": source,
        "prompts": list(prompts),
        "prompts_origin": "by hand",
        "prompts_sha256": Prompts(prompts, "by hand").digest,
        "held_out": held_out and held_out[0],
        "held_out_sha256": held_out and held_out[1],
        "n_new": len(pieces),
        "interventions": [{"name": each} if isinstance(each, str) else each for each in interventions],
        "measures": sorted(own or {}),
        "dtype": dtype,
        "versions": {},
        "trained_under": [{"name": name} for name in trained_under],
    }
    folder = SeriesFolder.opened(path, settings)
    tokens = tokens or tuple(pieces.index(piece) for piece in pieces)
    for step, cosine in cosines.items():
        name = f"step{step}"
        if step in failed:
            folder.add(Record(step, name, "", 0.5, error=f"{source}: the hub cannot be reached"), pd.DataFrame())
            continue
        weights = "f" * 64 if step in same else f"{step:064x}"
        measures = {"cosine": cosine, "repetition": cosine / 2, "entropy": -0.0, **(told or {}), **(own or {})}
        rows = {"step": step, "prompt": range(len(prompts)), "pieces": [list(pieces)] * len(prompts)}
        rows["tokens"] = [list(tokens)] * len(prompts)
        answers = pd.DataFrame({**rows, "text": "".join(pieces), "cosine": cosine})
        folder.add(Record(step, name, weights, 1.25, measures), answers, (attention or {}).get(step))
    return folder
