"""The options of `plateau train TASK`: those of the task's fields and of a recipe's, flat.

Loads torch and TransformerLens, which a recipe needs. For recipes in files use `plateau_interp.runs.recipe`.
"""

import argparse
import copy
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_type_hints

from tyro.conf import OmitArgPrefixes, arg

from plateau_interp.cli.parsing import Device, Interventions, Json, Loggers, Out, Threads, UsageError, headline, parse
from plateau_interp.cli.words import read_plugin, write_plugin
from plateau_interp.codec import decode_fields, encode
from plateau_interp.plugins import plugin

if TYPE_CHECKING:
    from plateau_interp.runs.donors import InitFrom
    from plateau_interp.runs.recipe import Recipe

__all__ = ["read_training"]

DONOR: dict[str, Any] = {
    "init_from": Annotated[
        str | None, arg(metavar="RUN[@STEP]", help="Begin with the weights of another run, by default its last.")
    ],
    "init_where": Annotated[
        tuple[str, ...],
        arg(metavar="[GROUP ...]", help="Of --init-from: which of its weights, groups or patterns over names."),
    ],
    "init_optimizer": Annotated[
        Literal["fresh", "taken"], arg(help="Of --init-from: whether its optimiser's state is taken, too.")
    ],
}
"""The options that make an `InitFrom`."""
NOT_FLAT = ("fork_of", "init_from")
"""Fields of a recipe that are no options as they stand."""


def read_training(name: str, words: Sequence[str]) -> "tuple[Recipe, Any]":
    """What to train, from a task's name (or a recipe file's) and the options that follow from its fields.

    Returns:
        The recipe, and an object with the options that are in no recipe: ``out``, ``log``, ``device``, ``threads``,
        ``json``.

    Raises:
        ValueError: for an unknown name, option, value or device.

    Example:
        >>> recipe, options = read_training("moving-window-sum", ["--k", "3", "--steps", "10", "--out", "runs/k3"])
        >>> recipe.task.k, recipe.steps, str(options.out)
        (3, 10, 'runs/k3')
    """
    from plateau_interp.runs.recipe import Recipe

    known = _known_recipe(name, words)
    chosen = [item.name for item in dataclasses.fields(Recipe) if item.name not in NOT_FLAT]
    options = _read_options(known, chosen, name, words)
    if options.task.defaults != known.task.defaults:
        # What a mixture holds decides on its layers and steps: they are those of the task that was read.
        of_file = _is_file(name)
        known = _recipe_of_file(name, words, options.task) if of_file else _default_recipe(options.task, words)
        options = _read_options(known, chosen, name, words)
    interventions = tuple(read_plugin("hooks", text) for text in options.interventions or ())
    fields = {field: getattr(options, field) for field in chosen}
    init_from = _donor(known, options)
    recipe = Recipe(**{**fields, "interventions": interventions, "init_from": init_from})
    recipe.check_device(options.device)
    return recipe, options


def _read_options(recipe: "Recipe", chosen: Sequence[str], name: str, words: Sequence[str]) -> Any:
    task = recipe.task if _is_file(name) else _as_declared(recipe.task)
    return parse(
        _options_of(recipe, chosen, task),
        words,
        prog=f"plateau train {name}",
        description=f"{headline(type(recipe.task))}\n\nFor example:\n  plateau train {name} --seed 0 --out runs/0",
    )


def _donor(known: "Recipe", options: Any) -> "InitFrom | None":
    """The donor that the options name; that of a recipe file, with its digest, where they say the same."""
    from plateau_interp.runs.donors import InitFrom

    if options.init_from is None:
        if known.init_from is None and (options.init_where, options.init_optimizer) != (("*",), "fresh"):
            raise UsageError("--init-where and --init-optimizer say what is taken of a run: name it by --init-from")
        return None
    there = known.init_from
    if there and (there.source, there.groups, there.optimizer) == _told(options):
        return there
    return InitFrom(options.init_from, where=options.init_where, optimizer=options.init_optimizer)


def _told(options: Any) -> tuple[str, tuple[str, ...], str]:
    return options.init_from, options.init_where, options.init_optimizer


def _is_file(name: str) -> bool:
    return Path(name).suffix in (".json", ".yaml", ".yml")


