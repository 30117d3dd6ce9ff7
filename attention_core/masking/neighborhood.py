"""Neighborhoods on grids: each query attends to the keys near it, in one to three dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from attention_core.arguments import checked_arguments
from attention_core.arrays.inputs import LARGEST
from attention_core.arrays.scalars import is_integer
from attention_core.errors import OptionError, OptionTypeError, shown
from attention_core.masking.condition import MaskObject

__all__ = ["Neighborhood"]


class Neighborhood(MaskObject):
    """A mask with which each position of a grid attends to the positions near it.

    Queries and keys are the positions of a grid of one to three dimensions, such as the pixels of
    an image, in row-major order. Given as ``mask=``, a query at i may attend to a key at j if in
    every dimension ``|j - i| <= radius * dilation`` and ``j - i`` is a multiple of `dilation`. At
    the border a neighborhood is cut off, not shifted. Work is proportional to the number of
    neighbors.

    Parameters
    ----------
    grid : tuple of 1 to 3 integers
        The extent of each dimension, ``(height, width)`` for images.
    radius : integer, or one per dimension
        The number of neighbors on each side.
    dilation : integer, or one per dimension
        The distance between neighbors.
    is_causal : bool, or one per dimension
        Whether keys beyond the coordinate of the query are excluded. The ``is_causal=True`` of
        `attend` instead excludes keys beyond the query in row-major order; both can be combined.

    Raises
    ------
    OptionTypeError, OptionError
        For anything else.

    Notes
    -----
    Weights and scores are sparse arrays that store the neighbors, as with a sparse mask. Queries
    may be fewer than positions: they begin at position `query_offset`, one integer. Keys may end
    before the grid does, so a memory can grow along it. The literature calls this neighborhood
    attention or sliding window attention.

    References
    ----------
    Hassani et al. 2023, arXiv:2204.07143. Hassani and Shi 2022, arXiv:2209.15001, for dilation.
    Parmar et al. 2018, arXiv:1802.05751.

    Examples
    --------
    >>> import numpy as np
    >>> import attention_core as ac
    >>> cross = ac.Neighborhood(grid=(3, 3), radius=(1, 0))  # above, here, below
    >>> x = np.ones((9, 2))
    >>> result = ac.attend(x, x, x, scorer="dot", mask=cross)
    >>> result.weights.toarray()[4].reshape(3, 3).round(2)
    array([[0.  , 0.33, 0.  ],
           [0.  , 0.33, 0.  ],
           [0.  , 0.33, 0.  ]])
    """

    grid: tuple[int, ...]
    radius: tuple[int, ...]
    dilation: tuple[int, ...]
    is_causal: tuple[bool, ...]

    @checked_arguments
    def __init__(
        self,
        grid: Sequence[int],
        radius: int | Sequence[int],
        dilation: int | Sequence[int] = 1,
        is_causal: bool | Sequence[bool] = False,
    ) -> None:
        self.grid = _integers("grid", grid, len(grid) if isinstance(grid, _SEQUENCES) else 0, 1)
        if not 1 <= len(self.grid) <= 3:
            raise OptionError(f"grid must have one to three dimensions, got {shown(grid)}")
        if prod(self.grid) > LARGEST:
            raise OptionError(f"grid must have at most 2**61 positions, got {shown(grid)}")
        self.radius = _integers("radius", radius, len(self.grid), 0)
        self.dilation = _integers("dilation", dilation, len(self.grid), 1)
        self.is_causal = _flags("is_causal", is_causal, len(self.grid))

    def inside_grid(self) -> Neighborhood:
        """An equivalent neighborhood whose radius and dilation do not leave the grid."""
        steps = zip(self.grid, self.radius, self.dilation, strict=True)
        return Neighborhood(
            self.grid,
            [min(radius, (extent - 1) // dilation) for extent, radius, dilation in steps],
            list(map(min, self.dilation, self.grid)),
            self.is_causal,
        )

    def _key(self) -> tuple[Any, ...]:
        return self.grid, self.radius, self.dilation, self.is_causal

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, Neighborhood) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        options = "".join(
            f", {name}={own!r}"
            for name, own, default in (
                ("dilation", self.dilation, 1),
                ("is_causal", self.is_causal, False),
            )
            if any(each != default for each in own)
        )
        return f"Neighborhood(grid={self.grid!r}, radius={self.radius!r}{options})"


_SEQUENCES = (list, tuple, np.ndarray)


def _integers(name: str, value: Any, count: int, least: int) -> tuple[int, ...]:
    """One integer of at least `least` for each dimension."""
    numbers = tuple(value) if isinstance(value, _SEQUENCES) else (value,) * count
    if not numbers or not all(map(is_integer, numbers)):
        raise OptionTypeError(f"{name} must be integers, one per dimension, got {shown(value)}")
    if len(numbers) != count:
        raise OptionError(
            f"{name} must have one number for each of {count} dimensions, got {shown(value)}"
        )
    if min(numbers) < least:
        raise OptionError(f"{name} must be at least {least}, got {shown(value)}")
    return tuple(map(int, numbers))


def _flags(name: str, value: Any, count: int) -> tuple[bool, ...]:
    """One bool for each dimension."""
    flags = tuple(value) if isinstance(value, (list, tuple)) else (value,) * count
    if not all(isinstance(flag, (bool, np.bool_)) for flag in flags):
        raise OptionTypeError(
            f"{name} must be True or False, or one per dimension, got {shown(value)}"
        )
    if len(flags) != count:
        raise OptionError(
            f"{name} must have one for each of {count} dimensions, got {shown(value)}"
        )
    return tuple(map(bool, flags))
