"""Arrays of other libraries: the library of an array, and the adapter that attends to it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from attention_core.errors import DTypeError

__all__ = ["TERMS", "adapter_of", "check_library", "library_of", "to_numpy_call"]

TERMS = ("mask", "bias", "key_lengths", "query_lengths", "weight_factors")
"""The arguments of a call that adapters get as one tuple, with None for those not given."""

_ARRAYS = {
    ("dask", "Array"): "dask",
    ("jax", "Array"): "jax",
    ("jax", "Tracer"): "jax",
    ("jaxlib", "ArrayImpl"): "jax",
    ("torch", "Tensor"): "torch",
}
"""The library of a class of arrays, by the package and the name of the class."""

_FROM_NUMPY = {
    "dask": "dask.array.from_array({})",
    "jax": "jax.numpy.asarray({})",
    "torch": "torch.as_tensor({})",
}

_known: dict[type, str | None] = {np.ndarray: None}
_adapters: dict[str, Any] = {}


def library_of(array: object) -> str | None:
    """The library of an array; None for NumPy arrays and anything that becomes one.

    No library is imported: the caller who has such an array has imported it.

    >>> library_of(np.ones(2)), library_of([1.0, 2.0])
    (None, None)
    """
    kind = type(array)
    if kind not in _known:
        names = [(base.__module__.partition(".")[0], base.__name__) for base in kind.__mro__]
        _known[kind] = next((_ARRAYS[name] for name in names if name in _ARRAYS), None)
    return _known[kind]


def adapter_of(query: Any, *others: Any) -> Any:
    """The module that attends to arrays of the library of `query`; None for NumPy.

    It is ``attention_core.<library>.adapter``, imported on first use, with two functions::

        attend(core, query, key, value, terms, query_offset)
        memory(core, key, value)

    where `core` is an `Attention` or a `MultiHeadAttention`, and `terms` are the `TERMS` of a call.

    Parameters
    ----------
    query, others
        The query, the key and the value; or the key and the value of a memory.

    Raises
    ------
    DTypeError
        For arrays of different libraries.
    """
    library = library_of(query)
    leader, *names = ("query", "key", "value")[2 - len(others) :]
    for name, array in zip(names, others, strict=True):
        check_library(name, array, library, leader)
    if library is None:
        return None
    if library not in _adapters:
        _adapters[library] = import_module(f"attention_core.{library}.adapter")
    return _adapters[library]


def to_numpy_call(name: str, array: Any) -> str:
    """The call that converts an array of a library to one of NumPy.

    >>> to_numpy_call("key", np.ones(2))
    'key'
    """
    own = library_of(array)
    if own != "torch":
        return {"dask": "{}.compute()", "jax": "numpy.asarray({})"}.get(own or "", "{}").format(
            name
        )
    dtype, layout = str(getattr(array, "dtype", "")), str(getattr(array, "layout", "strided"))
    steps = {
        ".detach()": getattr(array, "requires_grad", False),
        ".cpu()": str(getattr(array, "device", "cpu")) not in ("cpu", "meta"),
        ".to_dense()": not layout.endswith("strided"),
        ".dequantize()": getattr(array, "is_quantized", False),
        ".float()": "bfloat16" in dtype or "float8" in dtype,  # NumPy has neither
    }
    return f"{name}{''.join(step for step, is_needed in steps.items() if is_needed)}.numpy()"


def check_library(name: str, array: Any, library: str | None, leader: str = "query") -> None:
    """Raise `DTypeError` for an array of a different library than the query.

    >>> check_library("key", np.ones(2), "torch")
    Traceback (most recent call last):
    attention_core.errors.DTypeError: key is a numpy array and query a torch array: the arrays \
of a call must come from one library; convert it with torch.as_tensor(key)
    """
    own = library_of(array)
    if own == library or not (own or isinstance(array, (np.ndarray, list, tuple))):
        return
    if own == "dask" and library is None:  # it may be larger than memory
        convert = f"convert {leader} with {_FROM_NUMPY[own].format(leader)}"
    else:
        converted = _FROM_NUMPY.get(library or "", "{}").format(to_numpy_call(name, array))
        convert = f"convert it with {converted}"
    raise DTypeError(
        f"{name} is a {own or 'numpy'} array and {leader} a {library or 'numpy'} array: the arrays "
        f"of a call must come from one library; {convert}"
    )
