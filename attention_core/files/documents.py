"""TOML and JSON documents: read strictly, with errors that name the file."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from attention_core.errors import ConfigError, printable, shown

__all__ = ["check_integers", "read_document"]

LONGEST_INTEGER = 1 << 10
"""Bits of an integer; hexadecimal ones in TOML may be too long to print in an error."""


def read_document(path: Path) -> Mapping[str, Any]:
    """The content of a TOML or JSON file, which must be a table.

    Raises
    ------
    ConfigError
        For a file that cannot be read or parsed, repeats a key, or holds numbers that JSON lacks.
    """
    parsers: dict[str, Callable[[str], Any]] = {".toml": tomllib.loads, ".json": _parse_json}
    suffix, subject = path.suffix.lower(), shown(str(path), 300)
    if suffix not in parsers:
        raise ConfigError(
            f"config file {subject} has the extension {shown(path.suffix)}; use .toml or .json"
        )
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:  # a name with a NUL is a ValueError
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"cannot read config file {subject}: {reason}") from error
    try:
        text = data.decode("utf-8-sig")  # some editors begin a file with a byte-order mark
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"config file {subject} is not UTF-8: byte 0x{data[error.start]:02x} in line {line}"
        ) from error
    try:
        content = parsers[suffix](text)
    except (ValueError, RecursionError) as error:
        said = printable(str(error), 300)
        raise ConfigError(
            f"config file {subject} is not valid {suffix[1:].upper()}: {said}"
        ) from error
    if not isinstance(content, Mapping):
        raise ConfigError(
            f"config file {subject} must hold an object with the keys scorer, normalizer, "
            f"bias, attention, got {shown(content)}"
        )
    return content


def _parse_json(text: str) -> Any:
    """Parse JSON strictly: no repeated keys, and no NaN or Infinity, which JSON lacks."""
    return json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for key, value in pairs:
        if key in content:
            raise ValueError(f"key {shown(key)} is given twice")
        content[key] = value
    return content


def _refuse_constant(constant: str) -> Any:
    raise ValueError(f"{constant} is not a JSON number; an open side of a window is null")


def check_integers(title: str, content: Any, depth: int = 0) -> None:
    """Reject integers that are too long to print, at any depth."""
    if isinstance(content, int) and content.bit_length() > LONGEST_INTEGER:
        raise ConfigError(
            f"{title} holds an integer of {content.bit_length()} bits; "
            f"at most {LONGEST_INTEGER} are allowed"
        )
    if depth < 100 and isinstance(content, (Mapping, list, tuple)):
        for value in content.values() if isinstance(content, Mapping) else content:
            check_integers(title, value, depth + 1)
