"""Statements that several experiments make, and the reasons for their tolerances."""

from dataclasses import replace

from plateau_interp.reproductions.claims import Claim, Reported, Within
from plateau_interp.reproductions.quantities import (
    DROP,
    LENGTH,
    PEAK_COSINE,
    PEAK_REPETITION,
    Quantity,
    difference,
    over,
    peak,
    steps_to,
    summary_number,
)
from plateau_interp.reproductions.settings import Setting

__all__ = [
    "COLLAPSE_REASON",
    "EVERY_SEED",
    "FALL_REASON",
    "FINAL_LOSS",
    "FIRST_OVER_HALF",
    "IN_THE_MEDIAN",
    "LEVEL",
    "LONG_BEFORE",
    "OUR_BUDGET",
    "PAPERS_BUDGET",
    "READ_OFF",
    "REPETITION_REASON",
    "TO_50",
    "TO_99",
    "abrupt",
    "late",
    "learned",
    "level_within",
    "near",
    "persists",
    "read_off",
    "reported",
]

READ_OFF = "a number read off a figure by others is good to 0.1"
PAPERS_BUDGET = "the paper trains that many steps"
IN_THE_MEDIAN = "an order of steps, in the median over the seeds"
LONG_BEFORE = "long before: in less than half the steps; the bound is ours"
EVERY_SEED = "an order counts if the medians show it and four of five seeds do"
FALL_REASON = (
    "2 % of the fall from the first loss to the floor, the width within which the plateau finder sees one level"
)
COLLAPSE_REASON = "a cosine of at least 0.8, where figures of the baseline show 0.95; the bound is ours"
REPETITION_REASON = "repetition of at least 0.3, where that of true answers is below 0.1; the bound is ours"
OUR_BUDGET = "the paper's number of steps is unknown or an upper bound: it is learned in as many as we gave it"
A_PLATEAU = "a plateau of at least 20 steps before the drop, a twentieth of the baseline's 400; the bound is ours"

TO_50, TO_99 = steps_to(50), steps_to(99)
LEVEL = summary_number("plateau level (nats)", "level", digits=3)
FINAL_LOSS = summary_number("final loss (nats)", "final_loss", digits=3)
FIRST_ANSWER = summary_number("step from which y_1 is right", "first_answer_step", is_step=True)
FIRST_OVER_HALF = over(FIRST_ANSWER, TO_50, "steps until y_1 is right / steps to 50 %")


def near(quantity: Quantity, setting: str, expected: float, tolerance: float) -> Within:
    """Within a tolerance of a number."""
    return Within(quantity, setting, expected - tolerance, expected + tolerance)


def level_within(quantity: Quantity, setting: Setting, expected: float) -> Within:
    """Within 2 % of the fall of a loss, from that of a new model to the floor."""
    levels = setting.recipe.task.levels
    assert levels.initial is not None
    assert levels.floor is not None
    return near(quantity, setting.name, expected, 0.02 * (levels.initial - levels.floor))


def late(*claims: Claim) -> tuple[Claim, ...]:
    """Claims that were written after some of their runs had been looked at; what is only reported cannot be late."""
    return tuple(one if isinstance(one.check, Reported) else replace(one, late=True) for one in claims)


def read_off(text: str, source: str, quantity: Quantity, setting: str, expected: float) -> Claim:
    """A claim about a number that was read off a figure."""
    return Claim(text, f"{source}, read by others", near(quantity, setting, expected, 0.1), READ_OFF)


def learned(setting: Setting, source: str, *, steps: int, budget: str = PAPERS_BUDGET) -> Claim:
    """That a task is learned in some number of steps, by most seeds and not only in the median."""
    name = f"{setting.about}: learned" if setting.about else "The task is learned"
    check = Within(TO_99, setting.name, high=steps, most_seeds=True)
    return Claim(f"{name} within {steps} steps", source, check, f"{budget}; most seeds have to")


def persists(setting: Setting, source: str, *, budget: str) -> tuple[Claim, ...]:
    """That a variant of the moving-window sum is learned, after a plateau with y_1 right, collapse and repetition."""
    about, name = setting.about or setting.name, setting.name
    return (
        learned(setting, source, steps=setting.recipe.steps, budget=budget),
        Claim(f"{about}: a plateau is there", source, Within(LENGTH, name, low=20), A_PLATEAU),
        Claim(
            f"{about}: y_1 is learned long before the others",
            source,
            Within(FIRST_OVER_HALF, name, high=0.5),
            LONG_BEFORE,
        ),
        Claim(
            f"{about}: collapse is there", source, Within(peak("cosine", until=DROP), name, low=0.8), COLLAPSE_REASON
        ),
        Claim(
            f"{about}: repetition is there",
            source,
            Within(peak("repetition", until=DROP), name, low=0.3),
            REPETITION_REASON,
        ),
    )


def reported(setting: Setting, quantities: dict[str, Quantity]) -> tuple[Claim, ...]:
    """Quantities for which no value is known, each with what it tells."""
    return tuple(
        Claim(text, "no number is known", Reported(quantity, (setting.name,)), "")
        for text, quantity in quantities.items()
    )


def abrupt(setting: Setting, source: str) -> tuple[Claim, ...]:
    """That a long task is learned after a plateau, with collapse and repetition before its drop."""
    name = setting.name
    repeated = difference(peak("repetition", until=DROP), summary_number("that of the truth", "repetition_truth"))
    return (
        learned(setting, source, steps=setting.recipe.steps),
        Claim("There is a plateau", source, Within(LENGTH, name, low=20), A_PLATEAU),
        Claim(
            "It collapses before the drop", source, Within(peak("cosine", until=DROP), name, low=0.8), COLLAPSE_REASON
        ),
        Claim(
            "It repeats itself before the drop, more than the truth does",
            source,
            Within(repeated, name, low=0.3),
            "repetition of at least 0.3, as elsewhere, beyond that of the true answers; the bound is ours",
        ),
        *reported(
            setting, {"Its drop": DROP, "Its peak collapse": PEAK_COSINE, "Its peak repetition": PEAK_REPETITION}
        ),
    )
