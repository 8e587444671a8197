"""Table 1 and figure 1 of the poster: does a mixture of tasks shorten the plateau, and in what currency?

The bounds were fixed before any run that counts. The poster's numbers are of one run and one seed each.
"""

from plateau_interp.reproductions.claims import Check, Claim, Ordered, Ratio, Within, only_reported
from plateau_interp.reproductions.experiments import Experiment
from plateau_interp.reproductions.quantities import Quantity, difference, summary_number
from plateau_interp.reproductions.shortening.beside import poster_beside_ours
from plateau_interp.reproductions.shortening.ends import JointOverSeparate, MeanSaving, taken_to
from plateau_interp.reproductions.shortening.mixes import ALL_THREE, MIXES, PAIRS_WITH, TASKS, TRAINED_ALONE
from plateau_interp.reproductions.shortening.pictures import losses_figure, mixes_figure
from plateau_interp.reproductions.shortening.poster import FACTOR, POSTER_STEPS, SAVING, SEQUENCES

__all__ = ["FIG1", "TABLE1"]

TABLE_REASON = (
    f"a factor of {FACTOR:g} either way: the poster's number is that of one run of one seed; fixed before the runs"
)
DERIVED = "derived from the poster's table"
FOLLOWS = f"the poster's own counts of steps give it; a factor of {FACTOR:g} either way, fixed before the runs"
AMONG_THREE: dict[str, tuple[str, ...]] = {word: (ALL_THREE.name,) for word in TASKS}
IN_PAIRS: dict[str, tuple[str, ...]] = {word: tuple(setting.name for setting in PAIRS_WITH[word]) for word in TASKS}
OWN_TO_ELBOW = {word: taken_to("elbow", "own_sequences", word) for word in TASKS}
ELBOW_STEPS = {word: taken_to("elbow", "steps", word) for word in TASKS}
LEVELS = {"sum": 2.656, "difference": 2.656, "product": 2.599}
"""15/16 of the entropy of an answer, in nats."""
TO_NEW = 3.0
"""ln 20, the loss of a new model, nearly."""
STEPS_AMONG_THREE = {word: POSTER_STEPS[3][word] / POSTER_STEPS[1][word] for word in TASKS}
"""Of the poster: steps to the elbow among three over those alone."""


def about(quantity: Quantity, setting: str, number: float) -> Within:
    """A quantity is the poster's number, within the factor."""
    return Within(quantity, setting, number / FACTOR, number * FACTOR)


def shares(quantity: Quantity, word: str, poster: float) -> Ratio:
    """All three over one alone is what the poster has, within the factor."""
    return Ratio(quantity, ALL_THREE.name, word, poster / FACTOR, poster * FACTOR)


def saving_near(currency: str, mixes: dict[str, tuple[str, ...]], poster: float) -> Check:
    """The poster's mean saving: the mean share that is left of the cost is within the factor."""
    left = 1 - poster
    return MeanSaving("elbow", currency, mixes, 1 - left * FACTOR, 1 - left / FACTOR)


