"""Random calls of `attend`: any scorer, shapes that broadcast, any combination of options."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import scipy.sparse
from cases import SCORERS, Case, make_case

__all__ = ["Call", "random_call", "shared_axes"]

Rng = np.random.Generator
cached_case = cache(make_case)


@dataclass
class Call:
    """A scorer, the arrays it is given, and the options."""

    case: Case
    query: Any
    key: Any
    value: Any
    options: dict[str, Any]

    def __repr__(self) -> str:
        shapes = [np.shape(array) for array in (self.query, self.key, self.value)]
        return f"{self.case.name} on {shapes} {self.query.dtype} with {self.options}"


def chance(rng: Rng, probability: float) -> bool:
    return bool(rng.random() < probability)


def shared_axes(rng: Rng, axes: tuple[int, ...]) -> tuple[int, ...]:
    """Batch axes of one array: some of length 1, some leading axes omitted."""
    axes = tuple(1 if chance(rng, 0.2) else n for n in axes)
    return axes[int(rng.integers(len(axes) + 1)) if chance(rng, 0.3) else 0 :]


def random_call(rng: Rng, *, dtypes: Any = (np.float64,), scorers: Any = SCORERS) -> Call:
    """A call that is small enough for the oracle."""
    case = cached_case(str(rng.choice(list(scorers))))
    batch = [(), (2,), (2, 3), (1, 2)][int(rng.integers(4))]
    large = chance(rng, 0.1)  # so many keys that a few of them are computed on edges
    n_queries = int(rng.integers(0, 13 if large else 7))
    n_keys = int(rng.integers(20, 48)) if large else int(rng.integers(0, 8))
    n_values = int(rng.integers(1, 4))
    is_single = chance(rng, 0.1)
    rows = () if is_single else (n_queries,)
    dtype = dtypes[int(rng.integers(len(dtypes)))]

    def array(*shape: int) -> Any:
        numbers = np.clip(rng.standard_normal(shape), -4, 4).astype(dtype)
        if chance(rng, 0.2):
            numbers = np.asfortranarray(numbers)
        if chance(rng, 0.1) and numbers.ndim > 1:
            numbers = np.repeat(numbers, 2, axis=-1)[..., ::2]
        return numbers

    query_axes = () if is_single else shared_axes(rng, batch)
    query = array(*query_axes, *rows, case.query_dim)
    key = array(*shared_axes(rng, batch), n_keys, case.key_dim)
    value = array(*shared_axes(rng, batch), n_keys, n_values)
    batch = np.broadcast_shapes(query.shape[: -1 - len(rows)], key.shape[:-2], value.shape[:-2])
    options = random_options(rng, batch, rows, n_keys, few=large)
    return Call(case, query, key, value, options)


def random_options(
    rng: Rng, batch: tuple[int, ...], rows: tuple[int, ...], n_keys: int, *, few: bool
) -> dict[str, Any]:
    """Any combination of options, for weights of shape (*batch, *rows, n_keys)."""
    shape = (*batch, *rows, n_keys)
    density = 0.1 if few else 0.7

    def spread() -> tuple[int, ...]:
        axes = tuple(1 if chance(rng, 0.2) else n for n in shape)
        return axes[int(rng.integers(len(axes) + 1)) if chance(rng, 0.3) else 0 :]

    def per_item(low: int, high: int) -> Any:
        if chance(rng, 0.5):
            return int(rng.integers(low, high + 1))
        axes = batch[: int(rng.integers(len(batch) + 1))]
        kind = rng.choice(["i4", "i8", "u1"] if low >= 0 else ["i2", "i8"])
        return rng.integers(low, high + 1, axes).astype(kind)

    def mask() -> Any:
        kind = int(rng.integers(3))
        if kind == 0:
            return rng.random(spread()) < density
        if kind == 1:
            return lambda i, j: (2 * i + j) % 3 != 0
        edges = rng.random((*(rows or (1,)), n_keys)) < density
        return scipy.sparse.coo_array(edges).asformat(str(rng.choice(["csr", "csc", "coo"])))

    def bias() -> Any:
        return rng.standard_normal(spread()) if chance(rng, 0.6) else lambda i, j: 0.25 * (i - j)

    def side() -> int | None:
        return None if chance(rng, 0.3) else int(rng.integers(0, 5))

    makers = {
        "mask": mask,
        "bias": bias,
        "key_lengths": lambda: per_item(0, n_keys),
        "query_lengths": lambda: per_item(0, rows[0] if rows else 1),
        "is_causal": lambda: True,
        "query_offset": lambda: per_item(-3, 6),
        "window": lambda: (side(), side()),
        "softcap": lambda: float(rng.uniform(0.5, 50)),
        "tile": lambda: tuple(int(n) for n in rng.integers(1, 9, 2)),
        "workers": lambda: int(rng.integers(1, 4)),
    }
    return {name: make() for name, make in makers.items() if chance(rng, 0.3)}
