"""Is attention what the plateau waits for, here too? Forks with heads helped, or components given, beyond the paper."""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from plateau_interp.hooks import BiasAttention, FreezeWeights, PatchAttention
from plateau_interp.interventions.attached import Intervention
from plateau_interp.reproductions.claims import Claim, Within, only_reported
from plateau_interp.reproductions.experiments import Experiment
from plateau_interp.reproductions.matrix_completion.components import BELOW_PLATEAU, mean_falls_below
from plateau_interp.reproductions.matrix_completion.drop import SMALL
from plateau_interp.reproductions.pictures import median_move, moves_figure
from plateau_interp.reproductions.quantities import since_fork
from plateau_interp.reproductions.settings import Outcome, Setting, given_and_frozen
from plateau_interp.runs.recipe import Recipe
from plateau_interp.tasks import MatrixCompletion
from plateau_interp.training.settings import TrainingOptions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["BOTTLENECK", "FORKS", "FROZEN", "GIVEN", "GIVEN_PATTERNS", "LINES_BIASED", "forks_figure"]

FORK_STEPS = 1000
"""For which a fork is trained that is given something: a third of what whole training needs."""


def fork(name: str, about: str, step: int, *, until: int, interventions: tuple[Intervention, ...] = ()) -> Setting:
    """The small setting, left at a step, under interventions from there on."""
    recipe = Recipe(
        MatrixCompletion(),
        training=TrainingOptions(steps=until),
        interventions=interventions,
        checkpoint_every=500,
    )
    return Setting(f"{name}-from-{step}", recipe, about=f"{about} from {step}", leaves=(SMALL, step), whole=True)


def given(
    name: str,
    about: str,
    step: int,
    where: str,
    *,
    taking: Callable[[str, str], tuple[Intervention, ...]] = given_and_frozen,
) -> Setting:
    """Left at a step, with something that the run of the same seed has in the end."""
    left = fork(name, about, step, until=step + FORK_STEPS)
    return dataclasses.replace(left, takes=(SMALL, None, where), taking=taking)


def patterns_of(run: str, where: str) -> tuple[Intervention, ...]:
    """Every head reads what the run's model reads of the same matrix."""
    return (PatchAttention(run),)


HELPED_FROM = (0, 1000, 2000)
LINES_BIASED = {
    step: fork(
        "lines-biased",
        "rows and columns x10",
        step,
        until=step + FORK_STEPS,
        interventions=(BiasAttention(factor=10.0, at="scores"),),
    )
    for step in HELPED_FROM
}
GIVEN_PATTERNS = {
    step: given("patterns-given", "attention maps of the end", step, "attention map", taking=patterns_of)
    for step in HELPED_FROM
}
FALLS_AFTER_FORK = since_fork(BELOW_PLATEAU)
OF_OTHER_TASKS = "what arXiv 2506.13688 says of attention in other tasks, expected here"
WITHIN = "soon: within 1,000 steps, a third of what whole training takes; fixed before these runs"
WAYS_TO_HELP = {
    "With heads biased towards what is seen of row and column": LINES_BIASED,
    "With every head reading what it reads in the end": GIVEN_PATTERNS,
}
BOTTLENECK = Experiment(
    name="bottleneck",
    title="Does the plateau end where attention is helped?",
    figures="nothing: it goes beyond the paper",
    settings=(SMALL, *LINES_BIASED.values(), *GIVEN_PATTERNS.values()),
    key=(FALLS_AFTER_FORK, GIVEN_PATTERNS[2000]),
    panels=("loss_missing", "loss_observed", "attention_on_row", "attention_on_column"),
    table=(FALLS_AFTER_FORK,),
    claims=tuple(
        Claim(
            f"{text} from step {step} on the loss falls soon",
            OF_OTHER_TASKS,
            Within(FALLS_AFTER_FORK, setting.name, high=FORK_STEPS, most_seeds=True),
            WITHIN,
        )
        for text, settings in WAYS_TO_HELP.items()
        for step, setting in settings.items()
    ),
    notes=(
        "Each run is a fork of the run of its seed. *Biased*: before the softmax all heads of both layers have the "
        "weight of what is seen of the query's row and column multiplied by ten. *Maps of the end*: the attention of "
        "every head is that which the run's own model of step 5,000 has on the same matrices; what heads read is then "
        "right, and all else has to be learnt. A run of a seed that does not count, biased from step 0, had been "
        "looked at before: it stayed on the plateau for the 1,000 steps."
    ),
)

