"""Types for annotations: what `attend` takes as a mask, a bias or a scorer, and returns as weights.

They are precise for type checkers. At run time they are `typing.Any`, so importing them imports
neither SciPy nor the scorers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from typing import TypeAlias

    from scipy.sparse import coo_array, csr_array, sparray, spmatrix

    from attention_core.components.bias import Bias
    from attention_core.masking.factors import Dropout
    from attention_core.masking.neighborhood import Neighborhood
    from attention_core.masking.packing import Packing
    from attention_core.normalizing.normalizer import Normalizer
    from attention_core.scoring.scorer import Scorer

__all__ = [
    "Array",
    "BiasLike",
    "FactorsLike",
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
    MaskLike: TypeAlias = ArrayLike | sparray | spmatrix | PairFunction | Packing | Neighborhood
    BiasLike: TypeAlias = (
        ArrayLike | sparray | spmatrix | PairFunction | str | Mapping[str, Any] | Bias
    )
    FactorsLike: TypeAlias = ArrayLike | sparray | spmatrix | PairFunction | Dropout
    NormalizerLike: TypeAlias = str | Mapping[str, Any] | Normalizer
    ScorerLike: TypeAlias = str | Mapping[str, Any] | Scorer
    Weights: TypeAlias = Array | csr_array[Any, Any] | coo_array[Any, Any]
else:
    MaskLike = BiasLike = FactorsLike = NormalizerLike = ScorerLike = Weights = Any
