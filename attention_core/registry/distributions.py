"""What installed distributions say about themselves, found in a millisecond or two.

`importlib.metadata` reads the same files, but importing it takes 20 ms - it needs email, sockets
and archives - several times as long as all else until a first scorer is made. It is asked where
distributions may be in other places than folders: in archives, or wherever an import hook says.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["UNKNOWN", "Distribution", "entry_points", "identity", "installed_distributions"]

UNKNOWN = "unknown"
"""Stands for the name or version of a distribution that does not tell."""


class Distribution(Protocol):
    """Whatever gives the files of a distribution's metadata."""

    def read_text(self, filename: str, /) -> str | None:
        """The text of a file; None, or an `OSError`, if there is no such file."""


class _Folder:
    """A distribution whose metadata is a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read_text(self, filename: str, /) -> str:
        return (self.path / filename).read_text(encoding="utf-8")


def installed_distributions() -> Iterable[Distribution]:
    """Every installed distribution, in the order in which Python finds them."""
    if _all_are_folders():
        return _folders()
    from importlib.metadata import distributions

    return distributions()


def _all_are_folders() -> bool:
    hooks = [finder for finder in sys.meta_path if hasattr(finder, "find_distributions")]
    return hooks == [PathFinder] and not any(
        os.path.isfile(place) or place.suffix == ".egg"  # noqa: PTH113 - Path.is_file may raise
        for place in _places()
    )


def _places() -> list[Path]:
    from pathlib import Path  # 4 ms, so only when somebody asks for a name

    places: list[object] = [*sys.path]  # the import system skips what is no string, too
    return [Path(place) for place in places if isinstance(place, str)]


def _folders() -> Iterator[_Folder]:
    for place in _places():
        try:
            content = list(place.iterdir())
        except OSError:
            continue
        found = [path for path in content if path.suffix in (".dist-info", ".egg-info")]
        yield from map(_Folder, sorted(found))


def entry_points(distribution: Distribution, group: str) -> dict[str, str]:
    """The entry points of a group that a distribution declares: name -> value.

    A line that is none is one without a value: it cannot be loaded, but its neighbors can.
    """
    text = _text_of(distribution, "entry_points.txt")
    found: dict[str, str] = {}
    if f"[{group}]" not in text:
        return found
    section = None
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            section = line.strip("[]")
        elif section == group and line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found[name.strip()] = value.strip()
    return found


def identity(distribution: Distribution) -> tuple[str, str]:
    """The name and the version of a distribution."""
    text = _text_of(distribution, "METADATA") or _text_of(distribution, "PKG-INFO")
    headers = {}
    for line in text.splitlines():
        if not line:
            break  # the description follows
        header, _, value = line.partition(":")
        headers[header.lower()] = value.strip()
    return headers.get("name", UNKNOWN), headers.get("version", UNKNOWN)


def _text_of(distribution: Distribution, filename: str) -> str:
    try:
        return distribution.read_text(filename) or ""
    except (OSError, UnicodeError):
        return ""
