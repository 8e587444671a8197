"""`function_digest`: a function with other code, or other constants, is another function."""

import dataclasses
import functools
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from plateau_interp.series.functions import function_digest

MODULE = '''
import torch
LAYER = 3
calls = []

def helper(states):
    return states.norm()

def norm(model, written, scale=1.0):
    """What it is."""
    calls.append(LAYER)
    def of(states):
        return [helper(each) * scale for each in states if each in {"one", "two"}]
    return of(written.states)

def chosen(layer):
    return lambda model, written: written.states[layer].norm()

class Norm:
    def __init__(self, layer):
        self.layer = layer
    def __call__(self, model, written):
        return written.states[self.layer]
'''


def _made(text=MODULE):
    there = {"__name__": "mine"}
    exec(text, there)
    return there


def test_the_same_function_written_otherwise_is_the_same():
    again = MODULE.replace("calls.append", "\n    # why\n    calls.append").replace("What it is", "What this is")
    assert function_digest(_made()["norm"]) == function_digest(_made(again)["norm"])
    called = _made()
    before = function_digest(called["norm"])
    called["calls"].append(1)  # what it keeps is none of its constants
    assert function_digest(called["norm"]) == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("* scale", "/ scale"),
        ("written.states)", "written.tokens)"),
        ("scale=1.0", "scale=2.0"),
        ('"two"', '"three"'),
        ("LAYER = 3", "LAYER = 4"),
        ("states.norm()", "states.mean()"),  # of what it calls
    ],
)
def test_another_function_of_the_same_name_is_another(old, new):
    assert MODULE.count(old) == 1
    assert function_digest(_made()["norm"]) != function_digest(_made(MODULE.replace(old, new))["norm"])


def test_functions_made_by_one_function_are_told_apart_by_what_they_were_made_with():
    for make in ("chosen", "Norm"):
        made = _made()[make]
        assert function_digest(made(1)) == function_digest(made(1))
        assert function_digest(made(1)) != function_digest(made(2))
    norm = _made()["norm"]
    assert function_digest(functools.partial(norm, scale=2.0)) != function_digest(functools.partial(norm, scale=3.0))
    assert function_digest(functools.partial(norm, scale=2.0)) != function_digest(norm)


def test_what_has_no_code_is_known_by_its_name_and_functions_may_call_themselves():
    assert function_digest(len) == function_digest(len) != function_digest(max)
    recursive = _made("def again(model, written):\n    return again(model, written)\n")["again"]
    assert function_digest(recursive) == function_digest(recursive)


@dataclass
class _Options:
    layers: list
    scale: float = 1.0


READ = [
    ([1, 2], [1, 3]),
    ({"a": 1}, {"a": 2}),
    ({"a": {"b": [1]}}, {"a": {"b": [2]}}),
    ({1, 2}, {1, 3}),
    (_Options([1]), _Options([2])),
    (torch.tensor([1.0, 2.0]), torch.tensor([1.0, 3.0])),
    (torch.tensor(1.0, dtype=torch.bfloat16), torch.tensor(2.0, dtype=torch.bfloat16)),
    (torch.zeros(2), torch.zeros(2, 1)),
    (torch.zeros(0), torch.zeros(0, 1)),
    (np.array([1.0, 2.0]), np.array([1.0, 3.0])),
]


@pytest.mark.parametrize(("one", "other"), READ)
def test_data_that_a_function_reads_is_a_part_of_it(one, other):
    def reads(data):
        return _made_with(data)["measure"]

    def closes_over(data):
        return lambda model, written: data

    for made in (reads, closes_over, lambda data: functools.partial(len, data)):
        assert function_digest(made(one)) == function_digest(made(one))
        assert function_digest(made(one)) != function_digest(made(other))


def _made_with(data):
    there = _made("def measure(model, written):\n    return DATA\n")
    there["DATA"] = data
    return there


def test_weights_of_a_model_that_a_function_reads_are_a_part_of_it():
    model = torch.nn.Linear(2, 2)

    def measure(_, written):
        return model(written)

    before = function_digest(measure)
    model(torch.zeros(1, 2))
    assert function_digest(measure) == before
    torch.nn.init.zeros_(model.weight)
    assert function_digest(measure) != before


@pytest.mark.parametrize(
    "line",
    [
        "DATA[0] = 1",
        "DATA.append(1)",
        "DATA.update({1: 2})",
        "DATA.add_(1)",
        "[DATA.extend([one]) for one in (1, 2)]",
    ],
)
def test_what_a_function_keeps_is_no_part_of_it(line):
    there = _made(f"def measure(model, written):\n    {line}\n    return LAYER\n")
    digests = set()
    for data in ([1], [2], torch.zeros(2)):
        there["DATA"], there["LAYER"] = data, 1
        digests.add(function_digest(there["measure"]))
    assert len(digests) == 2  # its kind is told, and no more
    there["LAYER"] = 2
    assert function_digest(there["measure"]) not in digests


def test_data_that_holds_itself_is_read_once():
    data = [1]
    data.append(data)
    assert function_digest(lambda model, written: data) == function_digest(lambda model, written: data)


@dataclasses.dataclass(frozen=True)
class Cached:
    """With something that is worked out once."""

    n: int

    @functools.cached_property
    def doubled(self):
        """Kept."""
        return 2 * self.n


def test_what_a_dataclass_has_worked_out_already_tells_nothing():
    cached = Cached(3)
    before = function_digest(functools.partial(max, cached))
    assert cached.doubled == 6
    assert function_digest(functools.partial(max, cached)) == before
    assert function_digest(functools.partial(max, Cached(4))) != before
