"""Shape and type checks under pytest: jaxtyping's import hook drives typeguard through `typechecked`.

The option ``--jaxtyping-packages=plateau_interp,typecheck.typechecked`` wraps every function of the package in
`typechecked`, inside the scope in which jaxtyping binds axis names. `typeguard.typechecked` itself cannot be used
there: it re-parses annotations as source text, where ``Float[Tensor, "batch query"]`` is a syntax error and an alias
goes unchecked.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, Self

import typeguard


def typechecked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Check arguments on the way in and the result on the way out; classes are left alone (jaxtyping does those)."""
    if inspect.isclass(function):
        return function
    signature = inspect.signature(function)

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        for name, argument in signature.bind(*args, **kwargs).arguments.items():
            parameter = signature.parameters[name]
            for value in _values(parameter, argument):
                _check(value, parameter.annotation)
        result = function(*args, **kwargs)
        _check(result, signature.return_annotation)
        return result

    return checked


def unchecked(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as written: for tests of how it refuses a value that its annotation excludes already."""
    return inspect.unwrap(function)


def _values(parameter: inspect.Parameter, argument: Any) -> tuple[Any, ...]:
    if parameter.kind is parameter.VAR_POSITIONAL:
        return tuple(argument)
    if parameter.kind is parameter.VAR_KEYWORD:
        return tuple(argument.values())
    return (argument,)


def _check(value: Any, annotation: Any) -> None:
    """A string annotation is left unchecked (nothing says in which scope to read it), and so is Self."""
    if annotation is inspect.Signature.empty or annotation is Self or isinstance(annotation, str):
        return
    typeguard.check_type(value, annotation)
