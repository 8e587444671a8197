"""Tasks that take long: figures 9, 13, 15 and 19."""

from plateau_interp.reproductions.claims import Claim, Within
from plateau_interp.reproductions.experiments import Experiment
from plateau_interp.reproductions.from_checkpoints import SEGMENT_COLUMNS, STRATEGY_COLUMNS
from plateau_interp.reproductions.loss_plateau.baseline import COMMON_PANELS, recipe
from plateau_interp.reproductions.loss_plateau.statements import (
    COLLAPSE_REASON,
    FALL_REASON,
    IN_THE_MEDIAN,
    LEVEL,
    LONG_BEFORE,
    TO_50,
    abrupt,
    late,
    level_within,
    reported,
)
from plateau_interp.reproductions.quantities import (
    DROP,
    difference,
    final,
    last_on_plateau,
    over,
    part_solved,
    peak,
    steadily_at,
)
from plateau_interp.reproductions.settings import Setting
from plateau_interp.tasks import ConcatenatedWindows, Histogram, MultiDigitAddition, Permutation

__all__ = ["FIG9", "FIG13", "FIG15", "FIG19"]

CONCATENATED = Setting(
    "concatenated-windows", recipe(ConcatenatedWindows(), every=5, checkpoint_every=50), adds=SEGMENT_COLUMNS
)
SEGMENTS = {
    name: part_solved(name, range(answers.start, answers.stop))
    for name, answers in zip(("copies", "sums of two", "sums of three"), ConcatenatedWindows().segments, strict=True)
}
SEGMENT_PEAKS = {
    name: peak(f"cosine_segment_{index}", until=solved) for index, (name, solved) in enumerate(SEGMENTS.items())
}


def learned_before(first: str, second: str) -> Claim:
    """That one segment of the concatenated windows is right before another."""
    apart = difference(SEGMENTS[second], SEGMENTS[first])
    check = Within(apart, CONCATENATED.name, low=1)
    text = f"{first.capitalize()} are learned before {second}"
    return Claim(text, "figure 19, inferred", check, IN_THE_MEDIAN)


FIG19 = Experiment(
    name="fig19",
    title="Windows of one, two and three inputs in one answer are learned one after another",
    figures="figure 19",
    settings=(CONCATENATED,),
    key=(SEGMENTS["sums of two"], CONCATENATED),
    panels=("loss", "accuracy_0", "accuracy_4", "accuracy_9", *(f"cosine_segment_{index}" for index in range(3))),
    claims=(
        *late(learned_before("copies", "sums of two"), learned_before("sums of two", "sums of three")),
        *(
            Claim(
                f"{name.capitalize()} collapse before they are learned",
                "figure 19, inferred",
                Within(SEGMENT_PEAKS[name], CONCATENATED.name, low=0.8),
                COLLAPSE_REASON,
            )
            for name in ("sums of two", "sums of three")
        ),
        *reported(CONCATENATED, {f"Steps until {name} are right": solved for name, solved in SEGMENTS.items()}),
    ),
)

ADDITION = Setting("multi-digit-addition", recipe(MultiDigitAddition(), every=5))
BETWEEN_BLOCKS = ("blocks.0.hook_resid_post", "blocks.1.hook_resid_post")
PERMUTATION = Setting(
    "permutation",
    recipe(Permutation(), every=10, cosine_at=BETWEEN_BLOCKS, checkpoint_every=20),
    adds=STRATEGY_COLUMNS,
)
HISTOGRAM = Setting("histogram", recipe(Histogram(), every=10, cosine_at=BETWEEN_BLOCKS))
CARRY = steadily_at("accuracy_4", 0.9)

BLOCK_COSINES = {
    f"Peak collapse after block {block}": peak(f"cosine@blocks.{block}.hook_resid_post") for block in (0, 1)
}
FIG9 = Experiment(
    name="fig9",
    title="Addition of four digits, answer reversed",
    figures="figures 9 and 10",
    settings=(ADDITION,),
    key=(DROP, ADDITION),
    panels=(*COMMON_PANELS, "accuracy_4", "entropy"),
    claims=(
        *abrupt(ADDITION, "figures 9 and 10"),
        Claim(
            "The loss stays at the level of knowing the final carry alone",
            "closed form",
            level_within(LEVEL, ADDITION, 1.809),
            FALL_REASON,
        ),
        *late(
            Claim(
                "The final carry is learned long before the other digits",
                "figures 9 and 10, told by others",
                Within(
                    over(CARRY, TO_50, "steps to steadily 90 % right carries / steps to 50 %"), ADDITION.name, high=0.5
                ),
                LONG_BEFORE,
            ),
        ),
    ),
)
FIG13 = Experiment(
    name="fig13",
    title="Permutation, two layers",
    figures="figures 13 and 14",
    settings=(PERMUTATION,),
    key=(DROP, PERMUTATION),
    panels=(
        *COMMON_PANELS,
        "right_counts",
        "attention_progress_0",
        "attention_progress_1",
        "alternative_0",
        "alternative_1",
    ),
    claims=(
        *late(*abrupt(PERMUTATION, "figures 13 and 14")),
        *reported(
            PERMUTATION,
            {
                "Loss on the plateau (2.659 nats for knowing only which tokens can stand at a place)": LEVEL,
                "Answers hold the right tokens, last on the plateau": last_on_plateau("right_counts"),
                "Answers hold the right tokens, at the end": final("right_counts", rows=1),
                **BLOCK_COSINES,
                **{
                    f"{what}, layer {layer}, at the end": final(f"{column}_{layer}", rows=1)
                    for what, column in (("Progress", "attention_progress"), ("Alternative progress", "alternative"))
                    for layer in (0, 1)
                },
            },
        ),
    ),
    notes=(
        "Which of the two attention strategies wins is unknown: both are reported. The alternative's shares and the "
        "token counts are those of the checkpoints, every 20 steps."
    ),
)
FIG15 = Experiment(
    name="fig15",
    title="Histogram, two layers",
    figures="figures 15 and 16",
    settings=(HISTOGRAM,),
    key=(DROP, HISTOGRAM),
    panels=(*COMMON_PANELS, *(f"cosine@{point}" for point in BETWEEN_BLOCKS)),
    claims=(
        *late(*abrupt(HISTOGRAM, "figures 15 and 16")),
        *reported(
            HISTOGRAM,
            {
                "Loss on the plateau (1.869 nats for knowing how often each count occurs)": LEVEL,
                **BLOCK_COSINES,
            },
        ),
    ),
    notes="Repetition of the truth is 0.333 here: the constant answer 2 alone is right in 37 %.",
)
