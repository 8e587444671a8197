"""Experiments of "What Happens During the Loss Plateau?" (Gopalani and Hu, arXiv 2506.13688), claim by claim.

Figures are numbered as in the paper's second version. Where a claim's source says *figure, read by others*, the number
was read off a figure by a third party and is good to 0.1; the bounds of such claims are that wide. *Closed form* means
that it follows from the task. What the paper gives no number for is measured and reported as unknown.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from plateau_interp.hooks import BiasAttention, FreezeWeights
from plateau_interp.optimizers import SGD, LearningRateSchedule, Muon
from plateau_interp.recipes import MeasuringOptions, ModelOptions, Recipe, TrainingOptions
from plateau_interp.reproductions.afterwards import (
    copies_within_halves,
    permutation_strategies,
    probe_accuracies,
    segment_cosines,
)
from plateau_interp.reproductions.claims import Claim, Measured, Ordered, Ratio, Within
from plateau_interp.reproductions.experiments import Experiment, Paper
from plateau_interp.reproductions.measures import (
    COSINE,
    DROP,
    LENGTH,
    NEVER,
    REPETITION,
    Measure,
    at,
    difference,
    final,
    first_at,
    halfway_before_drop,
    last_on_plateau,
    lowest,
    over,
    part_solved,
    peak,
    peaks_before_drop,
    since,
    splits_in_halves,
    spread_of_answers,
    steps_to,
    summary_number,
)
from plateau_interp.reproductions.pictures import moves_figure
from plateau_interp.reproductions.settings import Outcome, Setting
from plateau_interp.tasks import (
    ConcatenatedWindows,
    Copy,
    Histogram,
    MovingWindowSum,
    MultiDigitAddition,
    Permutation,
    PrefixSum,
    Repeat,
    Reverse,
)
from plateau_interp.types import Intervention, OptimizerSpec, Task

__all__ = ["PAPER"]

READ_OFF = "a number read off a figure by others is good to 0.1"
PAPERS_BUDGET = "the paper trains that many steps"
IN_THE_MEDIAN = "an order of steps, in the median over the seeds"
EVERY_SEED = "an order counts if the medians show it and four of five seeds do"
FALL = 0.02 * (np.log(18) - 15 * np.log(16) / 32)
FALL_REASON = (
    "2 % of the fall from the first loss to the floor, the width within which the plateau finder sees one level"
)


def recipe(
    task: Task,
    *,
    interventions: tuple[Intervention, ...] = (),
    steps: int | None = None,
    every: int = 1,
    model: ModelOptions | None = None,
    optimizer: OptimizerSpec | None = None,
    checkpoint_every: int = 100,
) -> Recipe:
    """A recipe with the task's defaults; seeds are set when it is run."""
    return Recipe(
        task,
        model=model or ModelOptions(),
        training=TrainingOptions(steps=steps, optimizer=optimizer),
        interventions=interventions,
        measuring=MeasuringOptions(every=every),
        checkpoint_every=checkpoint_every,
    )


MWS = MovingWindowSum()
BASELINE = Setting("moving-window-sum", recipe(MWS, checkpoint_every=20), about="baseline", whole=True)
SOLUTION = Setting("solution", recipe(MWS, checkpoint_every=25), whole=True)
SOLUTION_SEED = 100
"""Of the run whose final weights are transplanted: a separate one, as in the authors' code."""

TO_50, TO_99 = steps_to(50), steps_to(99)
LEVEL = summary_number("plateau level (nats)", "level", digits=3)
FINAL_LOSS = summary_number("final loss (nats)", "final_loss", digits=3)
FIRST_ANSWER = summary_number("step from which y_1 is right", "first_answer_step", is_step=True)


def bias(factor: float, *, steps: int | None = None) -> Setting:
    """Attention on the target positions multiplied by a factor from step 0 on, row 0 left alone."""
    edited = recipe(MWS, interventions=(BiasAttention(factor=factor),), steps=steps)
    return Setting(f"bias-{factor:g}", edited, about=f"bias c={factor:g}")


def transplant(where: str) -> Setting:
    """A component group taken from a trained model and frozen, the rest trained from scratch."""
    name = f"transplant-{where.replace(' ', '-')}"
    return Setting(name, recipe(MWS), about=f"trained {where}, frozen", takes=(SOLUTION, SOLUTION_SEED, where))


def switched_on(step: int) -> Setting:
    """The baseline up to a step; attention multiplied by 10 on its target positions from there on."""
    edited = recipe(MWS, interventions=(BiasAttention(factor=10.0),))
    return Setting(f"bias-10-from-{step}", edited, about=f"bias c=10 from step {step}", leaves=(BASELINE, step))


