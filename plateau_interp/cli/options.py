"""Reads the words of a command line: options, plug-ins as ``NAME:FIELD=VALUE,...``, a recipe from a task's fields.

Loads torch and TransformerLens only where a recipe or a plug-in is really made. For recipes in files use
`plateau_interp.runs.recipe`.
"""

import contextlib
import dataclasses
import io
import json
import re
from collections import Counter
from collections.abc import Sequence
from itertools import dropwhile, pairwise, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import tyro
from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, arg

from plateau_interp.plugins import PluginKind, plugin

if TYPE_CHECKING:
    from plateau_interp.runs.recipe import Recipe

__all__ = [
    "Device",
    "Interventions",
    "Json",
    "Out",
    "UsageError",
    "check_device",
    "headline",
    "parse",
    "read_plugin",
    "read_training",
    "write_plugin",
]

T = TypeVar("T")

NO_VALUE = re.compile(
    r"Error parsing (\S+): (?:invalid literal for int\(\) with base 10: (.+)|could not convert string to float: (.+)"
    r"|no type matching .+? could be instantiated from (\[.*?\])\. Got errors.*"
    r"|Could not find valid parse for arguments: (\[.*\]))"
)
"""How tyro says that a word is no value of an option's type."""
NOTHING = re.compile(r"Missing value for argument '(.+)'\. Expected .*")
NO_CHOICE = re.compile(r"invalid choice (.+) for argument '(.+)'\. Expected one of \((.*)\)")

Out = Annotated[
    Path, arg(metavar="DIR", help="The run's folder; the same command goes on with a run that was stopped.")
]
Device = Annotated[str, arg(help="Where to train: cpu, cuda, ...")]
Json = Annotated[bool, arg(help="Print JSON instead of tables.")]
Interventions = Annotated[
    tuple[str, ...] | None,
    arg(
        name="hook",
        aliases=["--interventions"],
        metavar="[NAME[:FIELD=VALUE,...] ...]",
        help="What acts, in this order, as in `bias-attention:factor=10,layers=[0] freeze-weights:where=mlp`.",
    ),
]


class UsageError(ValueError):
    """The command line itself is at fault."""


def parse(
    kind: type[T],
    words: Sequence[str],
    *,
    prog: str,
    description: str | None = None,
    registry: tyro.constructors.ConstructorRegistry | None = None,
) -> T:
    """The dataclass that the words fill in; ``--help`` prints and exits.

    Raises:
        UsageError: for words that do not fit; tyro's box with the reason, made one line. And for an option that is
            given twice, of which tyro would forget the first.
    """
    options = [word.partition("=")[0].replace("_", "-") for word in words if word.startswith("--")]
    if twice := [option for option, times in Counter(options).items() if times > 1]:
        raise UsageError(
            f"{twice[0]} is given twice; where it takes several values: {twice[0]} A B; see `{prog} --help`"
        )
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            return tyro.cli(
                kind, args=words, prog=prog, description=description, registry=registry, config=(FlagCreatePairsOff,)
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UsageError(f"{_one_line(told.getvalue())}; see `{prog} --help`") from None


def read_training(name: str, words: Sequence[str]) -> "tuple[Recipe, Any]":
    """What to train, from a task's name (or a recipe file's) and the options that follow from its fields.

    Returns:
        The recipe, and an object with the options that are in no recipe: ``out``, ``device``, ``json``.

    Raises:
        ValueError: for an unknown name, option, value or device.

    Example:
        >>> recipe, options = read_training("moving-window-sum", ["--k", "3", "--steps", "10", "--out", "runs/k3"])
        >>> recipe.task.k, recipe.steps, str(options.out)
        (3, 10, 'runs/k3')
    """
    from plateau_interp.runs.recipe import Recipe

    known = _known_recipe(name)
    chosen = [item.name for item in dataclasses.fields(Recipe) if item.name != "fork_of"]
    options = _read_options(known, chosen, name, words)
    if not _is_file(name) and options.task.defaults != known.task.defaults:
        # What a mixture holds decides on its layers and steps: they are those of the task that was read.
        options = _read_options(Recipe(options.task), chosen, name, words)
    interventions = tuple(read_plugin("hooks", text) for text in options.interventions or ())
    recipe = Recipe(**{**{field: getattr(options, field) for field in chosen}, "interventions": interventions})
    check_device(options.device)
    return recipe, options


def check_device(device: str) -> None:
    """Refuse a device that this machine or this torch does not have.

    Raises:
        UsageError: with torch's reason, or with the kinds in common use.
    """
    import torch

    try:
        torch.device(device)
    except RuntimeError:  # its message lists twenty kinds, most of which nobody has
        raise UsageError(f"unknown device {device!r}; expected cpu, cuda, cuda:1, ... or mps") from None
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, ImportError) as error:  # torch asserts that it was built for the device
        reason = str(error).splitlines()[0].split(". ")[0]
        raise UsageError(f"device {device!r} cannot be used here: {reason}") from None


