import dataclasses
from dataclasses import dataclass, replace
from typing import Any

import pytest

from plateau_interp.hooks import BiasAttention, During, TransplantWeights
from plateau_interp.interventions.capturing import Capture
from plateau_interp.runs.identity import recipe_digest
from plateau_interp.runs.recipe import Fork, MeasuringOptions, ModelOptions, Recipe, TrainingOptions
from plateau_interp.tasks import MovingWindowSum
from plateau_interp.training.optimizers import SGD
from plateau_interp.training.settings import MeasuringSettings

RECIPE = Recipe(MovingWindowSum(n=4), interventions=(During(BiasAttention(factor=3.0), start=5),))


def test_lengthened_moved_or_read_back_it_is_the_same_run() -> None:
    same = [Recipe.from_json(RECIPE.to_json()), replace(RECIPE, training=replace(RECIPE.training, steps=900))]
    assert {recipe_digest(recipe) for recipe in same} == {recipe_digest(RECIPE)}
    moved = [replace(RECIPE, interventions=(TransplantWeights(f"{place}donor@8", "mlp"),)) for place in ("", "/a/b/")]
    assert recipe_digest(moved[0]) == recipe_digest(moved[1])
    folders = [replace(RECIPE, interventions=(Capture(("hook_embed",), out=f"{place}out"),)) for place in ("", "b/")]
    assert recipe_digest(folders[0]) == recipe_digest(folders[1])


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1},
        {"checkpoint_every": 7},
        {"task": MovingWindowSum(n=5)},
        {"interventions": ()},
        {"interventions": (During(BiasAttention(factor=3.0), start=6),)},
        {"interventions": (During(BiasAttention(factor=2.0), start=5),)},
        {"interventions": (TransplantWeights("donor@8", "mlp"),)},
        {"interventions": (TransplantWeights("donor@9", "mlp"),)},
        {"model": ModelOptions(d_model=16)},
        {"training": TrainingOptions(optimizer=SGD())},
        {"measuring": MeasuringOptions(n_sequences=4)},
        {"fork_of": Fork(RECIPE, 3)},
        {"fork_of": Fork(RECIPE, 4)},
        {"fork_of": Fork(replace(RECIPE, seed=3), 4)},
    ],
    ids=str,
)
def test_every_other_recipe_is_another_run(other: dict[str, Any]) -> None:
    seen.append(recipe_digest(replace(RECIPE, **other)))
    assert seen.count(seen[-1]) == 1


seen = [recipe_digest(RECIPE)]


def test_a_field_that_a_later_version_adds_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class LaterSettings(MeasuringSettings):
        added: int = 3

    now = dataclasses.asdict(RECIPE.measuring)
    assert recipe_digest(replace(RECIPE, measuring=LaterSettings(**now))) == recipe_digest(RECIPE)
    assert recipe_digest(replace(RECIPE, measuring=LaterSettings(**now, added=4))) != recipe_digest(RECIPE)
