"""Graphs of tasks: layers with names, arrays on them, and trees that combine many results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
from dask.highlevelgraph import HighLevelGraph

__all__ = ["Layer", "Tasks", "array_layer", "make_layer", "tree"]

Tasks = dict[Any, Any]
"""Tasks by key: each a tuple of a function and its arguments, of which some are keys."""

FAN_IN = 4
"""Results that one task of a tree combines."""


class Layer(NamedTuple):
    """Tasks whose results are not arrays, with their graph; an array has both attributes, too."""

    name: str
    dask: HighLevelGraph


def make_layer(name: str, tasks: Tasks, sources: Iterable[Any]) -> Layer:
    """A layer on top of others and of arrays.

    >>> layer = make_layer("two", {("two", 0): (sum, [("one", 0), 1])},
    ...     [make_layer("one", {("one", 0): 1}, [])])
    >>> sorted(layer.dask.layers)
    ['one', 'two']
    """
    layers: dict[str, Any] = {}
    needed: dict[str, Any] = {}
    for source in sources:
        layers.update(source.dask.layers)
        needed.update(source.dask.dependencies)
        needed.setdefault(name, set()).add(source.name)
    needed.setdefault(name, set())
    return Layer(name, HighLevelGraph({**layers, name: tasks}, needed))


def array_layer(
    name: str,
    tasks: Mapping[tuple[int, ...], Any],
    sources: Iterable[Any],
    chunks: Sequence[tuple[int, ...]],
    dtype: np.dtype[Any],
) -> da.Array:
    """An array whose blocks are the results of tasks, by their indices."""
    keyed = {(name, *index): task for index, task in tasks.items()}
    graph = make_layer(name, keyed, sources).dask
    return da.Array(graph, name, tuple(chunks), meta=np.empty((0,) * len(chunks), dtype))


def tree(
    tasks: Tasks,
    base: tuple[Any, ...],
    keys: list[Any],
    combine: Callable[[list[Any]], Any],
    last: Callable[[list[Any]], Any],
) -> Any:
    """Add tasks that combine results in groups, in order; return the last such task.

    >>> tasks = {}
    >>> tree(tasks, ("sum",), list("abcdef"), lambda keys: (sum, keys), lambda keys: (max, keys))
    (<built-in function max>, [('sum', 0, 0), ('sum', 0, 1)])
    >>> tasks
    {('sum', 0, 0): (<built-in function sum>, ['a', 'b', 'c', 'd']), \
('sum', 0, 1): (<built-in function sum>, ['e', 'f'])}
    """
    level = 0
    while len(keys) > FAN_IN:
        groups = [keys[first : first + FAN_IN] for first in range(0, len(keys), FAN_IN)]
        keys = [(*base, level, position) for position in range(len(groups))]
        tasks.update(zip(keys, map(combine, groups), strict=True))
        level += 1
    return last(keys)
