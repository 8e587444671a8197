"""Does a second operation make a Transformer grok division sooner? On equations modulo 53, which takes minutes.

The poster's own runs, modulo 97 and with a weight decay of 0.001, take up to 1.6 million steps. The bounds were fixed
before any run that counts.
"""

from plateau_interp.reproductions.claims import Claim, Ordered, Ratio, Within, only_reported
from plateau_interp.reproductions.experiments import Experiment
from plateau_interp.reproductions.quantities import final
from plateau_interp.reproductions.settings import Setting
from plateau_interp.reproductions.shortening.ends import taken_to
from plateau_interp.reproductions.shortening.pictures import operations_figure
from plateau_interp.runs.recipe import Recipe
from plateau_interp.tasks import ModularArithmetic
from plateau_interp.tasks.modular import Operation
from plateau_interp.training.settings import MeasuringOptions, TrainingOptions

__all__ = ["GROKKING_TASKS"]

STEPS_A_TASK = 3000
"""For one operation; all have as many steps as two, so that never means the same for each."""


def operations(*words: Operation) -> Setting:
    """A setting of some operations together, at the weight decay of 1 that is the task's own."""
    recipe = Recipe(
        ModularArithmetic(operations=words),
        training=TrainingOptions(steps=2 * STEPS_A_TASK),
        measuring=MeasuringOptions(every=25),
        checkpoint_every=1000,
        state_every=STEPS_A_TASK,
    )
    return Setting("-".join(words), recipe, about=" and ".join(words), whole=True)


DIVIDE, WITH_MULTIPLY, WITH_ADD = (
    operations("divide"),
    operations("divide", "multiply"),
    operations("divide", "add"),
)
DIVIDE_STEPS, DIVIDE_OWN = (taken_to("grokked", currency, "divide") for currency in ("steps", "own_sequences"))
GROKKING_TASKS = Experiment(
    name="grokking-tasks",
    title="A Transformer groks division: alone, beside multiplication, beside addition",
    figures="its runs of several operations, in a smaller setting with a weight decay of 1",
    settings=(DIVIDE, WITH_MULTIPLY, WITH_ADD),
    key=(DIVIDE_STEPS, WITH_MULTIPLY),
    draws=operations_figure,
    table=(
        DIVIDE_STEPS,
        DIVIDE_OWN,
        taken_to("grokked", "sequences", "divide"),
        taken_to("grokked_held", "steps", "divide"),
        final("validation_accuracy", rows=1),
    ),
    n_seeds=5,
    claims=(
        Claim(
            "Alone it groks within its steps",
            "as the default setting of the task is meant to",
            Within(DIVIDE_STEPS, DIVIDE.name, high=STEPS_A_TASK),
            "in the steps that there are; fixed before the runs",
        ),
        Claim(
            "Beside multiplication it groks after fewer equations of its own",
            "its repository: 120 times, at a weight decay of 0.001",
            Ratio(DIVIDE_OWN, WITH_MULTIPLY.name, DIVIDE.name, high=0.5),
            "by half at least; fixed before the runs",
        ),
        Claim(
            "and after fewer steps",
            "its repository: 61 times",
            Ratio(DIVIDE_STEPS, WITH_MULTIPLY.name, DIVIDE.name, high=0.8),
            "by a fifth at least; fixed before the runs",
        ),
        Claim(
            "Beside addition it takes more steps than alone, or never comes",
            "its repository: never in 800,000 steps",
            Ordered(DIVIDE_STEPS, (DIVIDE.name, WITH_ADD.name)),
            "an order counts if the medians show it and four of five seeds do",
        ),
        only_reported("Multiplication beside it", taken_to("grokked", "steps", "multiply"), WITH_MULTIPLY.name),
        only_reported("Addition beside it", taken_to("grokked", "steps", "add"), WITH_ADD.name),
    ),
    notes=(
        "One layer of width 64, 60 % of the equations modulo 53, batches of 512. A division a / b = c is the "
        "multiplication c * b = a: with splits that know nothing of each other, many a division that is held out is "
        "trained on as a product. Whether a remedy is more than this, a split by triples tells: shared-facts has "
        "one, of an MLP. AdamW spares biases, norms and embeddings here, which the poster's decays, too."
    ),
)
