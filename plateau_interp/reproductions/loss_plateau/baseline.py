"""The moving-window sum as it is, which the other experiments start from: figure 2."""

from plateau_interp.interventions.attached import Intervention
from plateau_interp.models.settings import ModelOptions
from plateau_interp.reproductions.claims import Claim, Within
from plateau_interp.reproductions.experiments import Experiment
from plateau_interp.reproductions.loss_plateau.statements import (
    FALL_REASON,
    FINAL_LOSS,
    FIRST_OVER_HALF,
    IN_THE_MEDIAN,
    LEVEL,
    LONG_BEFORE,
    late,
    learned,
    level_within,
    near,
    read_off,
)
from plateau_interp.reproductions.quantities import (
    DROP,
    PEAK_COSINE,
    PEAK_REPETITION,
    at,
    final,
    halfway_before_drop,
    peaks_before_drop,
    spread_of_answers,
    summary_number,
)
from plateau_interp.reproductions.settings import Setting
from plateau_interp.runs.recipe import Recipe
from plateau_interp.tasks import MovingWindowSum
from plateau_interp.training.optimizers import LearningRateSchedule
from plateau_interp.training.precision import Precision
from plateau_interp.training.settings import MeasuringOptions, TrainingOptions
from plateau_interp.types import OptimizerSpec, Task

__all__ = ["BASE", "BASELINE", "COMMON_PANELS", "FIG2", "MWS", "SOLUTION", "SOLUTION_SEED", "recipe"]

COMMON_PANELS = ("loss", "accuracy", "attention_progress", "cosine", "repetition")
"""What most pictures show."""


def recipe(
    task: Task,
    *,
    interventions: tuple[Intervention, ...] = (),
    steps: int | None = None,
    every: int = 1,
    cosine_at: tuple[str, ...] = (),
    model: ModelOptions | None = None,
    optimizer: OptimizerSpec | None = None,
    schedule: LearningRateSchedule | None = None,
    precision: Precision = "float32",
    checkpoint_every: int = 100,
    state_every: int = 100,
) -> Recipe:
    """A recipe with the task's defaults; seeds are set when it is run."""
    return Recipe(
        task,
        model=model or ModelOptions(),
        training=TrainingOptions(
            steps=steps, optimizer=optimizer, schedule=schedule or LearningRateSchedule(), precision=precision
        ),
        interventions=interventions,
        measuring=MeasuringOptions(every=every, cosine_at=cosine_at),
        checkpoint_every=checkpoint_every,
        state_every=state_every,
    )


MWS = MovingWindowSum()
# Forty-four forks of each seed leave it, most of them at a checkpoint: they make no more steps again than they have to.
BASELINE = Setting("moving-window-sum", recipe(MWS, checkpoint_every=20, state_every=20), about="baseline", whole=True)
SOLUTION = Setting("solution", recipe(MWS, checkpoint_every=25), whole=True)
SOLUTION_SEED = 100
"""Of the run whose final weights are transplanted: a separate one, as in the authors' code."""

BASE = BASELINE.name
FIG2 = Experiment(
    name="fig2",
    title="Moving-window sum: a plateau with a partial solution, repetition and collapse; attention moves first",
    figures="figure 2 (and 1)",
    settings=(BASELINE,),
    key=(DROP, BASELINE),
    panels=("loss", "accuracy", "accuracy_0", "attention_progress", "cosine", "repetition"),
    n_seeds=5,
    claims=late(
        learned(BASELINE, "figure 2", steps=400),
        Claim(
            "The loss stays at the level of knowing y_1 alone",
            "closed form",
            level_within(LEVEL, BASELINE, 2.6277),
            FALL_REASON,
        ),
        Claim("The loss ends at its floor", "closed form", level_within(FINAL_LOSS, BASELINE, 1.2997), FALL_REASON),
        Claim(
            "y_1 is learned long before the others",
            "figure 2",
            Within(FIRST_OVER_HALF, BASE, high=0.5),
            LONG_BEFORE,
        ),
        Claim(
            "The other answers leave chance together",
            "figure 2, told by others as abrupt",
            Within(spread_of_answers(), BASE, high=40),
            "together: within a tenth of the 400 steps; the bound is ours",
        ),
        read_off("Answers repeat themselves", "figure 2", PEAK_REPETITION, BASE, 0.8),
        read_off("Hidden states collapse", "figure 2", PEAK_COSINE, BASE, 0.95),
        Claim(
            "Repetition peaks before the drop",
            "figure 2",
            Within(peaks_before_drop("repetition"), BASE, low=1),
            IN_THE_MEDIAN,
        ),
        Claim(
            "Collapse peaks before the drop",
            "figure 2",
            Within(peaks_before_drop("cosine"), BASE, low=1),
            IN_THE_MEDIAN,
        ),
        Claim(
            "True answers hardly repeat",
            "closed form 0.0583",
            near(summary_number("repetition of the truth", "repetition_truth", digits=3), BASE, 0.0583, 0.005),
            "64 sequences a step and 400 steps: a standard error below 0.001; five of them are allowed",
        ),
        Claim(
            "Attention progress begins at that of uniform attention",
            "closed form 0.079",
            near(at("attention_progress"), BASE, 0.079, 0.02),
            "an untrained map is not quite uniform: a quarter of the value is allowed",
        ),
        read_off("Attention progress ends near 0.8", "figure 2", final("attention_progress"), BASE, 0.8),
        Claim(
            "Attention progress moves before the loss",
            "figure 2",
            Within(halfway_before_drop(), BASE, low=1),
            "half of its way is done before the loss drops",
        ),
        Claim(
            "Collapse comes from training: it is not there after the first update",
            "text, told by others",
            Within(at("cosine", step=1), BASE, high=0.5),
            "less than about half of the peak; the bound is ours",
        ),
        Claim(
            "Collapse is gone at the end",
            "figure 2",
            Within(final("cosine"), BASE, high=0.5),
            "less than about half of the peak; the bound is ours",
        ),
        Claim(
            "Repetition is gone at the end",
            "figure 2; closed form 0.0583",
            near(final("repetition"), BASE, 0.0583, 0.02),
            "64 sequences a step, ten steps: a standard error of 0.002; ten of them are allowed",
        ),
    ),
)
