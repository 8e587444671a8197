"""Every check of an argument, and the words of their errors: a wrong value is a ValueError where it is given.

Names and indices that must exist in a model are resolved by `plateau_interp.interventions.hook_points`; whether a model
and a task fit together is for `plateau_interp.models.fitting`. This module stays free of torch: the command line tells
mistakes without waiting for it.
"""

import inspect
import math
import operator
import reprlib
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from functools import cache
from numbers import Integral, Real
from os import PathLike, fspath
from pathlib import Path
from typing import Any, get_args

__all__ = [
    "LARGEST_BITS",
    "as_index",
    "as_path",
    "check_fraction",
    "check_memory",
    "check_norm",
    "check_not_negative",
    "check_number",
    "check_positive",
    "check_takes",
    "check_weight",
    "check_whole",
    "first_line",
    "freeze_indices",
    "freeze_names",
    "freeze_several",
    "listed",
    "machine_memory",
    "nearest",
    "one_of",
    "seed_number",
    "shown",
    "there_steps",
    "whole_number",
    "whole_numbers",
]


LARGEST_BITS = 63
"""Of a whole number in a field: what PyTorch, and a file of metrics, can hold."""


def check_number(value: Any, *names: str) -> None:
    """Refuse fields that are not finite numbers.

    Raises:
        ValueError: naming the field.
    """
    _check_numbers(value, names, math.isfinite, "finite")


def check_positive(value: Any, *names: str) -> None:
    """Refuse fields that are not finite numbers above 0.

    Raises:
        ValueError: naming the field.
    """
    _check_numbers(value, names, lambda number: 0 < number < math.inf, "a positive number")


def check_not_negative(value: Any, *names: str) -> None:
    """Refuse fields that are not finite numbers from 0 on.

    Raises:
        ValueError: naming the field.
    """
    _check_numbers(value, names, lambda number: 0 <= number < math.inf, "at least 0")


def check_fraction(value: Any, *names: str) -> None:
    """Refuse fields that are not numbers from 0 to below 1.

    Raises:
        ValueError: naming the field.
    """
    _check_numbers(value, names, lambda number: 0 <= number < 1, "from 0 to below 1")


def check_weight(value: Any, *names: str) -> None:
    """Refuse fields that are not numbers from 0 to 1.

    Raises:
        ValueError: naming the field.
    """
    _check_numbers(value, names, lambda number: 0 <= number <= 1, "between 0 and 1")


def check_norm(value: Any, *names: str) -> None:
    """Refuse fields that are not numbers above 0; infinity means no limit.

    Raises:
        ValueError: naming the field.
    """
    _check_numbers(value, names, lambda number: number > 0, "positive", kind="a number, math.inf for no clipping")


def check_whole(value: Any, *names: str, least: int = 0) -> None:
    """Make int of fields that were given as whole numbers of any kind.

    Raises:
        ValueError: naming the field, for anything else and for what is too small.
    """
    for name in names:
        number = _number(value, name, Integral, "a whole number")
        if number < least:
            raise ValueError(f"{name} must be at least {least}; got {shown(number)}")
        object.__setattr__(value, name, int(number))


def _check_numbers(
    value: Any, names: Sequence[str], fits: Callable[[Any], bool], expected: str, *, kind: str = "a number"
) -> None:
    for name in names:
        number = _number(value, name, Real, kind)
        if not fits(number):
            raise ValueError(f"{name} must be {expected}; got {shown(number)}")


def _number(value: Any, name: str, kind: type, expected: str) -> Any:
    number = getattr(value, name)
    if isinstance(number, bool) or not isinstance(number, kind):
        raise ValueError(f"{name} must be {expected}; got {shown(number)}")
    if isinstance(number, int) and number.bit_length() > LARGEST_BITS:
        raise ValueError(f"{name} must be {expected} below 2**{LARGEST_BITS}; got {shown(number)}")
    return number


def one_of(kind: object, **choices: Any) -> None:
    """Refuse a choice that a `Literal` does not list, by name, as in ``one_of(Literal["left", "right"], side="up")``.

    Raises:
        ValueError: naming it and what is listed.
    """
    for name, choice in choices.items():
        if choice not in get_args(kind):
            raise ValueError(f"{name} must be one of {', '.join(get_args(kind))}; got {shown(choice)}")


