"""Division with multiplication on the poster's own Transformer, the strongest result of its repository.

Beside it the same split by triples, which that repository has not: whether multiplication helps, or tells the divisions
that are held out. All bounds were fixed before any run of two operations.
"""

from plateau_interp.reproductions.claims import Claim, Ordered, Within, only_reported
from plateau_interp.reproductions.experiments import Experiment
from plateau_interp.reproductions.quantities import final
from plateau_interp.reproductions.settings import Setting
from plateau_interp.reproductions.shortening.ends import taken_to
from plateau_interp.reproductions.shortening.own_transformer import (
    BY_ORDER,
    FIRST_STEPS,
    TRAIN_95,
    USUAL_START,
    own_setting,
)
from plateau_interp.reproductions.shortening.pictures import operations_figure
from plateau_interp.reproductions.shortening.poster import FACTOR
from plateau_interp.tasks import ModularArithmetic
from plateau_interp.tasks.modular import EquationSplit

__all__ = ["OWN_TASKS"]


def both_operations(name: str, about: str, split: EquationSplit) -> Setting:
    """A setting of half of the divisions and half of the products, told apart by a token at the front."""
    task = ModularArithmetic(p=97, operations=("divide", "multiply"), train_fraction=0.5, layout="prefix", split=split)
    return own_setting(name, about, task=task)


BOTH = both_operations("own-divide-multiply", "division and multiplication", "equations")
BOTH_BY_TRIPLES = both_operations("own-divide-multiply-triples", "the same, split by triples", "triples")
DIVISION_95, PRODUCT_95 = (taken_to("grokked", "steps", word) for word in ("divide", "multiply"))
ITS_LOG = "its repository: a log of one run"

OWN_TASKS = Experiment(
    name="own-tasks",
    title="The poster's own Transformer divides beside multiplication: helped by it, or told what is held out?",
    figures="none: division with multiplication in its repository, the first 8,000 of 800,000 steps",
    settings=(USUAL_START, BOTH, BOTH_BY_TRIPLES),
    key=(DIVISION_95, BOTH),
    draws=operations_figure,
    table=(
        TRAIN_95,
        DIVISION_95,
        taken_to("grokked", "own_sequences", "divide"),
        taken_to("grokked_held", "steps", "divide"),
        PRODUCT_95,
        final("validation_accuracy", rows=1),
    ),
    n_seeds=5,
    claims=(
        *(
            Claim(
                f"Together {what} groks at about step {step:,}",
                ITS_LOG,
                Within(quantity, BOTH.name, low=step / FACTOR, high=min(step * FACTOR, FIRST_STEPS)),
                f"a factor of {FACTOR:g} either way, and in the steps that there are; fixed before any run of it",
            )
            for what, quantity, step in (("division", DIVISION_95, 5450), ("multiplication", PRODUCT_95, 5250))
        ),
        Claim(
            "Beside multiplication division groks sooner than alone",
            "its repository: 61 times",
            Ordered(DIVISION_95, (BOTH.name, USUAL_START.name)),
            f"{BY_ORDER}; one seed alone had been looked at",
            late=True,
        ),
        Claim(
            "Split by triples it does not grok in these steps: what helped were held-out facts, seen as products",
            "not in the poster: expected",
            Within(DIVISION_95, BOTH_BY_TRIPLES.name, low=FIRST_STEPS),
            "not in the steps that there are; fixed before any run of it",
        ),
        only_reported("Multiplication, split by triples", PRODUCT_95, BOTH_BY_TRIPLES.name),
    ),
    notes=(
        "The model, AdamW 1e-3 with a weight decay of 0.001 and batches of 512 of fig3, on 9,360 equations: epochs of "
        "19 batches, of which the last has 144. The operation is told by a token at the front, as in the poster's last "
        "code; its 103 tokens have two operations more, which never come. Division alone is that of fig3, told by the "
        "token in the middle, as in its earlier code, where it grokked at 128,000 steps and not at 334,000. A division "
        "a / b = c is the product c * b = a: where equations are split one by one, three of four divisions that are "
        "held out are trained on as a product. The splits are ours, and the same for all seeds."
    ),
)
