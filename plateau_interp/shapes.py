"""Shape and type checks at every call, for whoever debugs an intervention, a task or this package.

Annotations such as ``Float[Tensor, "batch head query key"]`` say which shapes a function takes. As a rule nothing looks
at them. Switched on, every function of the package is wrapped as it is imported: a tensor whose axes do not fit is
refused where it enters or leaves, by a `jaxtyping.TypeCheckError` that names the argument and the axes. A wrapped call
costs 5 to 50 microseconds; switched off, nothing is wrapped and this module is not imported.

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
import dataclasses
import functools
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import CodeType, FunctionType, ModuleType, SimpleNamespace, UnionType
from typing import Any, Self, Union, get_args, get_origin, get_type_hints

import jaxtyping
import typeguard
from typing_extensions import is_protocol

__all__ = ["check", "check_as_told", "checked"]

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


def checked(target: Any) -> Any:
    """A function, or a dataclass's construction, that refuses arguments and results which its annotations exclude.

    Within a call the names of axes stand for one size each, as in `jaxtyping.jaxtyped`, whose words an error has; as
    long as all fits, most of what that does is spared. ``Self`` is left alone, and so is an annotation in which a
    string names what the module does not hold yet.

    Args:
        target: A function, a class, or what `staticmethod`, `classmethod` and `property` make of functions.
    """
    if isinstance(target, staticmethod | classmethod):
        return type(target)(checked(target.__func__))
    if isinstance(target, property):
        return property(*(part and checked(part) for part in (target.fget, target.fset, target.fdel)))
    if inspect.isclass(target):
        if dataclasses.is_dataclass(target) and not hasattr(target.__init__, "__wrapped__"):
            type.__setattr__(target, "__init__", checked(target.__init__))
        return target
    return _checked_function(target)


def _checked_function(function: FunctionType) -> Callable[..., Any]:
    asked = _Asked.of(function)
    if asked.reads_arguments:
        return jaxtyping.jaxtyped(function, typechecker=_refusing)

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        with SCOPE:
            if not asked.are_met(args, kwargs):
                _refuse(function, asked.signature, args, kwargs)
            result = function(*args, **kwargs)
            if not asked.result.is_met(result):
                _refuse(function, asked.signature, args, kwargs, result)
        return result

    return called


SCOPE = jaxtyping.jaxtyped("context")
"""Names of axes are free at its beginning and forgotten at its end; entered anew by each call."""


def _refuse(
    function: FunctionType,
    signature: inspect.Signature,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    result: Any = None,
) -> None:
    """Have jaxtyping say what does not fit: of the arguments, or else of the result, which is not made again."""

    @functools.wraps(function)
    def again(*_: Any, **__: Any) -> Any:
        return result

    vars(again)["__signature__"] = signature
    jaxtyping.jaxtyped(again, typechecker=_refusing)(*args, **kwargs)


def _refusing(function: FunctionType) -> Callable[..., Any]:
    """What jaxtyping asks of a type checker.

    `typeguard.typechecked` cannot be used: it reads annotations again as source text, where
    ``Float[Tensor, "batch query"]`` is a syntax error and an alias goes unchecked.
    """
    asked = _Asked.of(function)

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        if not asked.are_met(args, kwargs):
            raise TypeError
        result = function(*args, **kwargs)
        if not asked.result.is_met(result):
            raise TypeError
        return result

    return called


@dataclass(frozen=True)
class _Annotation:
    """What a value must be; what can be told beforehand is."""

    of: Any
    classes: tuple[type, ...]
    """Those whose instances fit, as far as they are plain: a class, or an option of a union."""
    protocol: Any
    """Whether a class has what a protocol asks for is looked at once: typeguard compares every signature each time,
    which would be most of the cost of a small model's training step."""

    @classmethod
    def read(cls, annotation: Any) -> "_Annotation":
        """One that has been resolved; Self is left unchecked."""
        if annotation in (inspect.Signature.empty, Self, Any):
            return cls(annotation, (object,), None)
        options = _options(annotation)
        classes = [option for option in options if isinstance(option, type) and not get_origin(option)]
        protocols = [option for option in options if option is not type(None) and is_protocol(option)]
        others = len(options) - (type(None) in options)
        plain = tuple(option for option in classes if not is_protocol(option))
        if float in plain:
            plain += (int,)  # as for type checkers
        return cls(annotation, plain, protocols[0] if protocols and others == 1 else None)

    def is_met(self, value: Any) -> bool:
        """Whether a value fits."""
        if isinstance(value, self.classes) or (type(value), self.protocol) in _FULFILLED:
            return True
        try:
            typeguard.check_type(value, self.of)
        except typeguard.TypeCheckError:
            return False
        if self.protocol is not None:
            _FULFILLED.add((type(value), self.protocol))
        return True


