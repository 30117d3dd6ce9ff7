"""Types for annotations: what `attend` takes as a mask, a bias or a scorer, and returns as weights.

They are precise for type checkers. At run time they are `typing.Any`, so that importing them
imports neither SciPy nor the scorers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from typing import TypeAlias

    from scipy.sparse import coo_array, csr_array, sparray, spmatrix

    from attention_core.masking.packing import Packing
    from attention_core.normalizing.normalizer import Normalizer
    from attention_core.scoring.scorer import Scorer

__all__ = [
    "Array",
    "BiasLike",
    "MaskLike",
    "NormalizerLike",
    "PairFunction",
    "ScorerLike",
    "Weights",
]

Array = NDArray[Any]
"""A NumPy array of any dtype and shape."""

PairFunction = Callable[[Array, Array], ArrayLike]
"""A mask or bias as an elementwise function of (query_positions, key_positions)."""

if TYPE_CHECKING:
    MaskLike: TypeAlias = ArrayLike | sparray | spmatrix | PairFunction | Packing
    BiasLike: TypeAlias = ArrayLike | PairFunction
    NormalizerLike: TypeAlias = str | Mapping[str, Any] | Normalizer
    ScorerLike: TypeAlias = str | Mapping[str, Any] | Scorer
    Weights: TypeAlias = Array | csr_array[Any, Any] | coo_array[Any, Any]
else:
    MaskLike = BiasLike = NormalizerLike = ScorerLike = Weights = Any
