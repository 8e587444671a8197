"""A paper of two experiments that train in a moment, for the tests of reproductions."""

import dataclasses
from pathlib import Path

from plateau_interp.hooks import BiasAttention
from plateau_interp.models.settings import ModelOptions
from plateau_interp.reproductions.claims import Claim, Ordered, Within
from plateau_interp.reproductions.experiments import Experiment, Paper
from plateau_interp.reproductions.quantities import peak, steps_to
from plateau_interp.reproductions.running import plan, train_setting
from plateau_interp.reproductions.settings import Setting
from plateau_interp.runs.recipe import Recipe
from plateau_interp.tasks import MovingWindowSum
from plateau_interp.training.optimizers import Adam
from plateau_interp.training.settings import TrainingOptions

TASK = MovingWindowSum(n=4, p=5)
TRAINING = TrainingOptions(steps=6, batch_size=4, optimizer=Adam(learning_rate=1e-3))


def recipe(**changes):
    return Recipe(TASK, **{"model": ModelOptions(d_model=16), "training": TRAINING, "checkpoint_every": 2, **changes})


BASE = Setting("base", recipe(), about="baseline", whole=True)
SOLUTION = Setting("solution", recipe(), whole=True)
BIASED = Setting("biased", recipe(interventions=(BiasAttention(factor=3.0),)))
TAKEN = Setting("taken", recipe(), takes=(SOLUTION, 9, "attention map"))
LEFT = Setting("left", recipe(interventions=(BiasAttention(factor=3.0),)), leaves=(BASE, 3))
FIRST = Experiment(
    name="first",
    title="The first",
    figures="figure 1",
    settings=(BASE, BIASED),
    claims=(
        Claim("It is never solved", "us", Within(steps_to(99), "base", low=1), "a reason"),
        Claim("Bias | collapses less", "us", Ordered(peak("cosine"), ("biased", "base")), "another reason", late=True),
    ),
    key=(peak("cosine"), BIASED),
    n_seeds=2,
    notes="A note.",
)
SECOND = Experiment(
    name="second",
    title="The second",
    figures="figure 2",
    settings=(BASE, TAKEN, LEFT),
    claims=(),
    key=(steps_to(99), LEFT),
    n_seeds=1,
)
PAPER = Paper(
    name="tiny",
    title="Tiny",
    source="us",
    experiments=(FIRST, SECOND),
    about="Two tiny experiments.",
    legend="How to read it.",
    cover="second",
)


def train_all(folder: Path) -> Path:
    """The runs of both experiments, in a folder."""
    for setting, seed in plan(PAPER.experiments):
        train_setting(setting, seed, folder)
    return folder


def paper_of(experiment: Experiment) -> Paper:
    """The paper with this experiment alone."""
    return dataclasses.replace(PAPER, experiments=(experiment,), cover="")


def page_of_statements(out: Path) -> str:
    """What was published of it."""
    return (out / "results" / "tiny" / "statements.md").read_text()
