"""When does what stop being the bottleneck? A table of forks, beyond the paper."""

from typing import TYPE_CHECKING

import numpy as np

from plateau_interp.hooks import FreezeWeights
from plateau_interp.reproductions.claims import Claim, Reported
from plateau_interp.reproductions.experiments import Experiment
from plateau_interp.reproductions.loss_plateau.baseline import BASELINE, MWS, SOLUTION, SOLUTION_SEED, recipe
from plateau_interp.reproductions.loss_plateau.statements import TO_50
from plateau_interp.reproductions.pictures import median_move, moves_figure
from plateau_interp.reproductions.quantities import DROP, since_fork
from plateau_interp.reproductions.settings import Outcome, Setting

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["COUNTERFACTUAL"]

FROZEN_GROUPS = ("attention map", "attention", "mlp", "embeddings")
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


TRAINED_FROM = {(where, step): counterfactual(where, step, trained=True) for where in FROZEN_GROUPS for step in MOMENTS}
FROZEN_FROM = {(where, step): counterfactual(where, step, trained=False) for where in FROZEN_GROUPS for step in MOMENTS}
KINDS = {"trained elsewhere": TRAINED_FROM, "as it is then": FROZEN_FROM}


def counterfactual_figure(outcomes: dict[str, list[Outcome]]) -> "Figure":
    """Steps by which the drop, and half of the accuracy, move for each group and moment."""
    rows = [(where, kind, grid) for kind, grid in KINDS.items() for where in FROZEN_GROUPS]
    return moves_figure(
        {
            title: np.array(
                [[median_move(outcomes, grid[where, step], quantity) for step in MOMENTS] for where, _, grid in rows]
            )
            for title, quantity in (
                ("Steps by which the drop moves", DROP),
                ("... by which 50 % accuracy moves", TO_50),
            )
        },
        rows=[f"{where}, {kind}" for where, kind, _ in rows],
        columns=[str(step) for step in MOMENTS],
    )


AFTER_FORK = since_fork(DROP)
TOLD = {"drop step": DROP, "steps from the fork to the drop": AFTER_FORK, "steps to 50 %": TO_50}
COUNTERFACTUAL = Experiment(
    name="counterfactual",
    title="When does what stop being the bottleneck?",
    figures="nothing: it goes beyond the paper",
    settings=(BASELINE, *TRAINED_FROM.values(), *FROZEN_FROM.values()),
    key=(AFTER_FORK, TRAINED_FROM["attention map", MOMENTS[-1]]),
    n_seeds=1,
    draws=counterfactual_figure,
    claims=tuple(
        Claim(
            f"{where}, {kind}: {text}, by the step it is frozen at", "not in the paper", Reported(quantity, names), ""
        )
        for kind, grid in KINDS.items()
        for where in FROZEN_GROUPS
        for names in [tuple(grid[where, step].name for step in MOMENTS)]
        for text, quantity in TOLD.items()
    ),
    notes=(
        "Each run is a fork of the baseline of its seed, on the same batches. *Trained* groups have the weights of the "
        "separate run of figure 5. *Never*: not within 400 steps. A fork that was made after the drop (or after half "
        "of the tokens were right) counts in no cell of the picture."
    ),
)
