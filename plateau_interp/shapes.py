"""Shape and type checks at every call, for whoever debugs an intervention, a task or this package.

Annotations such as ``Float[Tensor, "batch head query key"]`` say which shapes a function takes. As a rule nothing looks
at them. Switched on, every function of the package is wrapped as it is imported: a tensor whose axes do not fit is
refused where it enters or leaves, by a `jaxtyping.TypeCheckError` that names the argument and the axes. A wrapped call
costs some tens of microseconds; switched off, nothing is wrapped and this module is not imported.

The switch is an environment variable, read when `plateau_interp` is imported; further packages, plug-ins of your own,
are listed in it::

    PLATEAU_CHECK_SHAPES=1 python my_script.py
    PLATEAU_CHECK_SHAPES=my_package,my_other_module plateau train my-task --out runs/my-task

In Python it is a call, before anything else of the package is imported; in a notebook, where it belongs into the first
cell, what later cells define is checked, too::

    from plateau_interp import shapes
    shapes.check("my_package")
"""

import ast
import functools
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from types import CodeType, ModuleType, UnionType
from typing import Any, Self, Union, get_args, get_origin

import jaxtyping
import typeguard
from typing_extensions import is_protocol

__all__ = ["check", "check_as_told", "typechecked"]

OWN = "plateau_interp"
DECORATOR = "__plateau_interp_checked__"
"""What the decorator is called in the modules that are checked."""


def check(*packages: str) -> None:
    """Check shapes and types in `plateau_interp` and in the packages or modules named, all that they contain included.

    Once on, it stays on in this process; a second call adds packages.

    Args:
        packages: Names as in an import, such as ``"my_package"`` or ``"my_package.hooks"``.

    Raises:
        ValueError: A package is imported already, and its functions are out of reach; or there is no such package.
    """
    names = [name for name in dict.fromkeys((OWN, *packages)) if not _Finder.installed().covers(name)]
    for name in names:
        if name not in sys.modules and importlib.util.find_spec(name.partition(".")[0]) is None:
            raise ValueError(f"there is no package or module {name!r} here to check the shapes of")
        # The root holds no functions of its own, and this module looks at others, not at itself.
        early = [module for module in sorted(sys.modules) if _within(module, name) and module not in (OWN, __name__)]
        if early:
            raise ValueError(
                f"shapes can be checked in what is imported afterwards, but {early[0]} is imported already: "
                f"call plateau_interp.shapes.check, or import plateau_interp, before it"
            )
    _Finder.installed().names.extend(names)
    _check_cells()


def check_as_told(setting: str) -> None:
    """What the environment variable asks for: nothing, the package (``1``), or the packages listed as well."""
    words = [word.strip() for word in setting.split(",")]
    if setting.strip() not in ("", "0"):
        check(*(word for word in words if word not in ("", "1")))


def typechecked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Check arguments on the way in and the result on the way out, as jaxtyping's type checkers do.

    `typeguard.typechecked` itself cannot be used: it reads annotations again as source text, where
    ``Float[Tensor, "batch query"]`` is a syntax error and an alias goes unchecked. A class is left alone (jaxtyping
    does the fields of dataclasses), and so are annotations that are strings and ``Self``.
    """
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


CHECKED = jaxtyping.jaxtyped(typechecker=typechecked)
"""The decorator itself: `typechecked` within the scope in which jaxtyping binds the names of axes."""


def _values(parameter: inspect.Parameter, argument: Any) -> tuple[Any, ...]:
    if parameter.kind is parameter.VAR_POSITIONAL:
        return tuple(argument)
    if parameter.kind is parameter.VAR_KEYWORD:
        return tuple(argument.values())
    return (argument,)


def _check(value: Any, annotation: Any) -> None:
    """A string annotation is left unchecked (nothing says in which scope to read it), and so is Self.

    Whether a class has what a protocol asks for is looked at once: typeguard compares every signature each time, which
    would be most of the cost of a small model's training step.
    """
    if annotation in (inspect.Signature.empty, Self, Any) or isinstance(annotation, str):
        return
    asked = (type(value), _protocol_in(annotation))
    if asked in _FULFILLED:
        return
    typeguard.check_type(value, annotation)
    if asked[1] is not None and value is not None:
        _FULFILLED.add(asked)


_FULFILLED: set[tuple[type, Any]] = set()
"""Classes and protocols that were found to fit."""


def _protocol_in(annotation: Any) -> Any:
    """The protocol of an annotation that is one, or one or None; of any other None."""
    options = [option for option in get_args(annotation) or (annotation,) if option is not type(None)]
    is_one = len(options) == 1 and (options[0] is annotation or get_origin(annotation) in (Union, UnionType))
    return options[0] if is_one and is_protocol(options[0]) else None


def _check_cells() -> None:
    """What the cells of a notebook define from now on, if this is one."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell and not any(isinstance(transformer, _Decorating) for transformer in shell.ast_transformers):
        shell.user_ns_hidden[DECORATOR] = shell.user_ns[DECORATOR] = CHECKED
        shell.ast_transformers.append(_Decorating())


def _within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


class _Finder(importlib.abc.MetaPathFinder):
    """Finds modules as whoever else finds them, and has the checked ones loaded by a `_Loader`.

    jaxtyping's own import hook asks Python's path finder alone, so it passes over modules that an editable install
    maps from elsewhere, without a word.
    """

    def __init__(self) -> None:
        self.names: list[str] = []

    @classmethod
    def installed(cls) -> "_Finder":
        """The one that stands first among this process's finders, made at the first call."""
        for finder in sys.meta_path:
            if isinstance(finder, cls):
                return finder
        sys.meta_path.insert(0, finder := cls())
        return finder

    def covers(self, module: str) -> bool:
        return any(_within(module, name) for name in self.names)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname == __name__ or not self.covers(fullname):
            return None
        for spec in self._others(fullname, path, target):
            if isinstance(spec.loader, importlib.machinery.SourceFileLoader):
                spec.loader = _Loader(spec.loader.name, spec.loader.path)
            return spec
        return None

    def _others(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None
    ) -> Iterable[importlib.machinery.ModuleSpec]:
        others = [finder for finder in sys.meta_path if finder is not self]
        found = (finder.find_spec(fullname, path, target) for finder in others)
        return (spec for spec in found if spec is not None)


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads a module from its source with every function and class in it decorated; leaves no bytecode behind."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        tree = ast.parse(self.get_data(path), path)
        if any(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body):
            warnings.warn(f"{fullname} has __future__ annotations: they are strings, and not checked", stacklevel=2)
        return compile(ast.fix_missing_locations(_Decorating().visit(tree)), path, "exec", dont_inherit=True)

    def exec_module(self, module: ModuleType) -> None:
        vars(module)[DECORATOR] = CHECKED
        super().exec_module(module)


class _Decorating(ast.NodeTransformer):
    """Puts the decorator where jaxtyping wants it: nearest to a function, farthest from a class."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.decorator_list.append(self._decorator(node))
        return self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.decorator_list.insert(0, self._decorator(node))
        return self.generic_visit(node)

    def _decorator(self, node: ast.AST) -> ast.expr:
        return ast.copy_location(ast.Name(DECORATOR, ast.Load()), node)
