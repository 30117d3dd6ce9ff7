"""Arrays in the format of NumPy, whose headers are checked before anything is allocated.

A header may claim any shape, and a zip archive any size: both are compared with the bytes that are
there. Nothing is unpickled.
"""

from __future__ import annotations

import zipfile
from math import prod
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from attention_core.errors import ParameterFileError, shown
from attention_core.typing import Array

__all__ = ["Header", "checked_members", "read_header", "read_npy"]

_MOST_DEFLATED = 1032  # how many bytes one byte can stand for, in the worst case of deflate


class Header(NamedTuple):
    """The description of an array in a file."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]


def read_header(file: IO[bytes], size: int) -> Header:
    """Read the header of an array in a file of `size` bytes.

    Raises
    ------
    ValueError
        For a header that is damaged, describes Python objects, or more bytes than there are.
    """
    version = np.lib.format.read_magic(file)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f"it has version {version} of the format; expected (1, 0) or (2, 0)")
    shape, _, dtype = readers[version](file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    if dtype.kind == "V" and dtype.names is None and dtype.itemsize <= 2:
        raise ValueError(
            f"it has dtype {dtype}, which is what NumPy writes for bfloat16 and float8; save it as "
            f"float32, or in a .safetensors file"
        )
    if not all(type(length) is int and length >= 0 for length in shape):
        raise ValueError(f"its shape is {shown(shape)}")
    if prod(max(length, 1) for length in shape) * dtype.itemsize >= 2**62 or (
        prod(shape) * dtype.itemsize > size - file.tell()
    ):
        raise ValueError(f"its shape {shown(shape)} needs more bytes than there are")
    return Header(shape, dtype)


def read_npy(path: Path) -> Array:
    """The array of an ``.npy`` file, mapped into memory.

    Raises
    ------
    ParameterFileError
        For a file that cannot be read safely.
    """
    try:
        with path.open("rb") as file:
            header = read_header(file, path.stat().st_size)
            if 0 in header.shape:  # nothing to map
                return np.empty(header.shape, header.dtype)
        array: Array = np.lib.format.open_memmap(path, mode="r")
    except OSError as error:
        reason = error.strerror or str(error)
        raise ParameterFileError(f"cannot read {shown(str(path), 300)}: {reason}") from error
    except Exception as error:  # damaged headers raise whatever the parser stumbles over
        raise ParameterFileError(
            f"{shown(str(path), 300)} is not an .npy file that can be read safely: {error}"
        ) from error
    return array


def checked_members(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """The members of an archive of `size` bytes, by name, once their claims are found possible.

    Raises
    ------
    ValueError
        For a name given twice, another compression than NumPy's, or an impossible size.
    """
    members: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        name = member.filename
        if name in members:
            raise ValueError(f"member {shown(name)} occurs twice")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"member {shown(name)} is compressed in another way than NumPy's")
        growth = 1 if member.compress_type == zipfile.ZIP_STORED else _MOST_DEFLATED
        if member.compress_size > size or member.file_size > growth * member.compress_size + 64:
            raise ValueError(f"member {shown(name)} cannot hold {member.file_size} bytes")
        members[name] = member
    return members
