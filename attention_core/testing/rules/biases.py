"""Rules about biases: each value depends only on its own pair of positions."""

from __future__ import annotations

from functools import partial
from itertools import product

import numpy as np

from attention_core import Bias, NotDifferentiableError
from attention_core.testing.bias_subject import BiasSubject
from attention_core.testing.report import Violation
from attention_core.testing.subject import (
    require_derivative,
    require_equal,
    require_thread_safe,
    rule,
)
from attention_core.typing import Array

__all__ = ["RULES"]


@rule(
    fix="broadcast query positions (..., l, 1) with key positions (..., s); if parameters differ "
    "between n heads, give the axis before these two length n"
)
def shape(subject: BiasSubject) -> None:
    """Values have shape (l, s), or (heads, l, s) if parameters differ between heads."""
    heads = subject.heads
    if len(heads) > 1:
        raise Violation(f"one pair of positions has values of shape {(*heads, 1, 1)}")
    for length, keys in [(5, 7), (1, 7), (5, 1)]:
        found = subject.tile(*subject.positions(length, keys)).shape
        if found != (*heads, length, keys):
            raise Violation(f"tile returned shape {found}, expected {(*heads, length, keys)}")


@rule(fix="compute each value from its own pair of positions, independently of the others")
def tiles(subject: BiasSubject) -> None:
    """Values computed in tiles equal those computed whole."""
    queries, keys = subject.positions(7, 11, first=3)
    whole = subject.tile(queries, keys)
    for height, width in [(3, 4), (1, 11), (7, 1), (1, 1)]:
        for row, column in product(range(0, 7, height), range(0, 11, width)):
            rows, columns = slice(row, row + height), slice(column, column + width)
            found = subject.tile(queries[rows], keys[:, columns])
            what = f"values of queries {row}:{row + height} and keys {column}:{column + width}"
            require_equal(f"{what} alone", found, whole[..., rows, columns])


@rule(fix="broadcast the positions: those of pairs have shapes (e, 1) and (e, 1), in any order")
def pairs(subject: BiasSubject) -> None:
    """Values of single pairs, for sparse masks, equal those of tiles."""
    queries, keys = subject.positions(5, 7)
    whole = subject.tile(queries, keys)
    rows, columns = np.array([4, 0, 2, 2, 1, 3]), np.array([0, 6, 3, 4, 1, 5])
    for count in (6, 1, 0):
        own = rows[:count], columns[:count]
        found = subject.tile(own[0][:, None], own[1][:, None])
        require_equal(f"values of {count} pairs", found[..., 0], whole[..., own[0], own[1]])


@rule(fix="broadcast the positions: batch axes come before those of heads and queries")
def offsets(subject: BiasSubject) -> None:
    """Query positions may differ between batch items."""
    heads = subject.heads
    queries, keys = subject.positions(5, 7)
    shifts = np.array([0, 9, -4]).reshape(3, *[1] * len(heads), 1, 1)
    found = subject.tile(queries + shifts, keys)
    for item, shift in enumerate((0, 9, -4)):
        own = np.broadcast_to(found, (3, *heads, 5, 7))[item]
        alone = subject.tile(queries + shift, keys)
        require_equal(f"values of queries shifted by {shift}", own, alone)


@rule(fix="guard logarithms and powers: a key may lie before or after a query, at any distance")
def finite(subject: BiasSubject) -> None:
    """Positions of any size and order have values that are neither NaN nor +inf."""
    for first in (-(2**40), -5, 0, 5, 2**40):
        found = subject.tile(*subject.positions(5, 7, first))
        if np.isnan(found).any() or (found == np.inf).any():
            raise Violation(f"queries from position {first} on have {found[~(found < np.inf)][0]}")


@rule(fix="write only into arrays that you create: a + b instead of a += b")
def no_mutation(subject: BiasSubject) -> None:
    """Positions and parameters are not modified."""
    queries, keys = subject.positions(5, 7)
    before = {name: array.copy() for name, array in subject.bias.parameters.items()}
    for array in (queries, keys):
        array.flags.writeable = False
    subject.tile(queries, keys)
    for name, array in subject.bias.parameters.items():
        if not np.array_equal(array, before[name], equal_nan=True):
            raise Violation(f"tile changed parameter {name!r}")


@rule(fix="keep nothing on self, and draw random numbers in the constructor")
def stateless(subject: BiasSubject) -> None:
    """The same positions have the same values, also after other calls."""
    positions = subject.positions(5, 7)
    with np.errstate(all="ignore"):
        first = np.asarray(subject.bias.tile(*positions))
    expected = first.copy()
    subject.tile(*subject.positions(7, 5, first=2))
    require_equal("values after another call", first, expected)
    require_equal("values of a second call", subject.bias.tile(*positions), expected)


@rule(fix="allocate memory in each call, or keep it in threading.local()")
def threads(subject: BiasSubject) -> None:
    """Concurrent calls from several threads give the same values."""
    inputs = [subject.positions(20, 30, first) for first in range(8)]
    what = "values computed while other threads call"
    require_thread_safe(what, lambda positions: subject.tile(*positions), inputs)


@rule(
    fix="let tile_vjp return, for every parameter that is an array, the sum of grad times the "
    "derivative of tile, also summed over the batch axes of grad"
)
def gradients(subject: BiasSubject) -> str | None:
    """Gradients agree with finite differences, for every parameter, with and without a batch."""
    if not subject.bias.parameters:
        return "there are no parameters"
    doubles = {name: array.astype(float) for name, array in subject.bias.parameters.items()}
    bias = subject.bias.with_parameters(doubles)
    tile = subject.positions(5, 7, first=1)
    pairs = np.array([[4], [0], [2], [2]]), np.array([[0], [6], [3], [3]])
    try:
        for positions, batch in ((tile, ()), (tile, (2,)), (pairs, ())):
            _require_gradients(subject, bias, positions, batch)
    except NotDifferentiableError:
        return "none are defined"
    return None


def _require_gradients(
    subject: BiasSubject, bias: Bias, positions: tuple[Array, Array], batch: tuple[int, ...]
) -> None:
    shape = np.broadcast_shapes(positions[0].shape, positions[1].shape)
    grad = subject.rng.standard_normal((*batch, *subject.heads, *shape))
    grad.flags.writeable = False
    found = bias.tile_vjp(*positions, grad)

    def loss(name: str, array: Array) -> float:
        return float((bias.with_parameters({name: array}).tile(*positions) * grad).sum())

    for name, array in bias.parameters.items():
        own = np.asarray(found.get(name, np.zeros(array.shape)))
        if own.shape != array.shape:
            raise Violation(
                f"the gradient of parameter {name!r} has shape {own.shape}, expected "
                f"{array.shape}, for a gradient of the tile {grad.shape}"
            )
        require_derivative(f"parameter {name!r}", own, partial(loss, name), array, subject.rng)


RULES = (
    shape, tiles, pairs, offsets, finite, no_mutation, stateless, threads, gradients,
)  # fmt: skip
