"""plateau_interp.reproductions.theory.rays: the table of Psi along rays against the diagnostic asked for by hand."""

import numpy as np
import pandas as pd
import pytest
import torch

from plateau_interp.analysis.villani import villani_diagnostic
from plateau_interp.hooks import FrobeniusPenalty
from plateau_interp.models.settings import ModelOptions
from plateau_interp.reproductions.settings import Outcome
from plateau_interp.reproductions.theory import rays
from plateau_interp.reproductions.theory.rays import PAIRED, RAYS, WEIGHTS, psi_along_rays
from plateau_interp.runs.recipe import Recipe
from plateau_interp.runs.run import Run
from plateau_interp.tasks import DepthTwoNet, MovingWindowSum
from plateau_interp.training.settings import TrainingOptions

TASK = DepthTwoNet(d=3, n=20, n_validation=4)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    recipe = Recipe(
        TASK,
        model=ModelOptions(d_mlp=4, dtype="float64"),
        training=TrainingOptions(steps=3, batch_size=4),
        interventions=(FrobeniusPenalty(0.5),),
    )
    made = Run.create(tmp_path_factory.mktemp("rays") / "run", recipe)
    for _ in made.train():
        pass
    return made


def test_the_ray_of_the_weights_goes_through_them(run) -> None:
    model = run.model()
    norm = float(model.W_in.detach().norm())
    table = psi_along_rays(run, penalty=0.5, norms=(norm, 2 * norm), n_random=1)
    there = table[table["direction"] == WEIGHTS]
    readings = villani_diagnostic(model, TASK, TASK.train_set, step_size=rays.STEP_SIZE, penalty=0.5, radii=(1.0, 2.0))
    assert there["psi"].tolist() == pytest.approx([reading.psi for reading in readings], rel=1e-9)
    assert len(table) == 3 * 2
    assert torch.equal(run.model().W_in, model.W_in)


def test_psi_is_not_below_what_is_proved_and_grows_as_is_proved(run) -> None:
    table = psi_along_rays(run, penalty=0.5, norms=(0.1, 10.0, 1e4), n_random=3)
    assert (table["margin"] > 0).all()
    assert np.allclose(table["margin"], table["psi"] - table["least"])
    far = table[table["norm"] == 1e4]
    assert (far["psi"] * rays.STEP_SIZE / (0.5 * 1e4) ** 2).between(0.999, 1.001).all()
    assert (far["least"] > 0.99 * far["psi"]).all()


def test_without_a_penalty_equal_pairs_say_nothing_at_any_norm(run) -> None:
    table = psi_along_rays(run, penalty=0.0, norms=(1.0, 1e4), n_random=0)
    pairs = table[table["direction"] == PAIRED]
    assert pairs["psi"].abs().max() < 10
    assert set(table["direction"]) == {WEIGHTS, PAIRED}


def test_quantities_are_read_off_the_whole_table() -> None:
    table = pd.DataFrame(
        {
            "step": 0,
            "case": ["a", "b", "c", "d"],
            "direction": ["draw 1", PAIRED, "draw 1", PAIRED],
            "norm": [1.0, 1.0, 1e5, 1e5],
            "psi": [-1.0, -0.5, 2.4e6, 2.6e6],
            "margin": [3.0, 2.0, 5.0, 4.0],
            "penalty": 0.01,
        }
    )
    outcome = Outcome(RAYS.settings[0], 0, table)
    assert rays.MARGIN.of(outcome) == 2.0
    assert rays.FIRST_POSITIVE.of(outcome) == 1e5
    assert rays.PAIRS_HIGHEST.of(outcome) == rays.FAR_OUT.of(outcome) == 2.6e6
    assert rays.GROWTH_LOW.of(outcome) == pytest.approx(2.4e6 * rays.STEP_SIZE / 1e6)
    assert rays.GROWTH_HIGH.of(outcome) == pytest.approx(2.6e6 * rays.STEP_SIZE / 1e6)
    assert rays.MARGIN.of(Outcome(RAYS.settings[0], 0, pd.DataFrame({"step": [0]}))) is None


def test_rays_of_another_task_are_refused(tmp_path) -> None:
    recipe = Recipe(MovingWindowSum(n=4, p=7), model=ModelOptions(d_model=8), training=TrainingOptions(steps=1))
    made = Run.create(tmp_path / "run", recipe)
    with pytest.raises(ValueError, match="rays are of depth-2 nets; this run is of MovingWindowSum"):
        psi_along_rays(made, penalty=0.0)


def test_gates_that_cannot_be_paired_are_refused(tmp_path) -> None:
    recipe = Recipe(TASK, model=ModelOptions(d_mlp=3, dtype="float64"), training=TrainingOptions(steps=1, batch_size=4))
    made = Run.create(tmp_path / "run", recipe)
    for _ in made.train():
        pass
    with pytest.raises(ValueError, match="one ray has gates that are equal in pairs; this net has 3"):
        psi_along_rays(made, penalty=0.0)