def _read_options(recipe: "Recipe", chosen: Sequence[str], name: str, words: Sequence[str]) -> Any:
    from plateau_interp.types import Task

    try:
        return parse(
            _options_of(recipe, chosen),
            words,
            prog=f"plateau train {name}",
            description=f"{headline(type(recipe.task))}\n\nFor example:\n  plateau train {name} --seed 0 --out runs/0",
            registry=_plugin_registry(),
        )
    except UsageError:
        if get_type_hints(type(recipe.task)).get("tasks") == tuple[Task, ...]:
            _check_tasks(words)
        raise


def _is_file(name: str) -> bool:
    return Path(name).suffix in (".json", ".yaml", ".yml")


def _known_recipe(name: str) -> "Recipe":
    from plateau_interp.runs.recipe import Recipe

    if _is_file(name):
        return dataclasses.replace(Recipe.read(name), fork_of=None)
    return Recipe(plugin("tasks", name)())


def _options_of(recipe: "Recipe", chosen: Sequence[str]) -> type[Any]:
    """A dataclass of the recipe's fields with its values as defaults, flat: ``--steps``, not ``--training.steps``."""
    hints = get_type_hints(type(recipe))
    defaults = {name: getattr(recipe, name) for name in chosen}
    defaults["interventions"] = tuple(map(write_plugin, recipe.interventions))
    parts = {name: value for name, value in defaults.items() if dataclasses.is_dataclass(value)}
    taken = {"out", "device", "json", *chosen, *(item.name for item in dataclasses.fields(recipe.training.schedule))}
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
            ("device", Device, "cpu"),
            ("json", Json, False),
        ],
        namespace={"__doc__": type(recipe).__doc__},
        frozen=True,
    )


def _check_tasks(words: Sequence[str]) -> None:
    """Read the tasks after ``--tasks`` one by one: of a list of them tyro does not say what is wrong with which.

    Raises:
        UsageError: with the reason why the first that cannot be read cannot be.
    """
    tasks = [*dropwhile(lambda word: word.partition("=")[0] != "--tasks", words)]
    listed = takewhile(lambda word: not word.startswith("-"), tasks[1:])
    for word in [*filter(None, [tasks[0].partition("=")[2]]), *listed] if tasks else []:
        try:
            read_plugin("tasks", word)
        except ValueError as error:
            raise UsageError(f"--tasks: {error}") from None


