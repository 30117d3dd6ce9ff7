"""Conversion of tensors to NumPy arrays and back."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
import torch

from attention_core.arrays.adapters import check_library, library_of, to_numpy_call
from attention_core.arrays.inputs import is_sparse
from attention_core.errors import DTypeError, printable

__all__ = ["result_dtype", "to_array", "to_tensor"]


def to_array(name: str, given: Any) -> Any:
    """Convert a tensor to an array that shares its memory; return anything else unchanged.

    bfloat16, which NumPy lacks, becomes float32, in which half precision is computed.

    Raises
    ------
    DTypeError
        For a tensor that is sparse or not in main memory, and for an array of another library.

    Examples
    --------
    >>> to_array("query", torch.ones(2, dtype=torch.bfloat16))
    array([1., 1.], dtype=float32)
    """
    if library_of(given) != "torch":
        if library_of(given):
            check_library(name, given, "torch")
        return given
    if torch.jit.is_tracing():
        raise DTypeError(
            f"{name} has values that torch.jit.trace would record as constants: use torch.compile "
            f"or torch.export"
        )
    tensor = given.detach()
    if tensor.device.type != "cpu":
        way_out = "is computed in main memory: call .cpu()"
        if tensor.device.type == "meta":
            way_out = "needs numbers, which a tensor on 'meta' does not have"
        raise DTypeError(f"{name} is on device {str(tensor.device)!r}, and attention {way_out}")
    if tensor.is_nested:
        raise DTypeError(
            f"{name} must be a dense tensor, got a nested one; call .to_padded_tensor(0) and give "
            f"the lengths as key_lengths and query_lengths"
        )
    if tensor.layout is not torch.strided:
        raise DTypeError(f"{name} must be a dense tensor, got {tensor.layout}; call .to_dense()")
    if tensor.dtype is torch.bfloat16:
        tensor = tensor.float()
    try:
        return tensor.numpy(force=True)
    except (RuntimeError, TypeError) as error:  # quantized, float8
        if "storage" in str(error):
            raise DTypeError(
                f"{name} has no values inside torch.func and torch.vmap: use "
                f"torch.autograd.grad, and batch axes in place of vmap"
            ) from error
        said = printable(str(error).partition("\n")[0], 300).rstrip(".")
        call = to_numpy_call("", given).removesuffix(".numpy()")
        raise DTypeError(
            f"{name} must be a tensor that NumPy can read: {said}{f'; call {call}' * bool(call)}"
        ) from error


def to_tensor(found: Any, dtype: torch.dtype | None = None) -> Any:
    """Convert an array or a sparse array to a tensor; floats take the dtype, if it is given."""
    if is_sparse(found):
        coo = found.tocoo()
        indices = np.stack(coo.coords)
        tensor = torch.sparse_coo_tensor(
            torch.from_numpy(indices.astype(np.int64)),
            torch.from_numpy(np.ascontiguousarray(coo.data)),
            coo.shape,
            check_invariants=False,
        ).coalesce()
    else:
        tensor = torch.from_numpy(np.require(found, requirements=("C", "W")))
    return tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor


def result_dtype(*tensors: Any) -> torch.dtype:
    """The dtype of results: integers count as float64, and float16 with bfloat16 gives float32.

    >>> result_dtype(torch.ones(2, dtype=torch.bfloat16), torch.ones(2, dtype=torch.float16))
    torch.float32
    """
    dtypes = [t.dtype if t.is_floating_point() else torch.float64 for t in tensors]
    return reduce(torch.promote_types, dtypes)