AS_COUNTED = (
    *(
        Claim(
            f"The {word} alone comes to its elbow after {SEQUENCES[1][word]:,} sequences",
            "table 1",
            about(OWN_TO_ELBOW[word], word, SEQUENCES[1][word]),
            TABLE_REASON,
        )
        for word in TASKS
    ),
    *(
        Claim(
            f"The {word} among three comes to its elbow after {SEQUENCES[3][word]:,} sequences of its own",
            "table 1",
            about(OWN_TO_ELBOW[word], ALL_THREE.name, SEQUENCES[3][word]),
            TABLE_REASON,
        )
        for word in TASKS
    ),
    *(
        Claim(
            f"The {word} needs fewer sequences of its own among three than alone",
            "table 1",
            shares(OWN_TO_ELBOW[word], word, SEQUENCES[3][word] / SEQUENCES[1][word]),
            TABLE_REASON,
        )
        for word in TASKS
    ),
    *(
        Claim(
            f"Of {count} tasks each needs {saving:.2%} fewer sequences of its own, on average",
            "table 1",
            saving_near("own_sequences", mixes, saving),
            f"what is left of the cost, {1 - saving:.2f}, within a factor of {FACTOR:g}; fixed before the runs",
        )
        for count, mixes, saving in (("two", IN_PAIRS, SAVING[2]), ("three", AMONG_THREE, SAVING[3]))
    ),
)
FAIRLY = (
    Claim(
        "Counted in sequences of all tasks, which is as many steps and FLOPs, three tasks save nothing on average",
        f"{DERIVED}: 11 % more",
        MeanSaving("elbow", "sequences", AMONG_THREE, -float("inf"), 0.1),
        "nothing, or a tenth at the most; fixed before the runs",
    ),
    *(
        Claim(
            f"The {word} takes {'as many steps' if ratio > 0.9 else 'fewer steps'} among three "
            f"{'as alone, or more' if ratio > 0.9 else 'than alone'}",
            f"{DERIVED}: {ratio:.2f} times as many",
            Ratio(ELBOW_STEPS[word], ALL_THREE.name, word, *((0.9, 3.0) if ratio > 0.9 else (0.0, ratio * FACTOR))),
            "a tenth less is as many; fixed before the runs" if ratio > 0.9 else FOLLOWS,
        )
        for word, ratio in STEPS_AMONG_THREE.items()
    ),
    Claim(
        "One training of three comes to the last elbow with fewer sequences than three trainings",
        f"{DERIVED}: 38,656 against 144,384, or 0.27",
        JointOverSeparate("elbow", ALL_THREE.name, {w: w for w in TASKS}, 0.268 / FACTOR, 0.268 * FACTOR),
        FOLLOWS,
    ),
    Claim(
        "Until 99 % of the tokens are right the sum gains nothing from two others",
        "web figures, read by others: 25,000 own sequences against 24,000 until the loss is below 0.1",
        Ratio(taken_to("right_99", "own_sequences", "sum"), ALL_THREE.name, "sum", low=0.8),
        "a fifth less counts as nothing: figures are read to a tenth; fixed before the runs",
    ),
    Claim(
        "Until then the product still gains",
        "web figures, read by others: 26,000 against 98,000",
        Ratio(taken_to("right_99", "own_sequences", "product"), ALL_THREE.name, "product", high=0.265 * FACTOR),
        FOLLOWS,
    ),
)
OTHER_COUNTS = (
    *(
        Claim(
            f"The {word} alone is all right for 50 steps by step {steps}",
            "web figures, read by others",
            about(taken_to("perfect", "steps", word), word, steps),
            TABLE_REASON,
        )
        for word, steps in (("sum", 215), ("difference", 474), ("product", 820))
    ),
    *(
        Claim(
            f"The {word} alone rests at {LEVELS[word]:.3f} nats: its first answer is right, the others are guessed",
            "closed form",
            Within(
                summary_number("plateau level (nats)", "level", digits=3),
                word,
                LEVELS[word] - 0.02 * TO_NEW,
                LEVELS[word] + 0.02 * TO_NEW,
            ),
            "2 % of the fall from a new model's loss to 0, the width within which the plateau finder sees one level",
        )
        for word in TASKS
    ),
    Claim(
        "Among three, sum and difference leave their plateaus together",
        "web figures, read by others: at 251 and 257",
        Within(difference(ELBOW_STEPS["difference"], ELBOW_STEPS["sum"]), ALL_THREE.name, low=-25, high=25),
        "within a tenth of the steps until then; fixed before the runs",
    ),
    Claim(
        "and product after them",
        "web figures, read by others: about 50 steps later",
        Within(difference(ELBOW_STEPS["product"], ELBOW_STEPS["sum"]), ALL_THREE.name, low=1, high=150),
        "later, and no more than three times the 50; fixed before the runs",
    ),
    *(
        only_reported(
            f"The {word}, until {words}", taken_to(rule, "own_sequences", word), word, *IN_PAIRS[word], ALL_THREE.name
        )
        for word in TASKS
        for rule, words in (("right_95", "95 % of its tokens are right"), ("right_99", "99 % of its tokens are right"))
    ),
    only_reported(
        "Steps until all of a mixed batch is right for 50 steps",
        taken_to("perfect", "steps"),
        *[setting.name for setting in MIXES],
    ),
)
NOTES = (
    "All seven subsets of the three tasks, windows of two, 128 sequences a step split among the tasks that are drawn, "
    "42 + 42 + 44 of three. Here products of matrices are in bfloat16 (mixed precision), in which the experiment "
    "`bfloat16` of the loss-plateau paper found the same drops as in float32; the poster's are float32. A run ends "
    "when all answers of a mixed batch of 64 sequences were right for 50 steps, or at step 2,000; the sum alone at "
    "500, for its weights are taken by others. An elbow is where the loss of a task, the median of five steps, is 0.1 "
    "nats below the closed form of its plateau: how the poster read its own is not known, and its numbers fit that to "
    "0.05 nats. Its two-task numbers are means over the two pairs that have a task, as these are. One seed (100) "
    "was tried for a few steps to see that all works; it does not count."
)
TABLE1 = Experiment(
    name="table1",
    title="Two or three tasks at once: fewer sequences of its own, and of all?",
    figures="table 1",
    settings=MIXES,
    key=(OWN_TO_ELBOW["product"], ALL_THREE),
    n_seeds=5,
    draws=mixes_figure,
    tells=poster_beside_ours,
    table=(*ELBOW_STEPS.values(), *(taken_to("right_99", "steps", w) for w in TASKS), taken_to("perfect", "steps")),
    claims=(*AS_COUNTED, *FAIRLY, *OTHER_COUNTS),
    notes=NOTES,
)

WITH_PRODUCT = (TRAINED_ALONE["product"], *PAIRS_WITH["product"], ALL_THREE)
READ_BY_EYE = {"sum-product": 17_400, "difference-product": 30_700}
FIG1 = Experiment(
    name="fig1",
    title="The loss of the product against sequences of its own, alone and in three mixtures",
    figures="figure 1, whose caption says sum; what it shows is the product",
    settings=WITH_PRODUCT,
    key=(OWN_TO_ELBOW["product"], ALL_THREE),
    n_seeds=5,
    draws=losses_figure,
    table=(
        OWN_TO_ELBOW["product"],
        taken_to("elbow", "sequences", "product"),
        taken_to("right_99", "own_sequences", "product"),
    ),
    claims=(
        Claim(
            "In three tasks it falls before it does with the sum, with the sum before it does with the difference, "
            "and alone last",
            "figure 1",
            Ordered(OWN_TO_ELBOW["product"], (ALL_THREE.name, "sum-product", "difference-product", "product")),
            "an order counts if the medians show it and four of five seeds do",
        ),
        *(
            Claim(
                f"In {name} it comes to its elbow after about {number:,} sequences of its own",
                "figure 1, read by others",
                about(OWN_TO_ELBOW["product"], name, number),
                TABLE_REASON,
            )
            for name, number in READ_BY_EYE.items()
        ),
    ),
    notes="The runs of table 1.",
)