BIAS = {factor: bias(factor) for factor in (10.0, 2.5)}
AWAY = {factor: bias(factor, steps=2000) for factor in (0.5, 0.2)}
TRANSPLANTS = {where: transplant(where) for where in ("attention", "attention map", "mlp", "embeddings")}
SWITCHED = {step: switched_on(step) for step in (25, 50, 75, 100)}


FIRST_OVER_HALF = over(FIRST_ANSWER, TO_50, "steps until y_1 is right / steps to 50 %")


PROBES = {"fitted on 64 sequences": "probe_test", "fitted on 1024 sequences": "probe_test_1024"}


def near(measure: Measure, setting: str, expected: float, tolerance: float) -> Within:
    """Within a tolerance of a number."""
    return Within(measure, setting, expected - tolerance, expected + tolerance)


def late(*claims: Claim) -> tuple[Claim, ...]:
    """Claims that were written after some of their runs had been looked at."""
    return tuple(replace(one, late=True) for one in claims)


def read_off(text: str, source: str, measure: Measure, setting: str, expected: float) -> Claim:
    """A claim about a number that was read off a figure."""
    return Claim(text, f"{source}, read by others", near(measure, setting, expected, 0.1), READ_OFF)


def learned(setting: Setting, source: str, *, steps: int, budget: str = PAPERS_BUDGET) -> Claim:
    """That a task is learned in some number of steps, by most seeds and not only in the median."""
    name = f"{setting.about}: learned" if setting.about else "The task is learned"
    check = Within(TO_99, setting.name, high=steps, most_seeds=True)
    return Claim(f"{name} within {steps} steps", source, check, f"{budget}; most seeds have to")


B = BASELINE.name
FIG2 = Experiment(
    name="fig2",
    title="Moving-window sum: a plateau with a partial solution, repetition and collapse; attention moves first",
    figures="figure 2 (and 1)",
    settings=(BASELINE,),
    panels=("loss", "accuracy", "accuracy_0", "attention_progress", "cosine", "repetition"),
    n_seeds=5,
    claims=late(
        learned(BASELINE, "figure 2", steps=400),
        Claim(
            "The loss stays at the level of knowing y_1 alone", "closed form", near(LEVEL, B, 2.6277, FALL), FALL_REASON
        ),
        Claim("The loss ends at its floor", "closed form", near(FINAL_LOSS, B, 1.2997, FALL), FALL_REASON),
        Claim(
            "y_1 is learned long before the others",
            "figure 2",
            Within(FIRST_OVER_HALF, B, high=0.5),
            "long before: in less than half the steps; the bound is ours",
        ),
        Claim(
            "The other answers leave chance together",
            "figure 2, told by others as abrupt",
            Within(spread_of_answers(), B, high=40),
            "together: within a tenth of the 400 steps; the bound is ours",
        ),
        read_off("Answers repeat themselves on the plateau", "figure 2", REPETITION, B, 0.8),
        read_off("Hidden states collapse on the plateau", "figure 2", COSINE, B, 0.95),
        Claim(
            "Repetition peaks before the drop",
            "figure 2",
            Within(peaks_before_drop("repetition"), B, low=1),
            IN_THE_MEDIAN,
        ),
        Claim(
            "Collapse peaks before the drop", "figure 2", Within(peaks_before_drop("cosine"), B, low=1), IN_THE_MEDIAN
        ),
        Claim(
            "True answers hardly repeat",
            "closed form 0.0583",
            near(summary_number("repetition of the truth", "repetition_truth", digits=3), B, 0.0583, 0.005),
            "64 sequences a step and 400 steps: a standard error below 0.001",
        ),
        Claim(
            "Attention progress begins at that of uniform attention",
            "closed form 0.079",
            near(at("attention_progress"), B, 0.079, 0.02),
            "an untrained map is not quite uniform: a quarter of the value is allowed",
        ),
        read_off("Attention progress ends near 0.8", "figure 2", final("attention_progress"), B, 0.8),
        Claim(
            "Attention progress moves before the loss",
            "figure 2",
            Within(halfway_before_drop(), B, low=1),
            "half of its way is done before the loss drops",
        ),
        Claim(
            "Collapse comes from training: it is not there after the first update",
            "text, told by others",
            Within(at("cosine", step=1), B, high=0.5),
            "less than about half of the peak; the bound is ours",
        ),
        Claim(
            "Collapse is gone at the end",
            "figure 2",
            Within(final("cosine"), B, high=0.5),
            "less than about half of the peak; the bound is ours",
        ),
        Claim(
            "Repetition is gone at the end",
            "figure 2; closed form 0.0583",
            near(final("repetition"), B, 0.0583, 0.02),
            "64 sequences a step, ten steps: a standard error of 0.002; ten of them are allowed",
        ),
    ),
)

