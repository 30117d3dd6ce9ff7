"""Replacement of a function's module-level names by names that compiled code can use."""

from __future__ import annotations

import ast
import builtins
import inspect
import math
from types import ModuleType
from typing import Any

import numpy as np

__all__ = ["SourceError", "resolve_names"]

# Functions with versions of our own.
_OWN = {
    np.exp: "EXP",
    math.exp: "EXP",
    np.tanh: "TANH",
    math.tanh: "TANH",
    np.maximum: "MAXIMUM",
    np.minimum: "MINIMUM",
}
_MODULES = {math: "math", np: "np"}


class SourceError(Exception):
    """A function that cannot be compiled: the line in its file, if known, and the cause."""

    def __init__(self, line: int | None, cause: str) -> None:
        super().__init__(cause)
        self.line, self.cause = line, cause


def resolve_names(function: Any, tree: ast.FunctionDef, first: int) -> dict[str, Any]:
    """Replace a function's module-level names in its syntax tree.

    Parameters
    ----------
    first
        Line number in the file of the first line of the tree.

    Returns
    -------
    dict
        The plain functions that it calls, by their new names.

    Raises
    ------
    SourceError
        For other objects of the module, and for writing to an array that is not a gradient.
    """
    resolver = _Resolver(function, tree, first)
    tree.body = [resolver.visit(each) for each in tree.body]
    return resolver.helpers


class _Resolver(ast.NodeTransformer):
    """Replaces names, statement by statement."""

    def __init__(self, function: Any, tree: ast.FunctionDef, first: int) -> None:
        self.globals, self.first = function.__globals__, first
        self.free = function.__code__.co_freevars
        self.helpers: dict[str, Any] = {}
        self.own = {argument.arg for argument in tree.args.args} | {
            node.id
            for node in ast.walk(tree)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        }

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        name = ast.unparse(node.value)
        if isinstance(node.ctx, ast.Store) and not name.startswith("grad_"):
            raise self._error(node, f"it writes to {name!r}; only gradients may be written to")
        return self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if isinstance(node.value, ast.Name) and node.value.id not in self.own:
            module = self.globals.get(node.value.id)
            if isinstance(module, ModuleType) and hasattr(module, node.attr):
                return self._replaced(
                    node, f"{node.value.id}.{node.attr}", getattr(module, node.attr)
                )
        self.generic_visit(node)
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id in self.own:
            return node
        if node.id in self.free:
            raise self._error(node, f"{node.id!r} belongs to an enclosing function")
        if node.id in self.globals:
            return self._replaced(node, node.id, self.globals[node.id])
        if not hasattr(builtins, node.id):
            raise self._error(node, f"name {node.id!r} is not defined")
        return node

    def _replaced(self, node: ast.expr, shown: str, value: Any) -> ast.AST:
        if isinstance(value, (bool, int, float)):
            is_nan = value != value
            new: ast.expr = _expression("FLOAT(np.nan)") if is_nan else ast.Constant(value)
        elif (name := _own(value)) is not None:
            new = ast.Name(name, ast.Load())
        elif inspect.isfunction(value) and value.__module__.split(".")[0] not in {"numpy", "math"}:
            name = f"{value.__name__}_of_{value.__module__.replace('.', '_')}"
            self.helpers[name] = value
            new = ast.Name(name, ast.Load())
        elif (module := _owner(value, shown)) is not None:
            new = _expression(f"{module}.{shown.rpartition('.')[2]}")
        else:
            raise self._error(
                node,
                f"{shown!r} is a {type(value).__name__}; only numbers and functions may come from "
                f"the module",
            )
        return ast.copy_location(new, node)

    def _error(self, node: ast.expr, cause: str) -> SourceError:
        return SourceError(self.first + node.lineno - 1, cause)


def _expression(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def _own(value: Any) -> str | None:
    try:
        return _OWN.get(value)
    except TypeError:  # not hashable
        return None


def _owner(value: Any, shown: str) -> str | None:
    """``"math"`` or ``"np"``, if the function comes from there."""
    last = shown.rpartition(".")[2]
    for module, name in _MODULES.items():
        if callable(value) and getattr(module, last, None) is value:
            return name
    return None
