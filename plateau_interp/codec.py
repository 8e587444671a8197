"""Plain data of plug-ins and option dataclasses, and back: every field checked, every error with the field's path.

What recipes, plans and the command line are written with. The annotation of a field says what may stand there: a
protocol of plug-ins (`plateau_interp.plugins.plugin_kind`) means one of them under its name, a dataclass its fields,
all else plain values. No value is walked further than its annotation asks: a few bytes of YAML can stand for gigabytes.
"""

import contextlib
import dataclasses
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from plateau_interp.checks import nearest, shown
from plateau_interp.plugins import PluginError, PluginKind, kind_of, plugin, plugin_kind, plugin_name, plugins

__all__ = [
    "RecipeError",
    "UnknownPluginError",
    "decode",
    "decode_fields",
    "encode",
    "encode_fields",
    "expect_fields",
    "in_words",
]

T = TypeVar("T")

SCALARS: dict[Any, tuple[str, str]] = {
    bool: ("true or false", "true or false"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("text", "texts"),
    NoneType: ("null", "null"),
}
"""Types of single values, with what they are called: one, and several."""
NAMED: dict[PluginKind, tuple[str, str]] = {
    "tasks": ("a task", "tasks"),
    "hooks": ("an intervention", "interventions"),
    "initializers": ("an initializer", "initializers"),
    "optimizers": ("an optimizer", "optimizers"),
    "loggers": ("a logger", "loggers"),
    "engines": ("an engine", "engines"),
}
NOT_FINITE = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}
"""How numbers are written that JSON does not have."""


class RecipeError(ValueError):
    """A recipe that cannot be: names the field's path and what was expected."""


class UnknownPluginError(RecipeError):
    """A recipe that names a plug-in which this process does not know."""


def encode(kind: PluginKind, value: Any, *, path: str = "value") -> dict[str, Any]:
    """Plain data of a plug-in: its name and its fields.

    Raises:
        RecipeError: for a field that is not plain data, such as a tensor or a function; for a class without a name.

    Example:
        >>> from plateau_interp.training.optimizers import SGD
        >>> encode("optimizers", SGD(momentum=0.9))
        {'name': 'sgd', 'learning_rate': 0.1, 'momentum': 0.9}
    """
    if not _is_instance_of_dataclass(value):
        raise RecipeError(f"{path}: expected {NAMED[kind][0]} that is a dataclass; got {shown(value)}")
    fields = encode_fields(value, path=path)
    try:
        return {"name": plugin_name(kind, type(value)), **fields}
    except PluginError as error:
        raise RecipeError(f"{path}: {error}") from None


def decode(kind: PluginKind, data: Any, *, path: str = "value") -> Any:
    """The plug-in that `encode` made plain.

    Raises:
        RecipeError: naming the path of the field that does not fit; `UnknownPluginError` for an unknown name.
    """
    if not isinstance(data, Mapping):
        raise RecipeError(f"{path}: expected {NAMED[kind][0]} as {{'name': ...}}; got {shown(data)}")
    fields = {key: value for key, value in data.items() if key != "name"}
    name = data.get("name")
    if not isinstance(name, str):
        raise RecipeError(f"{_join(path, 'name')}: expected a name of `plateau list {kind}`; got {shown(name)}")
    try:
        found = plugin(kind, name)
    except PluginError as error:
        refusal = RecipeError if name in plugins(kind) else UnknownPluginError
        raise refusal(f"{_join(path, 'name')}: {error}") from None
    return decode_fields(found, fields, path=path)


def encode_fields(value: Any, *, path: str = "") -> dict[str, Any]:
    """Plain data of a dataclass's fields, without the name it may have.

    Raises:
        RecipeError: as `encode`.
    """
    hints = get_type_hints(type(value))
    return {
        item.name: _encode_value(hints[item.name], getattr(value, item.name), path=_join(path, item.name))
        for item in dataclasses.fields(value)
        if item.init
    }


