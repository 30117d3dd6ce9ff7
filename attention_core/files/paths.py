"""Paths that callers give."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from attention_core.errors import OptionTypeError, ParameterFileError, shown

__all__ = ["as_path"]


def as_path(given: Any) -> Path:
    """The path that a caller gave.

    Raises
    ------
    OptionTypeError
        For anything but a string or a path of text.
    ParameterFileError
        For a name that no file can have.

    Examples
    --------
    >>> as_path(b"weights.npz")
    Traceback (most recent call last):
    attention_core.errors.OptionTypeError: path must be a string or a pathlib.Path, got \
b'weights.npz'; convert it with os.fsdecode(path)
    """
    try:
        text = os.fspath(given)
    except TypeError:
        text = None
    if not isinstance(text, str):
        way = "; convert it with os.fsdecode(path)" if isinstance(text, bytes) else ""
        raise OptionTypeError(f"path must be a string or a pathlib.Path, got {shown(given)}{way}")
    try:
        is_possible = b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:  # half of a pair of surrogates
        is_possible = False
    if not is_possible:
        raise ParameterFileError(
            f"path {shown(text, 300)} has a character that no file name can have; remove it"
        )
    return Path(text)