def _known_recipe(name: str, words: Sequence[str]) -> "Recipe":
    if _is_file(name):
        recipe = _recipe_of_file(name, words)
        if recipe.fork_of is not None:  # its interventions would act from step 0 on, which nobody asked for
            again = f"`plateau fork RUN --at {recipe.fork_of.step}`"
            raise UsageError(f"{name}: training begins at step 0, and this is the recipe of a fork: see {again}")
        return recipe
    return _default_recipe(decode_fields(plugin("tasks", name), {}, path=name), words)  # one without a default is named


def _recipe_of_file(name: str, words: Sequence[str], task: Any = None) -> "Recipe":
    """A file's recipe; what it leaves open is that of a task, if one is given, and of the architecture in the words."""
    from plateau_interp.runs.recipe import Recipe, of_file, read_fields

    data = dict(read_fields(name))
    with of_file(name):
        recipe = Recipe.from_dict(data)
        model, training = data.get("model") or {}, data.get("training") or {}
        if task is not None:
            data["task"] = encode("tasks", task)
        if (architecture := _architecture(words)) and model.get("attention") is None:
            data["model"] = {**model, "architecture": architecture}
        filled = Recipe.from_dict(data)
    if "grad_clip" not in training:
        return filled
    # What a run has written stays: its null is no clipping, of tasks that have none.
    clipped = dataclasses.replace(filled.training, grad_clip=recipe.training.grad_clip)
    return dataclasses.replace(filled, training=clipped)


def _default_recipe(task: Any, words: Sequence[str]) -> "Recipe":
    """A task's recipe, of the architecture that the words name: its kind of attention follows from that."""
    from plateau_interp.models.settings import ModelOptions
    from plateau_interp.runs.recipe import Recipe

    return Recipe(task, model=ModelOptions(architecture=_architecture(words)))


def _architecture(words: Sequence[str]) -> Any:
    """What the words name; None where they name none, or what is none, which is told when all words are read."""
    from plateau_interp.types import ToyArchitecture

    reader = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    reader.add_argument("--architecture")
    architecture = reader.parse_known_args(words)[0].architecture
    return architecture if architecture in get_args(ToyArchitecture) else None


def _as_declared(task: Any) -> Any:
    """A task whose fields are at the defaults that its class declares: what it made of them is not to be an option.

    A text's digest is found out where none is given; that of the corpus it has by default is no other corpus's.
    """
    declared = copy.copy(task)
    for item in dataclasses.fields(task):
        if item.init and item.default is not dataclasses.MISSING:
            object.__setattr__(declared, item.name, item.default)
    return declared


def _options_of(recipe: "Recipe", chosen: Sequence[str], task: Any) -> type[Any]:
    """A dataclass of the recipe's fields with its values as defaults, flat: ``--steps``, not ``--training.steps``."""
    hints = get_type_hints(type(recipe))
    defaults = {**{name: getattr(recipe, name) for name in chosen}, "task": task}
    defaults["interventions"] = tuple(write_plugin("hooks", intervention) for intervention in recipe.interventions)
    donor = recipe.init_from
    parts = {name: value for name, value in defaults.items() if dataclasses.is_dataclass(value)}
    taken = {
        "out",
        "log",
        "device",
        "threads",
        "json",
        *DONOR,
        *chosen,
        *(item.name for item in dataclasses.fields(recipe.training.schedule)),
    }
    annotated: dict[str, Any] = {"interventions": Interventions}
    for name, part in sorted(parts.items(), key=lambda item: item[0] == "task"):
        names = {item.name for item in dataclasses.fields(part)}
        # A third party's task may have a field called `steps`: its options keep their prefix, as in `--task.steps`.
        annotated[name] = type(part) if names & taken else Annotated[type(part), OmitArgPrefixes]
        taken |= names
    return dataclasses.make_dataclass(
        "Options",
        [
            ("out", Out),
            *((name, annotated.get(name, hints[name]), defaults[name]) for name in chosen),
            ("init_from", DONOR["init_from"], donor and donor.source),
            ("init_where", DONOR["init_where"], donor.groups if donor else ("*",)),
            ("init_optimizer", DONOR["init_optimizer"], donor.optimizer if donor else "fresh"),
            ("log", Loggers, ()),
            ("device", Device, "cpu"),
            ("threads", Threads, None),
            ("json", Json, False),
        ],
        namespace={"__doc__": type(recipe).__doc__},
        frozen=True,
    )
