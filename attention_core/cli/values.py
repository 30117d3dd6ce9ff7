"""Values written on the command line: settings, integers per batch item, windows."""

from __future__ import annotations

import tomllib
from typing import Any

from attention_core.arrays.inputs import as_integers
from attention_core.cli.arrays import SUFFIXES, read_array, split_reference
from attention_core.errors import OptionError, shown

__all__ = ["indices", "integers", "pair", "settings"]


def settings(items: list[str]) -> dict[str, Any]:
    """Parse ``name=value`` items, with values as in TOML; other words are strings.

    >>> settings(["hidden_dim=64", "scale=0.5", "weight=[[1, 2]]", "mode=fast"])
    {'hidden_dim': 64, 'scale': 0.5, 'weight': [[1, 2]], 'mode': 'fast'}
    """
    found: dict[str, Any] = {}
    for item in items:
        name, equals, text = item.partition("=")
        if not equals or not name:
            raise OptionError(f"--set: {shown(item)} is not NAME=VALUE, such as hidden_dim=64")
        if name in ("name", "parameters"):
            raise OptionError(
                f"--set: {shown(name)} is not a parameter; use --scorer and --parameters"
            )
        if name in found:
            raise OptionError(f"--set: {shown(name)} is given twice")
        try:
            found[name] = _toml_value(text)
            str(found[name])  # hexadecimal integers may be too long for that
        except RecursionError:
            raise OptionError(f"--set: {shown(item)} is nested too deeply") from None
        except ValueError:
            raise OptionError(f"--set: {shown(item)} holds too long an integer") from None
    return found


def integers(option: str, text: str | None) -> Any:
    """Parse an integer, or an array of integers: ``7``, ``7,5,9``, or a file.

    >>> integers("--key-lengths", "7,5")
    array([7, 5])
    """
    if text is None:
        return None
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        if split_reference(text)[0].suffix in SUFFIXES:
            return read_array(text, option.removeprefix("--").replace("-", "_"))
        raise OptionError(
            f"{option}: {shown(text)} is neither an integer, nor integers separated by "
            f"commas, nor a file of them"
        ) from None
    return as_integers(option, numbers) if "," in text else numbers[0]


def indices(option: str, text: str | None) -> tuple[int, ...] | None:
    """Parse integers that are separated by commas.

    >>> indices("--batch", "0,3")
    (0, 3)
    """
    if text is None:
        return None
    try:
        return tuple([int(part) for part in text.split(",")])
    except ValueError:
        raise OptionError(f"{option}: {shown(text)} is not integers such as 0,3") from None


def pair(option: str, text: str | None) -> tuple[int | None, int | None] | None:
    """Parse two counts that are separated by a comma; an empty side is open.

    >>> pair("--window", "512,0"), pair("--window", ",0")
    ((512, 0), (None, 0))
    """
    if text is None:
        return None
    sides = text.split(",")
    try:
        if len(sides) == 2:
            left, right = (int(side) if side.strip() else None for side in sides)
            return left, right
    except ValueError:
        pass
    raise OptionError(f"{option}: {shown(text)} is not a pair of integers such as 512,0")


def _toml_value(text: str) -> Any:
    try:
        document = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return document["value"] if list(document) == ["value"] else text
