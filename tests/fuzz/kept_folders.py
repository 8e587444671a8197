"""Damaged folders of series and sweeps: a file truncated, swapped, flipped, removed or added to, at random.

What comes out is either one line that names a file of the folder, or the very numbers of the undamaged one.
"""

import contextlib
import json
import random
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path

import yaml
from small_sweeps import BASE, WINDOWS

from fuzz.folders import damage
from fuzz.harness import Finding, command, contents, must_be_good, numbers
from plateau_interp.series.folder import SeriesFolder

TINY_TEXT = "--n 8 --d-model 8 --n-layers 1 --n-heads 1 --batch-size 2 --every 10 --steps 2 --checkpoint-every 1"
SERIES = ["series", "run", "--prompts", "prompts.txt", "--n-new", "2", "--out", "series"]
SWEEP = ["sweep", "sweep.yaml", "--out", "out", "--engine", "here"]
MEASURED = {"series/checkpoints.jsonl", "series/metrics.parquet", "series/answers.parquet"}
QUESTIONS = "What is a king?\nWhy is the sky blue?\n"


def fuzz(rng: random.Random, folder: Path) -> str:
    """Damage one series or sweep in one place, then use it in one way.

    Raises:
        Finding: for another number, a traceback, or a bystander that changed.
    """
    return rng.choice([_series, _sweep])(rng, folder)


def _series(rng: random.Random, folder: Path) -> str:
    template = _made_series()
    shutil.copytree(template, folder, dirs_exist_ok=True)
    out = folder / "series"
    expected = _measured(out)
    if rng.random() < 0.5:  # as if it had been stopped after the first checkpoint
        first = (out / "checkpoints.jsonl").read_text().splitlines(keepends=True)
        (out / "checkpoints.jsonl").write_text(first[0])
    (out / "notes.txt").write_text("mine")
    use = rng.choice(["series", "series", "report", "check"])
    harm = damage(rng, out)
    before, lines = contents(folder), _bytes(out / "checkpoints.jsonl")
    given = {"series": SERIES, "report": ["report", "series", "--out", "page"], "check": ["check", "series"]}[use]
    outcome = must_be_good(command(*given))
    if (out / "notes.txt").read_text() != "mine":
        raise Finding(f"{harm}, then {use}: the notes changed")
    if outcome.refused:
        changed = {name for name, digest in before.items() if contents(folder).get(name) != digest}
        if use == "series" and _bytes(out / "checkpoints.jsonl").startswith(lines):
            changed -= MEASURED  # the next checkpoint was measured before what is damaged was needed
        if changed:
            raise Finding(f"{harm}, then {use}: refused, and changed {sorted(changed)}")
        if "series" not in outcome.err.replace("plateau series", ""):
            raise Finding(f"{harm}, then {use}: no file is named in {outcome.err!r}")
        return "series: refused"
    if use == "series" and _measured(out) != expected:
        raise Finding(f"{harm}, then series: other numbers came out")
    return "series: done"


def _bytes(file: Path) -> bytes:
    return file.read_bytes() if file.is_file() else b""


@lru_cache(maxsize=1)
def _made_series() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="fuzzed-series-"))
    (folder / "prompts.txt").write_text(QUESTIONS)
    must_be_good(command("train", "text", *TINY_TEXT.split(), "--out", folder / "run"))
    with contextlib.chdir(folder):  # the source is named as it will be in the copies
        must_be_good(command(*SERIES))
    return folder


def _measured(out: Path) -> str:
    opened = SeriesFolder(out)
    records = [[one.step, one.weights, one.error, dict(one.measures)] for one in opened.records()]
    answers = opened.answers().to_json(orient="records", double_precision=15)
    return json.dumps([records, answers], sort_keys=True)


def _sweep(rng: random.Random, folder: Path) -> str:
    shutil.copytree(_made_sweep(), folder, dirs_exist_ok=True)
    out = folder / "out"
    expected = _numbers(out)
    (out / "notes.txt").write_text("mine")
    harm = damage(rng, rng.choice([out, next(out.glob("*/*"))]))
    before = contents(folder)
    outcome = must_be_good(command(*SWEEP), several="plateau: k=")
    if (out / "notes.txt").read_text() != "mine":
        raise Finding(f"{harm}, then sweep: the notes changed")
    if outcome.refused:
        # A run that is damaged is told at the end; the table, and the report of the others, are made anew.
        made_anew = ("out/summaries", "out/report/")
        hurt = Path(harm.split()[-1]).relative_to(folder).parts[:3]
        changed = [
            name
            for name, digest in before.items()
            if contents(folder).get(name) != digest and Path(name).parts[:3] != hurt and not name.startswith(made_anew)
        ]
        if changed:
            raise Finding(f"{harm}, then sweep: refused, and changed {changed}")
        if "out" not in outcome.err:
            raise Finding(f"{harm}, then sweep: no file is named in {outcome.err!r}")
        return "sweep: refused"
    if _numbers(out) != expected:
        raise Finding(f"{harm}, then sweep: other numbers came out")
    return "sweep: done"


def _numbers(out: Path) -> dict[str, object]:
    """Of every run; not the bytes of its files: a last line without its end stays in a table that is done."""
    return {
        str(recipe.parent.relative_to(out)): numbers(recipe.parent) for recipe in sorted(out.glob("*/*/recipe.json"))
    }


@lru_cache(maxsize=1)
def _made_sweep() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="fuzzed-sweep-"))
    (folder / "sweep.yaml").write_text(yaml.safe_dump({"base": BASE, **WINDOWS}))
    with contextlib.chdir(folder):
        must_be_good(command(*SWEEP))
    return folder
