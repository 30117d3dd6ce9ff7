"""Arrays named on the command line: ``FILE`` or ``FILE:name``, never unpickled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from attention_core.arrays.sparse import checked_csr
from attention_core.errors import ParameterFileError, did_you_mean, listed, printable, shown
from attention_core.files.npy import read_npy
from attention_core.files.saved_parameters import describe
from attention_core.parameter_files import read_arrays

__all__ = ["SUFFIXES", "read_array", "read_mask", "split_reference"]

SUFFIXES = (".npy", ".npz", ".safetensors")
"""The kinds of array files, for reading and writing."""


def split_reference(reference: str) -> tuple[Path, str | None]:
    """Split ``FILE:name``; an existing file whose name has a colon takes precedence."""
    if not Path(reference).exists() and ":" in reference:
        file, _, name = reference.rpartition(":")
        if Path(file).suffix:
            return Path(file), name
    return Path(reference), None


def read_array(reference: str, role: str) -> NDArray[Any]:
    """Read the array that `reference` names, for a role such as ``query``.

    Without ``:name``, it is the array of an archive with the name of the role, or its only array.

    Raises
    ------
    ParameterFileError
        For a file without arrays, or with several arrays and no ``:name``.
    """
    path, name = split_reference(reference)
    if path.suffix == ".npy":
        if name is not None:
            raise ParameterFileError(
                f"{shown(str(path), 300)} holds one array without a name; omit ':{name}'"
            )
        return read_npy(path)
    present = describe(path).shapes
    if name is None:
        name = role if role in present or len(present) != 1 else next(iter(present))
    if name not in present:
        raise ParameterFileError(
            f"{shown(str(path), 300)} holds no array {shown(name)}"
            f"{did_you_mean(name, present) or ';'} it holds: {listed(present) or 'none'}"
        )
    return read_arrays(path, [name])[name]


def read_mask(reference: str, shape: tuple[int, int]) -> Any:
    """Read a mask: a boolean array, or edges (L, S) saved by `scipy.sparse.save_npz`.

    Raises
    ------
    ParameterFileError
        For a file that cannot be read, and edges whose indices are out of bounds.
    """
    path, name = split_reference(reference)
    if name is None and path.suffix == ".npz" and describe(path).shapes.keys() >= _SPARSE:
        return _read_sparse(path, shape)
    return read_array(reference, "mask")


_SPARSE = {"format", "shape", "data"}


def _read_sparse(path: Path, shape: tuple[int, int]) -> Any:
    from scipy import sparse  # only sparse masks need it

    try:
        matrix = sparse.load_npz(path)
        if matrix.ndim != 2 or min(matrix.shape) < 0:
            raise ValueError(f"its shape is {shown(matrix.shape)}")
        # other shapes are rejected later; as CSR they could need any amount of memory
        return checked_csr("mask", matrix) if matrix.shape == shape else matrix
    except Exception as error:  # the decoder may raise anything for damaged files
        raise ParameterFileError(
            f"{shown(str(path), 300)} does not hold a two-dimensional sparse mask: "
            f"{printable(str(error), 300)}"
        ) from error
