"""Depth-2 nets from three starts, with and without a Frobenius penalty: where they end, and what they have learnt."""

from functools import cache

from plateau_interp.activations import SmoothActivation
from plateau_interp.hooks import FrobeniusPenalty
from plateau_interp.models.settings import ModelOptions
from plateau_interp.reproductions.claims import Claim, Reported, Within
from plateau_interp.reproductions.experiments import Experiment
from plateau_interp.reproductions.quantities import Quantity, final
from plateau_interp.reproductions.settings import Setting
from plateau_interp.reproductions.theory.measured import REGULARISED
from plateau_interp.reproductions.theory.pictures import starts_figure
from plateau_interp.reproductions.theory.pooled import SpreadOver
from plateau_interp.runs.recipe import Recipe
from plateau_interp.tasks import DepthTwoNet
from plateau_interp.tasks.depth_two import Objective
from plateau_interp.training.optimizers import SGD
from plateau_interp.training.settings import MeasuringOptions, TrainingOptions

__all__ = ["NET_KINDS", "N_GATES", "SCALES", "STARTS", "STEP_SIZE", "nets"]

N_GATES = 32
SCALES = (0.1, 1.0, 3.0)
"""Deviations of W's initial entries."""
STEPS, STEP_SIZE, BATCH_SIZE = 1500, 0.4, 64
MET, APART = 0.003, 0.01
MEASURED_BEFORE = "measured, in an earlier check of ours; what is proved speaks of the loss, not of so few steps"
ABOVE_RECOLLECTED = "presumed: λ is above a constant as we recollect it"


@cache
def nets(objective: Objective, activation: SmoothActivation, penalty: float) -> tuple[Setting, ...]:
    """A setting a start, the same ones whenever it is asked."""
    task = DepthTwoNet(objective=objective, activation=activation)
    return tuple(
        Setting(
            f"{objective}-{activation}-{penalty:g}-start-{scale:g}",
            Recipe(
                task,
                model=ModelOptions(d_mlp=N_GATES, init_std=scale, dtype="float64"),
                # One more than the steps that are told: the record of a step is of the net before its update.
                training=TrainingOptions(STEPS + 1, BATCH_SIZE, SGD(learning_rate=STEP_SIZE)),
                measuring=MeasuringOptions(every=150),
                interventions=(FrobeniusPenalty(penalty),) if penalty else (),
                checkpoint_every=STEPS,
            ),
            about=f"{objective}, {activation}, λ = {penalty:g}, start {scale:g}",
            whole=True,
        )
        for scale in SCALES
    )


THRESHOLDS = {"sigmoid": 0.13, "tanh": 2.05}
"""Just above lambda_c as it is recollected for the squared loss; for the logistic loss nothing is known of one."""
Group = tuple[Objective, SmoothActivation, float]
PENALTIES: dict[tuple[Objective, SmoothActivation], tuple[float, ...]] = {
    ("squared", "sigmoid"): (0.0, 0.001, 0.01, 0.13),
    ("squared", "tanh"): (0.0, 0.01, 2.05),
    ("squared", "softplus"): (0.01,),
    ("logistic", "sigmoid"): (0.01, 0.13),
    ("logistic", "tanh"): (0.0, 0.01, 2.05),
}
NET_KINDS: tuple[Group, ...] = tuple((*kind, penalty) for kind, penalties in PENALTIES.items() for penalty in penalties)
DATA_LOSS, WEIGHT_NORM = (
    Quantity(name, final(column, rows=1).of, digits)
    for name, column, digits in (("loss of the data", "train_loss", 4), ("|W|_F", "weight_norm", 2))
)
SHARE_OF_CONSTANT = Quantity("share of the best constant's loss", final("share_of_constant", rows=1).of, 2)


def _named(group: Group) -> str:
    objective, activation, penalty = group
    return f"{objective} loss, {activation}, λ = {penalty:g}"


def _names(group: Group) -> tuple[str, ...]:
    return tuple(setting.name for setting in nets(*group))


def _meets(group: Group) -> Claim:
    objective, activation, penalty = group
    above = objective == "squared" and penalty == THRESHOLDS.get(activation)
    return Claim(
        f"All starts end at one loss: {_named(group)}",
        ABOVE_RECOLLECTED if above else MEASURED_BEFORE,
        SpreadOver(REGULARISED, _names(group), high=MET),
        "0.003 of what is minimised, penalty included: four times what steps on batches left in an earlier check",
    )


def _stays_apart(group: Group) -> Claim:
    return Claim(
        f"Starts end at losses of their own: {_named(group)}",
        "measured; no theorem says so",
        SpreadOver(REGULARISED, _names(group), low=APART),
        "0.01, a twentieth of the best constant's; for want of a penalty, or of time: step size times steps times λ "
        "is 0.6 at λ = 0.001",
    )


def _has_learnt(group: Group) -> Claim:
    return Claim(
        f"Where all starts meet the net has learnt: {_named(group)}",
        "measured",
        Within(SHARE_OF_CONSTANT, nets(*group)[1].name, high=0.5),
        "half of the best constant's loss at most is left",
    )


def _has_not_learnt(group: Group) -> Claim:
    return Claim(
        f"Where all starts meet next to nothing is learnt: {_named(group)}",
        "measured",
        Within(SHARE_OF_CONSTANT, nets(*group)[1].name, low=0.9, high=1.05),
        "of the best constant's loss nine tenths or more are left; the best constant itself is none of the net's",
    )


STARTS = Experiment(
    name="starts",
    title="Where three starts of a depth-2 net end, with and without a penalty, and what is learnt there",
    figures="no figure: the papers' data, widths and learning rates are not known to us",
    settings=tuple(setting for group in NET_KINDS for setting in nets(*group)),
    key=(SHARE_OF_CONSTANT, nets("squared", "sigmoid", 0.13)[1]),
    n_seeds=1,
    table=(REGULARISED, DATA_LOSS, SHARE_OF_CONSTANT, WEIGHT_NORM),
    draws=starts_figure,
    claims=(
        *(_meets(group) for group in NET_KINDS if group[2] >= 0.01),
        *(_stays_apart(group) for group in NET_KINDS if group[2] < 0.01),
        *(_has_not_learnt(group) for group in NET_KINDS if group[2] == THRESHOLDS.get(group[1])),
        *(_has_learnt(group) for group in NET_KINDS if group[2] == 0.01 and group[:2] != ("logistic", "sigmoid")),
        *(
            Claim(
                f"What is left of the best constant's loss: {setting.about}",
                "no bound",
                Reported(SHARE_OF_CONSTANT, (setting.name,)),
                "",
            )
            for setting in (nets("logistic", "sigmoid", 0.01)[1], nets("squared", "softplus", 0.01)[1])
        ),
    ),
    notes=(
        "200 points on the sphere of R^10, a sine of one direction for teacher, 32 gates, float64, SGD with batches of "
        "64 and a step of 0.4, 1,500 steps. The three starts of a group are one draw of the weights times 0.1, 1 and "
        "3, and see the same batches: other directions were not tried. 0.13 and 2.05 are just above the constant "
        "lambda_c of the squared loss as we recollect it (`recollected_threshold`): unchecked against the papers, a "
        "constant of a technique of proof and no transition, whatever the runs show; the growth that the papers ask "
        "for is proved here for every λ above 0. Up to `safe_step` a step on all points is proved not to raise the "
        "loss: 0.25 for the squared loss and tanh at 2.05, so that 0.4 is beyond it there; 0.41 or more for the "
        "others, but for softplus with the squared loss, of which no such step is proved. Of steps on batches, as "
        "they are made here, it says nothing."
    ),
)
