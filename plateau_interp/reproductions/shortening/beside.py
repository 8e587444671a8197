"""The poster's table 1 beside ours: counted as it did, and in every other currency; and what becomes of its savings.

A saving survives where it does at more than half of the seeds and at the median, as the page says above the table.
"""

import statistics
from collections.abc import Callable, Sequence

from plateau_interp.reproductions.claims import MAJORITY, Outcomes
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

SOME_SAVING = 0.1
"""More than this has to be saved for a saving to survive in another currency than the poster's."""
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
            "What is saved against training each task alone, on average over the tasks. A saving survives where it "
            "does at more than half of the seeds and at the median: counted as the poster does, where what is left to "
            f"be paid is at most {FACTOR:g} times what it says (less than what it says over {FACTOR:g}, and the saving "
            f"is exceeded); counted otherwise, where more than {SOME_SAVING:.0%} is saved. A seed at which something "
            "was not reached is none at which it does.",
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
        _survives(SAVING[count], ours, n_seeds=_n_seeds(check, outcomes), as_counted=poster == SAVING[count]),
    ]


def _n_seeds(check: MeanSaving, outcomes: Outcomes) -> int:
    """Seeds that everything it compares was run with."""
    return min(len(outcomes.get(name, ())) for name in check.settings)


def _survives(poster: float, ours: Sequence[float], *, n_seeds: int, as_counted: bool) -> str:
    """A sentence on what became of the poster's saving, which it counts in own sequences to the elbow.

    Args:
        poster: the share that it says is saved.
        ours: the share saved at each seed at which all was reached.
        n_seeds: with those at which something was not.
        as_counted: whether ours is counted as the poster does.
    """
    if not ours or len(ours) < MAJORITY * n_seeds:
        return "Not known: not all of it was run, or reached at four of five seeds."
    saved = statistics.median(ours)

    def most(holds: Callable[[float], bool]) -> tuple[bool, str]:
        """Whether it holds at more than half of the seeds and at the median; at how many it does."""
        n_holding = sum(map(holds, ours))
        return n_holding > n_seeds / 2 and holds(saved), f"at {n_holding} of {n_seeds} seeds"

    def less(one: float) -> bool:
        return 1 - one > (1 - poster) * FACTOR

    def more(one: float) -> bool:
        return 1 - one < (1 - poster) / FACTOR

    if as_counted:
        is_exceeded, exceeding = most(more)
        survives, surviving = most(lambda one: not less(one))
        became = f"does not survive: {saved:.0%} here; it does {surviving}"
        if survives:
            became = f"survives: {saved:.0%} here, and so {surviving}"
        if is_exceeded:
            became = f"is exceeded: {saved:.0%} here, and so {exceeding}"
        return f"Counted as the poster does, its saving of {poster:.0%} {became}."
    survives, surviving = most(lambda one: one > SOME_SAVING)
    if not survives:
        how = f"{-saved:.0%} more is needed" if saved < 0 else f"{saved:.0%} is saved"
        told = f"{how}, where the poster says that {poster:.0%} is saved"
        return f"Counted so, it does not survive: {told}; a saving does {surviving}."
    how = "less than" if less(saved) else "more than" if more(saved) else "about what"
    return f"Counted so, a saving survives {surviving}: {saved:.0%}, {how} the poster says ({poster:.0%})."