def decode_fields(cls: Callable[..., T], data: Mapping[Any, Any], *, path: str) -> T:
    """The dataclass that `encode_fields` made plain.

    Raises:
        RecipeError: naming the path of the first field that is unknown, missing or of the wrong type.
    """
    annotations, required = _arguments(cls)
    for name in data:
        if not isinstance(name, str):
            raise RecipeError(f"{path or 'recipe'}: expected the names of fields; got {shown(name)}")
        if name not in annotations:
            raise RecipeError(f"{_join(path, name)}: unknown field; {nearest(name, annotations, most=1)}")
    for name in required:
        if name not in data:
            raise RecipeError(f"{_join(path, name)}: missing")
    values = {name: _decode_value(annotations[name], value, path=_join(path, name)) for name, value in data.items()}
    try:
        return cls(**values)
    except RecipeError:
        raise
    except ValueError as error:
        raise RecipeError(f"{path}: {error}" if path else str(error)) from None


def expect_fields(data: Any, *, path: str) -> Mapping[Any, Any]:
    """The value, if it has fields.

    Raises:
        RecipeError: naming the path, for anything else.
    """
    if not isinstance(data, Mapping):
        raise RecipeError(f"{path or 'recipe'}: expected fields and values; got {shown(data)}")
    return data


def in_words(annotation: Any, *, several: bool = False) -> str:
    """What plain data may stand where an annotation is.

    Example:
        >>> in_words(int | None), in_words(tuple[float, ...])
        ('a whole number or null', 'a list of numbers')
    """
    if annotation in SCALARS:
        return SCALARS[annotation][several]
    if kind := plugin_kind(annotation):
        return NAMED[kind][several]
    members = get_args(annotation)
    if get_origin(annotation) is Literal:
        return f"one of {', '.join(map(repr, members))}"
    if _is_union(annotation):
        words = (in_words(member, several=several) for member in members if _is_plain(member))
        return " or ".join(dict.fromkeys(words))
    if _is_list(annotation):
        return f"a list of {in_words(members[0], several=True)}" if members else "a list"
    return "fields and values"