FIG3 = Experiment(
    name="fig3",
    title="Attention biased towards the target positions shortens the plateau",
    figures="figure 3",
    settings=(BASELINE, BIAS[2.5], BIAS[10.0]),
    n_seeds=5,
    claims=(
        Claim("c=10 drops earlier", "figure 3", Ordered(DROP, ("bias-10", B)), EVERY_SEED),
        Claim("c=2.5 drops earlier", "figure 3, inferred", Ordered(DROP, ("bias-2.5", B)), EVERY_SEED),
        Claim(
            "Stronger bias is faster",
            "figure 3, inferred for c=2.5",
            Ordered(TO_99, ("bias-10", "bias-2.5", B)),
            EVERY_SEED,
        ),
        Claim(
            "Stronger bias collapses less",
            "figure 3, inferred for c=2.5",
            Ordered(COSINE, ("bias-10", "bias-2.5", B)),
            EVERY_SEED,
        ),
        Claim("c=10 repeats less", "figure 3", Ordered(REPETITION, ("bias-10", B)), EVERY_SEED),
        Claim("c=2.5 repeats less", "figure 3, inferred", Ordered(REPETITION, ("bias-2.5", B)), EVERY_SEED),
        read_off("Collapse under c=10 peaks near 0.6", "figure 3", COSINE, "bias-10", 0.6),
    ),
)

FIG4 = Experiment(
    name="fig4",
    title="Attention biased away from the target positions lengthens the plateau",
    figures="figure 4",
    settings=(BASELINE, AWAY[0.5], AWAY[0.2]),
    n_seeds=5,
    claims=(
        Claim("c=0.5 drops later", "figure 4", Ordered(DROP, (B, "bias-0.5")), EVERY_SEED),
        Claim("c=0.2 drops later than c=0.5", "figure 4", Ordered(DROP, ("bias-0.5", "bias-0.2")), EVERY_SEED),
        *late(
            Claim("c=0.5 takes longer to 99 %", "figure 4", Ordered(TO_99, (B, "bias-0.5")), EVERY_SEED),
            Claim("c=0.2 takes longer than c=0.5", "figure 4", Ordered(TO_99, ("bias-0.5", "bias-0.2")), EVERY_SEED),
            Claim("c=0.2 repeats more", "figure 4", Ordered(REPETITION, (B, "bias-0.2")), EVERY_SEED),
        ),
        Claim("c=0.5 collapses more", "figure 4", Ordered(COSINE, (B, "bias-0.5")), EVERY_SEED),
        Claim("c=0.2 collapses more than c=0.5", "figure 4", Ordered(COSINE, ("bias-0.5", "bias-0.2")), EVERY_SEED),
        Claim("c=0.5 repeats more", "figure 4", Ordered(REPETITION, (B, "bias-0.5")), EVERY_SEED),
        Claim(
            "Collapse under c=0.2 passes 0.95",
            "figure 4, read by others",
            Within(COSINE, "bias-0.2", low=0.95),
            "the number as it was read, no allowance: the statement is an inequality",
        ),
        learned(AWAY[0.2], "inferred from the published steps", steps=2000),
    ),
)

T = {where: setting.name for where, setting in TRANSPLANTS.items()}
HALF = "strongly: in at most half of the steps; the bound is ours"
UNCHANGED = "not by itself: between three quarters and four thirds of the steps; the bounds are ours"
FIG5 = Experiment(
    name="fig5",
    title="A trained attention map, frozen from step 0, removes most of the plateau; trained MLPs or embeddings do not",
    figures="figure 5",
    settings=(BASELINE, *TRANSPLANTS.values()),
    n_seeds=5,
    claims=(
        Claim("The attention map is the bottleneck", "figure 5", Ratio(TO_99, T["attention map"], B, high=0.5), HALF),
        Claim("So is attention as a whole", "figure 5", Ratio(TO_99, T["attention"], B, high=0.5), HALF),
        Claim(
            "Values and output projections help further",
            "figure 5",
            Ordered(TO_99, (T["attention"], T["attention map"])),
            EVERY_SEED,
        ),
        Claim("MLPs alone change nothing", "figure 5", Ratio(TO_99, T["mlp"], B, low=0.75, high=1.33), UNCHANGED),
        Claim(
            "Embeddings alone change nothing",
            "figure 5",
            Ratio(TO_99, T["embeddings"], B, low=0.75, high=1.33),
            UNCHANGED,
        ),
        read_off("Collapse with the attention map peaks near 0.45", "figure 5", COSINE, T["attention map"], 0.45),
        read_off("Collapse with the whole attention peaks near 0.15", "figure 5", COSINE, T["attention"], 0.15),
        read_off("Collapse with MLPs is as without", "figure 5", COSINE, T["mlp"], 0.95),
        Claim(
            "Collapse with embeddings is as without",
            "figure 5, read by others as unchanged",
            Ratio(COSINE, T["embeddings"], B, low=0.9, high=1.1),
            "unchanged: within the tenth to which figures were read",
        ),
    ),
    notes=(
        f"The transplanted weights are those of a separate baseline run (seed {SOLUTION_SEED}) after 400 steps, the "
        "same for all seeds. The names of the groups are ours."
    ),
)

