"""Words into dataclasses: tyro does the reading, and every mistake comes out as one line.

tyro tells its mistakes as data, in a module that it does not promise to keep (`tyro._errors`; hence the bounds on its
version in pyproject.toml). A kind of mistake that is not known here is told in tyro's own words.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

import tyro
from tyro import _errors
from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, arg

from plateau_interp.checks import nearest, shown

__all__ = [
    "Device",
    "Interventions",
    "Json",
    "Loggers",
    "Out",
    "Threads",
    "UsageError",
    "check_folder_option",
    "check_once",
    "headline",
    "mistake_in_a_line",
    "parse",
]

T = TypeVar("T")

Out = Annotated[
    Path, arg(metavar="DIR", help="The run's folder; the same command goes on with a run that was stopped.")
]
Device = Annotated[str, arg(help="Where to train: cpu, cuda, ...")]
Threads = Annotated[
    int | None,
    arg(metavar="N", help="Of torch; by default a core each. 1 where other programs are at work, and side by side."),
]
Json = Annotated[bool, arg(help="Print JSON instead of tables.")]
Loggers = Annotated[
    tuple[str, ...],
    arg(
        name="log",
        metavar="[NAME[:FIELD=VALUE,...] ...]",
        help="Where else metrics and pictures go: `tensorboard`, `wandb:project=mine`; see `plateau list loggers`.",
    ),
]
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


def check_folder_option(path: Path | None) -> None:
    """Refuse a file where a folder is to be, before any work is done.

    Raises:
        UsageError: naming it.
    """
    if path is not None and path.exists() and not path.is_dir():
        raise UsageError(f"{path} is a file; a folder is needed")


def check_once(paths: Sequence[Path]) -> None:
    """Refuse a folder that is to stand beside itself, by whatever path.

    Raises:
        UsageError: naming it.
    """
    places = [path.resolve() for path in paths]
    if twice := [path for path, place in zip(paths, places, strict=True) if places.count(place) > 1]:
        raise UsageError(f"{twice[-1]} is given twice")


def parse(kind: type[T], words: Sequence[str], *, prog: str, description: str | None = None) -> T:
    """The dataclass that the words fill in; ``--help`` prints and exits.

    Raises:
        UsageError: for words that do not fit: which option, what was expected, what came. And for an option that is
            given twice, of which tyro would forget the first.
    """
    see = f"see `{prog} --help`"
    options = [word.partition("=")[0].replace("_", "-") for word in words if word.startswith("--")]
    if twice := [option for option, times in Counter(options).items() if times > 1]:
        raise UsageError(f"{twice[0]} is given twice; where it takes several values: {twice[0]} A B; {see}")

    def refuse(mistake: _errors.ParseErrorEvent) -> None:
        if line := mistake_in_a_line(mistake, known=list(_flags(kind))):
            raise UsageError(f"{line}; {see}")

    with _errors.on_parse_error(refuse):
        return tyro.cli(
            kind, args=words, prog=prog, description=description, registry=_registry(), config=(FlagCreatePairsOff,)
        )


def headline(kind: object) -> str:
    """The first line of a docstring."""
    return (kind.__doc__ or "").strip().partition("\n")[0]


def mistake_in_a_line(mistake: _errors.ParseErrorEvent, *, known: list[str]) -> str | None:
    """Which option, what was expected, what came; None for a mistake that later versions of tyro may know."""
    match mistake:
        case _errors.MissingArgs(unrecognized_tokens=[]):
            missing = [_invocation(found.arg) for found in mistake.missing_arguments]
            return f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"
        case _errors.MissingArgs(unrecognized_tokens=tokens) | _errors.UnrecognizedArgs(tokens=tokens):
            wrong = next((token for token in tokens if token.startswith("-")), None)
            if wrong is None:
                return f"nothing is expected where {shown(' '.join(tokens))} stands"
            option = wrong.partition("=")[0]
            return f"there is no option {option}; {nearest(option, known, most=1)}"
        case _errors.InvalidChoice():
            return (
                f"{_flag(mistake.argument)}: expected one of {', '.join(mistake.choices)}; got {shown(mistake.value)}"
            )
        case _errors.BadValue():
            return f"{_flag(mistake.argument)}: a value is missing"
        case _errors.InstantiationFailure(argument=None):
            return mistake.message
        case _errors.InstantiationFailure():
            return f"{_flag(mistake.argument)}: {mistake.message}"
    return None


def _flag(argument: Any) -> str:
    return str(argument.display_name() if argument.is_positional() else argument.lowered.name_or_flags[-1])


def _invocation(argument: Any) -> str:
    metavar = str(argument.lowered.metavar or "")
    return metavar if argument.is_positional() else f"{argument.lowered.name_or_flags[-1]} {metavar}".rstrip()


def _flags(kind: type[Any], prefix: str = "") -> Iterator[str]:
    """The options of a dataclass as they are typed."""
    for name, annotation in get_type_hints(kind, include_extras=True).items():
        inner, marks = (annotation, ()) if get_origin(annotation) is not Annotated else _unwrapped(annotation)
        if dataclasses.is_dataclass(inner) and isinstance(inner, type):
            yield from _flags(inner, prefix if OmitArgPrefixes in marks else f"{prefix}{name}.")
        else:
            named = next((mark.name for mark in marks if getattr(mark, "name", None)), name)
            yield f"--{prefix}{named}".replace("_", "-")


def _unwrapped(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    inner, *marks = get_args(annotation)
    return inner, tuple(marks)


def _registry() -> tyro.constructors.ConstructorRegistry:
    """Reads numbers and plug-ins, one or several, so that a word that is none is told in our words."""
    registry = tyro.constructors.ConstructorRegistry()

    @registry.primitive_rule
    def rule(info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec[Any] | None:
        annotation = info.type
        is_union = get_origin(annotation) in (Union, UnionType)
        members = [member for member in get_args(annotation) if member is not NoneType] if is_union else [annotation]
        if len(members) != 1:
            return None
        several = get_origin(members[0]) is tuple and get_args(members[0])[1:] == (Ellipsis,)
        reading = _reading(get_args(members[0])[0] if several else members[0])
        if reading is None:
            return None
        metavar, read, write = reading
        optional = is_union and NoneType in get_args(annotation)

        def build(texts: list[str]) -> Any:
            if optional and texts in (["None"], ["null"]):
                return None
            values = tuple(read(text, " or None" if optional else "") for text in texts)
            return values if several else values[0]

        def texts_of(value: Any) -> list[str]:
            if value is None:
                return ["None"]
            return [write(item) for item in value] if several else [write(value)]

        shape = f"[{metavar} ...]" if several else metavar
        return tyro.constructors.PrimitiveConstructorSpec(
            nargs="*" if several else 1,
            metavar=f"{shape}|None" if optional else shape,
            instance_from_str=build,
            is_instance=lambda value: value is not None or optional,
            str_from_instance=texts_of,
        )

    return registry


WordReading = tuple[str, Callable[[str, str], Any], Callable[[Any], str]]


def _reading(annotation: Any) -> WordReading | None:
    """Of a type, how a word of it is called, read and written; None leaves the type to tyro."""
    from plateau_interp.cli.words import read_plugin, write_plugin
    from plateau_interp.plugins import plugin_kind

    if annotation is int:
        return "INT", partial(_read_number, int, "a whole number"), str
    if annotation is float:
        return "FLOAT", partial(_read_number, float, "a number"), str
    if kind := plugin_kind(annotation):
        return "NAME[:FIELD=VALUE,...]", lambda text, _: read_plugin(kind, text), partial(write_plugin, kind)
    return None


def _read_number(kind: Callable[[str], Any], expected: str, text: str, alternative: str) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"expected {expected}{alternative}; got {shown(text)}") from None
