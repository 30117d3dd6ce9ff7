"""Output files: checked before any work, filled as memory maps, written whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attention_core.arrays.inputs import is_sparse
from attention_core.errors import OptionError, ParameterFileError, shown
from attention_core.files import atomic
from attention_core.parameter_files import write_arrays

__all__ = ["Workspace", "check_distinct", "check_output", "workspace"]


class Workspace:
    """A folder next to the output for the memory maps of its arrays."""

    def __init__(self, folder: Path, output: Path) -> None:
        self.folder = folder
        self.output = output
        self.reserved = 0  # bytes

    def allocate(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Make an array on disk, so that an output may be larger than memory.

        Raises
        ------
        ParameterFileError
            For a dtype that the output file cannot hold.
        OSError
            If the disk is too full. This is checked here, since a memory map that cannot grow kills
            the process.
        """
        if dtype.isbuiltin == 2 and self.output.suffix != ".safetensors":
            raise ParameterFileError(
                f"{shown(str(self.output), 300)} cannot hold {name} of dtype {dtype}; "
                f"write .safetensors"
            )
        if 0 in shape:
            return np.empty(shape, dtype)
        self.reserved += prod(shape) * dtype.itemsize
        if self.reserved > shutil.disk_usage(self.folder).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.output))
        return np.memmap(self.folder / name, dtype=dtype, mode="w+", shape=shape)

    def save(self, found: Mapping[str, Any]) -> None:
        """Write the output file."""
        if self.output.suffix != ".npy":
            write_arrays(self.output, _without_sparse(found))
            return
        (array,) = found.values()
        with atomic.replacing(self.output) as temporary, temporary.open("wb") as file:
            np.save(file, array, allow_pickle=False)


@contextmanager
def workspace(output: Path) -> Iterator[Workspace]:
    """A workspace that leaves nothing behind, even after an interrupt."""
    with atomic.workspace(output) as folder:
        yield Workspace(folder, output)


def check_output(output: Path, suffixes: Sequence[str], others: Iterable[Path] = ()) -> None:
    """Check, before any work starts, that the output can be written.

    Parameters
    ----------
    others
        Every file that the command reads, and other files that it writes.

    Raises
    ------
    ParameterFileError
        For another extension, a folder that does not exist, a file that cannot be replaced, and a
        file that is one of the others, by any of its names.
    """
    subject = f"cannot write {shown(str(output), 300)}"
    if output.suffix not in suffixes:
        raise ParameterFileError(f"{subject}: the name must end in {' or '.join(suffixes)}")
    if not output.parent.is_dir():
        raise ParameterFileError(f"{subject}: there is no folder {shown(str(output.parent), 300)}")
    target = atomic.writable(output)
    for path in others:
        if _is_same(path, target):
            raise ParameterFileError(f"{subject}: it is an input")


def check_distinct(outputs: Mapping[str, Path | None]) -> None:
    """Check, before any work starts, that outputs are different files.

    Raises
    ------
    OptionError
        For two options that name the same file.

    Examples
    --------
    >>> check_distinct({"--plot": Path("a.svg"), "--html": Path("a.html"), "--output": None})
    """
    found: dict[str, str] = {}
    for option, path in outputs.items():
        if path is not None:
            target = os.path.realpath(path)
            if target in found:
                raise OptionError(f"{found[target]} and {option} are the same file")
            found[target] = option


def _is_same(path: Path, target: Path) -> bool:
    try:
        return path.samefile(target)
    except (OSError, ValueError):  # one of them does not exist, or has an impossible name
        return False


def _without_sparse(found: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Replace sparse arrays by their parts, for ``coo_array((data, coords), shape)``."""
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
