"""When does what stop being the bottleneck? A table of forks, beyond the paper."""

from typing import Any

import numpy as np

from plateau_interp.hooks import FreezeWeights
from plateau_interp.reproductions.claims import Claim, Measured
from plateau_interp.reproductions.experiments import Experiment
from plateau_interp.reproductions.loss_plateau.baseline import BASELINE, MWS, SOLUTION, SOLUTION_SEED, recipe
from plateau_interp.reproductions.measures import DROP, NEVER, since_fork
from plateau_interp.reproductions.pictures import moves_figure
from plateau_interp.reproductions.settings import Outcome, Setting

__all__ = ["COUNTERFACTUAL"]

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
        Claim(f"{where}, {kind}: {text} by the step it is frozen at", "not in the paper", Measured(measure, names), "")
        for kind, grid, measures in (
            ("trained elsewhere", TRAINED_FROM, {"drop step": DROP, "steps to the drop": since_fork(DROP)}),
            ("as it is then", FROZEN_FROM, {"drop step": DROP}),
        )
        for where in GROUPS
        for names in [tuple(grid[where, step].name for step in MOMENTS)]
        for text, measure in measures.items()
    ),
    notes=(
        "Each run is a fork of the baseline of its seed, on the same batches. *Trained* groups have the weights of the "
        "separate run of figure 5. Where the picture says ≥, the drop did not come within 400 steps."
    ),
)
