"""A small PNG writer, so image labels and static pictures need no other package."""

from __future__ import annotations

import struct
import zlib
from base64 import b64encode

import numpy as np

from attention_core.typing import Array

__all__ = ["data_uri", "png"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def png(pixels: Array, palette: Array | None = None) -> bytes:
    """A PNG file of pixels.

    Parameters
    ----------
    pixels : uint8 (height, width), (height, width, 3)
        Indices into the palette, or colors if there is none.
    palette : uint8 (256, 4)
        Red, green, blue and opacity.

    Returns
    -------
    bytes

    References
    ----------
    Portable Network Graphics, third edition, https://www.w3.org/TR/png-3/

    Examples
    --------
    >>> file = png(np.zeros((2, 3, 3), np.uint8))
    >>> file[1:4], struct.unpack(">II", file[16:24])
    (b'PNG', (3, 2))
    """
    height, width = pixels.shape[:2]
    kind = 2 if palette is None else 3
    rows = np.ascontiguousarray(pixels).reshape(height, -1)
    lines = np.concatenate([np.zeros((height, 1), np.uint8), rows], axis=1)  # filter 0 first
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0))]
    if palette is not None:
        chunks += [(b"PLTE", palette[:, :3].tobytes()), (b"tRNS", palette[:, 3].tobytes())]
    chunks += [(b"IDAT", zlib.compress(lines.tobytes(), 9)), (b"IEND", b"")]
    return _SIGNATURE + b"".join(_chunk(name, body) for name, body in chunks)


def data_uri(file: bytes, kind: str = "image/png") -> str:
    """A file as a data URI.

    >>> data_uri(b"abc")
    'data:image/png;base64,YWJj'
    """
    return f"data:{kind};base64,{b64encode(file).decode()}"


def _chunk(name: bytes, body: bytes) -> bytes:
    checksum = zlib.crc32(name + body)
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", checksum)
