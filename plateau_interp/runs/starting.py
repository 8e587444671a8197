"""Begin a run with the weights of another, as `plateau_interp.runs.donors.InitFrom` of its recipe says."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from plateau_interp.checks import nearest
from plateau_interp.interventions.plan import brief
from plateau_interp.models.base import ToyTransformer
from plateau_interp.models.parameters import trained_where
from plateau_interp.models.settings import ModelSettings, check_used
from plateau_interp.models.tokenizers import OF_TOKENS, differing_vocabulary
from plateau_interp.models.toy import check_init_std
from plateau_interp.runs.donors import InitFrom, donor_digest
from plateau_interp.runs.errors import RunError
from plateau_interp.runs.folder import RunFolder
from plateau_interp.runs.identity import recipe_digest
from plateau_interp.runs.optimizer_state import entry_of, owner_of, place_of_entry, put_optimizer_state
from plateau_interp.runs.recipe import Recipe
from plateau_interp.types import OfText, Task

__all__ = ["begin_", "check_begun"]


def begin_(recipe: Recipe, model: ToyTransformer, optimizer: torch.optim.Optimizer | None = None) -> None:
    """Give a model that was drawn the weights of its recipe's donor, and an optimiser that one's state if it is taken.

    What is never trained is the model's own: the embedding of a mask that is 0, or the points of a depth-2 net's task.

    Args:
        recipe: without a donor nothing happens.
        model: changed in place.
        optimizer: of its parameters; None where nobody trains.

    Raises:
        RunError: if the donor is not there, damaged, or not what it was; if it lacks a parameter that is taken, has it
            in another shape, or one of tokens of another vocabulary; if its optimiser is of another kind, or has
            changed the entries of a parameter group that is not, with the same parameters, one of this run's.
    """
    init = recipe.init_from
    if init is None:
        return
    try:
        _check_same(init)
        donor = RunFolder(init.path)
        taken = {name: found for where in init.groups for name, found in trained_where(model, where).items()}
        _check_vocabulary([*taken], recipe.task, donor.recipe.task, init)
        _copy_(taken, donor.load_weights(init.step), init)
        model.clear_untrained_()
        if init.optimizer == "taken":
            _check_kind(recipe, donor.recipe)
            there = donor.load(init.step)
            assert there.optimizer is not None, "its digest says that it is there"
            optimizer = recipe.optimizer.build(model.named_parameters()) if optimizer is None else optimizer
            state = _state_taken(there.optimizer, taken, donor.recipe, model, optimizer)
            put_optimizer_state(optimizer, state, model, weights=there.weights)
    except ValueError as error:
        raise RunError(f"init_from: {error}") from None


def check_begun(recipe: Recipe) -> None:
    """Refuse what a new run's recipe says of initial weights and no weight that it begins with has to do with.

    An initializer that changes nothing by itself, such as a factor of 1, is let be.

    Raises:
        RunError: as `begin_`, and for a draw all of which the donor's weights replace.
        ValueError: for options of the model that its architecture, or its initializers, take no notice of.
    """
    check_used(recipe.model, recipe.task)
    init, donor = recipe.model.init, recipe.init_from

    def begun(settings: ModelSettings) -> ToyTransformer:
        return _begun(replace(recipe, model=settings))

    try:
        check_init_std(
            recipe.task, recipe.model, begun, replaced_by="init" if donor is None else f"init_from={donor.source}"
        )
    except ValueError as error:
        raise RunError(str(error)) from None
    if donor is None:
        return
    drawn = replace(recipe, init_from=None)
    for place, initializer in enumerate(init):
        others = init[:place] + init[place + 1 :]
        if _begin_alike(recipe, _with(recipe, init=others)) and not _begin_alike(drawn, _with(drawn, init=others)):
            raise RunError(
                f"init: {brief(initializer)} comes to nothing: init_from={donor.source} replaces all that it draws; "
                "leave it out, or take other weights alone with where"
            )


def _with(recipe: Recipe, **options: Any) -> Recipe:
    return replace(recipe, model=replace(recipe.model, **options))


def _begun(recipe: Recipe) -> ToyTransformer:
    model = recipe.build_model()
    begin_(recipe, model)
    return model


def _begin_alike(recipe: Recipe, other: Recipe) -> bool:
    """Whether runs of two recipes, whose models are of the same sizes, begin with the same weights."""
    pairs = zip(*(_begun(each).parameters() for each in (recipe, other)), strict=True)
    return all(torch.equal(one, another) for one, another in pairs)


def _check_same(init: InitFrom) -> None:
    if donor_digest(init) != init.digest:
        raise ValueError(
            f"what {init.source} holds has changed since the recipe was made, or its digest is of another choice: put "
            "it back, or leave the digest out"
        )


def _state_taken(
    state: Mapping[str, Any],
    taken: Collection[str],
    donor: Recipe,
    model: ToyTransformer,
    optimizer: torch.optim.Optimizer,
) -> dict[str, Any]:
    """The donor's state of the parameters that are taken, and what it changed in the groups that they make up.

    Raises:
        ValueError: for an entry of a group of which only a part is taken, or that is none here.
    """
    own = {place: value for place, value in state.items() if owner_of(place) in taken}
    entries = {place: value for place, value in state.items() if not owner_of(place)}
    if not entries:
        return own
    drawn = donor.build_model()
    theirs = _groups(drawn, donor.optimizer.build(drawn.named_parameters()))
    trained = trained_where(model, "*")
    ours = [group & trained.keys() for group in _groups(model, optimizer)]
    for place, value in entries.items():
        number, name = entry_of(place)
        members = theirs[number] & set(taken)
        if members and members not in ours:
            left_out = [mine for mine in trained if mine in theirs[number] and mine not in taken]
            why = (
                f"and where leaves out {', '.join(left_out)}: take all of the group, or the state fresh"
                if left_out
                else "which is no group here: take the state fresh"
            )
            whose = f"the donor's {type(donor.optimizer).__name__}"
            raise ValueError(f"{whose} keeps {name!r} for all of its parameter group {number}, {why}")
        if members:
            own[place_of_entry(ours.index(members), name)] = value
    return own


def _groups(model: ToyTransformer, optimizer: torch.optim.Optimizer) -> list[set[str]]:
    """By parameter group, the names of its parameters."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [{names[id(parameter)] for parameter in group["params"]} for group in optimizer.param_groups]


