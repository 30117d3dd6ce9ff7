"""A function of two rows, rewritten to score a query with many keys side by side.

A loop over the features of a pair becomes vector instructions for some of them at a time, and a sum
across the lanes of a vector for each pair. Here a lane belongs to a key instead: ``k[d]`` becomes
``k[d, LANE]`` of keys stored feature by feature, and each statement that depends on the key a loop
over lanes. No sum crosses lanes, and what depends on the query alone is computed once for all.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from attention_core.arrays.strided import aligned_numbers
from attention_core.compiled.typed import TypedFunction, rendered
from attention_core.typing import Array

__all__ = ["FEWEST_QUERIES", "WIDTH", "Lanes", "find_lanes", "scratch"]

WIDTH = 64
"""Keys side by side: enough for vector instructions to overlap, and few enough that keys of 64
features and the numbers of each lane stay in the first-level cache."""

FEWEST_QUERIES = 16
"""Queries for which storing keys feature by feature pays."""

_MOST_ARRAYS = 16

_Simple = (ast.Assign, ast.AugAssign, ast.Return)


class Lanes(NamedTuple):
    """The rewritten function."""

    function: TypedFunction
    """``pair_lanes``: the arguments of the original, the scores to write, and `arrays`."""
    arrays: tuple[str, ...]
    """Numbers of the original that are kept for each lane: float arrays of `WIDTH`."""


def find_lanes(pair: TypedFunction) -> Lanes | None:
    """The rewritten function; None if the original does more than it could be rewritten for.

    Branches and loops must not depend on the key, nor may keys be anything but indexed.
    """
    (tree,) = ast.parse(pair.text).body
    assert isinstance(tree, ast.FunctionDef)
    try:
        return _Rewriting(tree, pair.floats).result(pair)
    except _UnsupportedError:
        return None


def scratch(features: int, dtype: np.dtype[Any]) -> Array:
    """Memory for the keys of a loop over lanes and for `Lanes.arrays`."""
    return aligned_numbers((features + _MOST_ARRAYS) * WIDTH, dtype)


class _UnsupportedError(Exception):
    """A statement or an expression that cannot be rewritten."""


class _Rewriting:
    def __init__(self, tree: ast.FunctionDef, floats: frozenset[str]) -> None:
        self.tree, self.floats = tree, floats
        self.arguments = [argument.arg for argument in tree.args.args]
        self.key = self.arguments[1]
        self.varying: set[str] = set()
        self.groups: list[ast.For] = []

    def result(self, pair: TypedFunction) -> Lanes:
        tree = self.tree
        self._find_varying()
        tree.body = self._block(tree.body)
        arrays = tuple(sorted(name for name in self.varying if not self._is_of_one_group(name)))
        is_written = not self.varying.isdisjoint(self.arguments)
        if is_written or len(arrays) > _MOST_ARRAYS or not self.floats.issuperset(arrays):
            raise _UnsupportedError
        indexed = _Indexed(self.key, arrays)
        for group in self.groups:
            group.body = [indexed.visit(each) for each in group.body]
        tree.name = "pair_lanes"
        tree.args.args += [ast.arg(name) for name in ("OUT", *arrays)]
        lines = {node: pair.lines[node.lineno - 1] for node in _statements(tree)}
        return Lanes(rendered(tree, lines, self.floats), arrays)

    def _find_varying(self) -> None:
        """Names that depend on the key."""
        assigned = [node for node in ast.walk(self.tree) if isinstance(node, _Simple[:2])]
        before = -1
        while len(self.varying) > before:
            before = len(self.varying)
            for node in assigned:
                if self._varies(node.value):
                    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                    self.varying.update(name for each in targets for name in _stored(each))

    def _varies(self, node: ast.AST) -> bool:
        """Whether a statement or an expression depends on the key."""
        match node:
            case ast.Subscript(value=ast.Name(id=self.key), slice=index):
                if isinstance(index, (ast.Slice, ast.Tuple)) or self._varies(index):
                    raise _UnsupportedError
                return True
            case ast.Call(func=ast.Name(id="len"), args=[ast.Name(id=self.key)]):
                return False
            case ast.Name(id=self.key) | ast.NamedExpr() | ast.Lambda() | ast.comprehension():
                raise _UnsupportedError
            case ast.Name(id=name):
                return name in self.varying
        found = [self._varies(child) for child in ast.iter_child_nodes(node)]  # all are checked
        return any(found)

    def _block(self, statements: Iterable[ast.stmt]) -> list[ast.stmt]:
        """Statements with those that depend on the key in loops over lanes."""
        done: list[ast.stmt] = []
        group: ast.For | None = None
        for each in statements:
            is_return = isinstance(each, ast.Return)
            if isinstance(each, _Simple) and (self._varies(each) or is_return):
                if group is None:
                    group = ast.copy_location(_loop(), each)
                    self.groups.append(group)
                    done.append(group)
                group.body.append(each)
                if is_return:
                    done.append(ast.copy_location(ast.Return(None), each))
                continue
            group = None
            if isinstance(each, (ast.For, ast.If)):
                decides = [each.test] if isinstance(each, ast.If) else [each.target, each.iter]
                if any(map(self._varies, decides)):
                    raise _UnsupportedError
                each.body, each.orelse = self._block(each.body), self._block(each.orelse)
            elif self._varies(each):
                raise _UnsupportedError
            done.append(each)
        return done

    def _is_of_one_group(self, name: str) -> bool:
        """Whether a name is written before it is read, in the only loop over lanes that has it."""
        found = [group for group in self.groups if name in _names(group)]
        if len(found) != 1:
            return False
        for each in found[0].body:
            value = getattr(each, "value", None)
            if isinstance(each, ast.AugAssign) and name in _names(each.target):
                return False
            if name in _names(value):
                return False
            if name in _names(each):
                return True
        return False


class _Indexed(ast.NodeTransformer):
    """Gives the numbers of a lane their index."""

    def __init__(self, key: str, arrays: Iterable[str]) -> None:
        self.key, self.arrays = key, frozenset(arrays)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id in self.arrays:
            new = ast.Subscript(ast.Name(node.id, ast.Load()), _lane(), node.ctx)
            return ast.copy_location(new, node)
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.value, ast.Name) and node.value.id == self.key:
            node.slice = ast.Tuple([node.slice, _lane()], ast.Load())
        return node

    def visit_Return(self, node: ast.Return) -> ast.AST:
        assert node.value is not None
        target = ast.Subscript(ast.Name("OUT", ast.Load()), _lane(), ast.Store())
        return ast.copy_location(ast.Assign([target], self.visit(node.value)), node)


def _loop() -> ast.For:
    limit = ast.Call(ast.Name("range", ast.Load()), [ast.Constant(WIDTH)], [])
    return ast.For(ast.Name("LANE", ast.Store()), limit, [], [])


def _lane() -> ast.Name:
    return ast.Name("LANE", ast.Load())


def _stored(target: ast.expr) -> Iterable[str]:
    allowed = ast.Name, ast.Tuple, ast.expr_context
    if not all(isinstance(node, allowed) for node in ast.walk(target)):
        raise _UnsupportedError
    return _names(target)


def _names(node: Any) -> set[str]:
    if node is None:
        return set()
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


def _statements(tree: ast.AST) -> Iterable[ast.stmt]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.stmt))