def freeze_indices(value: Any, *names: str) -> None:
    """Make tuples of int of fields that were given as lists, ranges or arrays of whole numbers; None stays.

    Raises:
        ValueError: naming the field, for anything else.
    """
    for name in names:
        given = getattr(value, name)
        try:
            indices = None if given is None else tuple(map(as_index, given))
        except TypeError:
            raise ValueError(f"{name} must be whole numbers, such as [0, 2]; got {shown(given)}") from None
        object.__setattr__(value, name, indices)


def freeze_names(value: Any, *names: str) -> None:
    """Make tuples of fields that were given as lists of names; a single name stays.

    Raises:
        ValueError: naming the field, for anything else and for no name at all.
    """
    for name in names:
        given = getattr(value, name)
        if isinstance(given, str):
            continue
        items = tuple(given) if isinstance(given, Sequence) else ()
        if not items or not all(isinstance(item, str) for item in items):
            raise ValueError(f"{name} must be a hook point or several; got {shown(given)}")
        object.__setattr__(value, name, items)


def freeze_several(value: Any, *names: str) -> None:
    """Make tuples of fields that were given as lists of hook points, which may be empty.

    Raises:
        ValueError: naming the field, for anything else; also for a single name, whose letters nobody means.
    """
    for name in names:
        given = getattr(value, name)
        if isinstance(given, str):
            raise ValueError(f"{name} must be several hook points, such as ({shown(given)},); got one string")
        if not isinstance(given, Sequence) or not all(isinstance(item, str) for item in given):
            raise ValueError(f"{name} must be several hook points, such as ('hook_embed',); got {shown(given)}")
        object.__setattr__(value, name, tuple(given))


def as_index(item: Any) -> int:
    """An int from a whole number of any kind; a truth value is none, so that a mask is not taken for indices.

    Raises:
        TypeError: for anything else. (NumPy's truth values refuse to be indices themselves, PyTorch's do not.)

    Example:
        >>> as_index(2)
        2
    """
    if isinstance(item, bool) or str(getattr(item, "dtype", None)) == "torch.bool":
        raise TypeError(f"a truth value is no index; got {item!r}")
    return operator.index(item)


def as_path(value: Any, what: str = "the path of a folder, such as 'runs/mws'") -> Path:
    """A path from text or a path.

    Raises:
        ValueError: for anything else, and for no text.

    Example:
        >>> as_path("runs/mws").name
        'mws'
    """
    if isinstance(value, str | PathLike) and isinstance(text := fspath(value), str) and text:
        return Path(text)
    raise ValueError(f"expected {what}; got {shown(value)}")


def check_takes(function: Any, what: str, *names: str, keyword: str | None = None) -> None:
    """Refuse what is no function, and one that could not be called with these arguments, one of them by keyword.

    Raises:
        ValueError: saying what it takes.

    Example:
        >>> check_takes(len, "where", "name")
    """
    wanted = f"({', '.join([*names, *(() if keyword is None else ('*', keyword))])})"
    if not callable(function):
        raise ValueError(f"{what} must be a function of {wanted}; got {shown(function)}")
    try:
        taken = inspect.signature(function)
    except ValueError:  # of some built-in functions nobody knows
        return
    try:
        taken.bind(*names, **({} if keyword is None else {keyword: None}))
    except TypeError:
        raise ValueError(f"{what} must take {wanted}; it takes {taken}") from None


def whole_number(name: str, number: Any, *, least: int | None = None) -> int:
    """An int from a whole number of any kind, also NumPy's or PyTorch's.

    Raises:
        ValueError: naming the argument, for anything else, and for what is below ``least``.

    Example:
        >>> whole_number("layer", 2)
        2
    """
    try:
        whole = as_index(number)
    except TypeError:
        raise ValueError(f"{name} must be a whole number; got {shown(number)}") from None
    if least is not None and whole < least:
        raise ValueError(f"{name} must be at least {least}; got {shown(whole)}")
    return whole


