"""Does multiplication help an MLP to grok division, or does it tell the divisions that are held out?

A division a / b = c is the product c * b = a: where equations are split one by one, most divisions that are held out
are trained on as a product, or with b and c changed over. Split by triples none is. All bounds were fixed before any
run.
"""

from plateau_interp.reproductions.claims import Claim, Ratio, Within, only_reported
from plateau_interp.reproductions.experiments import Experiment
from plateau_interp.reproductions.quantities import final
from plateau_interp.reproductions.settings import Setting
from plateau_interp.reproductions.shortening.ends import taken_to
from plateau_interp.reproductions.shortening.one_hot_mlp import grokking_setting
from plateau_interp.reproductions.shortening.pictures import operations_figure
from plateau_interp.tasks import OneHotArithmetic
from plateau_interp.tasks.modular import EquationSplit, Operation

__all__ = ["SHARED_FACTS"]

FACTS_STEPS = 3500


def division(*others: Operation, split: EquationSplit = "equations") -> Setting:
    """A setting of division, with some operations beside it: half of all, at a weight decay of 1."""
    operations: tuple[Operation, ...] = ("divide", *others)
    return grokking_setting(
        "-".join(["mlp", *operations, *(["triples"] if split == "triples" else [])]),
        f"{' and '.join(operations)}, split by {split}",
        decay=1.0,
        steps=FACTS_STEPS,
        task=OneHotArithmetic(operations=operations, split=split),
    )


ALONE, WITH_PRODUCTS, WITH_SUMS = division(), division("multiply"), division("add")
ALONE_BY_TRIPLES, BY_TRIPLES = division(split="triples"), division("multiply", split="triples")
TO_DIVIDE, TO_MULTIPLY, TO_ADD = (taken_to("grokked", "steps", word) for word in ("divide", "multiply", "add"))
NO_GAIN = "by a tenth at most; fixed before the runs"

SHARED_FACTS = Experiment(
    name="shared-facts",
    title="An MLP groks division beside multiplication: helped by it, or told what is held out?",
    figures="none: what its division with multiplication leaves open, in another's setting",
    settings=(ALONE, ALONE_BY_TRIPLES, WITH_PRODUCTS, BY_TRIPLES, WITH_SUMS),
    key=(TO_DIVIDE, WITH_PRODUCTS),
    draws=operations_figure,
    table=(
        taken_to("right_99", "steps"),
        TO_DIVIDE,
        taken_to("grokked", "own_sequences", "divide"),
        taken_to("grokked", "flops", "divide"),
        taken_to("grokked_held", "steps", "divide"),
        final("validation_accuracy", rows=1),
    ),
    n_seeds=5,
    claims=(
        Claim(
            "Division alone groks within its steps",
            "not in the poster: additions do in this setting",
            Within(TO_DIVIDE, ALONE.name, high=FACTS_STEPS),
            "in the steps that there are; fixed before the runs",
        ),
        Claim(
            "Beside multiplication division groks sooner, where each equation is split by itself",
            "its repository: 61 times, of a Transformer, at a weight decay of 0.001",
            Ratio(TO_DIVIDE, WITH_PRODUCTS.name, ALONE.name, high=0.8),
            "by a fifth at least; fixed before the runs",
        ),
        Claim(
            "Split by triples it gains nothing by multiplication: what helped were held-out facts, seen as products",
            "not in the poster: expected",
            Ratio(TO_DIVIDE, BY_TRIPLES.name, ALONE_BY_TRIPLES.name, low=0.9),
            NO_GAIN,
        ),
        Claim(
            "Beside addition, which shares no fact with it, division does not gain",
            "its repository: never in 800,000 steps",
            Ratio(TO_DIVIDE, WITH_SUMS.name, ALONE.name, low=0.9),
            NO_GAIN,
        ),
        only_reported("Division alone, split by triples", TO_DIVIDE, ALONE.name, ALONE_BY_TRIPLES.name),
        only_reported("Multiplication beside it", TO_MULTIPLY, WITH_PRODUCTS.name, BY_TRIPLES.name),
        only_reported("Addition beside it", TO_ADD, WITH_SUMS.name),
    ),
    notes=(
        "The MLP of grokking-decay, p 97, half of each operation's equations, all of them in a batch, measured every "
        "25 steps. All have as many steps; a step of two operations has twice the sequences and costs twice the FLOPs, "
        "and a net of two has two more inputs, which tell the operation. Split by triples, a / b = c, a / c = b and "
        "their two products are on one side, and half of the triples are trained on; so division alone has a baseline "
        "of its own with that split, where a / c = b, too, is held out with a / b = c. That multiplication gains "
        "nothing there tells what helped only if it does help where equations are split. The splits are the same for "
        "all seeds."
    ),
)