FORKED_GROUPS = ("token embedding", "position embedding", "attention layers", "mlp layers")
LEFT_AT = (1000, 2000)
GIVEN = {
    (where, step): given(f"given-{where.replace(' ', '-')}", f"{where} of the end", step, where)
    for where in FORKED_GROUPS
    for step in LEFT_AT
}
FROZEN = {
    (where, step): fork(
        f"frozen-{where.replace(' ', '-')}",
        f"{where} frozen",
        step,
        until=SMALL.recipe.steps,
        interventions=(FreezeWeights(where),),
    )
    for where in FORKED_GROUPS
    for step in LEFT_AT
}
GRIDS = {"given from the end": GIVEN, "as it is then": FROZEN}
DEEPER = mean_falls_below(0.6)


def forks_figure(outcomes: dict[str, list[Outcome]]) -> "Figure":
    """Steps by which the fall moves, for each component and moment."""
    rows = [(where, kind, grid) for kind, grid in GRIDS.items() for where in FORKED_GROUPS]
    return moves_figure(
        {
            title: np.array(
                [[median_move(outcomes, grid[where, step], quantity) for step in LEFT_AT] for where, _, grid in rows]
            )
            for title, quantity in (
                ("Steps by which the fall moves", BELOW_PLATEAU),
                ("... by which 0.6 of the plateau's loss moves", DEEPER),
            )
        },
        rows=[f"{where}, {kind}" for where, kind, _ in rows],
        columns=[str(step) for step in LEFT_AT],
    )


FORKS = Experiment(
    name="counterfactual",
    title="When does which component stop being the bottleneck?",
    figures="nothing: it goes beyond the paper",
    settings=(SMALL, *GIVEN.values(), *FROZEN.values()),
    key=(FALLS_AFTER_FORK, GIVEN["attention layers", LEFT_AT[-1]]),
    table=(FALLS_AFTER_FORK,),
    n_seeds=1,
    draws=forks_figure,
    claims=(
        *(
            Claim(
                f"Given attention of the end from step {step} on, the loss falls soon",
                OF_OTHER_TASKS,
                Within(FALLS_AFTER_FORK, GIVEN["attention layers", step].name, high=FORK_STEPS, most_seeds=True),
                WITHIN,
            )
            for step in LEFT_AT
        ),
        *(
            Claim(
                f"With attention frozen as it is at step {step} it does not fall",
                "derived, an expectation: heads read nothing in particular then",
                Within(BELOW_PLATEAU, FROZEN["attention layers", step].name, low=SMALL.recipe.steps, most_seeds=True),
                "not within 5,000 steps; fixed before these runs",
            )
            for step in LEFT_AT
        ),
        *(
            only_reported(
                f"{where}, {kind}: when it falls, by the step it is frozen at",
                BELOW_PLATEAU,
                *[grid[where, step].name for step in LEFT_AT],
            )
            for kind, grid in GRIDS.items()
            for where in FORKED_GROUPS
            if where != "attention layers"
        ),
    ),
    notes=(
        "Each run is a fork of the run of its seed, on the same batches. *Given* components have the weights that this "
        "very run has at step 5,000, and are trained no more; these forks have 1,000 steps, and *never* means not "
        "within these. *As it is then*: the component is trained no more, up to step 5,000."
    ),
)