def seed_number(seed: Any) -> int:
    """An int from a seed of any kind of whole number.

    Raises:
        ValueError: for anything else, and for what PyTorch's generators do not take.

    Example:
        >>> seed_number(0)
        0
    """
    whole = whole_number("seed", seed, least=0)
    if whole >= 2**63:
        raise ValueError(f"seed must be from 0 to 2**63 - 1; got {shown(whole)}")
    return whole


def whole_numbers(name: str, given: Any) -> list[int]:
    """One whole number or several as a list of int.

    Raises:
        ValueError: naming the argument, for anything else.

    Example:
        >>> whole_numbers("steps", range(2)), whole_numbers("steps", 4)
        ([0, 1], [4])
    """
    if isinstance(given, Iterable) and not isinstance(given, str) and getattr(given, "ndim", None) != 0:
        return [whole_number(name, number) for number in given]
    return [whole_number(name, given)]


def there_steps(steps: Iterable[int] | int | None, there: Sequence[int], what: str) -> list[int]:
    """The steps asked for, all there are for None.

    Args:
        steps: those asked for, or the one.
        there: those that exist.
        what: what a step is of, for the message: ``checkpoint of step``.

    Raises:
        ValueError: for no step and what is none, or naming the nearest to one that is not there.

    Example:
        >>> there_steps(None, [0, 2], "checkpoint of step")
        [0, 2]
    """
    chosen = list(there) if steps is None else whole_numbers("steps", steps)
    if not chosen:
        raise ValueError(f"steps is empty: no {what} is asked for" if there else f"there is no {what}")
    for step in chosen:
        if step not in there:
            near = f"the nearest is {min(there, key=lambda other: abs(other - step))}" if there else "there is none"
            raise ValueError(f"there is no {what} {step}; {near}")
    return chosen


def nearest(name: str, valid: Iterable[str], *, most: int = 3) -> str:
    """The end of an error message: the valid names that look most like a wrong one, or some if none does.

    Example:
        >>> nearest("mpl", ["mlp", "attention"])
        'the nearest is mlp'
    """
    valid = list(valid)
    near = get_close_matches(name, valid, n=most, cutoff=0.4)
    if not near:
        return f"there are {listed(valid)}"
    return f"the nearest {'is' if len(near) == 1 else 'are'} {listed(near)}"


def first_line(error: BaseException) -> str:
    """Of an error of another library its first line, or what it is called.

    Example:
        >>> first_line(ValueError("no" + chr(10) + "and why")), first_line(KeyError())
        ('no', 'KeyError')
    """
    return next(iter(str(error).splitlines()), type(error).__name__)


def listed(names: Sequence[str], *, most: int = 4) -> str:
    """Some names and how many more, for messages.

    Example:
        >>> listed(["a", "b", "c"], most=2)
        'a, b and 1 more'
    """
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


class _Short(reprlib.Repr):
    """Of a value as much as fits on a line; never walks through all of a huge one."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 3, 60, 60

    def repr_int(self, x: int, level: int) -> str:
        # Python refuses to write out whole numbers of more than 4,300 digits.
        return repr(x) if x.bit_length() < 200 else f"a whole number of {int(x.bit_length() * 0.30103) + 1} digits"


def shown(value: Any, *, most: int = 100) -> str:
    """A value on one line for messages, cut where it is long.

    Example:
        >>> shown([1, 2, 3, 4, 5, 6, 7, 8])
        '[1, 2, 3, 4, 5, 6, ...]'
    """
    text = " ".join(_Short().repr(value).split())
    return text if len(text) <= most else f"{text[: most - 3]}..."


def check_memory(n_bytes: int, what: str) -> None:
    """Refuse what would need more memory than the machine has, before any of it is allocated.

    Raises:
        ValueError: naming what it is and both sizes.

    Example:
        >>> check_memory(8, "one number")
    """
    there = machine_memory()
    if n_bytes > there:
        raise ValueError(f"not enough memory: {what} would need {n_bytes:,} bytes; this machine has {there:,}")


@cache
def machine_memory() -> int:
    """Bytes of memory that the machine has, in use or not."""
    import psutil  # its compiled part takes as long to load as all else that `plateau --help` needs

    return int(psutil.virtual_memory().total)