def _options(annotation: Any) -> tuple[Any, ...]:
    """The options of a union, or the one that there is."""
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def _resolved(annotation: Any, scope: dict[str, Any]) -> Any:
    """Without strings and None; Any if something in it has no value yet, such as the class it stands in."""
    try:
        return get_type_hints(SimpleNamespace(__annotations__={"it": annotation}), scope, include_extras=True)["it"]
    except Exception:  # whatever evaluating somebody's annotation may raise
        return Any


def _reads_arguments(annotation: Any) -> bool:
    return "{" in getattr(annotation, "dim_str", "") or any(map(_reads_arguments, get_args(annotation)))


@dataclass(frozen=True)
class _Asked:
    """What a signature asks of arguments and result, so that nothing is left to be read or bound at a call."""

    positional: tuple[_Annotation, ...]
    named: dict[str, _Annotation]
    further: _Annotation
    """Of ``*args``."""
    further_named: _Annotation
    """Of ``**kwargs``."""
    result: _Annotation
    signature: inspect.Signature
    """The function's own, without strings."""

    @classmethod
    def of(cls, function: FunctionType) -> "_Asked":
        written, scope, kind = inspect.signature(function), function.__globals__, inspect.Parameter
        parameters = {
            name: each.replace(annotation=_resolved(each.annotation, scope))
            for name, each in written.parameters.items()
        }
        result = _resolved(written.return_annotation, scope)

        def of_kind(*kinds: Any) -> dict[str, _Annotation]:
            return {name: _Annotation.read(each.annotation) for name, each in parameters.items() if each.kind in kinds}

        positional = of_kind(kind.POSITIONAL_ONLY, kind.POSITIONAL_OR_KEYWORD)
        anything = _Annotation.read(Any)
        return cls(
            positional=tuple(positional.values()),
            named=positional | of_kind(kind.KEYWORD_ONLY),
            further=next(iter(of_kind(kind.VAR_POSITIONAL).values()), anything),
            further_named=next(iter(of_kind(kind.VAR_KEYWORD).values()), anything),
            result=_Annotation.read(result),
            signature=written.replace(parameters=[*parameters.values()], return_annotation=result),
        )

    @property
    def reads_arguments(self) -> bool:
        """Whether an axis is a size that is computed from arguments, as in ``Float[Tensor, "{n}"]``."""
        asked = (each.annotation for each in self.signature.parameters.values())
        return any(map(_reads_arguments, (*asked, self.signature.return_annotation)))

    def are_met(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether arguments fit. That there is one for each parameter, and no other, is Python's to see."""
        for annotation, value in zip(self.positional, args, strict=False):
            if not annotation.is_met(value):
                return False
        for value in args[len(self.positional) :]:
            if not self.further.is_met(value):
                return False
        # Loops, since this is the path of every call: a generator would cost more than what it goes through.
        return all(self.named.get(name, self.further_named).is_met(value) for name, value in kwargs.items())


_FULFILLED: set[tuple[type, Any]] = set()
"""Classes and protocols that were found to fit."""


def _check_cells() -> None:
    """What the cells of a notebook define from now on, if this is one."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell and not any(isinstance(transformer, _Decorating) for transformer in shell.ast_transformers):
        shell.user_ns_hidden[DECORATOR] = shell.user_ns[DECORATOR] = checked
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
        return compile(ast.fix_missing_locations(_Decorating().visit(tree)), path, "exec", dont_inherit=True)

    def exec_module(self, module: ModuleType) -> None:
        vars(module)[DECORATOR] = checked
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