def _check_vocabulary(names: Sequence[str], task: Task, donor: Task, init: InitFrom) -> None:
    """Refuse what has a part for each token where the donor's are other tokens, as far as tasks say what theirs are."""
    of_tokens = [name for name in names if name.startswith(OF_TOKENS)]
    # The donor's own text may have been moved: where the tasks are the same otherwise it is not asked for.
    if not of_tokens or recipe_digest(Recipe(task)) == recipe_digest(Recipe(donor)):
        return
    mine, theirs = (each.tokenizer if isinstance(each, OfText) else None for each in (task, donor))
    if words := differing_vocabulary(mine, theirs):
        raise ValueError(
            f"{of_tokens[0]}: the vocabularies of this run and of {init.source} differ: {words}; take others with where"
        )


def _check_kind(recipe: Recipe, donor: Recipe) -> None:
    if type(recipe.optimizer) is not type(donor.optimizer):
        raise ValueError(
            f"the state of the donor's {type(donor.optimizer).__name__} is nothing to "
            f"{type(recipe.optimizer).__name__}: train with the same optimiser, or take it fresh"
        )


@torch.no_grad()
def _copy_(parameters: Mapping[str, Parameter], weights: Mapping[str, Tensor], init: InitFrom) -> None:
    for name, parameter in parameters.items():
        if name not in weights:
            raise ValueError(f"{init.source} has no parameter {name}; {nearest(name, list(weights))}")
        if weights[name].shape != parameter.shape:
            mine, its = tuple(parameter.shape), tuple(weights[name].shape)
            raise ValueError(f"{name} is {its} in {init.source}, but {mine} here; take others with where")
    for name, parameter in parameters.items():
        parameter.copy_(weights[name])
