"""Source of pair functions, rewritten so that compiled arithmetic keeps the dtype of the rows.

NumPy multiplies a float32 array by ``0.5`` in float32. Compiled code sees two scalars and would use
float64, at half the speed and with other digits. Constants and integers that meet floating-point
numbers are therefore converted: ``0.5 * x`` becomes ``FLOAT(0.5) * x``.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from attention_core.compiled.names import SourceError, resolve_names

__all__ = ["TypedFunction", "rendered", "typed_functions"]

_INTEGERS = {"len", "int", "range", "round"}


class TypedFunction(NamedTuple):
    """The rewritten source of a function, and the origin of its lines."""

    name: str
    text: str
    lines: tuple[int, ...]
    """The line in the author's file of each line of the text."""
    floats: frozenset[str]
    """The names of floating-point numbers and of arrays of them."""


def typed_functions(
    functions: Mapping[str, Callable[..., Any]], integers: Iterable[str] = ()
) -> list[TypedFunction]:
    """Rewrite functions under the given names, after the plain functions that they call.

    Parameters
    ----------
    integers
        Arguments that are integers; all others are floating-point numbers or arrays of them.

    Raises
    ------
    SourceError
        For a function whose source cannot be read or cannot be compiled.
    """
    found: dict[str, TypedFunction] = {}
    for name, function in functions.items():
        _add(found, name, function, frozenset(integers))
    return list(found.values())


def _add(
    found: dict[str, TypedFunction], name: str, function: Any, integers: frozenset[str]
) -> None:
    tree, first = _parsed(function)
    for helper_name, helper in resolve_names(function, tree, first).items():
        if helper_name not in found:
            _add(found, helper_name, helper, frozenset())
    tree.name, tree.decorator_list, tree.returns = name, [], None
    for argument in tree.args.args:
        argument.annotation = None
    typer = _Typer(tree, integers)
    tree = typer.visit(tree)
    lines = {node: first + node.lineno - 1 for node in (tree, *_statements(tree))}
    found[name] = rendered(tree, lines, frozenset(typer.floats))


def rendered(
    tree: ast.FunctionDef, lines: Mapping[ast.stmt, int], floats: frozenset[str]
) -> TypedFunction:
    """The text of a function, given the line in the author's file of each statement."""
    text = ast.unparse(ast.fix_missing_locations(tree))
    written = ast.parse(text).body[0]
    of_text = [lines[tree]] * (text.count("\n") + 1)
    for own, new in zip(_statements(tree), _statements(written), strict=True):
        last = new.end_lineno or new.lineno
        of_text[new.lineno - 1 : last] = [lines[own]] * (last - new.lineno + 1)
    return TypedFunction(tree.name, text, tuple(of_text), floats)


def _parsed(function: Any) -> tuple[ast.FunctionDef, int]:
    """The syntax tree of a function, and the line number of its first line."""
    try:
        lines, first = inspect.getsourcelines(function)
    except (OSError, TypeError):
        raise SourceError(None, "its source is not in a file") from None
    try:
        tree = ast.parse(textwrap.dedent("".join(lines))).body[0]
    except SyntaxError:
        tree = None
    if not isinstance(tree, ast.FunctionDef):
        raise SourceError(first, "it is not a function written with def")
    names = tree.args
    if names.vararg or names.kwarg or names.kwonlyargs or names.defaults:
        raise SourceError(first, "its arguments must be plain names without defaults")
    if ast.get_docstring(tree, clean=False) is not None:
        tree.body = tree.body[1:] or [ast.Pass()]
    return tree, first


