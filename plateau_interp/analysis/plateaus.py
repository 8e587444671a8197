"""Finds the plateau and the drop in a table of metrics, and says what the model knew on the plateau.

Works on any table with the columns that `plateau_interp.training.meter.Meter` fills; needs no model and no run folder.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from plateau_interp.analysis.budgets import Prices
from plateau_interp.analysis.criteria import Reached, criteria_of, delay_told, in_columns
from plateau_interp.analysis.shelves import TOLERANCE, known_shelf, lies_low, shelf, smoothed
from plateau_interp.checks import shown
from plateau_interp.metrics import as_float32
from plateau_interp.models.fitting import check_task
from plateau_interp.training.batches import samples_before
from plateau_interp.types import Levels, Task

__all__ = ["Summary", "comparable", "compare", "summarise"]

SOLVED = 0.95
"""An answer position counts as right from this accuracy on."""
ACCURACIES = (50, 95, 99)
GROKKING = ("train_95_step", "validation_95_step", "grokking_delay")  # of runs with a validation set alone


@dataclass(frozen=True)
class Summary:
    """The numbers of a run; steps are training steps, losses in `unit`, None where a thing was not seen.

    The loss is smoothed by a running median over 9 measured steps (near the first and the last over as many as there
    are on both sides) before anything is read off it. *Fall* means the way from the first loss to the task's
    closed-form floor, or to the lowest loss reached where no floor is known.
    """

    level: float | None
    """Loss on the plateau: the lowest loss at which the run lingers above the last quarter of the fall (at all, if it
    never comes there). It lingers at the peaks of the density of its losses (Gaussian kernel of 1 % of the fall) that
    are at least a quarter as high as the highest; an earlier shelf, with less known, is higher up and not meant. A peak
    where it stays for less than 15 % of the steps before the last quarter of the fall, or for one measured step alone,
    is passed over for the next above it. None, as `start` and `end`, if none is left, or if fewer than 3 steps are
    measured before that quarter: such a loss only falls. In noise it stays longer: if the loss rises by more than 1 %
    of the fall at one measured step in ten, the 15 % grow in proportion, up to 40 %; if at any, it is 6 measured steps.
    Where the closed form is in the last quarter of the fall, as after the first steps of a squared error, it is the
    mean loss while the run is there: see `plateau_interp.analysis.shelves.known_shelf`."""
    level_expected: float | None
    """The task's closed-form plateau."""
    start: int | None
    """First step at which the loss is within 2 % of the fall above `level`; none of the first four as long as the loss
    itself, unsmoothed, is higher than that and three standard deviations of the noise."""
    end: int | None
    """Last step before the drop at which the loss is within 2 % of the fall of `level`."""
    drop_step: int | None
    """First step at which the loss is below the middle between `level` and the floor (the lowest loss, where no floor
    is known), once half of the fall is done; without a plateau, at which half of the fall is done."""
    first_answer_step: int | None
    """First step at which the first answer position is right in 95 % of the decoded sequences; None also where
    positions are not measured, as with answers of one token."""
    steps_to: dict[int, int | None]
    """Percent of token accuracy (50, 95, 99) to the first measured step that has it."""
    samples_to: dict[int, int | None]  # the same in training sequences seen
    partial_solution: tuple[int, ...]
    """Answer positions that are right in 95 % of the sequences on the second half of the plateau."""
    peak_cosine: float | None
    peak_cosine_step: int | None
    peak_repetition: float | None
    peak_repetition_step: int | None
    repetition_truth: float | None
    """Repetition of the true answers, mean over the run."""
    attention_progress_start: float | None
    attention_progress_end: float | None
    final_loss: float
    """Mean loss of the last tenth of the measured steps: of 1 at least, of 10 at most."""
    final_accuracy: float | None
    floor: float | None
    """The task's closed-form floor."""
    last_step: int
    """The last measured step, which the final numbers are of: steps after it were made and not measured."""
    train_95_step: int | None = None
    """First measured step at which 95 % of the answers to a finite task's training set are right."""
    validation_95_step: int | None = None
    """The same of its validation set; the first crossing, whether it lasts or not."""
    grokking_delay: int | None = None
    """Steps from `train_95_step` to `validation_95_step`."""
    final_validation_loss: float | None = None  # at the last measured step
    final_validation_accuracy: float | None = None
    grokking_delays: dict[str, int | None] = field(default_factory=dict)
    """The same delay of each of the task's groups, such as the operations of modular arithmetic, by name as columns
    have it; empty without groups."""
    positions_measured: bool = True
    """Whether the accuracy of each answer position was measured."""
    unit: str = "nats"  # of losses, as the task has it
    left_initial_level: bool = True
    """Whether the loss came down from where it began: False if `level` is where it was at the first measured step,
    there was no drop, and that is not the closed form of the plateau."""
    reached: tuple[Reached, ...] = ()
    """When each criterion of `plateau_interp.analysis.criteria` was reached, and what it took."""

    @property
    def has_plateau(self) -> bool:
        """Whether the loss came to a plateau; one that never left its initial level did not."""
        return self.level is not None and self.left_initial_level

    @property
    def length(self) -> int | None:
        """Updates from `start` to `end`, one fewer than there are steps; None if there is no level."""
        return None if self.start is None or self.end is None else self.end - self.start

    @property
    def delays_apart(self) -> dict[str, int | None]:
        """`grokking_delays`, if there are several groups to tell apart."""
        return self.grokking_delays if len(self.grokking_delays) > 1 else {}

    def rows(self) -> list[tuple[str, str]]:
        """Labels and values as text, for a table."""
        first_answers = _positions(self.partial_solution) if self.positions_measured else "not measured"
        first_step = _step(self.first_answer_step) if self.positions_measured else "not measured"
        stayed = "none" if self.left_initial_level else f"none, it never left the initial {_loss(self.level)}"
        level = _loss(self.level) if self.has_plateau else stayed
        last = f"mean of the last rows, to step {self.last_step}"
        return [
            (f"Plateau level ({self.unit})", f"{level} (closed form {_loss(self.level_expected)})"),
            ("Plateau from step to step", f"{self.start} to {self.end}" if self.has_plateau else "none"),
            ("Answers right on the plateau", first_answers),
            ("First answer right from step", first_step),
            ("Drop step", _step(self.drop_step)),
            *((f"Steps to {percent} % accuracy", self._steps_and_samples(percent)) for percent in ACCURACIES),
            ("Peak cosine", _at_step(self.peak_cosine, self.peak_cosine_step)),
            ("Peak repetition", f"{_at_step(self.peak_repetition, self.peak_repetition_step)}{self._truth()}"),
            ("Attention progress, start to end", self._attention_progress()),
            (f"Final loss ({self.unit})", f"{_loss(self.final_loss)} ({last}; floor {_loss(self.floor)})"),
            ("Final accuracy", _at_step(self.final_accuracy, self.last_step)),
            *(self._validation_rows() if self.final_validation_accuracy is not None else ()),
            *((one.label, one.describe()) for one in self.reached),
        ]

    def _validation_rows(self) -> list[tuple[str, str]]:
        return [
            ("Training set 95 % right from step", _step(self.train_95_step)),
            ("Validation set 95 % right from step", _step(self.validation_95_step)),
            ("Grokking delay", delay_told(self.grokking_delay)),
            *((f"Grokking delay, {group}", delay_told(delay)) for group, delay in self.delays_apart.items()),
            (f"Final validation loss ({self.unit})", _at_step(self.final_validation_loss, self.last_step, 4)),
            ("Final validation accuracy", _at_step(self.final_validation_accuracy, self.last_step)),
        ]

    def _steps_and_samples(self, percent: int) -> str:
        samples = self.samples_to[percent]
        if self.final_accuracy is None and self.steps_to[percent] is None:  # as of a text, which has no answers
            return "not measured"
        return _step(self.steps_to[percent]) + ("" if samples is None else f" ({samples:,} sequences)")

    def _attention_progress(self) -> str:
        ends = (self.attention_progress_start, self.attention_progress_end)
        return "not measured" if ends == (None, None) else f"{_measured(ends[0])} to {_measured(ends[1])}"

    def _truth(self) -> str:
        return "" if self.repetition_truth is None else f" (true answers {self.repetition_truth:.3f})"


