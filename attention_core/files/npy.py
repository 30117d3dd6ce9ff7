"""Arrays in NumPy's format; headers are checked before memory is allocated.

A header may claim any shape, and a zip archive any size: both are compared with the size of the
file. Nothing is unpickled.
"""

from __future__ import annotations

import zipfile
from math import prod
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from attention_core.errors import ParameterFileError, file_error, shown
from attention_core.typing import Array

__all__ = ["Header", "checked_members", "is_bomb", "read_header", "read_npy"]

_BOMB, _BOMB_GROWTH = 1 << 26, 100
_MOST_DEFLATED = 1032  # the largest ratio of deflate


class Header(NamedTuple):
    """The description of an array in a file."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]


def read_header(file: IO[bytes], size: int) -> Header:
    """Read the header of an array in a file of `size` bytes.

    Raises
    ------
    ValueError
        For a header that is damaged, describes Python objects, or exceeds the size of the file.
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
            f"it has dtype {dtype}, which NumPy writes for bfloat16 and float8; save it as "
            f"float32, or in a .safetensors file"
        )
    if not all(type(length) is int and length >= 0 for length in shape):
        raise ValueError(f"its shape is {shown(shape)}")
    if prod(max(length, 1) for length in shape) * dtype.itemsize >= 2**62 or (
        prod(shape) * dtype.itemsize > size - file.tell()
    ):
        raise ValueError(f"its shape {shown(shape)} needs more bytes than the file has")
    return Header(shape, dtype)


def is_bomb(member: zipfile.ZipInfo) -> bool:
    """Whether a small member expands to much memory."""
    return member.file_size > max(_BOMB, _BOMB_GROWTH * member.compress_size)


def read_npy(path: Path) -> Array:
    """Map the array of an ``.npy`` file into memory.

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
        raise file_error("read", path, error) from error
    except Exception as error:  # the parser may raise anything for damaged headers
        raise ParameterFileError(
            f"{shown(str(path), 300)} is not an .npy file that can be read safely: {error}"
        ) from error
    return array


def checked_members(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """Return the members of an archive of `size` bytes by name, after checking their sizes.

    Raises
    ------
    ValueError
        For a duplicate name, a compression that NumPy does not use, or an impossible size.
    """
    members: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        name = member.filename
        if name in members:
            raise ValueError(f"member {shown(name)} occurs twice")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"member {shown(name)} has a compression that NumPy does not use")
        growth = 1 if member.compress_type == zipfile.ZIP_STORED else _MOST_DEFLATED
        if member.compress_size > size or member.file_size > growth * member.compress_size + 64:
            raise ValueError(f"member {shown(name)} cannot hold {member.file_size} bytes")
        members[name] = member
    return members
