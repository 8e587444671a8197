import dataclasses
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from plateau_interp.hooks import BiasAttention, During, TransplantWeights
from plateau_interp.interventions.attached import Attached
from plateau_interp.interventions.capturing import Capture
from plateau_interp.models.settings import ModelOptions
from plateau_interp.plugins import plugins, register
from plateau_interp.runs.identity import recipe_digest
from plateau_interp.runs.recipe import Fork, Recipe
from plateau_interp.tasks import MovingWindowSum
from plateau_interp.training.optimizers import SGD
from plateau_interp.training.settings import MeasuringOptions, MeasuringSettings, TrainingOptions
from plateau_interp.types import PLACE, HookedModel

RECIPE = Recipe(MovingWindowSum(n=4), interventions=(During(BiasAttention(factor=3.0), start=5),))


def test_lengthened_moved_or_read_back_it_is_the_same_run() -> None:
    same = [Recipe.from_json(RECIPE.to_json()), replace(RECIPE, training=replace(RECIPE.training, steps=900))]
    assert {recipe_digest(recipe) for recipe in same} == {recipe_digest(RECIPE)}
    moved = [replace(RECIPE, interventions=(TransplantWeights(f"{place}donor@8", "mlp"),)) for place in ("", "/a/b/")]
    assert recipe_digest(moved[0]) == recipe_digest(moved[1])
    folders = [replace(RECIPE, interventions=(Capture(("hook_embed",), out=f"{place}out"),)) for place in ("", "b/")]
    assert recipe_digest(folders[0]) == recipe_digest(folders[1])


OTHERS: list[dict[str, Any]] = [
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
]


def test_every_other_recipe_is_another_run() -> None:
    recipes = {recipe_digest(replace(RECIPE, **other)): other for other in [{}, *OTHERS]}
    assert [*recipes.values()] == [{}, *OTHERS]


def test_a_field_that_a_later_version_adds_changes_nothing() -> None:
    @dataclass(frozen=True)
    class LaterSettings(MeasuringSettings):
        added: int = 3

    later = replace(RECIPE, measuring=LaterSettings(**dataclasses.asdict(RECIPE.measuring)))
    assert recipe_digest(later) == recipe_digest(RECIPE)
    other = replace(RECIPE, measuring=LaterSettings(**dataclasses.asdict(RECIPE.measuring), added=4))
    assert recipe_digest(other) != recipe_digest(RECIPE)


@dataclass(frozen=True, eq=False)
class Unnamed:
    out: str = "folder/file"

    def attach(self, model: HookedModel) -> AbstractContextManager[Attached]:
        return nullcontext(Attached(self))


class Other(Unnamed):
    pass


@pytest.fixture
def _registered() -> Iterator[None]:
    before = dict(plugins("hooks"))
    register("hooks", Unnamed, name="unnamed")
    register("hooks", Other, name="other")
    yield
    plugins("hooks").clear()
    plugins("hooks").update(before)


def _digest_with(intervention: Any) -> str:
    return recipe_digest(replace(RECIPE, interventions=(intervention,)))


@pytest.mark.usefixtures("_registered")
def test_classes_that_only_the_registry_names_are_told_apart() -> None:
    assert _digest_with(Unnamed()) != _digest_with(Other())
    recipe = replace(RECIPE, interventions=(Other(),))
    assert recipe_digest(Recipe.from_json(recipe.to_json())) == recipe_digest(recipe)


def test_classes_without_any_name_are_told_apart() -> None:
    assert _digest_with(Unnamed()) != _digest_with(Other())


def test_a_class_says_itself_which_fields_are_places() -> None:
    @dataclass(frozen=True, eq=False)
    class Placed(Unnamed):
        donor: str = field(default="", metadata=PLACE)

    assert _digest_with(Unnamed("a/file")) != _digest_with(Unnamed("b/file"))
    assert _digest_with(Placed(donor="a/file")) == _digest_with(Placed(donor="b/file"))
    assert _digest_with(Placed(donor="a/file")) != _digest_with(Placed(donor="a/other"))
