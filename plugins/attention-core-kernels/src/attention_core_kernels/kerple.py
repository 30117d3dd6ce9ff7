"""Kernelized relative position biases, with parameters for each head."""

from __future__ import annotations

from typing import Any

import numpy as np
from attention_core import Bias
from attention_core.learned import parameter
from numpy.typing import ArrayLike, NDArray

__all__ = ["KerpleBias"]

Array = NDArray[Any]


class KerpleBias(Bias):
    """``bias_ij = -|amplitude| log(1 + |rate| |j - i|)``, a logarithmic penalty on distance.

    Added to scores, it multiplies exponentials by the kernel ``(1 + |rate| d)^-|amplitude|``.
    Trained on short contexts, it extends to longer ones.

    Parameters
    ----------
    amplitude, rate : (heads,) or ()
        One for each head, or one for all; both are learned. Only their magnitudes count, so every
        step of an optimizer leads to a valid kernel.

    Raises
    ------
    ScorerConfigError
        For anything but real numbers, one for each head or one for all.

    References
    ----------
    Chi et al. 2022, "KERPLE: Kernelized Relative Positional Embedding for Length Extrapolation",
    arXiv:2205.09921; this is its logarithmic variant.

    Examples
    --------
    >>> KerpleBias(amplitude=2.0).tile(np.array([[0]]), np.array([[0, 1, 3, 7]])).round(3)
    array([[-0.   , -1.386, -2.773, -4.159]])
    """

    name = "kerple"

    def __init__(self, amplitude: ArrayLike = 1.0, rate: ArrayLike = 1.0) -> None:
        self.amplitude = _per_head("amplitude", amplitude)
        self.rate = _per_head("rate", rate)

    def tile(self, query_positions: Array, key_positions: Array) -> Array:
        """The bias of a tile: (l, s), or (heads, l, s)."""
        distances = np.abs(key_positions - query_positions)  # (..., l, s)
        biases: Array = -_magnitudes(self.amplitude) * np.log1p(_magnitudes(self.rate) * distances)
        return biases

    def tile_vjp(
        self, query_positions: Array, key_positions: Array, grad: Array
    ) -> dict[str, Array]:
        """Gradients of both parameters, from the gradient of a tile: (..., l, s)."""
        distances = np.abs(key_positions - query_positions)
        grown = _magnitudes(self.rate) * distances  # (..., l, s)
        of_amplitude = grad * np.log1p(grown)
        of_rate = grad * (_magnitudes(self.amplitude) * distances / (1 + grown))
        return {
            "amplitude": -np.sign(self.amplitude) * _summed(of_amplitude, self.amplitude.shape),
            "rate": -np.sign(self.rate) * _summed(of_rate, self.rate.shape),
        }


def _per_head(name: str, value: ArrayLike) -> Array:
    return parameter(name, value, "heads" if np.ndim(value) else "")


def _magnitudes(numbers: Array) -> Array:
    """Absolute values, shaped to broadcast to tiles."""
    magnitudes: Array = np.abs(numbers)[..., None, None]
    return magnitudes


def _summed(products: Array, shape: tuple[int, ...]) -> Array:
    """Sums over tiles (..., heads, l, s), in the shape of a parameter."""
    sums: Array = products.sum(axis=(-2, -1))
    axes = 1 if shape in ((), (1,)) else shape[-1]  # one number is for all heads
    found: Array = sums.reshape(-1, axes).sum(axis=0).reshape(shape)
    return found
