"""Collapse matrices: of which states, and what is refused."""

import numpy as np
import pytest
import torch
from typecheck import unchecked

from plateau_interp.interventions.capturing import Capture, Captured
from plateau_interp.interventions.hook_points import FINAL_STATE
from plateau_interp.models import toy_model
from plateau_interp.models.settings import ModelOptions
from plateau_interp.runs.recipe import Recipe
from plateau_interp.runs.run import Run
from plateau_interp.tasks import MovingWindowSum
from plateau_interp.training.loop import train
from plateau_interp.training.settings import TrainingOptions
from plateau_interp.views import cosine_matrices

TASK = MovingWindowSum(n=4, p=5)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    recipe = Recipe(TASK, ModelOptions(d_model=16), TrainingOptions(steps=4, batch_size=8), checkpoint_every=2)
    run = Run.create(tmp_path_factory.mktemp("runs") / "tiny", recipe)
    for _step in run.train():
        pass
    return run


@pytest.mark.parametrize("point", [FINAL_STATE, "blocks.0.hook_resid_post"])
def test_each_entry_is_the_mean_cosine_of_two_answer_rows(run, point):
    matrices = cosine_matrices(run, [0, 4], at=point)
    assert matrices.shape == (2, 4, 4)
    inputs = TASK.sample(64, generator=torch.Generator().manual_seed(0)).inputs
    _, cache = run.model(4).run_with_cache(inputs)
    states = cache[point]
    for one, other in ((0, 1), (2, 3), (1, 1)):
        rows = states[:, 4 + one], states[:, 4 + other]  # the first answer is written in row 4, the separator's
        expected = torch.cosine_similarity(*rows, dim=-1).mean()
        assert matrices[1, one, other] == pytest.approx(expected.item(), abs=1e-5)


@pytest.mark.parametrize("steps", [4, np.int64(4), np.array([4])])
def test_a_single_step_and_numpy_will_do(run, steps):
    assert torch.equal(unchecked(cosine_matrices)(run, steps), cosine_matrices(run, [4]))


@pytest.mark.parametrize(
    ("steps", "point", "message"),
    [
        ([3], FINAL_STATE, "no checkpoint of step 3; the nearest is 2"),
        ([], FINAL_STATE, "steps is empty"),
        ([0], "blocks.0.hook_resid_pots", "nearest"),
        ([0], "blocks.0.attn.hook_pattern", "not one hook point that holds states"),
        ([0], "blocks.0.hook_resid_*", "not one hook point that holds states"),
    ],
)
def test_what_is_not_there_is_refused(run, steps, point, message):
    with pytest.raises(ValueError, match=message):
        cosine_matrices(run, steps, at=point)


def test_what_has_no_states_is_refused():
    with pytest.raises(ValueError, match=r"^source must be a run, such as .*, or Captured steps; got 3$"):
        unchecked(cosine_matrices)(3)


@pytest.fixture
def captured(tmp_path):
    """Final states and a block's output of two steps, in a folder each."""
    capture = Capture((FINAL_STATE, "blocks.0.hook_resid_post"), out=str(tmp_path / "states"), every=2)
    for _step in train(toy_model(TASK, d_model=16), TASK, steps=4, batch_size=8, interventions=(capture,)):
        pass
    return Captured(tmp_path / "states")


@pytest.mark.parametrize("point", [FINAL_STATE, "blocks.0.hook_resid_post"])
def test_captured_states_are_compared_as_they_were_recorded(captured, run, point):
    states = captured[2, point]
    whole = cosine_matrices(captured, at=point)
    assert whole.shape == (2, 8, 8)
    expected = torch.cosine_similarity(states[:, 1], states[:, 6], dim=-1).mean()
    assert whole[1, 1, 6] == pytest.approx(expected.item(), abs=1e-5)
    answers = cosine_matrices(captured, [2], at=point, run=run)
    assert answers == pytest.approx(whole[1:, 4:, 4:], abs=1e-6)


def test_the_only_states_there_are_need_no_name(captured):
    for file in captured.path.glob(f"*/{FINAL_STATE}.safetensors"):
        file.unlink()
    assert torch.equal(cosine_matrices(captured), cosine_matrices(captured, at="blocks.0.hook_resid_post"))


def test_of_a_run_all_checkpoints_are_compared_by_default(run):
    assert torch.equal(cosine_matrices(run), cosine_matrices(run, [0, 2, 4]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": [1]}, "no captured step 1; the nearest is 0"),
        ({"at": "blocks.0.hook_mlp_out"}, "states holds no blocks.0.hook_mlp_out; it holds blocks.0.hook_resid_post"),
    ],
)
def test_what_was_not_captured_is_refused(captured, arguments, message):
    with pytest.raises(ValueError, match=message):
        unchecked(cosine_matrices)(captured, **arguments)


def test_captured_states_that_cannot_be_compared_are_refused(tmp_path, run):
    capture = Capture(("blocks.0.attn.hook_pattern", "blocks.0.hook_mlp_out"), out=str(tmp_path / "other"))
    task = MovingWindowSum(n=5, p=5)
    for _step in train(toy_model(task, d_model=16), task, steps=1, batch_size=8, interventions=(capture,)):
        pass
    other = Captured(tmp_path / "other")
    with pytest.raises(ValueError, match=r"choose one with at=: blocks\.0\.attn.hook_pattern, blocks.0.hook_mlp_out"):
        cosine_matrices(other)
    with pytest.raises(ValueError, match=r"holds \(8, 1, 10, 10\); expected states \[batch, pos, width\]"):
        cosine_matrices(other, at="blocks.0.attn.hook_pattern")
    with pytest.raises(ValueError, match="of 10 positions, the inputs of the run have 8"):
        cosine_matrices(other, at="blocks.0.hook_mlp_out", run=run)
    with pytest.raises(ValueError, match="run is for captured states"):
        cosine_matrices(run, run=run)
