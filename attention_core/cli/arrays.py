"""Arrays named on the command line: ``FILE`` or ``FILE:name``, never unpickled."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attention_core.errors import ParameterFileError, did_you_mean
from attention_core.parameter_files import read_arrays

__all__ = ["SUFFIXES", "array_named", "read_array", "read_mask", "split_reference"]

SUFFIXES = (".npy", ".npz", ".safetensors")
"""The kinds of array files, for reading and writing."""


def split_reference(reference: str) -> tuple[Path, str | None]:
    """``FILE:name`` as the file and the name; a file whose own name has a colon wins."""
    if not Path(reference).exists() and ":" in reference:
        file, _, name = reference.rpartition(":")
        if Path(file).suffix:
            return Path(file), name
    return Path(reference), None


def read_array(reference: str, role: str) -> NDArray[Any]:
    """The array that `reference` means, for a role such as ``query``.

    An archive without ``:name`` gives the array called like the role, or its only one.

    Raises
    ------
    ParameterFileError
        When the file is no array file, or does not say which of its arrays is meant.
    """
    path, name = split_reference(reference)
    if path.suffix == ".npy":
        if name is not None:
            raise ParameterFileError(
                f"{str(path)!r} holds one array without a name; leave out ':{name}'"
            )
        return _read_npy(path)
    arrays = read_arrays(path)
    if name is None:
        name = role if role in arrays or len(arrays) != 1 else next(iter(arrays))
    return array_named(arrays, name, path)


def array_named(arrays: Mapping[str, NDArray[Any]], name: str, path: Path) -> NDArray[Any]:
    """One array of a file, or an error that says which there are."""
    if name not in arrays:
        raise ParameterFileError(
            f"{str(path)!r} holds no array {name!r}{did_you_mean(name, arrays) or ';'} "
            f"it holds: {', '.join(arrays) or 'none'}"
        )
    return arrays[name]


def read_mask(reference: str) -> Any:
    """A mask: a boolean array, or edges saved by `scipy.sparse.save_npz`."""
    path, name = split_reference(reference)
    if name is None and _is_sparse_file(path):
        from scipy import sparse  # only sparse masks need it

        try:
            return sparse.csr_array(sparse.load_npz(path))
        except Exception as error:  # damaged files raise whatever the decoder stumbles over
            raise ParameterFileError(
                f"{str(path)!r} holds no two-dimensional sparse mask: {error}"
            ) from error
    return read_array(reference, "mask")


def _read_npy(path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ParameterFileError(
            f"{str(path)!r} is no .npy file that can be read safely: {error}"
        ) from error
    except OSError as error:
        raise ParameterFileError(f"cannot read {str(path)!r}: {error.strerror or error}") from error
    return array


def _is_sparse_file(path: Path) -> bool:
    if path.suffix != ".npz" or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return {"format.npy", "shape.npy", "data.npy"} <= set(archive.namelist())