SOON = "soon: within 100 steps; the bound is ours"
FIG43 = Experiment(
    name="fig43",
    title="Bias switched on in mid-plateau is followed by the drop",
    figures="figure 43",
    settings=(BASELINE, *SWITCHED.values()),
    n_seeds=5,
    claims=tuple(
        statement
        for step, setting in SWITCHED.items()
        for statement in (
            Claim(
                f"Switched on at step {step}, the task is solved soon after",
                "figure 43, inferred",
                Within(since(step, TO_99), setting.name, high=100),
                SOON,
            ),
            Claim(
                f"Switched on at step {step}, it is solved before the baseline",
                "figure 43, inferred",
                Ordered(TO_99, (setting.name, B)),
                EVERY_SEED,
            ),
            *late(
                *(
                    Claim(
                        f"50 steps after the switch at step {step} there is less {what}",
                        "figure 43, inferred",
                        Ordered(at(column, step=step + 50), (setting.name, B)),
                        EVERY_SEED,
                    )
                    for what, column in (("collapse", "cosine"), ("repetition", "repetition"))
                )
            ),
        )
    ),
    notes="Each run is a fork of the baseline of its seed and sees the same batches.",
)


PREFIX = Setting("prefix-sum", recipe(PrefixSum()))
FIG6 = Experiment(
    name="fig6",
    title="Prefix sum: the same picture, with few distinct tokens instead of equal neighbours",
    figures="figure 6 (and 11, 12)",
    settings=(PREFIX,),
    panels=("loss", "accuracy", "accuracy_0", "attention_progress", "cosine", "entropy"),
    claims=(
        learned(PREFIX, "figure 6", steps=1000),
        read_off("Hidden states collapse", "figure 6", COSINE, PREFIX.name, 0.8),
        Claim(
            "Answers hold few distinct tokens on the plateau",
            "figure 6; entropy of the truth 2.296 nats in closed form",
            Within(lowest("entropy", until=DROP), PREFIX.name, high=1.15),
            "few: at most half of the truth's entropy; the bound is ours",
        ),
        Claim(
            "The first answer is learned long before the others",
            "text, told by others",
            Within(FIRST_OVER_HALF, PREFIX.name, high=0.5),
            "long before: in less than half the steps; the bound is ours",
        ),
    ),
)