def summarise(metrics: pd.DataFrame, *, task: Task, batch_size: int, prices: Prices | None = None) -> Summary:
    """Read plateau, drop and the other numbers of a run off its metrics.

    Args:
        metrics: one row a measured step, in order; ``step`` and ``loss`` at least, other columns where measured.
        task: for its closed-form levels.
        batch_size: training sequences a step, to count samples (of a finite task no more than there are in an epoch).
        prices: what the steps cost, for the budgets of its criteria; by default sequences alone are counted.

    Raises:
        ValueError: for what is no table or no task, a table without rows or one of the two columns, and for
            rows that are not in the order of their steps.

    Example:
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> loss = [2.9] + [2.63] * 100 + [1.3] * 100
        >>> table = pd.DataFrame({"step": range(201), "loss": loss})
        >>> summarise(table, task=MovingWindowSum(), batch_size=256).drop_step
        101
    """
    check_task(task)
    _check_rows(metrics)
    steps, levels = metrics["step"].to_numpy(), task.levels
    raw = metrics["loss"].to_numpy(dtype=float)
    lingering = _lingering(raw, levels)
    steps_to = {percent: _first(steps, _column(metrics, "accuracy"), percent / 100) for percent in ACCURACIES}
    return Summary(
        level=lingering.level,
        level_expected=levels.plateau,
        start=_at(steps, lingering.start),
        end=_at(steps, lingering.end),
        drop_step=_at(steps, lingering.drop),
        left_initial_level=lingering.left,
        partial_solution=_solved_between(metrics, lingering.start, lingering.end),
        first_answer_step=_first(steps, _first_position(metrics), SOLVED),
        steps_to=steps_to,
        samples_to={
            percent: None if step is None else samples_before(task, step=step, batch_size=batch_size)
            for percent, step in steps_to.items()
        },
        final_loss=float(raw[-min(10, max(1, len(raw) // 10)) :].mean()),
        final_accuracy=_number_or_none(_column(metrics, "accuracy"), -1),
        floor=levels.floor,
        last_step=int(steps[-1]),
        positions_measured="accuracy_0" in metrics,
        unit=task.unit,
        reached=criteria_of(metrics, task=task, prices=Prices(task, batch_size) if prices is None else prices),
        **_collapse(metrics),
        **_grokking_numbers(metrics),
    )


def _check_rows(metrics: Any) -> None:
    """Refuse what cannot be summarised."""
    if not isinstance(metrics, pd.DataFrame) or not (metrics.empty or {"step", "loss"} <= {*metrics.columns}):
        raise ValueError(f"metrics must be a table with step and loss, such as Run.metrics; got {shown(metrics)}")
    if metrics.empty:
        raise ValueError("no step was measured yet: there is nothing to summarise")
    steps = metrics["step"].to_numpy()
    if not (np.diff(steps) > 0).all():
        place = int(np.argmin(np.diff(steps) > 0))
        raise ValueError(
            f"the rows of metrics must be in the order of their steps, each step once: step {steps[place + 1]} comes "
            f"after step {steps[place]}"
        )


@dataclass(frozen=True)
class _Shelf:
    """Where a loss lingers and drops, in rows; and whether it left where it began."""

    level: float | None
    start: int | None
    end: int | None
    drop: int | None
    left: bool


def _lingering(raw: np.ndarray, levels: Levels) -> _Shelf:
    lowest = float(raw.min()) if levels.floor is None else levels.floor
    loss = smoothed(raw, half=(raw[0] + lowest) / 2)
    lowest = float(loss.min()) if levels.floor is None else levels.floor
    if levels.plateau is not None and lies_low(levels.plateau, first=float(raw[0]), lowest=lowest):
        level, start, end, drop = known_shelf(raw, loss, levels.plateau)
    else:
        level, start, end, drop = shelf(raw, loss, lowest=lowest)
    distance = np.nan if level is None or levels.plateau is None else abs(level - levels.plateau)
    left = start != 0 or drop is not None or bool(distance <= TOLERANCE * (raw[0] - lowest))
    return _Shelf(level, start, end, drop, left)


def _collapse(metrics: pd.DataFrame) -> dict[str, Any]:
    """Fields of a `Summary`: how far states and answers were alike, and what the attention came to."""
    steps = metrics["step"].to_numpy()
    cosine, repetition = _column(metrics, "cosine"), _column(metrics, "repetition")
    truth, progress = _column(metrics, "repetition_truth"), _column(metrics, "attention_progress")
    return {
        "peak_cosine": _extreme(cosine),
        "peak_cosine_step": _at(steps, _where_extreme(cosine)),
        "peak_repetition": _extreme(repetition),
        "peak_repetition_step": _at(steps, _where_extreme(repetition)),
        "repetition_truth": None if truth is None or np.isnan(truth).all() else float(np.nanmean(truth)),
        "attention_progress_start": _number_or_none(progress, 0),
        "attention_progress_end": _number_or_none(progress, -1),
    }


def _grokking_numbers(metrics: pd.DataFrame) -> dict[str, Any]:
    """Fields of a `Summary`: training set, validation set and the way between; None without a validation set."""
    learned, understood, delay = _grokking(metrics, "")
    return {
        "train_95_step": learned,
        "validation_95_step": understood,
        "grokking_delay": delay,
        "final_validation_loss": _number_or_none(_column(metrics, "validation_loss"), -1),
        "final_validation_accuracy": _number_or_none(_column(metrics, "validation_accuracy"), -1),
        "grokking_delays": {group: _grokking(metrics, f"_{group}")[2] for group in _validated_groups(metrics)},
    }


def compare(summaries: Mapping[str, Summary]) -> pd.DataFrame:
    """One row a run; each number also as its difference from the first run's.

    Columns: ``run``, ``plateau_level``, ``plateau_start``, ``plateau_end``, ``drop_step``, ``steps_to_50`` …,
    ``samples_to_50`` …, ``peak_cosine``, ``peak_repetition``, ``final_accuracy``, and for each of them ``…_change``;
    for runs with a validation set also ``train_95_step``, ``validation_95_step``, ``grokking_delay`` and
    ``final_validation_accuracy``, and for those with several groups ``grokking_delay_GROUP``. Then what it took to
    reach each criterion: see `plateau_interp.analysis.criteria.in_columns`.

    Raises:
        ValueError: for fewer than two runs.
    """
    if len(summaries) < 2:
        raise ValueError(f"comparing needs at least two runs; got {len(summaries)}")
    table = pd.DataFrame([comparable(summary) for summary in summaries.values()]).astype(float)
    if all(summary.final_validation_accuracy is None for summary in summaries.values()):
        table = table.drop(columns=[*GROKKING, "final_validation_accuracy"])
    table = pd.concat([table, (table - table.iloc[0]).add_suffix("_change")], axis=1)
    table.insert(0, "run", list(summaries))
    return table


def comparable(summary: Summary) -> dict[str, float | None]:
    """The numbers of a run that are set beside another's, by column; those that `compare` tells."""
    return {
        "plateau_level": summary.level if summary.has_plateau else None,
        "plateau_start": summary.start if summary.has_plateau else None,
        "plateau_end": summary.end if summary.has_plateau else None,
        "drop_step": summary.drop_step,
        **{f"steps_to_{percent}": step for percent, step in summary.steps_to.items()},
        **{f"samples_to_{percent}": samples for percent, samples in summary.samples_to.items()},
        "peak_cosine": summary.peak_cosine,
        "peak_repetition": summary.peak_repetition,
        "final_accuracy": summary.final_accuracy,
        **{name: getattr(summary, name) for name in GROKKING},
        "final_validation_accuracy": summary.final_validation_accuracy,
        **{f"grokking_delay_{group}": delay for group, delay in summary.delays_apart.items()},
        **in_columns(summary.reached),
    }


def _grokking(metrics: pd.DataFrame, group: str) -> tuple[int | None, int | None, int | None]:
    """First steps of 95 % in training and in validation, and the way between, of columns with such an ending."""
    steps, validation = metrics["step"].to_numpy(), _column(metrics, f"validation_accuracy{group}")
    learned = None if validation is None else _first(steps, _column(metrics, f"accuracy{group}"), SOLVED)
    understood = _first(steps, validation, SOLVED)
    return learned, understood, None if learned is None or understood is None else understood - learned


def _validated_groups(metrics: pd.DataFrame) -> list[str]:
    start = "validation_accuracy_"
    return [str(name).removeprefix(start) for name in metrics.columns if str(name).startswith(start)]


def _solved_between(metrics: pd.DataFrame, start: int | None, end: int | None) -> tuple[int, ...]:
    if start is None or end is None:
        return ()
    shelf = metrics.iloc[(start + end) // 2 : end + 1]
    measured = [column.removeprefix("accuracy_") for column in metrics.columns if column.startswith("accuracy_")]
    indices = sorted(int(index) for index in measured if index.isdigit())
    return tuple(index for index in indices if as_float32(shelf[f"accuracy_{index}"].mean()) >= as_float32(SOLVED))


def _first_position(metrics: pd.DataFrame) -> np.ndarray | None:
    """The accuracy of the first answer that is ever labelled."""
    measured = [column for index in range(len(metrics.columns)) if (column := f"accuracy_{index}") in metrics]
    labelled = (column for column in measured if metrics[column].notna().any())
    return _column(metrics, next(labelled, "accuracy_0"))


def _column(metrics: pd.DataFrame, name: str) -> np.ndarray | None:
    return metrics[name].to_numpy(dtype=float) if name in metrics else None


def _first(steps: np.ndarray, values: np.ndarray | None, bound: float) -> int | None:
    if values is None:
        return None
    reached = np.flatnonzero(as_float32(values) >= as_float32(bound))
    return int(steps[reached[0]]) if len(reached) else None


def _number_or_none(values: np.ndarray | None, row: int) -> float | None:
    """A column's value in a row; None where nothing was measured, or the measure is not a number."""
    return None if values is None or np.isnan(values[row]) else float(values[row])


def _at(steps: np.ndarray, index: int | None) -> int | None:
    return None if index is None else int(steps[index])


def _where_extreme(values: np.ndarray | None) -> int | None:
    return None if values is None or np.isnan(values).all() else int(np.nanargmax(values))


def _extreme(values: np.ndarray | None) -> float | None:
    index = _where_extreme(values)
    return None if index is None or values is None else float(values[index])


def _loss(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4f}"


def _measured(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3f}"


def _step(value: int | None) -> str:
    return "not reached" if value is None else str(value)


def _at_step(value: float | None, step: int | None, digits: int = 3) -> str:
    return "not measured" if value is None else f"{value:.{digits}f} at step {step}"


def _positions(indices: tuple[int, ...]) -> str:
    return ", ".join(f"y_{index + 1}" for index in indices) or "none"
