"""Collapse matrices: of which states, and what is refused."""

import numpy as np
import pytest
import torch
from typecheck import unchecked

from plateau_interp.models.settings import ModelOptions
from plateau_interp.runs.recipe import Recipe
from plateau_interp.runs.run import Run
from plateau_interp.tasks import MovingWindowSum
from plateau_interp.training.meter import FINAL_STATE
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
