"""Conversion of JAX arrays to NumPy arrays and back."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from attention_core.arrays.adapters import check_library, library_of
from attention_core.arrays.inputs import is_sparse
from attention_core.errors import DTypeError

__all__ = ["is_traced", "to_array", "to_jax"]


def is_traced(*arrays: Any) -> bool:
    """Whether any array is traced, and thus has no values: inside ``jit``, ``grad`` or ``vmap``."""
    return any(isinstance(array, jax.core.Tracer) for array in arrays)


def to_array(name: str, given: Any) -> Any:
    """Convert a JAX array to a NumPy array; return anything else unchanged.

    Raises
    ------
    DTypeError
        For an array that is not in main memory, or is of another library.

    Examples
    --------
    >>> to_array("query", jnp.ones(2))
    array([1., 1.], dtype=float32)
    """
    if library_of(given) != "jax":
        if library_of(given):
            check_library(name, given, "jax")
        return given
    for device in given.devices():
        if device.platform != "cpu":
            raise DTypeError(
                f"{name} is on device {str(device)!r}, and attention is computed in main memory: "
                f"call jax.device_put({name}, jax.devices('cpu')[0])"
            )
    return np.asarray(given)


def to_jax(found: Any) -> Any:
    """Convert an array to a JAX array; a sparse array becomes dense.

    >>> to_jax(np.ones(2, np.float32))
    Array([1., 1.], dtype=float32)
    """
    return jnp.asarray(found.toarray() if is_sparse(found) else found)
