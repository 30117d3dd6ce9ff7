"""Where results go: built in a temporary folder, then moved into place whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attention_core.errors import ParameterFileError
from attention_core.masking.arguments import is_sparse
from attention_core.parameter_files import write_arrays

__all__ = ["Workspace", "check_output", "workspace"]


class Workspace:
    """A folder beside the output in which its arrays grow, in memory maps."""

    def __init__(self, folder: Path, output: Path) -> None:
        self.folder = folder
        self.output = output
        self.reserved = 0  # bytes

    def allocate(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """An array on disk, so that an output may be larger than memory.

        Raises
        ------
        ParameterFileError
            For a dtype that the output file cannot hold.
        OSError
            When the disk is too full; found out here, as a memory map that cannot grow kills
            the process.
        """
        if dtype.isbuiltin == 2 and self.output.suffix != ".safetensors":
            raise ParameterFileError(
                f"{str(self.output)!r} cannot hold {name} of dtype {dtype}; write .safetensors"
            )
        if 0 in shape:
            return np.empty(shape, dtype)
        self.reserved += prod(shape) * dtype.itemsize
        if self.reserved > shutil.disk_usage(self.folder).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.output))
        return np.memmap(self.folder / name, dtype=dtype, mode="w+", shape=shape)

    def save(self, found: Mapping[str, Any]) -> None:
        """Write the output file and move it into place."""
        if self.output.suffix != ".npy":
            write_arrays(self.output, _without_sparse(found))
            return
        (array,) = found.values()
        np.save(self.unfinished, array, allow_pickle=False)
        self.publish()

    @property
    def unfinished(self) -> Path:
        """Where to write a whole output file before `publish`."""
        return self.folder / f"output{self.output.suffix}"

    def publish(self) -> None:
        """Move the finished file into place."""
        self.unfinished.replace(self.output.resolve())  # a link stays a link


@contextmanager
def workspace(output: Path) -> Iterator[Workspace]:
    """A workspace that leaves nothing behind, whenever an interrupt comes."""
    # named before it exists (`tempfile` does both at once), so that no moment is unguarded
    folder = output.parent / f".attention-core-{secrets.token_hex(8)}"
    try:
        folder.mkdir()
        yield Workspace(folder, output)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_output(output: Path, suffixes: Sequence[str], inputs: Iterable[Path] = ()) -> None:
    """Find out before any work that the output can be written.

    Raises
    ------
    ParameterFileError
        For another ending, a folder that does not exist, and a file that is also an input.
    """
    subject = f"cannot write {str(output)!r}"
    if output.suffix not in suffixes:
        raise ParameterFileError(f"{subject}: the name must end in {' or '.join(suffixes)}")
    if not output.parent.is_dir():
        raise ParameterFileError(f"{subject}: there is no folder {str(output.parent)!r}")
    for path in inputs:
        if path.exists() and output.exists() and path.samefile(output):
            raise ParameterFileError(f"{subject}: it is an input")


def _without_sparse(found: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Sparse arrays as what makes them again: ``coo_array((data, coords), shape)``."""
    arrays: dict[str, NDArray[Any]] = {}
    for name, array in found.items():
        if is_sparse(array):
            coo = array.tocoo()
            arrays[f"{name}_data"] = coo.data
            arrays[f"{name}_coords"] = np.stack(coo.coords)  # (axes, edges)
            arrays[f"{name}_shape"] = np.array(coo.shape)
        else:
            arrays[name] = array
    return arrays
