"""Arrays of JAX to those of NumPy and back."""

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
    """Whether one of them has no numbers yet: inside of ``jit``, ``grad`` or ``vmap``."""
    return any(isinstance(array, jax.core.Tracer) for array in arrays)


def to_array(name: str, given: Any) -> Any:
    """The numbers of a JAX array; anything else as it is.

    Raises
    ------
    DTypeError
        For an array that is not in main memory, and one of another library.

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
    """An array of JAX for an array; a dense one for a sparse array.

    >>> to_jax(np.ones(2, np.float32))
    Array([1., 1.], dtype=float32)
    """
    return jnp.asarray(found.toarray() if is_sparse(found) else found)
