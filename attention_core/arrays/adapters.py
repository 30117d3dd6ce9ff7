"""Arrays of other libraries: which library an array is of, and the adapter that attends to it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from attention_core.errors import DTypeError

__all__ = ["TERMS", "adapter_of", "check_library", "library_of"]

TERMS = ("mask", "bias", "key_lengths", "query_lengths", "weight_factors")
"""The arguments of a call that come to an adapter as one tuple, None for those not given."""

_ARRAYS = {
    ("dask", "Array"): "dask",
    ("jax", "Array"): "jax",
    ("jax", "Tracer"): "jax",
    ("jaxlib", "ArrayImpl"): "jax",
    ("torch", "Tensor"): "torch",
}
"""The library of a class of arrays, by the package and the name of the class."""

_CONVERSIONS = {
    ("dask", None): "dask.array.from_array({})",
    ("jax", None): "jax.numpy.asarray({})",
    ("torch", None): "torch.as_tensor({})",
    (None, "dask"): "{}.compute()",
    (None, "jax"): "numpy.asarray({})",
    (None, "torch"): "{}.numpy()",
}
"""Calls that convert an array to the first library from the second; None is NumPy."""

_known: dict[type, str | None] = {np.ndarray: None}
_adapters: dict[str, Any] = {}


def library_of(array: object) -> str | None:
    """The library whose array this is; None for NumPy's, and for what becomes one.

    No library is imported: whoever holds such an array has imported it.

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


def check_library(name: str, array: Any, library: str | None, leader: str = "query") -> None:
    """Raise `DTypeError` for an array of another library than that of the query.

    >>> check_library("key", np.ones(2), "torch")
    Traceback (most recent call last):
    attention_core.errors.DTypeError: key is a numpy array, and query one of torch: the arrays \
of a call must be of one library; convert it by torch.as_tensor(key)
    """
    own = library_of(array)
    if own == library or not (own or isinstance(array, (np.ndarray, list, tuple))):
        return
    convert = _CONVERSIONS.get((library, own))
    if convert is None:  # through NumPy
        convert = _CONVERSIONS[library, None].format(_CONVERSIONS[None, own])
    raise DTypeError(
        f"{name} is a {own or 'numpy'} array, and {leader} one of {library or 'numpy'}: the arrays "
        f"of a call must be of one library; convert it by {convert.format(name)}"
    )
