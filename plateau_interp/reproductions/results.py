"""Stores what came out of a reproduction, draws it, and writes the pages that tell it.

```text
DIR/RESULTS.md                                 a page that a person reads; one section a paper
DIR/results/<paper>/statements.md              all statements, settings and bounds, experiment by experiment
DIR/results/<paper>/claims.json                the statements as data
DIR/results/<paper>/<experiment>.png           one picture an experiment
DIR/results/<paper>/<setting>.parquet, .json   the measured curves (`plateau_interp.reproductions.storage`)
DIR/results/<paper>/remarks.md                 by hand (`plateau_interp.reproductions.remarks`)
```

Pages, data and pictures are made from the stored curves and the remarks alone: no runs are needed to draw them again.
"""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import filelock

from plateau_interp.files import write_atomically
from plateau_interp.reproductions.experiments import Experiment, Paper
from plateau_interp.reproductions.paper_results import PaperResults
from plateau_interp.reproductions.pictures import seeds_figure
from plateau_interp.reproductions.remarks import read_remarks
from plateau_interp.reproductions.results_page import check_is_ours, results_page, results_section
from plateau_interp.reproductions.running import collect
from plateau_interp.reproductions.statements_page import statements_page
from plateau_interp.reproductions.storage import folder_of, store, stored, stored_files
from plateau_interp.views.saving import save_figure

__all__ = ["check_published", "claims", "publish", "read_results", "redrawn"]

STATEMENTS = "statements.md"


def check_published(paper: Paper, out: Path) -> None:
    """Refuse a folder in which somebody else's files have the names of what is published there.

    The paper's folder within it is known by its page of statements, or by stored curves, which come first.

    Raises:
        ValueError: naming the first such file.
    """
    folder = folder_of(paper, out)
    statements = folder / STATEMENTS
    for page in (out / "RESULTS.md", statements):
        check_is_ours(page)
    if stored_files(paper, out) or statements.is_file():
        return
    names = ["claims.json", *(f"{experiment.name}.png" for experiment in paper.experiments)]
    names += [f"{setting.name}.json" for setting in paper.settings()]
    if others := [file for name in names if (file := folder / name).exists()]:
        raise ValueError(f"{others[0]} was not written by `plateau reproduce`: move it, or use another folder")


def publish(paper: Paper, runs: Path, out: Path) -> Path:
    """Add the runs that have ended to the stored results, draw the pictures, and write the pages; returns RESULTS.md.

    Of several processes that publish into one folder, each waits for the one before. Sections of other papers in
    RESULTS.md stay.

    Args:
        paper: whose runs.
        runs: the folder of its runs; it may lack any or all.
        out: where ``RESULTS.md`` and ``results/`` go.

    Raises:
        ValueError: as `check_published`, and for a remark about nothing that there is.
    """
    check_published(paper, out)
    folder = folder_of(paper, out)
    folder.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder.parent / ".lock"):
        return _published(paper, runs, out)


def _published(paper: Paper, runs: Path, out: Path) -> Path:
    folder = folder_of(paper, out)
    fresh = collect(paper.settings(), runs)
    for setting in paper.settings():
        store(setting, fresh[setting.name], runs, folder)
    results = read_results(paper, out)
    for experiment in results.run_experiments:
        shown = {s.name: results.outcomes[s.name] for s in experiment.settings if results.outcomes[s.name]}
        figure = (experiment.draws or partial(seeds_figure, experiment))(shown)
        save_figure(figure, folder / f"{experiment.name}.png")
    for path, text in redrawn(results, out).items():
        write_atomically(path, text)
    return out / "RESULTS.md"


def redrawn(results: PaperResults, out: Path) -> dict[Path, str]:
    """The pages and data of a paper as they are to be, by path."""
    folder, page = folder_of(results.paper, out), out / "RESULTS.md"
    before = page.read_text(encoding="utf-8") if page.is_file() else ""
    judged = [statement.texts() for statement in results.judged()]
    return {
        folder / STATEMENTS: statements_page(results),  # first: by it the folder is known where nothing was run
        folder / "claims.json": json.dumps(judged, indent=1, ensure_ascii=False) + "\n",
        page: results_page(before, results.paper.name, results_section(results)),
    }


def read_results(paper: Paper, out: Path) -> PaperResults:
    """What is stored of a paper, held against its claims.

    Raises:
        ValueError: as from `plateau_interp.reproductions.remarks.read_remarks`.
    """
    there = stored(paper, out)
    statements = [one for experiment in paper.experiments for one in experiment.statements(there.outcomes)]
    names = [experiment.name for experiment in paper.experiments]
    remarks = read_remarks(folder_of(paper, out) / "remarks.md", names, statements)
    return PaperResults(paper, there, statements, remarks)


def claims(paper: Paper, experiments: Sequence[Experiment], out: Path) -> list[dict[str, str]]:
    """The claims of experiments against the stored results: one dict of texts each, ``verdict`` last.

    Of what was not run the verdict says what it needs, and the command that runs it where that is.
    """
    outcomes = stored(paper, out).outcomes
    texts = []
    for experiment in experiments:
        for statement in experiment.statements(outcomes):
            verdict = statement.finding.verdict
            told = paper.not_run(experiment) if verdict == "not run" else verdict
            texts.append({**statement.texts(), "verdict": told})
    return texts
