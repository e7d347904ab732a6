"""The shapes that signatures state, checked at every call of the test run.

An import hook puts the check around each function and dataclass of the rooms below whose annotations name a type of
:mod:`unstir.shapes`: beartype looks at the values, jaxtyping holds each size to one name through the call. Programs that
tests start, and graphs that torch traces, run without it, as users do.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import re
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import FunctionType, ModuleType
from typing import Any, get_args

import torch
from beartype import BeartypeConf, beartype
from jaxtyping import AbstractArray, TypeCheckError, jaxtyped

ROOMS = (
    "unstir.distributions",
    "unstir.noise",
    "unstir.processes",
    "unstir.schedules",
    "unstir.samplers",
    "unstir.networks",
    "unstir.objectives",
    "unstir.bound",
    "unstir.denoisers",
    "unstir.likelihood",
    "unstir.schedule_fit",
    "unstir.derivation",
    "unstir.editing",
)


def install() -> None:
    """From here on the rooms are imported with their checks; none may have been imported before."""
    early = sorted(name for name in sys.modules if _is_ours(name))
    assert not early, f"imported before their shapes could be checked: {early}"
    sys.meta_path.insert(0, _Finder())


def checked(thing: Any) -> Any:
    """A function, or a dataclass's constructor, with its shapes checked at each call; as it is where it states none."""
    if not isinstance(thing, type):
        return _with_check(thing)
    if dataclasses.is_dataclass(thing) and "__init__" in vars(thing):
        thing.__init__ = _with_check(thing.__init__)  # type: ignore[misc]
    return thing


def _with_check(function: Any) -> Callable[..., Any]:
    hints = {name: hint for name, hint in function.__annotations__.items() if _states_a_shape(function, hint)}
    if inspect.isgeneratorfunction(function):
        # What it yields comes after the call, and jaxtyping would never again check a type that it returns an iterator of.
        hints.pop("return", None)
    if not hints:
        return function
    # What is no tensor is left to the function itself, which refuses it with a sentence.
    bare = FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    bare.__kwdefaults__, bare.__annotations__ = function.__kwdefaults__, hints
    bare.__module__, bare.__qualname__ = function.__module__, function.__qualname__
    inside = jaxtyped(
        beartype(conf=BeartypeConf(violation_type=TypeCheckError, is_pep484_tower=True))(bare), typechecker=None
    )

    @functools.wraps(function)
    def outside(*args: Any, **kwargs: Any) -> Any:
        return (function if torch.compiler.is_compiling() else inside)(*args, **kwargs)

    return outside


def _states_a_shape(function: FunctionType, hint: object) -> bool:
    """Whether an annotation names a type of :mod:`unstir.shapes`, or an alias of the module's own that holds one."""
    words = set(re.findall(r"\w+", str(hint))) - {"Anything"}
    return any(_is_a_shape(function.__globals__.get(word)) for word in words)


def _is_a_shape(thing: Any) -> bool:
    if isinstance(thing, type) and issubclass(thing, AbstractArray):
        return True
    return any(_is_a_shape(part) for part in get_args(thing))


def _is_ours(module: str) -> bool:
    return any(module == room or module.startswith(room + ".") for room in ROOMS)


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path, target) if _is_ours(fullname) else None
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    def get_code(self, fullname: str) -> Any:
        # Past the cache of compiled files, which belongs to the modules without checks.
        return self.source_to_code(self.get_data(self.path), self.path)

    def source_to_code(self, data: Any, path: Any, *, _optimize: int = -1) -> Any:
        tree = _Decorate().visit(ast.parse(data, path))
        return compile(ast.fix_missing_locations(tree), path, "exec", dont_inherit=True, optimize=_optimize)

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["__checked__"] = checked
        super().exec_module(module)


class _Decorate(ast.NodeTransformer):
    """Functions are decorated first of all, before ``classmethod`` or ``property`` wraps them; classes last of all."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        node.decorator_list.append(self._mark(node))
        return node  # functions within functions are their own affair

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        self.generic_visit(node)
        node.decorator_list.insert(0, self._mark(node))
        return node

    @staticmethod
    def _mark(node: ast.stmt) -> ast.expr:
        return ast.copy_location(ast.Name("__checked__", ast.Load()), node)
