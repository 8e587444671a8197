"""Stores what came out of a reproduction in small files, and writes RESULTS.md from them.

```text
DIR/RESULTS.md                                 claims, pictures and tables of one paper
DIR/results/<paper>/<setting>.parquet          the measured curves, one row a seed and step
DIR/results/<paper>/<setting>.json             the recipe, and versions, threads and seconds of each seed
DIR/results/<paper>/<experiment>.png           one picture an experiment
DIR/results/<paper>/remarks.md                 by hand: what was seen, by experiment, `about` and `machine`
```

No weights are stored. A seed that is trained again replaces what was stored of it; the others stay, as long as the
setting's recipe is the same.
"""

import json
import re
import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pandas as pd

from plateau_interp.files import write_atomically, write_table
from plateau_interp.reproductions.experiments import Experiment, Paper
from plateau_interp.reproductions.pictures import seeds_figure
from plateau_interp.reproductions.quantities import DROP, PEAK_COSINE, PEAK_REPETITION, Quantity, steps_to
from plateau_interp.reproductions.running import collect, seconds
from plateau_interp.reproductions.settings import Outcome, Setting
from plateau_interp.runs.run import Run
from plateau_interp.views.curves import save_figure

__all__ = ["TABLE", "claims", "publish", "setting_rows", "stored"]

TABLE: tuple[Quantity, ...] = (DROP, steps_to(50), steps_to(99), PEAK_COSINE, PEAK_REPETITION)
"""What is told of every setting."""


def publish(paper: Paper, runs: Path, out: Path) -> Path:
    """Add the runs that have ended to the stored results, draw the pictures, and write RESULTS.md; returns its path.

    Of several processes that publish into one folder, each waits for the one before.

    Args:
        paper: whose runs.
        runs: the folder of its runs; it may lack any or all.
        out: where ``RESULTS.md`` and ``results/`` go.
    """
    folder = out / "results" / paper.name
    folder.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder / ".lock"):
        return _published(paper, runs, out, folder)


def _published(paper: Paper, runs: Path, out: Path, folder: Path) -> Path:
    fresh = collect(paper.settings(), runs)
    for setting in paper.settings():
        _store(setting, fresh[setting.name], runs, folder)
    outcomes = stored(paper, out)
    for experiment in paper.experiments:
        if _was_run(experiment, outcomes):
            shown = {s.name: outcomes[s.name] for s in experiment.settings if outcomes[s.name]}
            figure = (experiment.draws or partial(seeds_figure, experiment))(shown)
            save_figure(figure, folder / f"{experiment.name}.png")
    page = out / "RESULTS.md"
    write_atomically(page, _page(paper, outcomes, folder, out))
    return page


def stored(paper: Paper, out: Path) -> dict[str, list[Outcome]]:
    """By setting name, the stored outcomes; an empty list where there are none."""
    folder = out / "results" / paper.name
    found: dict[str, list[Outcome]] = {}
    for setting in paper.settings():
        curves = _curves(setting, folder)
        seeds = [] if curves is None else sorted(map(int, curves["seed"].unique()))
        found[setting.name] = [Outcome(setting, seed, _of_seed(curves, seed)) for seed in seeds]
    return found


def claims(paper: Paper, experiments: Sequence[Experiment], out: Path) -> list[dict[str, str]]:
    """The claims of experiments against the stored results: one dict of texts each, ``verdict`` last."""
    outcomes = stored(paper, out)
    return [claim for experiment in experiments for claim in _claims(experiment, outcomes)]


def setting_rows(settings: Sequence[Setting], outcomes: Mapping[str, Sequence[Outcome]]) -> list[list[str]]:
    """One row a setting that was run: name, seeds, and median and range of the numbers of `TABLE`."""
    rows = []
    for setting in settings:
        ours = outcomes.get(setting.name, [])
        if not ours:
            continue
        numbers = []
        for quantity in TABLE:
            values = [value for one in ours if (value := quantity.of(one)) is not None]
            numbers.append(quantity.tell_all(values) if values else "-")
        rows.append([setting.about or setting.name, str(len(ours)), *numbers])
    return rows