def _plugin_registry() -> tyro.constructors.ConstructorRegistry:
    """Reads optimisers, and tasks inside tasks, as ``NAME:FIELD=VALUE,...``."""
    from plateau_interp.types import OptimizerSpec, Task

    kinds: dict[Any, PluginKind] = {
        OptimizerSpec: "optimizers",
        OptimizerSpec | None: "optimizers",
        Task: "tasks",
    }
    registry = tyro.constructors.ConstructorRegistry()

    @registry.primitive_rule
    def rule(info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec[Any] | None:
        if info.type not in kinds:
            return None
        return tyro.constructors.PrimitiveConstructorSpec(
            nargs=1,
            metavar="NAME[:FIELD=VALUE,...]",
            instance_from_str=lambda texts: read_plugin(kinds[info.type], texts[0]),
            is_instance=lambda value: dataclasses.is_dataclass(value),
            str_from_instance=lambda value: [write_plugin(value)],
        )

    return registry


NEXT_FIELD = re.compile(r",(?=[\w-]+=)")


def read_plugin(kind: PluginKind, text: str) -> Any:
    """The plug-in that a word names; values are JSON, or plain text where they are not.

    Text that has ``,FIELD=`` in it has to be JSON, in quotes, such as the word within
    ``during:intervention="bias-attention:factor=3",start=5``.

    Raises:
        ValueError: for an unknown plug-in or field, a value of the wrong type, or a word of another form.

    Example:
        >>> read_plugin("optimizers", "sgd:learning_rate=0.5,momentum=0.9")
        SGD(learning_rate=0.5, momentum=0.9)
    """
    from plateau_interp.codec import decode

    data = _plain_data(kind, text)
    return decode(kind, data, path=data["name"])


def _plain_data(kind: PluginKind, text: str) -> dict[str, Any]:
    """What a recipe says in the place of a word; where a field is an intervention, its value may be a word, too."""
    from plateau_interp.interventions.attached import Intervention

    name, _, rest = text.partition(":")
    hints = get_type_hints(plugin(kind, name))
    data: dict[str, Any] = {"name": name}
    while rest:
        field, equals, rest = rest.partition("=")
        if not equals:
            raise UsageError(f"{text!r}: expected NAME or NAME:FIELD=VALUE,FIELD=VALUE,...")
        field = field.replace("-", "_")
        value, rest = _first_value(rest)
        is_word = isinstance(value, str) and hints.get(field) is Intervention
        data[field] = _plain_data("hooks", value) if is_word else value
    return data


def _first_value(text: str) -> tuple[Any, str]:
    """The value at the beginning of ``VALUE,FIELD=VALUE,...``, and what follows its comma."""
    text = text.lstrip()
    try:
        value, end = json.JSONDecoder().raw_decode(text)
        if text[end:] == "" or NEXT_FIELD.match(text, end):
            return value, text[end + 1 :]
    except json.JSONDecodeError:
        pass
    plain, *others = NEXT_FIELD.split(text, maxsplit=1)
    return plain, "".join(others)


def write_plugin(value: Any) -> str:
    """The word that `read_plugin` reads as this value.

    Example:
        >>> from plateau_interp.training.optimizers import SGD
        >>> write_plugin(SGD(momentum=0.9))
        'sgd:learning_rate=0.1,momentum=0.9'
    """
    from plateau_interp.codec import encode

    fields = encode(value)
    name = fields.pop("name")
    return f"{name}:{','.join(f'{field}={json.dumps(content)}' for field, content in fields.items())}"


def _one_line(drawn: str) -> str:
    """The first part of a box that tyro drew, less the explanations in it, and the option it would rather have seen."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", drawn)
    lines = [line[2:].strip("│ ") for line in plain.splitlines()[1:] if line[2:10].strip()]
    rows = list(dropwhile(_is_rule, lines))
    text = " ".join(takewhile(lambda row: not _is_rule(row), rows)).removesuffix(".")
    told = {before.rstrip(":"): row for before, row in pairwise(rows)}
    if wanted := told.get("Perhaps you meant"):
        return f"{text}; did you mean {wanted.split()[0]}?"
    return _reworded(text, metavar=told.get("Argument helptext", "").partition(" ")[2] or "another value")


def _reworded(text: str, *, metavar: str) -> str:
    """Which option, what was expected, what came: for words that are no value of the option's type."""
    if found := NO_VALUE.fullmatch(text):
        option, *values = found.groups()
        return f"{option}: expected {_expected(metavar)}; got {' '.join(filter(None, values)).strip('[]')}"
    if found := NO_CHOICE.fullmatch(text):
        value, option, choices = found.groups()
        return f"{option}: expected one of {choices}; got {value}"
    if found := NOTHING.fullmatch(text):
        return f"{found[1]}: a value is missing"
    return text.removeprefix("Error parsing ")


def _expected(metavar: str) -> str:
    """A metavar such as ``{None}|INT`` in words: a whole number or None."""
    kinds = {"INT": "whole number", "FLOAT": "number"}
    words = []
    for part in metavar.split("|"):
        bare = part.strip("{}")
        first, several = bare.removeprefix("[").split()[0], bare.startswith("[")
        if first in kinds:
            words.append(f"{kinds[first]}s" if several else f"a {kinds[first]}")
        else:
            words.append(f"{first} ..." if several else bare)
    return " or ".join(sorted(words, key=lambda word: word == "None"))


def _is_rule(row: str) -> bool:
    return not row.strip("─-╰╯")


def headline(kind: type) -> str:
    """The first line of a docstring."""
    return (kind.__doc__ or "").strip().partition("\n")[0]
