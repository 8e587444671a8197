"""Experiments of "What Happens During the Loss Plateau?" (Gopalani and Hu, arXiv 2506.13688), claim by claim.

Figures are numbered as in the paper's second version. Where a claim's source says *figure, read by others*, the number
was read off a figure by a third party and is good to 0.1; the bounds of such claims are that wide. *Closed form* means
that it follows from the task. What the paper gives no number for is measured and reported as unknown.

The five baseline seeds had been looked at before the claims of figure 2 were written down; everything else was written
before its runs were made.
"""

import numpy as np

from plateau_interp.hooks import BiasAttention
from plateau_interp.recipes import MeasuringOptions, ModelOptions, Recipe, TrainingOptions
from plateau_interp.reproductions.claims import (
    Check,
    Claim,
    Measure,
    Ordered,
    Ratio,
    Within,
    at_start,
    final,
    peak,
    steps_to,
    summary_number,
)
from plateau_interp.reproductions.experiments import Experiment, Outcome, Paper, Setting
from plateau_interp.tasks import MovingWindowSum
from plateau_interp.types import Intervention, OptimizerSpec, Task

__all__ = ["PAPER"]

READ_OFF = "a number read off a figure by others is good to 0.1"
PAPERS_BUDGET = "the paper trains that many steps"
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

DROP = summary_number("drop step", "drop_step", is_step=True)
TO_50, TO_99 = steps_to(50), steps_to(99)
LEVEL = summary_number("plateau level (nats)", "level", digits=3)
FINAL_LOSS = summary_number("final loss (nats)", "final_loss", digits=3)
FIRST_ANSWER = summary_number("step from which y_1 is right", "first_answer_step", is_step=True)
COSINE, REPETITION = peak("cosine"), peak("repetition")


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


def peaks_before_drop(column: str) -> Measure:
    """Steps from the column's peak to the drop."""

    def of(outcome: Outcome) -> float | None:
        drop = outcome.summary.drop_step
        if drop is None or column not in outcome.metrics:
            return None
        return float(drop - outcome.metrics["step"].iloc[int(np.nanargmax(outcome.metrics[column]))])

    return Measure(f"steps from peak {column} to the drop", of)


def halfway_before_drop() -> Measure:
    """Steps from where attention progress is half-way between its first and last values to the drop."""

    def of(outcome: Outcome) -> float | None:
        drop = outcome.summary.drop_step
        if drop is None or "attention_progress" not in outcome.metrics:
            return None
        progress = outcome.metrics["attention_progress"].to_numpy()
        middle = (progress[0] + progress[-10:].mean()) / 2
        return float(drop - outcome.metrics["step"].iloc[int(np.argmax(progress >= middle))])

    return Measure("steps from half of the attention progress to the drop", of)


def first_over_half() -> Measure:
    """Steps until the first answer is right, over the steps to 50 % accuracy."""

    def of(outcome: Outcome) -> float | None:
        first, half = FIRST_ANSWER.of(outcome), TO_50.of(outcome)
        return None if first is None or not half else first / half

    return Measure("steps until y_1 is right / steps to 50 %", of, 2)


def since(step: int, measure: Measure) -> Measure:
    """A measure that counts steps, counted from another step on."""

    def of(outcome: Outcome) -> float | None:
        value = measure.of(outcome)
        return None if value is None else value - step

    return Measure(f"{measure.name} after the switch", of)


def difference(first: Measure, second: Measure) -> Measure:
    """What one measure has more than another."""

    def of(outcome: Outcome) -> float | None:
        values = first.of(outcome), second.of(outcome)
        return None if values[0] is None or values[1] is None else values[0] - values[1]

    return Measure(f"{first.name} minus {second.name}", of, first.digits)


def near(measure: Measure, setting: str, expected: float, tolerance: float) -> Within:
    """Within a tolerance of a number."""
    return Within(measure, setting, expected - tolerance, expected + tolerance)


def claim(text: str, source: str, check: Check, reason: str) -> Claim:
    """A claim, positionally."""
    return Claim(text, source, check, reason)


def read_off(text: str, source: str, measure: Measure, setting: str, expected: float) -> Claim:
    """A claim about a number that was read off a figure."""
    return Claim(text, f"{source}, read by others", near(measure, setting, expected, 0.1), READ_OFF)


