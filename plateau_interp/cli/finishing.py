"""What `plateau train` and `plateau fork` do with a run: train it with a bar, log it, report it, tell what came out."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from plateau_interp.cli.console import print_json, print_table, print_text, showing_progress

if TYPE_CHECKING:
    from plateau_interp.loggers.contract import Logger
    from plateau_interp.runs.run import Run

__all__ = ["finish", "read_loggers"]


def read_loggers(texts: Sequence[str]) -> "tuple[Logger, ...]":
    """What the words name, before anything is written.

    Raises:
        ValueError: for an unknown name or field, one that is given twice, or a package that is not there.
    """
    from plateau_interp.cli.words import read_plugin
    from plateau_interp.loggers.run_log import check_loggers

    loggers = tuple(read_plugin("loggers", text) for text in texts)
    check_loggers(loggers)
    return loggers


def finish(run: "Run", *, device: str, as_json: bool, loggers: "Sequence[Logger]") -> None:
    """Train what is left of a run, then tell what came out: summary, report."""
    from plateau_interp.loggers.run_log import logging_to
    from plateau_interp.views.page import report_pictures
    from plateau_interp.views.report import write_report

    with logging_to(run, *loggers) as log:
        with showing_progress(run) as show:
            for step in run.train(device=device):
                show(step)
                log.step(step)
        report = write_report(run)
        for picture in report_pictures(report.parent):
            log.picture(picture.stem, picture)
    if as_json:
        summary = dataclasses.asdict(run.summary)
        print_json({"run": str(run.path), "steps": run.step, "summary": summary, "report": str(report)})
        return
    print_table([str(run.path), run.task.name], run.summary.rows())
    print_text(f"Report: {report}")
