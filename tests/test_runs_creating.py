"""plateau_interp.runs.creating: what is refused leaves a run folder as it was."""

from dataclasses import replace
from pathlib import Path

import pytest
from trained_runs import finished

from plateau_interp.hooks import PatchAttention
from plateau_interp.models.settings import ModelOptions
from plateau_interp.runs.recipe import Recipe
from plateau_interp.runs.run import Run
from plateau_interp.tasks import MovingWindowSum
from plateau_interp.training.settings import TrainingOptions

RECIPE = Recipe(
    MovingWindowSum(n=4, p=7), ModelOptions(d_model=16), TrainingOptions(steps=4, batch_size=4), checkpoint_every=2
)


def longer(recipe: Recipe, steps: int) -> Recipe:
    return replace(recipe, training=replace(recipe.training, steps=steps))


def test_a_run_whose_donor_has_changed_keeps_its_recipe_when_it_is_to_be_lengthened(tmp_path: Path) -> None:
    donor = tmp_path / "donor"
    finished(donor, RECIPE)
    patched = replace(RECIPE, interventions=(PatchAttention(source=str(donor)),))
    finished(tmp_path / "patched", patched)
    for _ in Run.create(donor, longer(RECIPE, 8)).train():  # other weights at its end
        pass
    before = (tmp_path / "patched" / "recipe.json").read_bytes()
    with pytest.raises(ValueError, match="takes from has changed since"):
        Run.create(tmp_path / "patched", longer(patched, 6))
    assert (tmp_path / "patched" / "recipe.json").read_bytes() == before