B = BASELINE.name
FIG2 = Experiment(
    name="fig2",
    title="Moving-window sum: a plateau with a partial solution, repetition and collapse; attention moves first",
    figures="figure 2 (and 1)",
    settings=(BASELINE,),
    panels=("loss", "accuracy", "accuracy_0", "attention_progress", "cosine", "repetition"),
    n_seeds=5,
    claims=(
        claim("The task is learned within 400 steps", "figure 2", Within(TO_99, B, high=400), PAPERS_BUDGET),
        claim(
            "The loss stays at the level of knowing y_1 alone", "closed form", near(LEVEL, B, 2.6277, FALL), FALL_REASON
        ),
        claim("The loss ends at its floor", "closed form", near(FINAL_LOSS, B, 1.2997, FALL), FALL_REASON),
        claim(
            "y_1 is learned long before the others",
            "figure 2",
            Within(first_over_half(), B, high=0.5),
            "long before: in less than half the steps; the bound is ours",
        ),
        read_off("Answers repeat themselves on the plateau", "figure 2", REPETITION, B, 0.8),
        read_off("Hidden states collapse on the plateau", "figure 2", COSINE, B, 0.95),
        claim(
            "Repetition peaks before the drop",
            "figure 2",
            Within(peaks_before_drop("repetition"), B, low=1),
            EVERY_SEED,
        ),
        claim("Collapse peaks before the drop", "figure 2", Within(peaks_before_drop("cosine"), B, low=1), EVERY_SEED),
        claim(
            "True answers hardly repeat",
            "closed form 0.0583",
            near(summary_number("repetition of the truth", "repetition_truth", digits=3), B, 0.0583, 0.005),
            "64 sequences a step and 400 steps: a standard error below 0.001",
        ),
        claim(
            "Attention progress begins at that of uniform attention",
            "closed form 0.079",
            near(at_start("attention_progress"), B, 0.079, 0.02),
            "an untrained map is not quite uniform: a quarter of the value is allowed",
        ),
        read_off("Attention progress ends near 0.8", "figure 2", final("attention_progress"), B, 0.8),
        claim(
            "Attention progress moves before the loss",
            "figure 2",
            Within(halfway_before_drop(), B, low=1),
            "half of its way is done before the loss drops",
        ),
        claim(
            "Collapse comes from training: it is not there after the first update",
            "text, told by others",
            Within(at_start("cosine", step=1), B, high=0.5),
            "less than about half of the peak; the bound is ours",
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
        claim("c=10 drops earlier", "figure 3", Ordered(DROP, ("bias-10", B)), EVERY_SEED),
        claim("c=2.5 drops earlier", "figure 3", Ordered(DROP, ("bias-2.5", B)), EVERY_SEED),
        claim("Stronger bias is faster", "figure 3", Ordered(TO_99, ("bias-10", "bias-2.5", B)), EVERY_SEED),
        claim("Stronger bias collapses less", "figure 3", Ordered(COSINE, ("bias-10", "bias-2.5", B)), EVERY_SEED),
        claim("c=10 repeats less", "figure 3", Ordered(REPETITION, ("bias-10", B)), EVERY_SEED),
        claim("c=2.5 repeats less", "figure 3", Ordered(REPETITION, ("bias-2.5", B)), EVERY_SEED),
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
        claim("c=0.5 drops later", "figure 4", Ordered(DROP, (B, "bias-0.5")), EVERY_SEED),
        claim("c=0.2 drops later than c=0.5", "figure 4", Ordered(DROP, ("bias-0.5", "bias-0.2")), EVERY_SEED),
        claim("c=0.5 collapses more", "figure 4", Ordered(COSINE, (B, "bias-0.5")), EVERY_SEED),
        claim("c=0.2 collapses more than c=0.5", "figure 4", Ordered(COSINE, ("bias-0.5", "bias-0.2")), EVERY_SEED),
        claim("c=0.5 repeats more", "figure 4", Ordered(REPETITION, (B, "bias-0.5")), EVERY_SEED),
        claim(
            "Collapse under c=0.2 passes 0.95",
            "figure 4, read by others",
            Within(COSINE, "bias-0.2", low=0.95),
            "the number as it was read, no allowance: the statement is an inequality",
        ),
        claim("c=0.2 is learned within 2000 steps", "figure 4", Within(TO_99, "bias-0.2", high=2000), PAPERS_BUDGET),
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
        claim("The attention map is the bottleneck", "figure 5", Ratio(TO_99, T["attention map"], B, high=0.5), HALF),
        claim("So is attention as a whole", "figure 5", Ratio(TO_99, T["attention"], B, high=0.5), HALF),
        claim(
            "Values and output projections help further",
            "figure 5",
            Ordered(TO_99, (T["attention"], T["attention map"])),
            EVERY_SEED,
        ),
        claim("MLPs alone change nothing", "figure 5", Ratio(TO_99, T["mlp"], B, low=0.75, high=1.33), UNCHANGED),
        claim(
            "Embeddings alone change nothing",
            "figure 5",
            Ratio(TO_99, T["embeddings"], B, low=0.75, high=1.33),
            UNCHANGED,
        ),
        read_off("Collapse with the attention map peaks near 0.45", "figure 5", COSINE, T["attention map"], 0.45),
        read_off("Collapse with the whole attention peaks near 0.15", "figure 5", COSINE, T["attention"], 0.15),
        read_off("Collapse with MLPs is as without", "figure 5", COSINE, T["mlp"], 0.95),
        read_off("Collapse with embeddings is as without", "figure 5", COSINE, T["embeddings"], 0.95),
    ),
    notes=(
        f"The transplanted weights are those of a separate baseline run (seed {SOLUTION_SEED}) after 400 steps, the "
        "same for all seeds. The names of the groups are ours."
    ),
)

SOON = "soon: within 100 steps, as long as the plateau still lasts at the latest switch; the bound is ours"
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
            claim(
                f"Switched on at step {step}, the task is solved soon after",
                "figure 43",
                Within(since(step, TO_99), setting.name, high=100),
                SOON,
            ),
            claim(
                f"Switched on at step {step}, it is solved before the baseline",
                "figure 43",
                Ordered(TO_99, (setting.name, B)),
                EVERY_SEED,
            ),
        )
    ),
    notes="Each run is a fork of the baseline of its seed and sees the same batches.",
)


PAPER = Paper(
    name="loss-plateau",
    title="What Happens During the Loss Plateau?",
    source="Gopalani and Hu, arXiv 2506.13688",
    about=(
        "*Read by others* marks numbers that a third party read off the paper's figures: they are good to 0.1, and so "
        "are the bounds of those claims. The five baseline seeds had been looked at before the claims of `fig2` were "
        "written down; everything else was written before its runs were made."
    ),
    experiments=(FIG2, FIG3, FIG4, FIG5, FIG43),
)
