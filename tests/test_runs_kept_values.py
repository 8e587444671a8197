import json
import math
import struct
from typing import Any

import pytest
import torch

from plateau_interp.runs.kept_values import GONE, ValueDecoder, ValueEncoder, bits_cloned, identical, rebuilt

NAN = struct.unpack(">d", bytes.fromhex("fff8000000000123"))[0]
"""A NaN with a sign and bits of its own."""
VALUES: list[Any] = [
    *(0, -7, 2**70, True, None, "text", "\ud800 \x00", "", 0.1, -0.0, 5e-324, math.inf, -math.inf, NAN),
    *((), (1, (2.0, [])), [], [[None]], {}, {"": {"again": 3}, "tensor": ["list"]}, GONE),
    *(torch.tensor(3.0), torch.zeros(0, 2), torch.tensor([-0.0, math.nan]), torch.arange(6).reshape(2, 3).T),
    *(torch.tensor([True]), torch.ones(2, dtype=torch.bfloat16), torch.ones(2, dtype=torch.complex64).conj().imag),
    [torch.zeros(1), {"a": (torch.ones(1), 2)}],
]


def through_json(value: Any) -> Any:
    encoder = ValueEncoder()
    text = json.dumps(encoder.encode(value), allow_nan=False)
    return ValueDecoder(encoder.tensors).decode(json.loads(text))


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_comes_back_and_its_copy_is_the_same(value: Any) -> None:
    copied = rebuilt(value, {}, bits_cloned, "it")
    assert identical(copied, value)
    assert identical(through_json(copied), value)


def test_values_that_differ_in_bits_or_type_are_not_the_same() -> None:
    for place, value in enumerate(VALUES):
        assert [identical(value, other) for other in VALUES].index(True) == place
    for one, other in [
        (1, 1.0),
        (1, True),
        (0.0, -0.0),
        (math.nan, NAN),
        ([1], (1,)),
        ({"a": 1}, {"a": 2}),
        ({"a": 1}, {"b": 1}),
        (torch.zeros(1), -torch.zeros(1)),
        (torch.zeros(1), torch.zeros(1, dtype=torch.float64)),
        (torch.zeros(1), torch.zeros(())),
    ]:
        assert not identical(one, other)


def test_what_is_shared_stays_shared() -> None:
    tensor, several, named = torch.zeros(2), [1.0], {"a": 1}
    value = [tensor, several, named, (tensor, several), {"b": named}]
    for other in (rebuilt(value, {}, bits_cloned, "it"), through_json(value)):
        assert identical(other, value)
        assert other[1] is other[3][1]
        assert other[0] is other[3][0]
        assert other[2] is other[4]["b"]
    copied = rebuilt(value, {}, bits_cloned, "it")
    assert not any(one is other for one, other in zip(copied, value, strict=True))


@pytest.mark.parametrize(
    "encoded", [{"again": 0}, {"float": "00"}, {"float": "xy"}, {"tensor": "t"}, {"odd": 1}, {}, {"dict": [[1]]}]
)
def test_what_is_no_value_is_refused(encoded: Any) -> None:
    with pytest.raises(ValueError, match=r"^it holds "):
        ValueDecoder({}).decode(encoded)
