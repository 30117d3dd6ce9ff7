"""Keys that are projected once, for the steps of a decoder."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from attention_core.arrays.inputs import as_array, check_key_and_value, computing_dtype, to_numpy
from attention_core.arrays.quiet import quiet_context
from attention_core.arrays.rows import Rows
from attention_core.arrays.scalars import is_integer
from attention_core.errors import DTypeError, OptionError, OptionTypeError, ShapeError, shown
from attention_core.scoring.contract import project
from attention_core.scoring.scorer import Scorer
from attention_core.typing import Array

__all__ = ["Memory"]


class Memory:
    """Projected keys and their values, to which more can be appended.

    `Attention.memory` makes it. Each key is projected once. Appending copies only the new keys and
    values, in amortized constant time per key. Later writes to the original arrays have no effect.
    If the scorer projects keys, the original keys are kept too, for gradients.

    Results do not change when the memory does. `copy.copy` takes constant time: copies share the
    present keys, and are independent of each other. Memories can be pickled and deep-copied too.

    Parameters
    ----------
    scorer
        The scorer that projects the keys. The memory serves this scorer and equal ones.
    key : (..., S, Dk)
    value : (..., S, Dv)
        S may be 0.

    Raises
    ------
    OptionTypeError
        For anything but a `Scorer`.
    ShapeError, DTypeError
        For keys and values that do not fit each other.

    Notes
    -----
    Keys are projected in their own precision: float64 for float64 and integers, float32 for float32
    and half precision. The result for a float64 query is float64, but if the scorer projects keys,
    as `additive` does, float32 keys limit its accuracy to float32.

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
        if not isinstance(scorer, Scorer):
            raise OptionTypeError(
                f"scorer must be a Scorer, got {shown(scorer)}; memories by name are made by "
                f"Attention(scorer).memory(key, value)"
            )
        self.scorer = scorer
        key, value = as_array("key", key), as_array("value", value)
        check_key_and_value(key, value)
        self.computing_dtype, self.dtype = computing_dtype(key.dtype, value.dtype)
        self.key_dim: int = key.shape[-1]
        """Dk, the features of a key before projection."""
        self._keys = Rows(self._projected(key).copy())  # (..., S, H)
        self._given = None  # gradients go through the projection, which needs the given keys
        if scorer.traits.projects_key:
            self._given = Rows(key.astype(self.computing_dtype))  # (..., S, Dk)
        self._values = Rows(value.astype(self.computing_dtype))  # (..., S, Dv)

    def __len__(self) -> int:
        """S, the number of keys."""
        return len(self._keys)

    def __repr__(self) -> str:
        return f"Memory({self.scorer}, key {self.given_key.shape}, value {self.value.shape})"

    @property
    def key(self) -> Array:
        """The projected keys: (..., S, H)."""
        return self._keys.array

    @property
    def given_key(self) -> Array:
        """The keys before projection, in the dtype of the computation: (..., S, Dk)."""
        return self._keys.array if self._given is None else self._given.array

    @property
    def value(self) -> Array:
        """The values, in the dtype of the computation: (..., S, Dv)."""
        return self._values.array

    @property
    def nbytes(self) -> int:
        """The size of keys and values in bytes, including reserved rows; copies share them."""
        parts = (self._keys, self._given, self._values)
        return sum(rows.nbytes for rows in parts if rows is not None)

    def serves(self, scorer: Scorer) -> bool:
        """Whether the memory was made for this scorer or an equal one."""
        if scorer is not self.scorer:
            # not ==, since a dataclass would compare arrays
            if Scorer.__eq__(scorer, self.scorer) is not True:
                return False
            self.scorer = scorer  # compared once
        return True

    def append(self, key: ArrayLike, value: ArrayLike) -> None:
        """Append keys (..., n, Dk) and their values (..., n, Dv); 1-D arrays are one key and value.

        Raises
        ------
        ShapeError, DTypeError
            For arrays that do not fit the memory, which then does not change.

        Examples
        --------
        >>> import numpy as np
        >>> import attention_core as ac
        >>> memory = ac.Attention("dot").memory(np.eye(2), np.eye(2))
        >>> memory.append([1.0, 1.0], [0.5, 0.5])
        >>> memory.value
        array([[1. , 0. ],
               [0. , 1. ],
               [0.5, 0.5]])
        """
        key, value = as_array("key", key), as_array("value", value)
        if key.ndim == value.ndim == 1:
            key, value = key[None, :], value[None, :]
        check_key_and_value(key, value)
        if key.shape[-1] != self.key_dim:
            raise ShapeError(
                f"key to append must have shape (..., n, {self.key_dim}), got {key.shape}"
            )
        if value.shape[-1] != self.value.shape[-1]:
            raise ShapeError(
                f"value to append must have shape (..., n, {self.value.shape[-1]}), "
                f"got {value.shape}"
            )
        _check_batch("key", self.key.shape, key.shape)
        _check_batch("value", self.value.shape, value.shape)
        if computing_dtype(self.dtype, key.dtype, value.dtype)[1] != self.dtype:
            raise DTypeError(
                f"the memory holds {self.dtype}, which cannot keep the digits of key {key.dtype} "
                f"and value {value.dtype}: convert them, or make the memory from wider arrays"
            )
        self._keys, self._given, self._values = (
            self._keys.extended(self._projected(key)),
            None if self._given is None else self._given.extended(key),
            self._values.extended(value),
        )

    def take(self, indices: ArrayLike, axis: int = 0) -> Self:
        """Make a memory of some batch items, in any order and with repetitions, as for beam search.

        Parameters
        ----------
        indices : (n,) integers
            The batch items; negative indices count from the end.
        axis
            The batch axis; negative axes count from the last.

        Returns
        -------
        Memory
            An independent memory. Keys or values that broadcast along the axis still do.

        Raises
        ------
        OptionError, OptionTypeError, ShapeError
            For batch items and axes that the memory does not have.

        Examples
        --------
        >>> import numpy as np
        >>> import attention_core as ac
        >>> words = np.arange(6.0).reshape(3, 2, 1)  # 3 hypotheses of 2 words
        >>> memory = ac.Attention("dot").memory(words, words)
        >>> best = memory.take([2, 0, 0])
        >>> best.value[..., 0]
        array([[4., 5.],
               [0., 1.],
               [0., 1.]])
        """
        batch = np.broadcast_shapes(self.key.shape[:-2], self.value.shape[:-2])
        from_end = _checked_axis(axis, len(batch)) - len(batch)  # batch axes align at their ends
        count = batch[from_end]
        chosen = _checked_indices(indices, count)

        def taken(rows: Rows) -> Rows:
            shape = rows.array.shape[:-2]
            if len(shape) < -from_end or shape[from_end] != count:
                return rows  # it broadcasts
            return rows.taken(chosen, from_end - 2)

        memory = object.__new__(type(self))
        memory.__dict__.update(self.__dict__)
        memory._keys, memory._values = taken(self._keys), taken(self._values)
        memory._given = None if self._given is None else taken(self._given)
        return memory

    def truncate(self, length: int) -> None:
        """Keep the first `length` keys and values, as for rejected guesses of speculative decoding.

        It takes constant time; the next `append` copies the remaining keys once.

        Raises
        ------
        OptionError, OptionTypeError
            For a length that is not an integer from 0 to the number of keys.

        Examples
        --------
        >>> import numpy as np
        >>> import attention_core as ac
        >>> memory = ac.Attention("dot").memory(np.eye(3), np.eye(3))
        >>> memory.truncate(2)
        >>> memory.value
        array([[1., 0., 0.],
               [0., 1., 0.]])
        """
        if not is_integer(length):
            raise OptionTypeError(f"length must be an integer, got {shown(length)}")
        kept = int(length)
        if not 0 <= kept <= len(self):
            raise OptionError(
                f"length must be from 0 to the number of keys, {len(self)}, got {shown(length)}"
            )
        self._keys, self._given, self._values = (
            self._keys.truncated(kept),
            None if self._given is None else self._given.truncated(kept),
            self._values.truncated(kept),
        )

    def clear(self) -> None:
        """Remove all keys and values, and free their memory; batch axes are kept.

        Examples
        --------
        >>> import numpy as np
        >>> import attention_core as ac
        >>> memory = ac.Attention("dot").memory(np.eye(3), np.eye(3))
        >>> memory.clear()
        >>> len(memory), memory.nbytes
        (0, 0)
        """
        self._keys, self._given, self._values = (
            Rows(self.key[..., :0, :].copy()),
            None if self._given is None else Rows(self.given_key[..., :0, :].copy()),
            Rows(self.value[..., :0, :].copy()),
        )

    def _projected(self, key: Array) -> Array:
        key = key.astype(self.computing_dtype, copy=False)
        return quiet_context().run(project, self.scorer, "project_key", key)


