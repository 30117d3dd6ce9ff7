"""Keys and values as tensors, projected once, for the steps of a decoder."""

from __future__ import annotations

from copy import copy
from typing import Any, Self

import torch

from attention_core.arguments import checked_arguments
from attention_core.arrays.adapters import check_library
from attention_core.torch.tensors import to_array, to_tensor

__all__ = ["TensorMemory"]


class TensorMemory:
    """A memory of tensors: an `attention_core.Memory` or the memory of a layer.

    Gradients reach keys and values that require them when they are added.

    Examples
    --------
    >>> import attention_core as ac
    >>> attention = ac.Attention("dot")
    >>> x = torch.eye(3, requires_grad=True)
    >>> memory = attention.memory(x[:2], x[:2])
    >>> memory.append(x[2:], x[2:])
    >>> attention(torch.ones(3), memory).context.sum().backward()
    >>> len(memory), x.grad.shape
    (3, torch.Size([3, 3]))
    """

    def __init__(self, core: Any, key: Any, value: Any) -> None:
        self.memory: Any = core.memory(to_array("key", key), to_array("value", value))
        """The memory of arrays: a `Memory` or a `MultiHeadMemory`."""
        self._dtypes = key.dtype, value.dtype
        self._graph = (key, value) if _need_gradients(key, value) else None

    def __len__(self) -> int:
        """S, the number of keys."""
        return len(self.memory)

    def __repr__(self) -> str:
        return f"TensorMemory(key {tuple(self.key.shape)}, value {tuple(self.value.shape)})"

    def __copy__(self) -> Self:
        """An independent memory that shares the present keys."""
        return self._with(copy(self.memory), self._graph)

    @property
    def key(self) -> Any:
        """The keys before projection: (..., S, Dk)."""
        return self._tensors()[0]

    @property
    def value(self) -> Any:
        """The values: (..., S, Dv)."""
        return self._tensors()[1]

    @checked_arguments
    def append(self, key: Any, value: Any) -> None:
        """Append keys (..., n, Dk) and their values (..., n, Dv); see `Memory.append`."""
        for name, tensor in (("key", key), ("value", value)):
            check_library(name, tensor, "torch", "the memory")
        before = self._tensors() if self._graph or _need_gradients(key, value) else None
        self.memory.append(to_array("key", key), to_array("value", value))
        if before is not None:
            if key.dim() == value.dim() == 1:
                key, value = key[None], value[None]
            pairs = zip(before, (key, value), strict=True)
            key, value = (
                torch.cat([old, new.to(old.dtype).expand(*old.shape[:-2], -1, -1)], dim=-2)
                for old, new in pairs
            )
            self._graph = key, value

    @checked_arguments
    def take(self, indices: Any, axis: int = 0) -> Self:
        """Make a memory of some batch items, in any order and with repetitions: `Memory.take`."""
        memory = self.memory.take(to_array("indices", indices), axis)
        if self._graph is None:
            return self._with(memory, None)
        batch = torch.broadcast_shapes(*(tensor.shape[:-2] for tensor in self._graph))
        from_end = axis % len(batch) - len(batch)
        count = batch[from_end]
        index = torch.as_tensor(indices) % count

        def taken(tensor: Any) -> Any:
            if tensor.dim() - 2 < -from_end or tensor.shape[from_end - 2] != count:
                return tensor  # it broadcasts
            return tensor.index_select(from_end - 2, index)

        key, value = map(taken, self._graph)
        return self._with(memory, (key, value))

    @checked_arguments
    def truncate(self, length: int) -> None:
        """Keep the first `length` keys and values: see `Memory.truncate`."""
        self.memory.truncate(length)
        if self._graph is not None:
            key, value = (tensor[..., :length, :] for tensor in self._graph)
            self._graph = key, value

    def clear(self) -> None:
        """Remove all keys and values, and free their memory; batch axes are kept."""
        self.memory.clear()
        self._graph = None

    def _tensors(self) -> tuple[Any, Any]:
        """The keys before projection and the values."""
        if self._graph is not None:
            return self._graph
        arrays = getattr(self.memory, "given_key", self.memory.key), self.memory.value
        key, value = map(to_tensor, arrays)
        return key.to(self._dtypes[0]), value.to(self._dtypes[1])

    def _with(self, memory: Any, graph: tuple[Any, Any] | None) -> Self:
        made = object.__new__(type(self))
        made.__dict__.update(self.__dict__, memory=memory, _graph=graph)
        return made


def _need_gradients(key: Any, value: Any) -> bool:
    return torch.is_grad_enabled() and any(
        getattr(given, "requires_grad", False) for given in (key, value)
    )
