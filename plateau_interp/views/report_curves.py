"""The curves of a report, with their captions: which columns are drawn, of which runs, and what is seen in them.

The figures themselves are those of `plateau_interp.views.curves` and `plateau_interp.views.maps`.
"""

import dataclasses
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import pandas as pd

from plateau_interp.analysis.plateaus import Summary
from plateau_interp.types import Task
from plateau_interp.views.curves import Curves, curves_figure, level_lines
from plateau_interp.views.maps import position_figure
from plateau_interp.views.panels import METER_PANELS, loss_panels, panel, parts
from plateau_interp.views.report_words import agree
from plateau_interp.views.saving import Draw

if TYPE_CHECKING:
    from plateau_interp.runs.run import Run

__all__ = ["OVERLAID", "Drawing", "accuracy_caption", "curve_drawings", "loss_caption", "not_drawn", "overlaid"]

OVERLAID = 6
"""More runs than this are drawn as mean and spread over seeds, not as single curves."""


@dataclass(frozen=True)
class Drawing:
    """A figure of the page: its name, how it is drawn, and what is said below it."""

    name: str
    draw: Draw
    caption: str


def curve_drawings(runs: "list[Run]", names: list[str], summaries: list[Summary]) -> list[Drawing]:
    """A drawing of each panel that was measured, and one of the answer positions for each setting."""
    curves = overlaid(runs, names)
    drops = [summary.drop_step for summary in summaries]
    measured = _measured_everywhere(runs)
    validated = {column for run in runs for column in _measured_everywhere([run]) if column.startswith("validation_")}
    levels = runs[0].task.levels if agree(run.task.levels for run in runs) else None
    one = summaries[0] if len(summaries) == 1 else None
    averaged = len(runs) > OVERLAID and len(curves) < len(runs)
    how = (
        " Line: mean over seeds, at each step of those that got so far; band: one standard deviation."
        if averaged
        else ""
    )
    captions = {
        "loss": loss_caption(one, fresh="validation_loss" not in validated, known=bool(level_lines(levels)))
        + ("" if one else _marked(drops)),
        "accuracy": accuracy_caption(one, tasks=[run.task for run in runs]),
        "attention_progress": "Share of the attention of the answer rows that lies on the positions which the solution "
        + ("reads. Half of its rise is done before the drop." if _rises_first(runs, summaries) else "reads.")
        + (" As in training: interventions included." if any(run.recipe.interventions for run in runs) else ""),
        "cosine": "Mean cosine between the final hidden states of different answers. Near 1 the model says the same "
        "at each position: its representations have collapsed.",
        "repetition": "Share of neighbouring answers that are equal, in greedy decoding.",
        "entropy": "Entropy of the tokens within an answer, in greedy decoding.",
        "copies_of_first": "Share of the tokens of a greedy answer that equal its first.",
        "attention_progress_without_separator": "Attention progress of the attention that is not on the separator.",
        "attention_separator": "Share of the attention of the answer rows that lies on the separator.",
    }
    own = runs[0].task.captions if agree(run.task for run in runs) else {}
    captions |= {
        column: own.get(column, f"The column {column} of the metrics.") for column in _others(measured, captions)
    }
    alone = isinstance(curves, pd.DataFrame) or len(curves) == 1
    shown = [
        Drawing(
            _picture_name(column),
            partial(
                curves_figure,
                curves,
                [column],
                levels=levels,
                drops=drops,
                panels=loss_panels(run.task for run in runs),
            ),
            caption + _also(column, measured, validated, alone=alone, several=one is None) + how,
        )
        for column, caption in captions.items()
        if column in measured
    ]
    return shown + _position_drawings(runs, names, summaries)


def _position_drawings(runs: "list[Run]", names: list[str], summaries: list[Summary]) -> list[Drawing]:
    """A map of the answer positions for each setting: runs that differ in more than their seed have no mean."""
    groups = _settings(runs, names)
    shown = []
    for number, (name, members) in enumerate(groups.items(), start=1):
        group = [runs[index] for index in members]
        if not any(re.fullmatch(r"accuracy_\d+", column) for column in _measured_everywhere(group)):
            continue
        drops = [summaries[index].drop_step for index in members]
        of = f" Of {name}." if len(groups) > 1 else ""
        many = f" Mean of {len(group)} runs, at each step of those that got so far." if len(group) > 1 else ""
        caption = f"Each row is an answer position; a strong colour means right.{_marked(drops)}{of}{many}"
        draw = partial(position_figure, [run.metrics for run in group], drops=drops)
        shown.append(Drawing(f"positions-{number}" if len(groups) > 1 else "positions", draw, caption))
    return shown


def _measured_everywhere(runs: "list[Run]") -> list[str]:
    """Columns in which each run has a number."""
    everywhere = [set(_measured_by(run)) for run in runs]
    return [column for column in _measured_by(runs[0]) if all(column in measured for measured in everywhere)]


def _measured_by(run: "Run") -> list[str]:
    return list(map(str, run.metrics.select_dtypes("number").dropna(axis="columns", how="all").columns))


