"""Plain data of plug-ins and option dataclasses, and back: every field checked, every error with the field's path.

What recipes, plans and the command line are written with. Plug-ins appear under their entry-point names.
"""

import dataclasses
import difflib
import json
from collections.abc import Callable, Mapping
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import PydanticSchemaGenerationError, TypeAdapter, ValidationError

from plateau_interp.plugins import PluginError, PluginKind, plugin, plugins
from plateau_interp.types import OptimizerSpec, Task

__all__ = ["RecipeError", "decode", "decode_fields", "encode", "encode_fields", "expect_dict"]

T = TypeVar("T")

INTERVENTION = "plateau_interp.interventions.attached:Intervention"
"""Told by its name: interventions stand above this module, whose plain data `Plan` is written in."""


class RecipeError(ValueError):
    """A recipe that cannot be: names the field's path and what was expected."""


def encode(value: Any, *, path: str = "value") -> Any:
    """Plain data of a plug-in, an option dataclass, or a value that is plain already.

    Raises:
        RecipeError: for a value that is not plain data, such as a tensor or a function.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        return [encode(item, path=f"{path}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        return {str(key): encode(item, path=f"{path}.{key}") for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        name = _plugin_name(type(value))
        return {**({"name": name} if name else {}), **encode_fields(value, path=path)}
    raise RecipeError(f"{path}: a recipe holds plain data, not {type(value).__name__}")


def decode(kind: PluginKind, data: Any, *, path: str = "value") -> Any:
    """The plug-in that `encode` made plain.

    Raises:
        RecipeError: naming the path of the field that does not fit.
    """
    data = dict(expect_dict(data, path=path))
    name = data.pop("name", None)
    if not isinstance(name, str):
        raise RecipeError(f"{path}.name: expected the name of one of `plateau list {kind}`; got {name!r}")
    try:
        cls = plugin(kind, name)
    except PluginError as error:
        raise RecipeError(f"{path}.name: {error}") from None
    return decode_fields(cls, data, path=path)


def _plugin_name(cls: type) -> str | None:
    target = f"{cls.__module__}:{cls.__qualname__}"
    for kind in ("tasks", "hooks", "optimizers"):
        for name, point in plugins(kind).items():
            if point.value == target or (point.value.endswith(f":{cls.__qualname__}") and point.load() is cls):
                return str(name)
    return None


def encode_fields(value: Any, *, path: str = "") -> dict[str, Any]:
    """Plain data of a dataclass's fields, without the name it may be registered under."""
    return {
        item.name: encode(getattr(value, item.name), path=f"{path}.{item.name}".lstrip("."))
        for item in dataclasses.fields(value)
        if item.init
    }


def decode_fields(cls: Callable[..., T], data: Mapping[str, Any], *, path: str) -> T:
    """The dataclass that `encode_fields` made plain.

    Raises:
        RecipeError: naming the path of the first field that is unknown, missing or of the wrong type.
    """
    known = {item.name: item for item in dataclasses.fields(cls) if item.init}  # type: ignore[arg-type]
    hints = get_type_hints(cls)
    for name in data:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            raise RecipeError(f"{_join(path, name)}: unknown field; {hint}")
    for name, item in known.items():
        if name not in data and item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            raise RecipeError(f"{_join(path, name)}: missing")
    values = {name: _decode_value(hints[name], value, path=_join(path, name)) for name, value in data.items()}
    try:
        return cls(**values)
    except RecipeError:
        raise
    except ValueError as error:
        raise RecipeError(f"{path}: {error}" if path else str(error)) from None


def _decode_value(hint: Any, value: Any, *, path: str) -> Any:
    if hint is Task:
        return decode("tasks", value, path=path)
    if hint in (OptimizerSpec, OptimizerSpec | None):
        return None if value is None else decode("optimizers", value, path=path)
    listed = _listed_plugins(hint)
    if listed is not None:
        if not isinstance(value, list):
            what = "interventions" if listed == "hooks" else "tasks"
            raise RecipeError(f"{path}: expected a list of {what}; got {value!r}")
        return tuple(decode(listed, item, path=f"{path}[{index}]") for index, item in enumerate(value))
    if isinstance(value, dict) and "name" in value:
        return decode("hooks", value, path=path)
    if value is not None and get_origin(hint) in (Union, UnionType):
        options = [member for member in get_args(hint) if dataclasses.is_dataclass(member)]
        hint = options[0] if len(options) == 1 and isinstance(value, dict) else hint
    if dataclasses.is_dataclass(hint):
        return decode_fields(hint, expect_dict(value, path=path), path=path)  # type: ignore[arg-type]
    try:
        return TypeAdapter(_plain_part(hint)).validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        raise RecipeError(f"{path}: {error.errors()[0]['msg']}; got {value!r}") from None
    except PydanticSchemaGenerationError:
        if _is_intervention(hint):
            raise RecipeError(f"{path}: expected an intervention as {{'name': ...}}; got {value!r}") from None
        raise RecipeError(f"{path}: no plain data can be a {getattr(hint, '__name__', hint)}") from None


def _listed_plugins(hint: Any) -> PluginKind | None:
    """What kind of plug-ins ``tuple[KIND, ...]`` lists."""
    if get_origin(hint) is not tuple or get_args(hint)[1:] != (Ellipsis,):
        return None
    (item, _) = get_args(hint)
    return "tasks" if item is Task else "hooks" if _is_intervention(item) else None


def _is_intervention(hint: Any) -> bool:
    return isinstance(hint, type) and f"{hint.__module__}:{hint.__qualname__}" == INTERVENTION


def _plain_part(hint: Any) -> Any:
    """Of a union, the members that plain data can be: tensors, functions and models are for scripts alone."""
    if get_origin(hint) not in (Union, UnionType):
        return hint
    return Union[tuple(member for member in get_args(hint) if _is_plain(member))]  # noqa: UP007  # a computed union


def _is_plain(hint: Any) -> bool:
    origin = get_origin(hint)
    if origin is None or origin is Literal:
        return origin is Literal or hint in (None, NoneType, bool, int, float, str, Ellipsis)
    return origin is not Callable and all(_is_plain(member) for member in get_args(hint))


def expect_dict(data: Any, *, path: str) -> Mapping[str, Any]:
    """The value, if it has fields.

    Raises:
        RecipeError: naming the path, for anything else.
    """
    if not isinstance(data, Mapping):
        raise RecipeError(f"{path or 'recipe'}: expected fields and values; got {data!r}")
    return data


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
