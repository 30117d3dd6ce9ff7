"""A scorer's pair functions, compiled on first use and applied to whole arrays."""

from __future__ import annotations

import inspect
import re
from array import array
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from math import prod
from struct import pack, unpack
from typing import Any

import numpy as np

from attention_core.arrays.strided import with_contiguous_rows
from attention_core.compiled.lanes import find_lanes, scratch
from attention_core.compiled.module_text import is_summed, module_text
from attention_core.compiled.modules import compiled_function
from attention_core.compiled.names import SourceError
from attention_core.compiled.typed import TypedFunction, typed_functions
from attention_core.parallel.forks import COMPILING
from attention_core.typing import Array

__all__ = ["CompilationError", "CompiledPairs", "compiled_pairs"]

Arguments = Mapping[str, Any]
"""The further arguments of ``pair`` by name: arrays in the dtype of the rows, numbers, None."""


class CompilationError(Exception):
    """Functions that cannot be compiled: the file and line, if known, and the cause."""


class CompiledPairs:
    """``pair`` and ``pair_vjp`` of a class of scorers, for rows of one dtype.

    Parameters
    ----------
    pair, pair_vjp
        Plain Python functions; `pair_vjp` is None for scorers without gradients.
    dtype
        Dtype of rows and results.
    kinds
        Kinds of the further arguments of `pair`, by name: ``"array 2 float32"`` for an array of two
        axes, ``"number"`` for one without axes, ``"float"``, ``"int"``, ``"bool"``, ``"NoneType"``.
    trainable
        Arguments whose gradients `pair_vjp` computes, in its order.
    """

    def __init__(
        self,
        pair: Callable[..., Any],
        pair_vjp: Callable[..., Any] | None,
        dtype: str,
        kinds: tuple[tuple[str, str], ...],
        trainable: tuple[str, ...],
    ) -> None:
        self._functions = {"pair": pair} | ({"pair_vjp": pair_vjp} if pair_vjp else {})
        self._dtype, self._kinds, self._trainable = np.dtype(dtype), dict(kinds), trainable
        self._typed: list[TypedFunction] = []
        self._text = ""
        self._kernels: dict[str, Callable[[int], Any]] = {}
        self._tried: set[Any] = set()
        self.failure: CompilationError | None = None
        """The reason why compilation failed, if it did."""

    def score(self, query: Array, key: Array, arguments: Arguments) -> Array:
        """Scores of tiles: (..., L, H), (..., S, H) -> (..., L, S)."""
        batch = np.broadcast_shapes(query.shape[:-2], key.shape[:-2])
        scores = np.empty((*batch, query.shape[-2], key.shape[-2]), self._dtype)
        query, key = _items(query, batch), _items(key, batch)
        self._try(query[0, 0], key[0, 0], arguments)
        sizes = len(query), *scores.shape[-2:]
        memory = scratch(key.shape[-1], self._dtype)
        self._run("score", query, key, (memory, scores), sizes, *arguments.values())
        return scores

    def score_pairs(self, query: Array, key: Array, arguments: Arguments) -> Array:
        """Scores of pairs: (..., E, H), (..., E, H) -> (..., E)."""
        scores = np.empty(query.shape[:-1], self._dtype)
        query, key = _rows(query), _rows(key)
        self._try(query[0], key[0], arguments)
        self._run("score_pairs", query, key, (scores,), (scores.size,), *arguments.values())
        return scores

    def score_edges(
        self, query: Array, key: Array, rows: Array, keys: Array, arguments: Arguments
    ) -> Array:
        """Scores of the pairs at rows (e,) of queries (L, H) and rows (e,) of keys (S, H)."""
        scores = np.empty(len(rows), self._dtype)
        if not len(rows):
            return scores
        query, key = _rows(query), _rows(key)
        self._try(query[0], key[0], arguments)
        places = [np.ascontiguousarray(each, np.int64) for each in (rows, keys)]
        self._run("score_edges", query, key, (*places, scores), (len(rows),), *arguments.values())
        return scores

    def score_vjp(
        self, query: Array, key: Array, grad: Array, arguments: Arguments
    ) -> tuple[Array, Array, dict[str, Array]]:
        """Gradients of tiles; row gradients have the batch axes of `grad`."""
        batch, sizes = grad.shape[:-2], (prod(grad.shape[:-2]), *grad.shape[-2:])
        grads = [np.zeros((*batch, *each.shape[-2:]), self._dtype) for each in (query, key)]
        query, key = _items(query, batch), _items(key, batch)
        self._try(query[0, 0], key[0, 0], arguments, grad.flat[0])
        return self._gradients("score_vjp", query, key, grad, grads, sizes, arguments)

    def score_pairs_vjp(
        self, query: Array, key: Array, grad: Array, arguments: Arguments
    ) -> tuple[Array, Array, dict[str, Array]]:
        """Gradients of pairs."""
        grads = [np.zeros(each.shape, self._dtype) for each in (query, key)]
        query, key = _rows(query), _rows(key)
        self._try(query[0], key[0], arguments, grad.flat[0])
        return self._gradients("score_pairs_vjp", query, key, grad, grads, (grad.size,), arguments)

    def _gradients(
        self,
        name: str,
        query: Array,
        key: Array,
        grad: Array,
        grads: list[Array],
        sizes: tuple[int, ...],
        arguments: Arguments,
    ) -> tuple[Array, Array, dict[str, Array]]:
        grad = np.ascontiguousarray(grad)
        sums, totals = self._zeros(arguments), self._zeros(arguments)
        given = *arguments.values(), *sums.values(), *totals.values()
        self._run(name, query, key, (grad, *grads), sizes, *given)
        parameters = {
            name: total.reshape(() if self._kinds[name] == "number" else total.shape)
            for name, total in totals.items()
            if total is not None
        }
        return grads[0], grads[1], parameters

    def _zeros(self, arguments: Arguments) -> dict[str, Any]:
        """Sums of the gradients of parameters; None for other arguments."""
        return {
            name: np.zeros(np.shape(arguments[name]) or 1, self._dtype)
            if is_summed(self._kinds[name])
            else None
            for name in self._trainable
        }

    def _try(self, query: Array, key: Array, arguments: Arguments, grad: Any = None) -> None:
        """Run the Python function once for rows and arrays of these shapes.

        Compiled code silently reads past the end of a row; Python raises IndexError.
        """
        shapes = (np.shape(value) for value in arguments.values())
        tried = grad is None, query.shape, key.shape, *shapes
        if tried in self._tried:
            return
        given = query.copy(), key.copy(), *arguments.values()
        with np.errstate(all="ignore"), suppress(ArithmeticError, ValueError):
            if grad is None:
                self._functions["pair"](*given)
            else:
                sums = np.zeros_like(query), np.zeros_like(key), *self._zeros(arguments).values()
                self._functions["pair_vjp"](*given, grad, *sums)
        self._tried.add(tried)

    def _run(
        self,
        name: str,
        query: Array,
        key: Array,
        arrays: tuple[Array, ...],
        sizes: tuple[int, ...],
        *arguments: Any,
    ) -> None:
        """Run a loop, which is compiled on first use."""
        kernel = self._kernels.get(name) or self._compiled(name)
        given = [query.ctypes.data, *query.strides[:-1], query.shape[-1]]
        given += [key.ctypes.data, *key.strides[:-1], key.shape[-1]]
        given += [*[each.ctypes.data for each in arrays], *sizes]
        kept = []  # alive until the loop is done
        for value in arguments:
            if isinstance(value, np.ndarray):
                kept.append(np.ascontiguousarray(value))
                given += [kept[-1].ctypes.data, *value.shape]
            elif isinstance(value, (float, np.floating)):
                given += unpack("q", pack("d", value))
            elif value is not None:
                given.append(int(value))
        layout = array("q", given)
        kernel(layout.buffer_info()[0])

    def _compiled(self, name: str) -> Callable[[int], Any]:
        """The loop that takes the address of its arguments."""
        with COMPILING:
            if self.failure is not None:
                raise self.failure
            try:
                return self._compile(name)
            except Exception as error:
                self.failure = CompilationError(self._complaint(error))
                raise self.failure from error

    def _compile(self, name: str) -> Callable[[int], Any]:
        if not self._text:
            integers = [name for name, kind in self._kinds.items() if kind in {"int", "bool"}]
            typed = typed_functions(self._functions, integers)
            lanes = find_lanes(next(each for each in typed if each.name == "pair"))
            self._typed = [*typed, lanes.function] if lanes else typed
            self._text = module_text(typed, self._dtype.name, self._kinds, self._trainable, lanes)
        self._kernels[name] = compiled_function(self._text, name)
        return self._kernels[name]

    def _complaint(self, error: Exception) -> str:
        """The location and the cause of an error, on one line."""
        if isinstance(error, SourceError):
            line, cause = error.line, error.cause
        else:
            line, cause = self._line(str(error)), _cause(error)
        place = inspect.getsourcefile(self._functions["pair"]) or "?"
        return f"{place}{'' if line is None else f', line {line}'}: {cause}"

    def _line(self, message: str) -> int | None:
        """The author's line behind the last generated line that an error mentions."""
        lines: dict[int, int] = {}
        for function in self._typed:
            first = self._text[: self._text.index(function.text)].count("\n") + 1
            lines |= dict(enumerate(function.lines, first))
        mentioned = [lines[n] for n in map(int, re.findall(r"line (\d+)", message)) if n in lines]
        return mentioned[-1] if mentioned else None


@lru_cache(maxsize=256)
def compiled_pairs(*parameters: Any) -> CompiledPairs:
    """The shared `CompiledPairs` of these parameters."""
    return CompiledPairs(*parameters)


def _items(array: Array, batch: tuple[int, ...]) -> Array:
    """Rows of every batch item, (N, n, H), without a copy if each row is contiguous."""
    if array.shape[:-2] != batch:
        array = np.broadcast_to(array, (*batch, *array.shape[-2:]))
    return with_contiguous_rows(array.reshape(prod(batch), *array.shape[-2:]))


def _rows(array: Array) -> Array:
    """Rows (E, H), likewise."""
    return with_contiguous_rows(array.reshape(prod(array.shape[:-1]), array.shape[-1]))


def _cause(error: Exception) -> str:
    """The most informative line of numba's message."""
    said = [line.strip() for line in str(error).splitlines()]
    told = [line for line in said if line and not line.startswith(("Failed in", "File", "During"))]
    return told[0] if told else type(error).__name__
