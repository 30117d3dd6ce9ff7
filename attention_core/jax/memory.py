"""Keys and values as JAX arrays, projected once, for the steps of a decoder."""

from __future__ import annotations

from copy import copy
from typing import Any, Self

from attention_core.arguments import checked_arguments
from attention_core.arrays.adapters import check_library
from attention_core.errors import OptionError
from attention_core.jax.arrays import is_traced, to_array, to_jax

__all__ = ["JaxMemory"]


class JaxMemory:
    """A memory of JAX arrays: an `attention_core.Memory` or the memory of a layer.

    It is mutable and holds concrete arrays, so it is made and used outside ``jit`` and ``grad``.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import attention_core as ac
    >>> attention = ac.Attention("dot")
    >>> memory = attention.memory(jnp.eye(2), jnp.eye(2))
    >>> memory.append(jnp.ones((1, 2)), jnp.zeros((1, 2)))
    >>> attention(jnp.zeros(2), memory).context
    Array([0.33333334, 0.33333334], dtype=float32)
    """

    def __init__(self, core: Any, key: Any, value: Any) -> None:
        self.memory: Any = core.memory(*_numbers(key, value))
        """The memory of NumPy arrays: a `Memory` or a `MultiHeadMemory`."""

    def __len__(self) -> int:
        """S, the number of keys."""
        return len(self.memory)

    def __repr__(self) -> str:
        return f"JaxMemory({self.memory!r})"

    def __copy__(self) -> Self:
        """An independent memory that shares the present keys."""
        return self._with(copy(self.memory))

    @property
    def key(self) -> Any:
        """The keys before projection: (..., S, Dk)."""
        return to_jax(getattr(self.memory, "given_key", self.memory.key))

    @property
    def value(self) -> Any:
        """The values: (..., S, Dv)."""
        return to_jax(self.memory.value)

    @checked_arguments
    def append(self, key: Any, value: Any) -> None:
        """Append keys (..., n, Dk) and their values (..., n, Dv); see `Memory.append`."""
        for name, array in (("key", key), ("value", value)):
            check_library(name, array, "jax", "the memory")
        self.memory.append(*_numbers(key, value))

    @checked_arguments
    def take(self, indices: Any, axis: int = 0) -> Self:
        """Make a memory of some batch items, in any order and with repetitions: `Memory.take`."""
        return self._with(self.memory.take(to_array("indices", indices), axis))

    @checked_arguments
    def truncate(self, length: int) -> None:
        """Keep the first `length` keys and values: see `Memory.truncate`."""
        self.memory.truncate(length)

    def clear(self) -> None:
        """Remove all keys and values, and free their memory; batch axes are kept."""
        self.memory.clear()

    def _with(self, memory: Any) -> Self:
        made = object.__new__(type(self))
        made.memory = memory
        return made


def _numbers(key: Any, value: Any) -> tuple[Any, Any]:
    if is_traced(key, value):
        raise OptionError(
            "a memory holds concrete arrays: make it outside jax.jit, jax.grad and jax.vmap; "
            "inside, give keys and values to the call"
        )
    return to_array("key", key), to_array("value", value)
