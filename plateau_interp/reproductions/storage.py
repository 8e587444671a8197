"""What is kept of a reproduction's runs: small files, from which all pages and pictures are made.

```text
DIR/results/<paper>/<setting>.parquet          the measured curves, one row a seed and step
DIR/results/<paper>/<setting>.json             the recipe, and versions, threads and seconds of each seed
```

No weights are kept. A seed that is trained again replaces what was kept of it; the others stay, as long as the
setting's recipe is the same.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from plateau_interp.files import read_table, write_atomically, write_table
from plateau_interp.reproductions.experiments import Paper
from plateau_interp.reproductions.running import made_with
from plateau_interp.reproductions.same_runs import is_same_run
from plateau_interp.reproductions.settings import Compared, Outcome, Setting

__all__ = ["Stored", "folder_of", "store", "stored", "stored_files"]


def folder_of(paper: Paper, out: Path) -> Path:
    """Where a paper's files are."""
    return out / "results" / paper.name


def stored_files(paper: Paper, out: Path) -> list[Path]:
    """The files of curves that there are.

    Raises:
        ValueError: naming a file of such a name that is none of ours, or cannot be read.
    """
    there = [folder_of(paper, out) / f"{setting.name}.parquet" for setting in paper.settings()]
    files = [file for file in there if file.is_file()]
    for file in files:
        if "seeds" not in read_table(file).attrs:
            raise ValueError(f"{file} was not written by `plateau reproduce`: move it, or use another folder")
    return files


def store(setting: Compared, fresh: Sequence[Outcome], runs: Path, folder: Path) -> None:
    """Add what came out of runs to a setting's two files.

    Args:
        setting: whose runs.
        fresh: their outcomes; without any nothing is written.
        runs: the folder of the paper's runs.
        folder: `folder_of` the paper.
    """
    if not fresh:
        return
    old = _kept_curves(setting, folder)
    seeds = {one.seed for one in fresh}
    kept = [] if old is None else [old[~old["seed"].isin(seeds)]]
    tables = [one.metrics.assign(seed=one.seed) for one in fresh]
    curves = pd.concat([*kept, *tables], ignore_index=True).sort_values(["seed", "step"], ignore_index=True)
    floats = curves.select_dtypes("float64").columns
    before: dict[str, Any] = {} if old is None else old.attrs["seeds"]
    made = {str(one.seed): made_with(setting, one.seed, runs) for one in fresh}
    curves = curves.astype(dict.fromkeys(floats, np.float32))  # seven digits are more than any table shows
    # In the file of the curves, so that a kill parts nothing; the other file is for people.
    about: dict[Any, Any] = {**setting.identity(0), "seeds": {**before, **made}}
    curves.attrs = about
    write_table(folder / f"{setting.name}.parquet", curves)
    write_atomically(folder / f"{setting.name}.json", json.dumps(about, indent=1, sort_keys=True) + "\n")


@dataclass(frozen=True)
class Stored:
    """What is stored of a paper.

    Args:
        outcomes: by setting name, one a seed; an empty list where there are none.
        made: of every run versions, machine and threads, its ``steps``, and ``seconds`` (None if nobody took them).
        others: names of settings whose stored curves do not count: they are of another recipe than the setting has now.
        early: names of settings of which some runs do not count: they ended before their settings of now let them.
    """

    outcomes: dict[str, list[Outcome]] = field(default_factory=dict)
    made: list[dict[str, Any]] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    early: list[str] = field(default_factory=list)


def stored(paper: Paper, out: Path) -> Stored:
    """Read a paper's files."""
    there = Stored()
    folder = folder_of(paper, out)
    for setting in paper.settings():
        curves = _kept_curves(setting, folder)
        if curves is None:
            there.outcomes[setting.name] = []
            if (folder / f"{setting.name}.parquet").is_file():
                there.others.append(setting.name)
            continue
        made = curves.attrs["seeds"]
        curves.attrs = {}  # pandas copies them, deeply, at every step
        seeds = sorted(map(int, curves["seed"].unique()))
        every = [Outcome(setting, seed, _of_seed(curves, seed)) for seed in seeds]
        ended = [one for one in every if not isinstance(setting, Setting) or setting.ended(one.metrics)]
        if len(ended) < len(every):
            there.early.append(setting.name)
        short = {str(one.seed) for one in every} - {str(one.seed) for one in ended}
        there.made.extend(one for seed, one in made.items() if seed not in short)
        there.outcomes[setting.name] = ended
    return there


def _kept_curves(setting: Compared, folder: Path) -> pd.DataFrame | None:
    """The stored curves, unless they are of another recipe under the same name; ``attrs`` as the file for people."""
    file = folder / f"{setting.name}.parquet"
    if not file.is_file():
        return None
    curves = read_table(file)
    about: Mapping[Any, Any] = curves.attrs
    ours = setting.identity(0)
    return curves if is_same_run({key: about.get(key) for key in ours}, ours) else None


def _of_seed(curves: pd.DataFrame, seed: int) -> pd.DataFrame:
    """One seed's curves, without columns that only other seeds have."""
    rows = curves[curves["seed"] == seed].drop(columns="seed")
    return rows.dropna(axis=1, how="all").reset_index(drop=True)
