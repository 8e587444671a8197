"""Around the shape checks, which conftest.py switches on for every test."""

import inspect
from collections.abc import Callable
from typing import Any


def unchecked(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as written: for tests of how it refuses a value that its annotation excludes already."""
    return inspect.unwrap(function)