def _statements(node: ast.AST) -> Iterator[ast.stmt]:
    """Statements in line order."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt):
            yield child
            yield from _statements(child)


class _Typer(ast.NodeTransformer):
    """Converts integers and constants where they meet floating-point numbers."""

    def __init__(self, tree: ast.FunctionDef, integers: frozenset[str]) -> None:
        arguments = {argument.arg for argument in tree.args.args}
        self.floats = arguments - integers
        values: list[tuple[str, ast.expr]] = []
        for node in ast.walk(tree):
            value = node.iter if isinstance(node, ast.For) else getattr(node, "value", None)
            if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.For)) and value:
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                values += [
                    (name.id, value)
                    for target in targets
                    for name in ast.walk(target)
                    if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
                ]
        while more := {name for name, value in values if self.is_float(value)} - self.floats:
            self.floats |= more

    def is_float(self, node: ast.expr) -> bool:
        """Whether an expression is a floating-point number, or an array of them."""
        match node:
            case ast.Constant(value=value):
                return isinstance(value, float)
            case ast.Name(id=name):
                return name in self.floats
            case ast.Attribute(attr=attribute):
                return attribute not in {"shape", "size", "ndim"}
            case ast.Subscript(value=value):
                return self.is_float(value)
            case ast.BinOp(op=op):
                return (
                    isinstance(op, ast.Div) or self.is_float(node.left) or self.is_float(node.right)
                )
            case ast.UnaryOp(op=op, operand=operand):
                return not isinstance(op, ast.Not) and self.is_float(operand)
            case ast.IfExp(body=body, orelse=orelse):
                return self.is_float(body) or self.is_float(orelse)
            case ast.Call(func=ast.Name(id=name), args=arguments):
                if name in {"abs", "max", "min"}:
                    return any(map(self.is_float, arguments))
                return name not in _INTEGERS
            case ast.Call(func=ast.Attribute(attr=attribute)):
                return attribute not in {"floor", "ceil", "trunc"} or _is_numpy(node.func)
            case ast.Tuple(elts=elements):
                return any(map(self.is_float, elements))
        return False

    def converted(self, node: ast.expr) -> ast.expr:
        """An expression as a number of the dtype of the rows, if it is not one already."""
        is_other_constant = isinstance(node, ast.UnaryOp) and isinstance(node.operand, ast.Constant)
        if self.is_float(node) and not (isinstance(node, ast.Constant) or is_other_constant):
            return self.visit(node)  # type: ignore[no-any-return]  # visitors return Any
        new = node if is_other_constant else self.visit(node)
        if _is_conversion(new):
            return new
        call = ast.Call(ast.Name("FLOAT", ast.Load()), [new], [])
        return ast.copy_location(call, node)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if isinstance(node.value, float):
            return ast.copy_location(ast.Call(ast.Name("FLOAT", ast.Load()), [node], []), node)
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        if not self.is_float(node):
            return self.generic_visit(node)
        node.left = self.converted(node.left)
        match node:
            case ast.BinOp(op=ast.Pow(), right=ast.Constant(value=int())):
                pass  # an integer power
            case _:
                node.right = self.converted(node.right)
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        is_identity = isinstance(node.ops[0], (ast.Is, ast.IsNot))
        if is_identity or not any(map(self.is_float, [node.left, *node.comparators])):
            return self.generic_visit(node)
        node.left = self.converted(node.left)
        node.comparators = list(map(self.converted, node.comparators))
        return node

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        node.test = self.visit(node.test)
        convert = self.converted if self.is_float(node) else self.visit
        node.body, node.orelse = convert(node.body), convert(node.orelse)
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if isinstance(node.func, ast.Name) and node.func.id == "float":
            return self.converted(node.args[0]) if len(node.args) == 1 else node
        convert = self.converted if self.is_float(node) else self.visit
        node.args = list(map(convert, node.args))
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        node.targets = [self.visit(target) for target in node.targets]
        is_float = any(map(self.is_float, node.targets)) and not isinstance(node.value, ast.Tuple)
        node.value = self.converted(node.value) if is_float else self.visit(node.value)
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        assign = ast.Assign([node.target], node.value or ast.Constant(0))
        return self.visit_Assign(ast.copy_location(assign, node))

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        node.target = self.visit(node.target)
        is_float = self.is_float(node.target)
        node.value = self.converted(node.value) if is_float else self.visit(node.value)
        return node

    def visit_Return(self, node: ast.Return) -> ast.AST:
        if node.value is not None:
            node.value = self.converted(node.value)
        return node


def _is_numpy(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and ast.unparse(node.value) == "np"


def _is_conversion(node: Any) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "FLOAT"