def not_drawn(runs: "list[Run]") -> list[str]:
    """Titles of the panels that are left out, as not every run measured what they show."""
    somewhere = list(dict.fromkeys(column for run in runs for column in _measured_by(run)))
    everywhere = _measured_everywhere(runs)
    panels = [column for column in somewhere if column in METER_PANELS or column in _others(somewhere, METER_PANELS)]
    return sorted({panel(column).title for column in panels if column not in everywhere})


def _others(measured: list[str], known: Iterable[str]) -> list[str]:
    """Columns that the suite does not know and that are drawn in no other column's panel."""
    elsewhere = {"step", "samples", *known}
    for column in measured:
        elsewhere |= {f"validation_{column}", f"{column}_truth", *parts(measured, column).values()}
    return [name for name in measured if name not in elsewhere and not re.fullmatch(r"accuracy_\d+", name)]


def _marked(drops: Sequence[int | None]) -> str:
    """What the vertical lines are, if there are any."""
    n_lines = len({drop for drop in drops if drop is not None})
    return ("", " Vertical line: the drop.", " Vertical lines: the drops.")[min(n_lines, 2)]


def _also(column: str, measured: list[str], validated: set[str], *, alone: bool, several: bool) -> str:
    """What the other lines of a panel are; a validation set need not be in each run."""
    held_out = f"validation_{column}"
    where = "" if held_out in measured else ", of the runs that have one"
    lines = (
        (f"{column}_truth" in measured, f" Dotted: of the true answers{', mean of the runs' if several else ''}."),
        (held_out in validated, f" Dashed: on the validation set{where}."),
        (alone and bool(parts(measured, column)), " Thin lines: its parts."),
    )
    return "".join(text for there, text in lines if there)


def _picture_name(column: str) -> str:
    return re.sub(r"[^\w-]+", "-", column)


def overlaid(runs: "list[Run]", names: list[str]) -> Curves:
    """The metrics as they are drawn: few runs each by its name, many as mean and spread over seeds."""
    if len(runs) == 1:
        return runs[0].metrics
    if len(runs) <= OVERLAID:
        return {name: run.metrics for name, run in zip(names, runs, strict=True)}
    return {name: [runs[index].metrics for index in members] for name, members in _settings(runs, names).items()}


def _settings(runs: "list[Run]", names: list[str]) -> dict[str, list[int]]:
    """Runs that differ in nothing but their seed, by their indices."""
    groups: dict[str, list[int]] = {}
    for index, run in enumerate(runs):
        groups.setdefault(dataclasses.replace(run.recipe, seed=0).to_json(), []).append(index)
    folders = [{names[index].rpartition("/")[0] for index in members} for members in groups.values()]
    called = {}
    for members, folder in zip(groups.values(), folders, strict=True):
        shared = next(iter(folder)) if len(folder) == 1 else ""
        if len(members) == 1:
            called[names[members[0]]] = members
        elif shared and shared not in names and folders.count(folder) == 1:  # as in a sweep: a setting, and its seeds
            called[shared] = members
        else:
            called[f"{names[members[0]]} and others"] = members
    return called


def loss_caption(summary: Summary | None, *, fresh: bool, known: bool) -> str:
    """What is said below the loss: of one run or several, on fresh batches or not, with closed-form levels or not."""
    what = f"Training loss{' of fresh batches' if fresh else ''}{'; dotted: the closed-form levels' if known else ''}."
    if summary is None or summary.level is None or not summary.has_plateau:
        return what
    distance = (
        ""
        if summary.level_expected is None
        else f", {abs(summary.level - summary.level_expected):.3f} from its closed form"
    )
    where = f"The plateau's level is {summary.level:.3f} {summary.unit}{distance}."
    return f"{what} {where}"


def accuracy_caption(summary: Summary | None, *, tasks: Sequence[Task]) -> str:
    """What is said below the accuracy: of one run or several, whose tasks have answers to write or to fill in."""
    writes = {bool(task.lookahead) for task in tasks}
    text = "Share of answer tokens that are right."
    if writes == {True}:
        text = "Share of answer tokens that are right when the model writes the whole answer by itself."
    elif writes == {False}:
        text = "Share of the answers, the likeliest at each place, that are right."
    if summary is None or summary.steps_to.get(95) is None:
        return text
    return f"{text} 95 % from step {summary.steps_to[95]}."


def _rises_first(runs: "list[Run]", summaries: list[Summary]) -> bool:
    """Whether in each run attention progress has done half of its way before the drop."""
    for run, summary in zip(runs, summaries, strict=True):
        if summary.drop_step is None or "attention_progress" not in run.metrics:
            return False
        progress = run.metrics.set_index("step")["attention_progress"].dropna()
        before = progress[progress.index <= summary.drop_step]
        if before.empty or progress.iloc[-1] <= progress.iloc[0]:
            return False
        if before.iloc[-1] < (progress.iloc[0] + progress.iloc[-1]) / 2:
            return False
    return True
