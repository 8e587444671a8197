"""A small language model that is too young for induction heads, and what shows it."""

from plateau_interp.models.settings import ModelOptions
from plateau_interp.reproductions.circuits.measured import ATTRIBUTED_COLUMNS
from plateau_interp.reproductions.circuits.toys import EXPLORED
from plateau_interp.reproductions.claims import Claim, Reported, Within
from plateau_interp.reproductions.experiments import Experiment
from plateau_interp.reproductions.quantities import final
from plateau_interp.reproductions.settings import Setting
from plateau_interp.runs.recipe import Recipe
from plateau_interp.tasks import Text
from plateau_interp.tasks.text import TINY_SHAKESPEARE
from plateau_interp.training.optimizers import Adam
from plateau_interp.training.settings import MeasuringOptions, TrainingOptions

__all__ = ["TEXTS"]

SMALL_TEXT = Setting(
    "text",
    Recipe(
        Text(TINY_SHAKESPEARE, vocabulary=512),
        model=ModelOptions(n_layers=2, d_model=64),
        training=TrainingOptions(steps=410, optimizer=Adam(learning_rate=5e-3)),
        measuring=MeasuringOptions(every=50),
        checkpoint_every=50,
    ),
    about="text, two layers",
    whole=True,
    adds=ATTRIBUTED_COLUMNS,
)
TEXT_DIFFERENCE = final("answer_difference", rows=1, digits=2)
TEXTS = Experiment(
    name="text",
    title="Text: what a small model of text learns first needs no induction heads",
    figures="nothing: it goes beyond the papers",
    settings=(SMALL_TEXT,),
    key=(TEXT_DIFFERENCE, SMALL_TEXT),
    table=(final("validation_loss", rows=1, digits=2), TEXT_DIFFERENCE),
    panels=("loss", "validation_loss", "answer_difference"),
    needs="the corpus tiny-shakespeare: `make corpus`",
    claims=(
        Claim(
            "After 400 steps of text nothing tells the two orders of repeated random tokens apart",
            EXPLORED,
            Within(TEXT_DIFFERENCE, SMALL_TEXT.name, low=-0.3, high=0.3, most_seeds=True),
            "0.3 logits, where induction heads make several; in the run explored it is below 0.1 for 1,400 steps",
        ),
        Claim(
            "The held-out loss by then", "no bound", Reported(final("validation_loss", rows=1), (SMALL_TEXT.name,)), ""
        ),
    ),
    notes=(
        "Pairs are random tokens that come twice, and the same with their first half in another order: what an "
        "induction head is for. This model is too young for one: there is no circuit to see, and none is drawn."
    ),
)
