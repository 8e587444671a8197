"""Which part of the model the plateau waits for: one component trained, all others fixed at their final values."""

from plateau_interp.reproductions.claims import Claim, Ordered, Within, only_reported
from plateau_interp.reproductions.experiments import Experiment
from plateau_interp.reproductions.matrix_completion.drop import SMALL
from plateau_interp.reproductions.quantities import LENGTH, NEVER, Quantity, final
from plateau_interp.reproductions.settings import Outcome, Setting
from plateau_interp.runs.recipe import Recipe
from plateau_interp.tasks import MatrixCompletion
from plateau_interp.training.settings import TrainingOptions

__all__ = ["ALONE", "BELOW_PLATEAU", "COMPONENTS_ALONE", "EACH_OF_THREE", "mean_falls_below"]

MEASURED = 10
"""Measured values in a mean over 100 steps."""


def mean_falls_below(share: float, *, column: str = "loss_missing") -> Quantity:
    """The first step at which the mean over 100 steps of the loss of missing entries is below a share of its plateau.

    On the plateau it is the variance of an entry. The mean is of the last 10 measured values, of batches of their own.
    Another column is the loss of matrices of one shape, such as ``loss_missing_3x3``.
    """

    def of(outcome: Outcome) -> float | None:
        assert isinstance(outcome.setting, Setting)
        task = outcome.setting.recipe.task
        assert isinstance(task, MatrixCompletion)
        if column not in outcome.metrics:
            return None
        rows = outcome.metrics[["step", column]].dropna()
        reached = rows["step"][rows[column].rolling(MEASURED).mean() < share * task.variance]
        return NEVER if reached.empty else float(reached.iloc[0])

    of_shape = column.removeprefix("loss_missing").replace("_", " of ")
    return Quantity(f"step at which the loss of missing entries{of_shape} is below {share:g} of the plateau's", of)


BELOW_PLATEAU = mean_falls_below(0.75)
SOURCE_SEED = 4
"""Its final weights are those of all other components; the trained one begins as drawn for seeds 0, 1 and 2."""
WHAT_IS_TRAINED = {
    "token embedding": ("token embedding", 1500),
    "mlp layers": ("MLPs and the norms after them", 1500),
    "position embedding": ("position embedding", 5000),
    "attention layers": ("attention and the norms after it", 4000),
}
"""In words, and for how many steps: as many as it takes to see whether the claim holds."""
ALONE = {
    group: Setting(
        f"{group.replace(' ', '-')}-alone",
        Recipe(MatrixCompletion(), training=TrainingOptions(steps=steps), checkpoint_every=steps),
        about=f"only the {about} trained",
        takes=(SMALL, SOURCE_SEED, f"all but {group}"),
        whole=True,
    )
    for group, (about, steps) in WHAT_IS_TRAINED.items()
}
TOKENS, MLPS, POSITIONS, ATTENTION = ALONE.values()
FALLS_AT_ONCE = "a third of the steps that whole training takes, which is about 3,000; fixed before the first run"
EACH_OF_THREE = "an order that every one of three seeds has to show"

COMPONENTS_ALONE = Experiment(
    name="fig8",
    title="What the plateau waits for: one component trained, the others given from the end",
    figures="figure 8, on 4x4 matrices of rank 1",
    settings=(SMALL, *ALONE.values()),
    key=(BELOW_PLATEAU, ATTENTION),
    panels=("loss", "loss_missing", "loss_observed", "mask_value", "attention_on_row", "attention_on_column"),
    table=(BELOW_PLATEAU, LENGTH, final("loss_missing", digits=4)),
    claims=(
        *(
            Claim(
                f"With the {about} alone to be trained the loss falls from the start",
                "figure 8, told by its caption",
                Within(BELOW_PLATEAU, setting.name, high=1000, most_seeds=True),
                FALLS_AT_ONCE,
            )
            for setting, about in ((TOKENS, "token embedding"), (MLPS, "MLPs"))
        ),
        Claim(
            "With the position embedding alone to be trained it falls later than in whole training",
            "figure 8, told by its caption",
            Ordered(BELOW_PLATEAU, (SMALL.name, POSITIONS.name)),
            EACH_OF_THREE,
        ),
        Claim(
            "With attention alone to be trained it falls before it does in whole training",
            "figure 8, the remaining case",
            Ordered(BELOW_PLATEAU, (ATTENTION.name, SMALL.name)),
            EACH_OF_THREE,
        ),
        Claim(
            "But later than from the start: there is a plateau",
            "figure 8, implied by its caption",
            Within(BELOW_PLATEAU, ATTENTION.name, low=500, most_seeds=True),
            "500 steps, what counts as a plateau in whole training, fixed before the first run",
        ),
        only_reported("Steps on the plateau", LENGTH, *[setting.name for setting in ALONE.values()]),
    ),
    notes=(
        f"The other components have the final weights of seed {SOURCE_SEED} of whole training and are frozen, the norm "
        "of the embeddings and the read-out among them; the trained one begins afresh, and so does Adam. Which norms "
        "belong to a component is not known; here each goes with what it follows. The mean over 100 steps of the loss "
        "of missing entries has to be below three quarters of 1/9, whole training's plateau: a single batch wanders by "
        "a tenth of it. Each goes on for as long as its claim takes: 1,500 steps; attention 4,000, positions 5,000."
    ),
)
