"""Types for annotations: what `attend` takes as a mask, a bias or a scorer, and returns as weights.

They are precise for type checkers. At run time they are `typing.Any`, so that importing them
imports neither SciPy nor the scorers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import ArrayLike, NDArray

__all__ = ["Array", "PairFunction"]

Array = NDArray[Any]
"""A NumPy array of any dtype and shape."""

PairFunction = Callable[[Array, Array], ArrayLike]
"""A mask or bias as an elementwise function of (query_positions, key_positions)."""
