"""Tasks learned within a few hundred steps: figures 6, 7, 17, 18, 21 and 22."""

from plateau_interp.reproductions.claims import Claim, Within
from plateau_interp.reproductions.experiments import Experiment
from plateau_interp.reproductions.from_checkpoints import HALF_COLUMNS
from plateau_interp.reproductions.loss_plateau.baseline import COMMON_PANELS, recipe
from plateau_interp.reproductions.loss_plateau.statements import (
    FIRST_OVER_HALF,
    IN_THE_MEDIAN,
    LONG_BEFORE,
    TO_99,
    late,
    learned,
    read_off,
    reported,
)
from plateau_interp.reproductions.quantities import (
    CONSTANT,
    DROP,
    LENGTH,
    PEAK_COSINE,
    PEAK_REPETITION,
    at,
    difference,
    lowest,
    part_solved,
    peak,
    splits_in_halves,
)
from plateau_interp.reproductions.settings import Setting
from plateau_interp.tasks import Copy, PrefixSum, Repeat, Reverse
from plateau_interp.types import Task

__all__ = ["FIG6", "FIG7", "FIG17", "FIG18", "FIG21", "FIG22"]

PREFIX = Setting("prefix-sum", recipe(PrefixSum()))
FIG6 = Experiment(
    name="fig6",
    title="Prefix sum: the same picture, with few distinct tokens instead of equal neighbours",
    figures="figure 6 (and 11, 12)",
    settings=(PREFIX,),
    key=(TO_99, PREFIX),
    panels=("loss", "accuracy", "accuracy_0", "attention_progress", "cosine", "entropy"),
    claims=(
        learned(PREFIX, "figure 6", steps=1000),
        read_off("Hidden states collapse", "figure 6", PEAK_COSINE, PREFIX.name, 0.8),
        Claim(
            "Answers hold few distinct tokens before the drop",
            "figure 6; entropy of the truth 2.296 nats in closed form",
            Within(lowest("entropy", until=DROP), PREFIX.name, high=1.15),
            "few: at most half of the truth's entropy; the bound is ours",
        ),
        Claim(
            "The first answer is learned long before the others",
            "text, told by others",
            Within(FIRST_OVER_HALF, PREFIX.name, high=0.5),
            LONG_BEFORE,
        ),
    ),
)

REPEATS = {
    1: Setting("repeat-1", recipe(Repeat(k=1)), about="repeat 1"),
    2: Setting("repeat-2", recipe(Repeat(k=2)), about="repeat 2"),
    4: Setting("repeat-4", recipe(Repeat(k=4), checkpoint_every=2), about="repeat 4", adds=HALF_COLUMNS),
}
CONSTANT_FIRST = peak("copies_of_first")
REPEAT_PANELS = ("loss", "accuracy", "cosine", "copies_of_first")
FIG7 = Experiment(
    name="fig7",
    title="Repeating one number has no plateau, although hidden states collapse at once",
    figures="figure 7",
    settings=(REPEATS[1],),
    key=(LENGTH, REPEATS[1]),
    panels=REPEAT_PANELS,
    n_seeds=5,
    claims=(
        Claim(
            "It is learned within 50 steps",
            "figure 7, inferred from next to no plateau",
            Within(TO_99, "repeat-1", high=50),
            "in a quarter of the 200 steps that the paper shows; the bound is ours",
        ),
        read_off("Collapse is half-way after one update", "figure 7", at("cosine", step=1), "repeat-1", 0.5),
        *reported(REPEATS[1], {"Collapse before any update": at("cosine")}),
        *late(
            Claim(
                "The loss has no plateau",
                "figure 7",
                Within(LENGTH, "repeat-1", high=20),
                "none, or a tenth of the 200 steps; the bound is ours",
            )
        ),
        Claim(
            "Answers copy their first token almost from the start",
            "figure 7",
            Within(at("copies_of_first", step=50), "repeat-1", low=0.95),
            "nearly all, in a quarter of the 200 steps; the bound is ours",
        ),
    ),
    notes=(
        "The answers that the model reads are one and the same token, so its untrained states are already half alike: "
        "the number after one update does not show that training made it. The plateau's length is the better test of "
        "the figure; the first claim is kept with the bound that it was given before any run."
    ),
)


def repeats_several(k: int, *, figure: str, title: str, more: tuple[Claim, ...] = ()) -> Experiment:
    """Answers of k numbers, each repeated: a constant comes first."""
    setting = REPEATS[k]
    each = 16 // k
    parts = [part_solved(f"the answers of part {i + 1}", range(i * each, (i + 1) * each)) for i in range(k)]
    return Experiment(
        name=f"fig{figure}",
        title=title,
        figures=f"figure {figure}",
        settings=(setting,),
        key=(CONSTANT_FIRST, setting),
        panels=REPEAT_PANELS if setting.adds is None else (*REPEAT_PANELS, "copies_in_half_0", "copies_in_half_1"),
        claims=(
            learned(setting, f"figure {figure}, inferred", steps=200),
            Claim(
                "A constant answer comes first",
                f"figure {figure}, inferred",
                Within(CONSTANT_FIRST, setting.name, low=CONSTANT),
                f"nine of ten tokens equal the first at some step, where the truth has 1 of {k}; the bound is ours",
            ),
            *late(
                Claim(
                    "The first part is right before the last",
                    f"figure {figure}, inferred: the constant is the first part's",
                    Within(difference(parts[-1], parts[0]), setting.name, low=1),
                    IN_THE_MEDIAN,
                )
            ),
            *more,
            *reported(setting, {f"Part {i + 1} is right": part for i, part in enumerate(parts)}),
            *reported(setting, {"Its peak collapse": PEAK_COSINE}),
        ),
    )


FIG21 = repeats_several(2, figure="21", title="Repeating two numbers: first one constant, then two halves")
FIG22 = repeats_several(
    4,
    figure="22",
    title="Repeating four numbers: constant, halves, quarters",
    more=late(
        Claim(
            "Then two halves, each constant",
            "figure 22, inferred",
            Within(splits_in_halves(), "repeat-4", low=0.9),
            "nine of ten tokens of each half equal its first, where the truth has 1 of 2; the bound is ours",
        ),
    ),
)


def rearranges(task: Task, *, figure: str, title: str) -> Experiment:
    """Answers that are the inputs in another order."""
    setting = Setting(task.name, recipe(task, steps=200))
    return Experiment(
        name=f"fig{figure}",
        title=title,
        figures=f"figure {figure}",
        settings=(setting,),
        key=(TO_99, setting),
        panels=COMMON_PANELS,
        notes="Trained up to 200 steps, twice the paper's, so that what is not learned in 100 can be seen.",
        claims=(
            learned(setting, f"figure {figure}, inferred", steps=100),
            *reported(setting, {"Its peak collapse": PEAK_COSINE, "Its peak repetition": PEAK_REPETITION}),
        ),
    )


FIG17 = rearranges(Reverse(), figure="17", title="Reversing is learned in about 100 steps")
FIG18 = rearranges(Copy(), figure="18", title="Copying is learned in about 100 steps")
