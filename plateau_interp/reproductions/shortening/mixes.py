"""The moving-window tasks of the poster, alone and mixed: the runs of its table 1 and figure 1.

All subsets of sum, difference and product have the same ids, sizes and 128 sequences a step, as the poster's counts
show that they had; a mixture splits these among its tasks.
"""

from plateau_interp.interventions.attached import Intervention
from plateau_interp.models.settings import ModelOptions
from plateau_interp.reproductions.settings import Setting
from plateau_interp.runs.recipe import Recipe
from plateau_interp.tasks import (
    Mixture,
    ModularArithmetic,
    MovingWindowDifference,
    MovingWindowProduct,
    MovingWindowSum,
    OneHotArithmetic,
)
from plateau_interp.training.settings import MeasuringOptions, TrainingOptions
from plateau_interp.types import Task

__all__ = [
    "ALL_THREE",
    "BATCH",
    "MIXES",
    "PAIRS_WITH",
    "SUM_DONOR_STEP",
    "SUM_PRODUCT",
    "SWITCHES",
    "TASKS",
    "TRAINED_ALONE",
    "drawn_tasks",
    "mixture",
    "poster_recipe",
]

TASKS: dict[str, Task] = {
    "sum": MovingWindowSum(scored="answer"),
    "difference": MovingWindowDifference(),
    "product": MovingWindowProduct(),
}
"""By the word that stands for each here."""
BATCH = 128
PERFECT_FOR = 50
"""All right for so many steps is where the poster's code stops."""
MOST_STEPS = 2000
"""Twice the 1,000 of the poster, whose product alone came to its elbow at 731."""
SUM_DONOR_STEP = 400
"""At which the transfers take the weights of the sum; the poster's own run had ended at 253."""
SWITCHES = (100, 200, 300, 400)
"""Steps at which runs leave the product, and its mixture with the sum, for the other of the two."""


def poster_recipe(
    task: Task,
    *,
    steps: int = MOST_STEPS,
    checkpoint_at: tuple[int, ...] = (),
    states: bool = False,
    interventions: tuple[Intervention, ...] = (),
) -> Recipe:
    """As the poster trains: width 256, linear attention, Adam 1e-4, 128 sequences a step; in mixed precision.

    Args:
        task: what to train on.
        steps: the most that are made.
        checkpoint_at: further checkpoints than those of every 200 steps.
        states: whether all of them keep the optimiser's state, for others to go on with.
        interventions: attached throughout.
    """
    return Recipe(
        task,
        model=ModelOptions(),
        training=TrainingOptions(steps=steps, batch_size=BATCH, precision="bfloat16-mixed"),
        measuring=MeasuringOptions(every=1),
        checkpoint_every=200,
        checkpoint_at=checkpoint_at,
        state_every=1 if states else MOST_STEPS,
        interventions=interventions,
    )


def mixture(*words: str) -> Mixture:
    """The mixture of all three with some of them alone ever drawn, so that ids and sizes are the same for all."""
    return Mixture(tuple(TASKS.values()), shares=tuple(float(word in words) for word in TASKS))


def mix(*words: str) -> Setting:
    """A setting of the table, of a mixture of two or three."""
    name = "all-three" if len(words) == len(TASKS) else "-".join(words)
    about = "all three" if len(words) == len(TASKS) else " and ".join(words)
    recipe = poster_recipe(mixture(*words), checkpoint_at=SWITCHES, states=words == ("sum", "product"))
    return Setting(name, recipe, about=about, perfect_steps=PERFECT_FOR)


TRAINED_ALONE = {
    # Trained to its end, and not until it is solved alone: the transfers take its weights.
    "sum": Setting("sum", poster_recipe(mixture("sum"), steps=500, states=True), about="sum alone", whole=True),
    **{
        word: Setting(
            word,
            poster_recipe(mixture(word), checkpoint_at=SWITCHES, states=word == "product"),
            about=f"{word} alone",
            perfect_steps=PERFECT_FOR,
        )
        for word in ("difference", "product")
    },
}
"""By task."""
SUM_DIFFERENCE, SUM_PRODUCT, DIFFERENCE_PRODUCT = (
    mix("sum", "difference"),
    mix("sum", "product"),
    mix("difference", "product"),
)
ALL_THREE = mix(*TASKS)
PAIRS_WITH = {
    "sum": (SUM_DIFFERENCE, SUM_PRODUCT),
    "difference": (SUM_DIFFERENCE, DIFFERENCE_PRODUCT),
    "product": (SUM_PRODUCT, DIFFERENCE_PRODUCT),
}
"""The two mixtures of two that have a task."""
MIXES = (*TRAINED_ALONE.values(), SUM_DIFFERENCE, SUM_PRODUCT, DIFFERENCE_PRODUCT, ALL_THREE)
"""All seven, the cheapest first."""


def drawn_tasks(task: Task) -> tuple[str, ...]:
    """The names of the tasks that are drawn: of a mixture those with a share, of arithmetic its operations."""
    if isinstance(task, ModularArithmetic | OneHotArithmetic):
        return task.operations
    return tuple(task.group_levels) if isinstance(task, Mixture) else (task.name,)
