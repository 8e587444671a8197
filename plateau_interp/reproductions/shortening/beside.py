"""The poster's table 1 beside ours: counted as it did, and in every other currency; and what becomes of its savings."""

import statistics
from collections.abc import Sequence

from plateau_interp.reproductions.claims import Outcomes
from plateau_interp.reproductions.markdown import table
from plateau_interp.reproductions.quantities import Quantity
from plateau_interp.reproductions.shortening.ends import MeanSaving, taken_to
from plateau_interp.reproductions.shortening.mixes import ALL_THREE, PAIRS_WITH, TASKS
from plateau_interp.reproductions.shortening.poster import FACTOR, POSTER_STEPS, SAVING, SEQUENCES, mean_saving

__all__ = ["poster_beside_ours"]

COMPANY = {1: "alone", 2: "two tasks, both pairs", 3: "three tasks"}
TERA = 1e12
SAVED_IN = (
    ("elbow", "own_sequences"),
    ("elbow", "sequences"),
    ("right_99", "own_sequences"),
    ("right_99", "sequences"),
)
"""What savings are told of: criterion and currency."""

NOT_THERE = "not run, or not reached"


def poster_beside_ours(outcomes: Outcomes) -> str:
    """Two tables in Markdown: costs of each task alone and in company, and what company saves on average.

    Args:
        outcomes: by setting name, of the seven settings of table 1.
    """
    head = [
        "task",
        "trained",
        "poster: own sequences to the elbow",
        "ours",
        "poster: steps",
        "ours",
        "sequences of all tasks",
        "TFLOP",
        "own sequences to 95 %",
        "to 99 %",
        "all right for 50 steps",
    ]
    rows = [_row(word, count, outcomes) for word in TASKS for count in COMPANY]
    savings = ["tasks", "counted in", "poster", "ours", "does it survive?"]
    saved = [_saved(count, rule, currency, outcomes) for count in SAVING for rule, currency in SAVED_IN]
    return "\n\n".join(
        [
            "The poster's numbers beside ours, medians over seeds with [lowest, highest]. A step has 128 sequences of "
            "all tasks together and costs the same FLOPs whatever they are, so that steps, sequences of all tasks and "
            "FLOPs tell one story, and own sequences another.",
            table(head, rows),
            "What is saved against training each task alone, on average over the tasks:",
            table(savings, saved),
        ]
    )


def _mixes(word: str, count: int) -> tuple[str, ...]:
    if count == 1:
        return (word,)
    return tuple(setting.name for setting in PAIRS_WITH[word]) if count == 2 else (ALL_THREE.name,)


def _row(word: str, count: int, outcomes: Outcomes) -> list[str]:
    def ours(rule: str, currency: str, *, unit: float = 1.0, digits: int = 0) -> str:
        return _told(taken_to(rule, currency, word), _mixes(word, count), outcomes, unit=unit, digits=digits)

    return [
        word,
        COMPANY[count],
        f"{SEQUENCES[count][word]:,}",
        ours("elbow", "own_sequences"),
        f"{POSTER_STEPS[count][word]:.0f}",
        ours("elbow", "steps"),
        ours("elbow", "sequences"),
        ours("elbow", "flops", unit=TERA, digits=2),
        ours("right_95", "own_sequences"),
        ours("right_99", "own_sequences"),
        ours("perfect", "own_sequences"),
    ]


def _told(
    quantity: Quantity, settings: Sequence[str], outcomes: Outcomes, *, unit: float = 1.0, digits: int = 0
) -> str:
    """Over the seeds, of several settings the mean of each seed's; a dash where one was not run."""
    by_setting = [{one.seed: quantity.of(one) for one in outcomes.get(name, ())} for name in settings]
    seeds = set.intersection(*(set(one) for one in by_setting))
    values = [[one[seed] for one in by_setting] for seed in sorted(seeds)]
    means = [
        statistics.mean(value for value in each if value is not None) / unit for each in values if None not in each
    ]
    return Quantity("", lambda _: None, digits).tell_all(means) if means else "-"


def _saved(count: int, rule: str, currency: str, outcomes: Outcomes) -> list[str]:
    mixes = {word: _mixes(word, count) for word in TASKS}
    check = MeanSaving(rule, currency, mixes, 0.0, 1.0)
    ours = list(check.by_seed(outcomes).values())
    poster = None
    if rule == "elbow":
        poster = mean_saving(POSTER_STEPS[count], POSTER_STEPS[1]) if currency == "sequences" else SAVING[count]
    until = "to the elbow" if rule == "elbow" else "to 99 % right"
    what = "own sequences" if currency == "own_sequences" else "sequences of all tasks, steps, FLOPs"
    percents = Quantity("", lambda _: None, 0).tell_all([100 * one for one in ours]) + " %" if ours else NOT_THERE
    told = "not stated" if poster is None else f"{poster:.2%}"
    told = f"{told} (derived)" if poster is not None and currency == "sequences" else told
    return [
        COMPANY[count],
        f"{what} {until}",
        told,
        percents,
        _survives(SAVING[count], ours, as_counted=poster == SAVING[count]),
    ]


def _survives(poster: float, ours: Sequence[float], *, as_counted: bool) -> str:
    """A sentence on what became of the poster's saving, which it counts in own sequences to the elbow."""
    if not ours:
        return "Not known: not all of it was run, or reached."
    saved = statistics.median(ours)
    left, poster_left = 1 - saved, 1 - poster
    more, less = left < poster_left / FACTOR, left > poster_left * FACTOR
    if as_counted:
        became = "is exceeded" if more else "does not survive" if less else "survives"
        return f"Counted as the poster does, its saving of {poster:.0%} {became}: {saved:.0%} here."
    if saved <= 0.1:
        how = f"{-saved:.0%} more is needed" if saved < 0 else f"{saved:.0%} is saved"
        return f"Counted so, it does not survive: {how}, where the poster says that {poster:.0%} is saved."
    how = "less than" if less else "more than" if more else "about what"
    return f"Counted so, {saved:.0%} is saved: {how} the poster says ({poster:.0%})."