def _arguments(cls: Callable[..., Any]) -> tuple[dict[str, Any], list[str]]:
    """Of a dataclass's constructor the annotations by name, and the names without a default."""
    fields = {item.name: item.type for item in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = get_type_hints(cls)  # of each class in its own module
    annotations, required = {}, []
    for name, argument in inspect.signature(cls).parameters.items():
        # A constructor written by hand may take more than its field keeps: settings that are still to be filled in.
        annotations[name] = hints[name] if argument.annotation == fields[name] else argument.annotation
        if argument.default is inspect.Parameter.empty:
            required.append(name)
    return annotations, required


def _encode_value(annotation: Any, value: Any, *, path: str) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        return [_encode_value(annotation, item, path=f"{path}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):  # it would come back as text
                raise RecipeError(f"{path}: the keys of a mapping must be text in a recipe; got {shown(key)}")
        return {key: _encode_value(annotation, item, path=_join(path, key)) for key, item in value.items()}
    if _is_instance_of_dataclass(value):
        parts = _parts(annotation)
        kinds = [kind for part in parts if (kind := plugin_kind(part))]
        if type(value) in parts or not kinds:
            return encode_fields(value, path=path)
        return encode(kinds[0], value, path=path)
    if kind := kind_of(value):
        raise RecipeError(f"{path}: expected {NAMED[kind][0]} that is a dataclass; got {shown(value)}")
    raise RecipeError(f"{path}: a recipe holds plain data, not {type(value).__name__}")


def _decode_value(annotation: Any, value: Any, *, path: str) -> Any:
    members = get_args(annotation) if _is_union(annotation) else (annotation,)
    if value is None and NoneType in members:
        return None
    plain = [member for member in members if _is_plain(member)]
    for member in members:
        if not isinstance(value, Mapping) and [other for other in plain if other is not NoneType]:
            break
        if kind := plugin_kind(member):
            return decode(kind, value, path=path)
        if dataclasses.is_dataclass(member):
            return decode_fields(member, expect_fields(value, path=path), path=path)  # type: ignore[arg-type]
    several = [member for member in members if _holds(member, value)]
    if len(several) > 1:  # such as tuple[int, ...] | tuple[str, ...]: the first that fits
        for member in several:
            with contextlib.suppress(RecipeError):
                return _decode_value(member, value, path=path)
        raise RecipeError(f"{path}: expected {in_words(annotation)}; got {shown(value)}")
    for member in members:
        if _is_list(member) and isinstance(value, list | tuple):
            return _decode_items(member, value, path=path)
        if member in SCALARS or get_origin(member) is Literal:
            found, fits = _scalar(member, value)
            if fits:
                return found
        if get_origin(member) in (dict, Mapping) and isinstance(value, Mapping):
            item = get_args(member)[1]
            return {key: _decode_value(item, each, path=_join(path, key)) for key, each in value.items()}
    if not plain and not any(map(_is_list, members)):
        raise RecipeError(f"{path}: no plain data can be a {getattr(annotation, '__name__', annotation)}")
    raise RecipeError(f"{path}: expected {in_words(annotation)}; got {shown(value)}")


def _holds(annotation: Any, value: Any) -> bool:
    """Whether it is of lists or mappings, and the value is one, whatever is in it."""
    if isinstance(value, list | tuple):
        return _is_list(annotation)
    return isinstance(value, Mapping) and get_origin(annotation) in (dict, Mapping)


def _decode_items(annotation: Any, value: Sequence[Any], *, path: str) -> Any:
    kinds = get_args(annotation) or (Any,)
    if get_origin(annotation) is tuple and Ellipsis not in kinds and len(kinds) != len(value):
        raise RecipeError(f"{path}: expected {len(kinds)} values; got {len(value)}")
    each = kinds if len(kinds) == len(value) and Ellipsis not in kinds else (kinds[0],) * len(value)
    pairs = enumerate(zip(each, value, strict=True))
    items = (_decode_value(kind, item, path=f"{path}[{index}]") for index, (kind, item) in pairs)
    return list(items) if get_origin(annotation) is list else tuple(items)


def _scalar(annotation: Any, value: Any) -> tuple[Any, bool]:
    """A value as its annotation has it, and whether it fits: a whole number is a number, a truth value is neither."""
    if get_origin(annotation) is Literal:
        return value, any(type(value) is type(choice) and value == choice for choice in get_args(annotation))
    if annotation is float:
        if isinstance(value, str) and value in NOT_FINITE:
            return NOT_FINITE[value], True
        if isinstance(value, int | float) and not isinstance(value, bool):
            try:
                return float(value), True
            except OverflowError:
                return value, False
        return value, False
    return value, type(value) is annotation


def _is_plain(annotation: Any) -> bool:
    """Whether plain data can be one: tensors, functions and models are for scripts alone."""
    if annotation in SCALARS or get_origin(annotation) in (Literal, dict, Mapping):
        return True
    if _is_union(annotation):
        return all(map(_is_plain, get_args(annotation)))
    return _is_list(annotation) and all(_is_plain(item) for item in get_args(annotation) if item is not Ellipsis)


def _is_list(annotation: Any) -> bool:
    return get_origin(annotation) in (tuple, list, Sequence)


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, UnionType)


def _parts(annotation: Any) -> list[Any]:
    """An annotation and, where it is a union or a list, all that is within."""
    inner = get_args(annotation) if _is_union(annotation) or _is_list(annotation) else ()
    return [annotation, *(part for member in inner for part in _parts(member))]


def _is_instance_of_dataclass(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _join(path: str, name: Any) -> str:
    word = name if isinstance(name, str) and name.isidentifier() and len(name) < 60 else shown(name, most=60)
    return f"{path}.{word}" if path else word