def _check_batch(name: str, kept: tuple[int, ...], given: tuple[int, ...]) -> None:
    """Raise `ShapeError` unless rows to append broadcast to the present batch axes."""
    own, batch = given[:-2], kept[:-2]
    if own == batch:
        return
    if len(own) > len(batch) or any(
        size not in (1, whole) for size, whole in zip(own[::-1], batch[::-1], strict=False)
    ):
        raise ShapeError(
            f"{name} to append must have batch axes that broadcast to {batch}, got {own}"
        )


def _checked_axis(axis: Any, count: int) -> int:
    if not is_integer(axis):
        raise OptionTypeError(f"axis must be an integer, got {shown(axis)}")
    if not count:
        raise OptionError("take needs a batch axis, and the memory has none")
    position = int(axis)
    if not -count <= position < count:
        raise OptionError(
            f"axis must be one of the {count} batch axes of the memory, got {shown(axis)}"
        )
    return position % count


def _checked_indices(indices: ArrayLike, count: int) -> Array:
    """Batch items (n,) from 0 on."""
    index = to_numpy("indices", indices)
    if index.ndim != 1:
        raise ShapeError(f"indices must have shape (n,), got {index.shape}")
    if not index.size:
        index = index.astype(np.intp)  # the dtype of an empty list is not that of integers
    if index.dtype.kind not in "iu":
        raise OptionTypeError(f"indices must be integers, got dtype {index.dtype}")
    beyond = index[(index < -count) | (index >= count)]
    if beyond.size:
        raise OptionError(f"indices: batch item {beyond[0]} is out of bounds for {count} items")
    return index.astype(np.intp)