def _claims(experiment: Experiment, outcomes: Mapping[str, Sequence[Outcome]]) -> list[dict[str, str]]:
    found = []
    for claim in experiment.claims:
        finding = claim.check.find(outcomes)
        source = f"{claim.source} (late)" if claim.late else claim.source
        texts = {"experiment": experiment.name, "claim": claim.text, "source": source}
        measured = finding.measured or "-"
        found.append({**texts, "expected": claim.check.expected, "measured": measured, "verdict": finding.verdict})
    return found


def _store(setting: Setting, fresh: Sequence[Outcome], runs: Path, folder: Path) -> None:
    if not fresh:
        return
    old = _curves(setting, folder)
    seeds = {one.seed for one in fresh}
    kept = [] if old is None else [old[~old["seed"].isin(seeds)]]
    tables = [one.metrics.assign(seed=one.seed) for one in fresh]
    curves = pd.concat([*kept, *tables], ignore_index=True).sort_values(["seed", "step"], ignore_index=True)
    floats = curves.select_dtypes("float64").columns
    before: dict[str, Any] = {} if old is None else old.attrs["seeds"]
    made = {str(one.seed): _made(setting.folder(runs, one.seed)) for one in fresh}
    curves = curves.astype(dict.fromkeys(floats, np.float32))
    # In the file of the curves, so that a kill parts nothing; the other file is for people.
    about: dict[Any, Any] = {**setting.identity(0), "seeds": {**before, **made}}
    curves.attrs = about
    write_table(folder / f"{setting.name}.parquet", curves)
    write_atomically(folder / f"{setting.name}.json", json.dumps(about, indent=1, sort_keys=True) + "\n")


def _is_of(setting: Setting, about: Mapping[Any, Any]) -> bool:
    ours = setting.identity(0)
    return ours == {key: about.get(key) for key in ours}


def _made(folder: Path) -> dict[str, Any]:
    environment = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    run = Run(folder)
    first = 0 if run.recipe.fork_of is None else run.recipe.fork_of.step
    return {**environment, "seconds": seconds(folder), "steps": int(run.metrics["step"].iloc[-1]) + 1 - first}


def _curves(setting: Setting, folder: Path) -> pd.DataFrame | None:
    """The stored curves, unless they are of another recipe under the same name; ``attrs`` as the file for people."""
    file = folder / f"{setting.name}.parquet"
    if not file.is_file():
        return None
    curves = pd.read_parquet(file)
    return curves if _is_of(setting, curves.attrs) else None


def _was_run(experiment: Experiment, outcomes: Mapping[str, Sequence[Outcome]]) -> bool:
    """Whether there is more than the setting that the others are compared with."""
    first, *others = experiment.settings
    return any(outcomes[setting.name] for setting in others or [first])


def _of_seed(curves: pd.DataFrame | None, seed: int) -> pd.DataFrame:
    assert curves is not None
    rows = curves[curves["seed"] == seed].drop(columns="seed")
    rows.attrs = {}
    return rows.dropna(axis=1, how="all").reset_index(drop=True)


