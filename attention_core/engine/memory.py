"""Keys projected once, for a decoder that asks them step after step."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from attention_core.arrays.inputs import as_array, check_key_and_value, computing_dtype
from attention_core.errors import DTypeError, ShapeError
from attention_core.scoring.contract import project
from attention_core.scoring.scorer import Scorer
from attention_core.typing import Array

__all__ = ["Memory"]


class Memory:
    """Prepared keys and their values; grows at the end.

    Made by `Attention.memory`. The keys are projected when they come in, never again. Appending
    copies the new keys and values only, in amortised constant time per key; results taken before
    an append keep what they saw. Later writes to the arrays given change nothing. Keys that the
    scorer projects are also kept as they came, so that gradients are those of what was given.

    Parameters
    ----------
    scorer
        The scorer the keys are prepared for. The memory serves this very object, not another that
        was made in the same way.
    key : (..., S, Dk)
    value : (..., S, Dv)
        S may be 0.

    Raises
    ------
    ShapeError, DTypeError
        For keys and values that do not fit together.

    Notes
    -----
    The dtype of key and value decides what the projection is computed in: float64 for float64 and
    integers, float32 for float32 and half precision. A float64 query gets a float64 result from
    any memory, but where the scorer projects keys, as `additive` does, and they came in float32,
    the result has the accuracy of float32. Make the memory of float64 keys to have all digits.

    Examples
    --------
    >>> import numpy as np
    >>> import attention_core as ac
    >>> attention = ac.Attention("dot")
    >>> memory = attention.memory(np.eye(2), np.eye(2))
    >>> memory.append(np.ones((1, 2)), np.zeros((1, 2)))
    >>> len(memory)
    3
    >>> attention(np.array([0.0, 0.0]), memory).weights.round(3)
    array([0.333, 0.333, 0.333])
    """

    def __init__(self, scorer: Scorer, key: ArrayLike, value: ArrayLike) -> None:
        self.scorer = scorer
        key, value = as_array("key", key), as_array("value", value)
        check_key_and_value(key, value)
        self.computing_dtype, self.dtype = computing_dtype(key.dtype, value.dtype)
        self.key_dim: int = key.shape[-1]
        """Dk, the features of a key before projection."""
        self._length: int = key.shape[-2]
        self._keys = self._projected(key).copy()  # (..., capacity, H)
        self._given = None  # gradients go through the projection, so it keeps what it was given
        if type(scorer).project_key is not Scorer.project_key:
            self._given = key.astype(self.computing_dtype)  # (..., capacity, Dk)
        self._values = value.astype(self.computing_dtype)  # (..., capacity, Dv)

    def __len__(self) -> int:
        """S, the number of keys."""
        return self._length

    def __repr__(self) -> str:
        return f"Memory({self.scorer}, key {self.key.shape}, value {self.value.shape})"

    @property
    def key(self) -> Array:
        """The projected keys: (..., S, H)."""
        return self._keys[..., : self._length, :]

    @property
    def given_key(self) -> Array:
        """The keys before projection, in the dtype computed in: (..., S, Dk)."""
        given = self._keys if self._given is None else self._given
        return given[..., : self._length, :]

    @property
    def value(self) -> Array:
        """The values, in the dtype computed in: (..., S, Dv)."""
        return self._values[..., : self._length, :]

    def append(self, key: ArrayLike, value: ArrayLike) -> None:
        """Add keys (..., n, Dk) and their values (..., n, Dv); 1-D arrays are one key and value.

        Raises
        ------
        ShapeError, DTypeError
            For arrays that do not continue those of the memory, which then stays as it was.
        """
        key, value = as_array("key", key), as_array("value", value)
        if key.ndim == value.ndim == 1:
            key, value = key[None, :], value[None, :]
        check_key_and_value(key, value)
        if key.shape[-1] != self.key_dim:
            raise ShapeError(
                f"key to append must have shape (..., n, {self.key_dim}), got {key.shape}"
            )
        if value.shape[-1] != self._values.shape[-1]:
            raise ShapeError(
                f"value to append must have shape (..., n, {self._values.shape[-1]}), "
                f"got {value.shape}"
            )
        if computing_dtype(self.dtype, key.dtype, value.dtype)[1] != self.dtype:
            raise DTypeError(
                f"the memory holds {self.dtype}, which cannot keep the digits of key {key.dtype} "
                f"and value {value.dtype}: convert them, or make the memory from wider arrays"
            )
        projected = self._projected(key)
        keys = _with_rows("key", self._keys, self._length, projected)
        if self._given is not None:
            self._given = _with_rows("key", self._given, self._length, key)
        self._values = _with_rows("value", self._values, self._length, value)
        self._keys = keys
        self._length += key.shape[-2]

    def _projected(self, key: Array) -> Array:
        key = key.astype(self.computing_dtype, copy=False)
        with np.errstate(all="ignore"):  # NaN and Inf in the inputs are results, not accidents
            return project(self.scorer, "project_key", key)


def _with_rows(name: str, buffer: Array, length: int, rows: Array) -> Array:
    """The buffer with rows written after its first `length`; copied to a larger one if need be."""
    count = length + rows.shape[-2]
    try:
        fitted = np.broadcast_to(rows, (*buffer.shape[:-2], *rows.shape[-2:]))
    except ValueError:
        raise ShapeError(
            f"{name} to append must have batch axes that broadcast to {buffer.shape[:-2]}, "
            f"got {rows.shape[:-2]}"
        ) from None
    if count > buffer.shape[-2]:
        larger = np.empty((*buffer.shape[:-2], 2 * count, buffer.shape[-1]), buffer.dtype)
        larger[..., :length, :] = buffer[..., :length, :]
        buffer = larger
    buffer[..., length:count, :] = fitted
    return buffer
