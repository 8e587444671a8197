"""What tells a function of the user's from another of the same name: its code, and the constants that it reads.

What cannot be told: what it calls of other modules, and what it reads that is no number or text, such as a tensor.
"""

import dis
import functools
import inspect
import json
from types import CodeType, FunctionType, MethodType
from typing import Any

from plateau_interp.files import digest

__all__ = ["function_digest"]

GLOBALS = ("LOAD_GLOBAL", "LOAD_NAME")
"""Instructions that read what a module calls by a name."""


def function_digest(function: Any) -> str:
    """SHA-256 of what a function does, the same in every process of one minor version of Python.

    It is of the code, without comments, docstring and places; of defaults, and of the numbers and texts that it reads
    from around it; and of the functions of its own module that it calls. Of what has no such code, the name.

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
    if isinstance(value, frozenset):  # in any order, which hangs on the process
        return ["frozenset", *sorted(json.dumps(_parts(each, above)) for each in value)]
    if isinstance(value, CodeType):
        return [value.co_code.hex(), value.co_exceptiontable.hex(), value.co_names, _parts(value.co_consts, above)]
    if any(value is each for each in above):
        return "itself"
    inner = [*above, value]
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


def _content(cell: Any) -> Any:
    """Of a variable of an outer function; None before it has a value."""
    try:
        return cell.cell_contents
    except ValueError:
        return None