def _page(paper: Paper, outcomes: Mapping[str, Sequence[Outcome]], folder: Path, out: Path) -> str:
    shown = [experiment for experiment in paper.experiments if _was_run(experiment, outcomes)]
    remarks = _remarks(folder / "remarks.md")
    judged = [claim for e in shown for claim in _claims(e, outcomes) if claim["verdict"] != "not run"]
    counts = {
        verdict: sum(claim["verdict"] == verdict for claim in judged)
        for verdict in ("holds", "does not hold", "unknown")
    }
    missing = [e for e in paper.experiments if e not in shown]
    parts = [
        f"# Results: {paper.title}",
        f"Written by `plateau reproduce {paper.name}` from the files in `{folder.relative_to(out)}`; {paper.source}.",
        paper.about,
        remarks.get("about", ""),
        f"Of {len(judged)} statements {counts['holds']} hold and {counts['does not hold']} do not; "
        f"{counts['unknown']} are reported without a verdict: no value is published, or it could not be measured.",
        "Measured numbers are medians over seeds with [lowest, highest]; a claim holds if the median is within its "
        "bounds, an order if the medians and four of five seeds show it. Steps are training steps. Headings say what "
        "is to be expected, verdicts what was found.",
        _table([*judged[0]], [_bold([*claim.values()]) for claim in judged]) if judged else "",
        *_failed(judged),
        *(part for e in shown for part in _section(e, outcomes, folder, out, remarks.get(e.name, ""))),
    ]
    if missing:
        listed = "\n".join(f"* `{e.name}` ({e.figures}): {e.title}" for e in missing)
        parts += ["## Not run", "Defined, but without results here:", listed]
    parts += ["## Machine and time", _machine(paper, folder), remarks.get("machine", "")]
    return "\n\n".join(part for part in parts if part) + "\n"


def _remarks(file: Path) -> dict[str, str]:
    """What stands under each heading of a page; nothing if there is no page."""
    if not file.is_file():
        return {}
    sections = re.split(r"^## *(\S+) *$", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {name: text.strip() for name, text in zip(sections[1::2], sections[2::2], strict=True)}


def _failed(judged: Sequence[Mapping[str, str]]) -> list[str]:
    failed = [claim for claim in judged if claim["verdict"] == "does not hold"]
    lines = [
        f"* `{claim['experiment']}`: {claim['claim']} ({claim['expected']}). Measured: {claim['measured']}."
        for claim in failed
    ]
    return ["## What did not hold", "\n".join(lines)] if failed else []


def _section(
    experiment: Experiment, outcomes: Mapping[str, Sequence[Outcome]], folder: Path, out: Path, remarks: str
) -> list[str]:
    header = ["setting", "seeds", *(quantity.name for quantity in TABLE)]
    tolerances = [
        f"* {claim.text}: {claim.reason}."
        for claim in experiment.claims
        if claim.reason and claim.check.find(outcomes).verdict != "not run"
    ]
    picture = folder / f"{experiment.name}.png"
    image = f"![{experiment.title}]({picture.relative_to(out)})" if picture.is_file() else ""
    return [
        f"## {experiment.name}: {experiment.title}",
        f"Reproduces {experiment.figures}.",
        image,
        _table(header, setting_rows(experiment.settings, outcomes)),
        experiment.notes,
        remarks,
        "Why these bounds:" if tolerances else "",
        "\n".join(tolerances),
    ]


def _machine(paper: Paper, folder: Path) -> str:
    made = [
        seed
        for setting in paper.settings()
        if (curves := _curves(setting, folder)) is not None
        for seed in curves.attrs["seeds"].values()
    ]
    kinds = sorted({_environment(one) for one in made})
    timed = [one["seconds"] / one["steps"] for one in made if one["seconds"]]
    total = sum(one["seconds"] or 0.0 for one in made)
    steps = sum(one["steps"] for one in made)
    pace = f", {statistics.median(timed):.2f} s a step in the median" if timed else ""
    lines = "\n".join(f"* {kind}" for kind in kinds)
    return (
        f"{len(made)} runs, {steps:,} steps; {len(timed)} of them were timed: {total / 3600:.1f} hours of running, "
        f"less what kills cut off{pace}. Made with:\n\n{lines}"
    )


def _environment(made: Mapping[str, Any]) -> str:
    packages = ", ".join(f"{name} {number}" for name, number in made["packages"].items())
    processor = f" ({made['processor']}, {made['cores']} cores)" if "processor" in made else ""
    machine = f"{made['machine']}{processor}, {made['device']}, {made['threads']} threads"
    return f"{machine}; Python {made['python']}, {packages}"


def _bold(row: Sequence[str]) -> list[str]:
    return [*row[:-1], f"**{row[-1]}**" if row[-1] == "does not hold" else row[-1]]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
