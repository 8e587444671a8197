"""Values that come back bit for bit and of their own type: copies of them, whether two are the same, strict JSON.

They are numbers, text, None, tensors, and lists, tuples and dicts of them. A list, a dict or a tensor that stands in
two places is one object in the copy, and after JSON, too: what changes it in one place changes it in the other.
"""

import math
import struct
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from plateau_interp.checks import shown

__all__ = ["GONE", "ValueDecoder", "ValueEncoder", "bits_cloned", "check_is_text", "identical", "rebuilt"]


class _Gone:
    def __repr__(self) -> str:
        return "GONE"


GONE = _Gone()
"""Stands where there is no value any more."""
PLAIN = (int, float, bool, str, type(None))
KEPT_DTYPES = frozenset(
    {
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint64, torch.uint32, torch.uint16, torch.uint8),
        *(torch.bool, torch.complex64),
    }
)
"""Those that safetensors can write."""


class ValueEncoder:
    """Values as strict JSON, beside tensors by name; a list, dict or tensor that is met again stays the same one."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._names: dict[int, str] = {}
        self._met: dict[int, int] = {}

    def names(self, tensor: Tensor, name: str) -> bool:
        """Give a tensor a name; False if it has one."""
        if id(tensor) in self._names:
            return False
        self._names[id(tensor)] = name
        self.tensors[name] = tensor
        return True

    def encode(self, value: Any) -> Any:
        """A value from `rebuilt` as JSON: itself, or ``{KIND: CONTENT}``."""
        if isinstance(value, Tensor):
            self.names(value, f"//{len(self._names)}")
            return {"tensor": self._names[id(value)]}
        if isinstance(value, float):
            return value if math.isfinite(value) else {"float": struct.pack(">d", value).hex()}  # NaN has bits, too
        if value is GONE:
            return {"gone": True}
        if isinstance(value, tuple):
            return {"tuple": [self.encode(each) for each in value]}
        if isinstance(value, list | dict):
            if id(value) in self._met:
                return {"again": self._met[id(value)]}
            self._met[id(value)] = len(self._met)
            if isinstance(value, list):
                return {"list": [self.encode(each) for each in value]}
            return {"dict": [[name, self.encode(each)] for name, each in value.items()]}
        return value


class ValueDecoder:
    """The values that a `ValueEncoder` was given."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors
        self._met: list[Any] = []

    def decode(self, value: Any) -> Any:
        """The value of what `ValueEncoder.encode` gave.

        Raises:
            ValueError: for what it never gives.
        """
        try:
            return self._decoded(value)
        except (LookupError, TypeError, ValueError, struct.error) as error:
            raise ValueError(f"it holds {shown(value)}: {error}") from None

    def _decoded(self, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        ((kind, content),) = value.items()
        match kind:
            case "tensor":
                return self._tensors[content]
            case "float":
                return struct.unpack(">d", bytes.fromhex(content))[0]
            case "gone":
                return GONE
            case "tuple":
                return tuple(self._decoded(each) for each in content)
            case "again":
                return self._met[content]
            case "list":
                several: list[Any] = []
                self._met.append(several)
                several += [self._decoded(each) for each in content]
                return several
            case "dict":
                named: dict[str, Any] = {}
                self._met.append(named)
                named.update({name: self._decoded(each) for name, each in content})
                return named
        raise KeyError(kind)


def bits_cloned(tensor: Tensor) -> Tensor:
    """A copy of a tensor that asks nothing of autograd."""
    # What is lazily conjugated or negated has other bytes than bits.
    return tensor.detach().resolve_conj().resolve_neg().clone()


def rebuilt(value: Any, memo: dict[int, Any], put: Callable[[Tensor], Tensor], told: str) -> Any:
    """A value whose lists, dicts and tensors are new ones; what was one object before is one again.

    Args:
        value: anything.
        memo: new by the identity of what is old, filled here; the same one for all values that may share some.
        put: makes a new tensor of an old one.
        told: what the value is, for errors.

    Raises:
        ValueError: for what can be no part of a checkpoint.

    Example:
        >>> history = [0.5]
        >>> one, other = rebuilt((history, history), {}, bits_cloned, "a pair")
        >>> one is other, one is history
        (True, False)
    """
    if value is GONE or type(value) in PLAIN:
        return value
    if id(value) in memo:
        return memo[id(value)]
    new: Any
    if type(value) is Tensor:
        _check_tensor(value, told)
        new = put(value)
    elif type(value) is tuple:
        new = tuple(rebuilt(each, memo, put, told) for each in value)
    elif type(value) is list:
        memo[id(value)] = new = []
        new += [rebuilt(each, memo, put, told) for each in value]
    elif type(value) is dict:
        memo[id(value)] = new = {}
        new |= {check_is_text(name, told): rebuilt(each, memo, put, told) for name, each in value.items()}
    else:
        raise ValueError(
            f"{told} is a {type(value).__name__}, which no checkpoint keeps: have numbers, text, tensors, and lists, "
            "tuples and dicts of them"
        )
    memo[id(value)] = new
    return new


def _check_tensor(tensor: Tensor, told: str) -> None:
    what = None
    if tensor.layout is not torch.strided or tensor.device.type == "meta":
        what = "sparse, or without data"
    elif tensor.dtype not in KEPT_DTYPES:
        what = f"of {tensor.dtype}"
    elif tensor.requires_grad:
        what = "one that requires a gradient"
    if what is not None:
        raise ValueError(f"{told} is a tensor that no checkpoint keeps: it is {what}")


def check_is_text(name: Any, told: str) -> str:
    """A name, which must be text.

    Raises:
        ValueError: if it is not.
    """
    if type(name) is not str:
        raise ValueError(f"{told} has something under the name {name!r}, which no checkpoint keeps: names are text")
    return name


def identical(one: Any, other: Any) -> bool:
    """Whether two values have the same bits and types; of objects, whether they say they are equal."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        return (one.dtype, one.shape, one.device) == (other.dtype, other.shape, other.device) and (
            torch.equal(*(bits_cloned(each).contiguous().flatten().view(torch.uint8) for each in (one, other)))
        )
    if isinstance(one, float):
        return struct.pack(">d", one) == struct.pack(">d", other)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(identical, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(identical(one[name], other[name]) for name in one)
    try:
        return one is other or bool(one == other)
    except Exception:  # whatever somebody's object says
        return False