REPEATS = {k: Setting(f"repeat-{k}", recipe(Repeat(k=k)), about=f"repeat {k}") for k in (1, 2)}
REPEATS[4] = Setting("repeat-4", recipe(Repeat(k=4), checkpoint_every=2), about="repeat 4", adds=copies_within_halves)
REPEAT_PANELS = ("loss", "accuracy", "cosine", "copies_of_first")
FIG7 = Experiment(
    name="fig7",
    title="Repeating one number has no plateau, although hidden states collapse at once",
    figures="figure 7",
    settings=(REPEATS[1],),
    panels=REPEAT_PANELS,
    n_seeds=5,
    claims=(
        Claim(
            "There is next to no plateau",
            "figure 7",
            Within(TO_99, "repeat-1", high=50),
            "in a quarter of the 200 steps that the paper shows; the bound is ours",
        ),
        read_off("Collapse is half-way after one update", "figure 7", at("cosine", step=1), "repeat-1", 0.5),
        Claim("Collapse before any update", "no number is known", Measured(at("cosine"), ("repeat-1",)), ""),
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
        "the first claim, which is kept as it was written."
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
        panels=REPEAT_PANELS if setting.adds is None else (*REPEAT_PANELS, "copies_in_half_0", "copies_in_half_1"),
        claims=(
            learned(setting, f"figure {figure}, inferred", steps=200),
            Claim(
                "A constant answer comes first",
                f"figure {figure}, inferred",
                Within(peak("copies_of_first"), setting.name, low=0.9),
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
            *(
                Claim(f"Part {i + 1} is right", "no number is known", Measured(part, (setting.name,)), "")
                for i, part in enumerate(parts)
            ),
            Claim("Its peak collapse", "no number is known", Measured(COSINE, (setting.name,)), ""),
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
        panels=("loss", "accuracy", "attention_progress", "cosine", "repetition"),
        notes="Trained up to 200 steps, twice the paper's, so that what is not learned in 100 can be seen.",
        claims=(
            learned(setting, f"figure {figure}, inferred", steps=100),
            Claim("Its peak collapse", "no number is known", Measured(COSINE, (setting.name,)), ""),
            Claim("Its peak repetition", "no number is known", Measured(REPETITION, (setting.name,)), ""),
        ),
    )


FIG17 = rearranges(Reverse(), figure="17", title="Reversing is learned in about 100 steps")
FIG18 = rearranges(Copy(), figure="18", title="Copying is learned in about 100 steps")

PERSISTS = "persist: collapse of at least 0.8, repetition of at least 0.3; the bounds are ours"
OUR_BUDGET = "the paper's number of steps is unknown or an upper bound: it is learned in as many as we gave it"
A_PLATEAU = "a plateau of at least 20 steps before the drop, a twentieth of the baseline's 400; the bound is ours"


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
            "long before: in less than half the steps; the bound is ours",
        ),
        Claim(f"{about}: collapse is there", source, Within(peak("cosine", until=DROP), name, low=0.8), PERSISTS),
        Claim(f"{about}: repetition is there", source, Within(peak("repetition", until=DROP), name, low=0.3), PERSISTS),
    )


SOFTMAX = Setting("softmax", recipe(MWS, model=ModelOptions(attention="softmax"), steps=2000), about="softmax")
FIG30 = Experiment(
    name="fig30",
    title="Softmax attention shows the same plateau, longer",
    figures="figure 30",
    settings=(BASELINE, SOFTMAX),
    panels=("loss", "accuracy", "attention_progress", "cosine", "repetition"),
    claims=(
        *late(*persists(SOFTMAX, "figure 30, inferred", budget=PAPERS_BUDGET)),
        Claim(
            "Its plateau is longer than with linear attention",
            "figure 30, inferred from its steps",
            Ordered(DROP, (B, SOFTMAX.name)),
            EVERY_SEED,
        ),
    ),
)

SGD_RATES = (0.1, 0.3)
PLAIN_SGD = {
    rate: Setting(f"sgd-{rate:g}", recipe(MWS, optimizer=SGD(learning_rate=rate), steps=2000), about=f"SGD {rate:g}")
    for rate in SGD_RATES
}
FIG31 = Experiment(
    name="fig31",
    title="Plain gradient descent",
    figures="figure 31",
    settings=(BASELINE, *PLAIN_SGD.values()),
    panels=("loss", "accuracy", "attention_progress", "cosine", "repetition"),
    n_seeds=1,
    claims=tuple(
        statement
        for setting in PLAIN_SGD.values()
        for statement in persists(setting, "figure 31; the rate is ours", budget=OUR_BUDGET)
    ),
    notes=(
        "The paper's learning rate and steps are unknown; the published configuration would use 1e-4 for 400 steps, "
        "far too little to learn. 0.1 and 0.3 without momentum for 2000 steps are our choice: at 1 and at 3 the loss "
        "is above 10,000 within 14 steps. What does not hold here says something of these rates, not of the paper's."
    ),
)

SCHEDULES = {
    "warm-up": Setting(
        "warm-up",
        replace(recipe(MWS), training=TrainingOptions(schedule=LearningRateSchedule(warm_up=200))),
        about="warm-up 200, then constant",
    ),
    "warm-up-cosine": Setting(
        "warm-up-cosine",
        replace(recipe(MWS), training=TrainingOptions(schedule=LearningRateSchedule(warm_up=200, cosine_until=400))),
        about="warm-up 200, cosine to 0 at 400",
    ),
}
FIG34 = Experiment(
    name="fig34",
    title="Learning-rate schedules",
    figures="figures 34 and 35 (which is which is unknown)",
    settings=(BASELINE, *SCHEDULES.values()),
    panels=("loss", "accuracy", "attention_progress", "cosine", "repetition"),
    claims=tuple(
        statement
        for setting in SCHEDULES.values()
        for statement in persists(setting, "figures 34 and 35, inferred", budget=PAPERS_BUDGET)
    ),
)

MUON = Setting("muon", recipe(MWS, optimizer=Muon()), about="Muon")
FIG32 = Experiment(
    name="fig32",
    title="Muon",
    figures="figures 32 and 33",
    settings=(BASELINE, MUON),
    panels=("loss", "accuracy", "attention_progress", "cosine", "repetition"),
    claims=persists(MUON, "figures 32 and 33", budget=OUR_BUDGET),
    notes=(
        "How the paper's two runs differ is unknown: one of them has an initial scale of 10 that multiplies something "
        "in a model file that was not published. Only the run with the usual initial weights is made. The published "
        "step budget of 100,000 is an upper bound; ours is the baseline's 400. The authors' final LayerNorm is in no "
        "parameter group and never trained; here it is."
    ),
)

LOCATIONS = {
    "before attention": "blocks.0.hook_resid_pre",
    "attention output": "blocks.0.hook_attn_out",
    "after attention": "blocks.0.hook_resid_mid",
    "after the MLP": "blocks.0.hook_resid_post",
}
EVERYWHERE = Setting(
    "all-locations",
    replace(recipe(MWS), measuring=MeasuringOptions(cosine_at=tuple(LOCATIONS.values()))),
    about="baseline",
)
AT = {name: replace(peak(f"cosine@{point}"), name=f"peak cosine {name}") for name, point in LOCATIONS.items()}
FIG41 = Experiment(
    name="fig41",
    title="Collapse appears after the attention layer, not before it",
    figures="figures 41 and 42",
    settings=(EVERYWHERE,),
    panels=("loss", *(f"cosine@{point}" for point in LOCATIONS.values()), "cosine", "norm@blocks.0.hook_resid_mid"),
    claims=(
        Claim(
            "The residual stream before attention does not collapse",
            "figures 41, 42",
            Within(AT["before attention"], EVERYWHERE.name, high=0.5),
            "about half of the collapse at the end of the model; the bound is ours",
        ),
        Claim(
            "Attention's output collapses",
            "figures 41, 42",
            Within(AT["attention output"], EVERYWHERE.name, low=0.8),
            "as at the end of the model, allowing for 0.15; the bound is ours",
        ),
        Claim(
            "After attention the residual stream collapses more than before",
            "figures 41, 42",
            Within(difference(AT["after attention"], AT["before attention"]), EVERYWHERE.name, low=0.2),
            "a difference that is seen in a figure; the bound is ours",
        ),
        Claim(
            "After the MLP it is collapsed",
            "figures 41, 42",
            Within(AT["after the MLP"], EVERYWHERE.name, low=0.8),
            "as at the end of the model, allowing for 0.15; the bound is ours",
        ),
        *(
            Claim(f"Length of states {name}, {when}", "no number is known", Measured(measure, (EVERYWHERE.name,)), "")
            for name, point in LOCATIONS.items()
            for when, measure in (
                ("last on the plateau", last_on_plateau(f"norm@{point}")),
                ("at the end", final(f"norm@{point}", rows=1)),
            )
        ),
    ),
)

CONCATENATED = Setting(
    "concatenated-windows", recipe(ConcatenatedWindows(), every=5, checkpoint_every=50), adds=segment_cosines
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
    panels=("loss", "accuracy_0", "accuracy_4", "accuracy_9", *(f"cosine_segment_{index}" for index in range(3))),
    n_seeds=1,
    claims=(
        learned_before("copies", "sums of two"),
        learned_before("sums of two", "sums of three"),
        *(
            Claim(
                f"{name.capitalize()} collapse before they are learned",
                "figure 19, inferred",
                Within(SEGMENT_PEAKS[name], CONCATENATED.name, low=0.8),
                PERSISTS,
            )
            for name in ("sums of two", "sums of three")
        ),
        Claim("Peak collapse of copies", "no number", Measured(SEGMENT_PEAKS["copies"], (CONCATENATED.name,)), ""),
        *(
            Claim(f"Steps until {name} are right", "no number is known", Measured(solved, (CONCATENATED.name,)), "")
            for name, solved in SEGMENTS.items()
        ),
    ),
)

ADDITION = Setting("multi-digit-addition", recipe(MultiDigitAddition(), every=5))
BETWEEN_BLOCKS = MeasuringOptions(every=10, cosine_at=("blocks.0.hook_resid_post", "blocks.1.hook_resid_post"))
PERMUTATION = Setting(
    "permutation",
    replace(recipe(Permutation(), checkpoint_every=20), measuring=BETWEEN_BLOCKS),
    adds=permutation_strategies,
)
HISTOGRAM = Setting("histogram", replace(recipe(Histogram()), measuring=BETWEEN_BLOCKS))
LONG_PANELS = ("loss", "accuracy", "attention_progress", "cosine", "repetition")
CARRY = first_at("accuracy_4", 0.9)


def reported(setting: Setting, measures: dict[str, Measure]) -> tuple[Claim, ...]:
    """Measures for which no value is known, each with what it tells."""
    return tuple(
        Claim(text, "no number is known", Measured(measure, (setting.name,)), "") for text, measure in measures.items()
    )


def abrupt(setting: Setting, source: str) -> tuple[Claim, ...]:
    """That a long task is learned after a plateau, with collapse and repetition before its drop."""
    name = setting.name
    repeated = difference(peak("repetition", until=DROP), summary_number("that of the truth", "repetition_truth"))
    return (
        learned(setting, source, steps=setting.recipe.steps),
        Claim("There is a plateau", source, Within(LENGTH, name, low=20), A_PLATEAU),
        Claim("It collapses before the drop", source, Within(peak("cosine", until=DROP), name, low=0.8), PERSISTS),
        Claim(
            "It repeats itself before the drop, more than the truth does",
            source,
            Within(repeated, name, low=0.3),
            "repetition of at least 0.3, as elsewhere, beyond that of the true answers; the bound is ours",
        ),
        *reported(setting, {"Its drop": DROP, "Its peak collapse": COSINE, "Its peak repetition": REPETITION}),
    )


BLOCK_COSINES = {
    f"Peak collapse after block {block}": peak(f"cosine@blocks.{block - 1}.hook_resid_post") for block in (1, 2)
}
FIG9 = Experiment(
    name="fig9",
    title="Addition of four digits, answer reversed",
    figures="figures 9 and 10",
    settings=(ADDITION,),
    panels=(*LONG_PANELS, "accuracy_4", "entropy"),
    n_seeds=1,
    claims=(
        *abrupt(ADDITION, "figures 9 and 10"),
        Claim(
            "The loss stays at the level of knowing the final carry alone",
            "closed form",
            near(LEVEL, ADDITION.name, 1.809, 0.02 * (np.log(12) - 0.5 * np.log(10))),
            FALL_REASON,
        ),
        Claim(
            "The final carry is learned long before the other digits",
            "figures 9 and 10, told by others",
            Within(over(CARRY, TO_50, "steps to 90 % right carries / steps to 50 %"), ADDITION.name, high=0.5),
            "long before: in less than half the steps; the bound is ours",
        ),
    ),
)
FIG13 = Experiment(
    name="fig13",
    title="Permutation, two layers",
    figures="figures 13 and 14",
    settings=(PERMUTATION,),
    panels=(
        *LONG_PANELS,
        "right_counts",
        "attention_progress_0",
        "attention_progress_1",
        "alternative_0",
        "alternative_1",
    ),
    n_seeds=1,
    claims=(
        *late(*abrupt(PERMUTATION, "figures 13 and 14")),
        *reported(
            PERMUTATION,
            {
                "Loss on the plateau (2.659 nats without knowing more than which tokens may stand where)": LEVEL,
                "Answers hold the right tokens, last on the plateau": last_on_plateau("right_counts"),
                "Answers hold the right tokens, at the end": final("right_counts", rows=1),
                **BLOCK_COSINES,
                **{
                    f"{what}, layer {layer + 1}, at the end": final(f"{column}_{layer}", rows=1)
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
    panels=(*LONG_PANELS, *(f"cosine@{point}" for point in BETWEEN_BLOCKS.cosine_at)),
    n_seeds=1,
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

VARIANTS = {
    "two layers": ModelOptions(n_layers=2),
    "four heads": ModelOptions(n_heads=4),
    "width 128": ModelOptions(d_model=128),
    "width 512": ModelOptions(d_model=512),
}
TASK_VARIANTS = {
    "8 inputs": MovingWindowSum(n=8),
    "24 inputs": MovingWindowSum(n=24),
    "modulus 11": MovingWindowSum(p=11),
    "modulus 29": MovingWindowSum(p=29),
    "window of 3": MovingWindowSum(k=3),
}
GRID = tuple(
    Setting(f"variant-{name.replace(' ', '-')}", varied, about=name)
    for name, varied in (
        *((name, recipe(MWS, model=options, steps=1000, every=5)) for name, options in VARIANTS.items()),
        *((name, recipe(task, steps=1000, every=5)) for name, task in TASK_VARIANTS.items()),
    )
)
FIG26 = Experiment(
    name="fig26",
    title="Other layers, heads, widths, lengths, moduli and windows",
    figures="figures 26 to 29 (which shows which is unknown)",
    settings=(BASELINE, *GRID),
    panels=("loss", "accuracy", "attention_progress", "cosine", "repetition"),
    n_seeds=1,
    claims=tuple(
        statement for setting in GRID for statement in persists(setting, "figures 26 to 29", budget=OUR_BUDGET)
    ),
    notes="The paper's values are unknown; these are ours: one change at a time, at most 1000 steps.",
)

PROBED = Setting("probe", recipe(MWS, checkpoint_every=20), about="baseline", whole=True, adds=probe_accuracies)
FIG20 = Experiment(
    name="fig20",
    title="What can be read from the attention output",
    figures="figure 20",
    settings=(PROBED,),
    panels=("loss", "accuracy", "attention_progress", "probe_test", "probe_train", "probe_test_1024"),
    n_seeds=1,
    claims=(
        Claim(
            "On the plateau the answers cannot be read from the attention output",
            "figure 20, inferred",
            Within(last_on_plateau("probe_test"), PROBED.name, high=0.5),
            "the probe names less than half of the tokens; the bound is ours",
        ),
        Claim(
            "Once attention is learned they can",
            "figure 20, inferred",
            Within(final("probe_test", rows=1), PROBED.name, low=0.9),
            "nine of ten tokens; the bound is ours",
        ),
        *(
            Claim(f"{name}: {when}", "no number is known", Measured(measure, (PROBED.name,)), "")
            for name, column in PROBES.items()
            for when, measure in (
                ("at the start", at(column)),
                ("last on the plateau", last_on_plateau(column)),
                ("at the end", final(column, rows=1)),
            )
        ),
    ),
    notes=(
        "Measured at a checkpoint every 20 steps; the paper probes every 10. Its split fits the probe on the first "
        "1024 tokens of 2048 sequences laid end to end: whole sequences, so nothing leaks, but 3 % of the data where "
        "half was probably meant. Both are shown: fitted on 64 sequences (the paper's split, at every checkpoint) and "
        "on 1024 (every fifth)."
    ),
)


GROUPS = ("attention map", "attention", "mlp", "embeddings")
MOMENTS = (0, 40, 80, 120, 160)
"""Steps at which the counterfactual forks leave the baseline: checkpoints on either side of where y_1 is learned."""


def counterfactual(where: str, step: int, *, trained: bool) -> Setting:
    """The baseline, left at a step with a component group frozen: as trained elsewhere, or as it is then."""
    name = f"{'trained' if trained else 'frozen'}-{where.replace(' ', '-')}-from-{step}"
    if trained:
        taken = (SOLUTION, SOLUTION_SEED, where)
        return Setting(name, recipe(MWS), about=f"trained {where} from {step}", takes=taken, leaves=(BASELINE, step))
    frozen = recipe(MWS, interventions=(FreezeWeights(where),))
    return Setting(name, frozen, about=f"{where} frozen at {step}", leaves=(BASELINE, step))


TRAINED_FROM = {(where, step): counterfactual(where, step, trained=True) for where in GROUPS for step in MOMENTS}
FROZEN_FROM = {(where, step): counterfactual(where, step, trained=False) for where in GROUPS for step in MOMENTS}


def counterfactual_figure(outcomes: dict[str, list[Outcome]]) -> Any:
    """Steps by which the drop moves, for each group and moment: the median over seeds."""
    drops = {one.seed: one.summary.drop_step for one in outcomes.get(BASELINE.name, [])}

    def moves(setting: Setting) -> list[float]:
        """Infinite where the drop did not come."""
        return [
            NEVER if one.summary.drop_step is None else one.summary.drop_step - drop
            for one in outcomes.get(setting.name, [])
            if (drop := drops.get(one.seed)) is not None
        ]

    rows = [("trained", TRAINED_FROM), ("as it is", FROZEN_FROM)]
    cells = [[moves(grid[where, step]) for step in MOMENTS] for _, grid in rows for where in GROUPS]
    medians = np.array([[np.median(cell) if cell else np.nan for cell in row] for row in cells])
    steps = BASELINE.recipe.steps
    most = steps - max((drop for drop in drops.values() if drop is not None), default=steps)
    return moves_figure(
        np.minimum(medians, most),
        rows=[f"{where}, {kind}" for kind, _ in rows for where in GROUPS],
        columns=[str(step) for step in MOMENTS],
        at_least=medians == NEVER,
    )


COUNTERFACTUAL = Experiment(
    name="counterfactual",
    title="When does what stop being the bottleneck?",
    figures="nothing: it goes beyond the paper",
    settings=(BASELINE, *TRAINED_FROM.values(), *FROZEN_FROM.values()),
    n_seeds=1,
    draws=counterfactual_figure,
    claims=tuple(
        Claim(f"{where}, {kind}: drop step by the step it is frozen at", "not in the paper", Measured(DROP, names), "")
        for kind, grid in (("trained elsewhere", TRAINED_FROM), ("as it is then", FROZEN_FROM))
        for where in GROUPS
        for names in [tuple(grid[where, step].name for step in MOMENTS)]
    ),
    notes=(
        "Each run is a fork of the baseline of its seed, on the same batches. *Trained* groups have the weights of the "
        "separate run of figure 5. Where the picture says ≥, the drop did not come within 400 steps."
    ),
)


PAPER = Paper(
    name="loss-plateau",
    title="What Happens During the Loss Plateau?",
    source="Gopalani and Hu, arXiv 2506.13688",
    about=(
        "Nothing here was checked against the paper's own text: *figure* marks what third parties tell of a figure, "
        "*read by others* a number that a third party read off it, which is good to 0.1, as are the bounds of those "
        "claims; *inferred* marks what follows from a figure's setting without being told. Claims marked *late* were "
        "written after some of their runs had been looked at, all others before. The plateau finder learned "
        "afterwards to tell a plateau from a steady fall, and to find plateaus below half of the fall, which two-layer "
        "tasks have; neither moved the drop of any run with a plateau above it."
    ),
    experiments=(
        FIG2,
        FIG3,
        FIG4,
        FIG5,
        FIG6,
        FIG7,
        FIG17,
        FIG18,
        FIG19,
        FIG20,
        FIG21,
        FIG22,
        FIG26,
        FIG30,
        FIG31,
        FIG32,
        FIG34,
        FIG41,
        FIG43,
        FIG9,
        FIG13,
        FIG15,
        COUNTERFACTUAL,
    ),
)
