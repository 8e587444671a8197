"""`function_digest`: a function with other code, or other constants, is another function."""

import functools

import pytest

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
