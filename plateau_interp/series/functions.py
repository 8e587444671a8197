"""What tells a function of the user's from another of the same name: its code, and the data that it reads.

What cannot be told: what it calls of other modules, and what it reads of objects of other kinds.
"""

import dataclasses
import dis
import functools
import inspect
import json
from types import CodeType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module

from plateau_interp.files import digest

__all__ = ["function_digest"]

GLOBALS = ("LOAD_GLOBAL", "LOAD_NAME")
"""Instructions that read what a module calls by a name."""
CHANGING = frozenset(
    ("add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem", "remove", "setdefault")
) | {"update"}
"""Methods that change a container: a function with one of them keeps something there, and that is no part of it."""


def function_digest(function: Any) -> str:
    """SHA-256 of what a function does, the same in every process of one minor version of Python.

    It is of the code, without comments, docstring and places; of defaults, and of the data that it reads from around
    it: numbers, texts, lists, dicts and sets of them, dataclasses, tensors and arrays, the weights of models; and of
    the functions of its own module that it calls. Of what has no such code, the name; so, too, of the containers,
    tensors and models that a function reads which puts something into one.

    Args:
        function: whatever can be called.

    Example:
        >>> one, other = (lambda model, written: 1.0), (lambda model, written: 2.0)
        >>> function_digest(one) == function_digest(other)
        False
    """
    return digest(json.dumps(_parts(function, [])).encode())


def _parts(value: Any, above: list[Any]) -> Any:
    """A value as plain data; of what can be called, what makes it up. ``above`` are those that it is a part of."""
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        return [type(value).__name__, repr(value)]
    if isinstance(value, tuple):
        return ["tuple", *(_parts(each, above) for each in value)]
    if isinstance(value, slice):
        return ["slice", _parts((value.start, value.stop, value.step), above)]
    if isinstance(value, frozenset | set):  # in any order, which hangs on the process
        return [type(value).__name__, *sorted(json.dumps(_parts(each, above)) for each in value)]
    if isinstance(value, Tensor | np.ndarray):
        return _parts_of_numbers(value)
    if isinstance(value, CodeType):
        return [value.co_code.hex(), value.co_exceptiontable.hex(), value.co_names, _parts(value.co_consts, above)]
    if any(value is each for each in above):
        return "itself"
    inner = [*above, value]
    if isinstance(value, list):
        return ["list", *(_parts(each, inner) for each in value)]
    if isinstance(value, dict):
        return ["dict", *([_parts(key, inner), _parts(each, inner)] for key, each in value.items())]
    if isinstance(value, Module):
        return [type(value).__qualname__, _parts(dict(value.state_dict()), inner)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        cached = functools.cached_property  # what it has worked out already tells nothing more
        own = {k: v for k, v in vars(value).items() if not isinstance(getattr(type(value), k, None), cached)}
        return [type(value).__qualname__, _parts(own, inner)]
    if isinstance(value, FunctionType):
        return _parts_of_function(value, inner)
    if isinstance(value, MethodType):
        return [_parts(value.__func__, inner), _parts(value.__self__, inner)]
    if isinstance(value, functools.partial):
        given = sorted(value.keywords.items())
        return [_parts(value.func, inner), _parts(value.args, inner), _parts(tuple(given), inner)]
    call = inspect.getattr_static(type(value), "__call__", None)
    if not isinstance(value, type) and isinstance(call, FunctionType):
        return [_parts(call, inner), _parts(tuple(sorted(getattr(value, "__dict__", {}).items())), inner)]
    return getattr(value, "__qualname__", type(value).__qualname__)


def _parts_of_function(function: FunctionType, above: list[Any]) -> list[Any]:
    code = function.__code__
    if code.co_consts and function.__doc__ is not None and code.co_consts[0] == function.__doc__:
        code = code.replace(co_consts=(None, *code.co_consts[1:]))
    around = [_content(cell) for cell in function.__closure__ or ()]
    there = function.__globals__
    read = {name: there[name] for name in sorted(_global_names(code)) if name in there and not name.startswith("__")}
    if _changes(code):
        around = [_named(each) for each in around]
        read = {name: _named(each) for name, each in read.items()}
    # A function of another module is known by its name: what a library changes is told by its version.
    foreign = [name for name, each in read.items() if isinstance(each, FunctionType) and each.__globals__ is not there]
    return [
        _parts(code, above),
        _parts(function.__defaults__, above),
        _parts(tuple(sorted((function.__kwdefaults__ or {}).items())), above),
        _parts(tuple(around), above),
        [[name, name if name in foreign else _parts(each, above)] for name, each in read.items()],
    ]


def _global_names(code: CodeType) -> set[str]:
    """What a function and those within it read of their module."""
    names = {each.argval for each in dis.get_instructions(code) if each.opname in GLOBALS}
    return names.union(*(_global_names(each) for each in code.co_consts if isinstance(each, CodeType)))


def _changes(code: CodeType) -> bool:
    """Whether a function, or one within it, changes what it reads: puts an item, or calls a method that does."""
    for each in dis.get_instructions(code):
        if each.opname in ("STORE_SUBSCR", "STORE_SLICE", "DELETE_SUBSCR", "STORE_ATTR"):
            return True
        name = each.argval if each.opname in ("LOAD_ATTR", "LOAD_METHOD") else ""
        if name in CHANGING or (name.endswith("_") and not name.endswith("__")):  # as of a tensor
            return True
    return any(_changes(each) for each in code.co_consts if isinstance(each, CodeType))


def _named(value: Any) -> Any:
    """The name of a kind in the place of what can be changed; all else as it is."""
    can_be_changed = isinstance(value, list | dict | set | Tensor | np.ndarray | Module) or (
        dataclasses.is_dataclass(value) and not isinstance(value, type)
    )
    return type(value).__qualname__ if can_be_changed else value


def _parts_of_numbers(value: Tensor | np.ndarray) -> list[Any]:
    """What a tensor or an array is made of: its kind, shape and the digest of its bytes."""
    kind = [type(value).__name__, str(value.dtype), list(value.shape)]
    if isinstance(value, Tensor):
        plain = value.detach().cpu().contiguous()
        if plain.is_sparse or plain.is_quantized:
            return kind
        return [*kind, digest(plain.view(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b"")]
    return kind if value.dtype.hasobject else [*kind, digest(np.ascontiguousarray(value).tobytes())]


def _content(cell: Any) -> Any:
    """Of a variable of an outer function; None before it has a value."""
    try:
        return cell.cell_contents
    except ValueError:
        return None
