"""What installed distributions say about themselves, found in a millisecond or two.

`importlib.metadata` reads the same files, but importing it takes 20 ms - it needs email, sockets
and archives - several times as long as all else until a first scorer is made. It is asked where
distributions may be in other places than folders: in archives, or wherever an import hook says.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Protocol

__all__ = ["UNKNOWN", "Distribution", "entry_points", "identity", "installed_distributions"]

UNKNOWN = "unknown"
"""Stands for the name or version of a distribution that does not tell."""


class Distribution(Protocol):
    """Whatever gives the files of a distribution's metadata."""

    def read_text(self, filename: str, /) -> str | None:
        """The text of a file; None if there is no such file."""


class _Folder:
    """A distribution whose metadata is a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read_text(self, filename: str, /) -> str | None:
        try:
            return (self.path / filename).read_text(encoding="utf-8")
        except OSError:
            return None


def installed_distributions() -> Iterable[Distribution]:
    """Every installed distribution, in the order in which Python finds them."""
    if _all_are_folders():
        return _folders()
    from importlib.metadata import distributions

    return distributions()


def _all_are_folders() -> bool:
    hooks = [finder for finder in sys.meta_path if hasattr(finder, "find_distributions")]
    places = map(Path, sys.path)
    return hooks == [PathFinder] and not any(p.is_file() or p.suffix == ".egg" for p in places)


def _folders() -> Iterator[_Folder]:
    for place in map(Path, sys.path):
        try:
            content = list(place.iterdir())
        except OSError:
            continue
        found = [path for path in content if path.suffix in (".dist-info", ".egg-info")]
        yield from map(_Folder, sorted(found))


def entry_points(text: str, group: str) -> dict[str, str]:
    r"""The entry points of a group in the text of an ``entry_points.txt``: name -> value.

    Raises
    ------
    ValueError
        For a line of the group that is none.

    Examples
    --------
    >>> entry_points("[console_scripts]\nacme = acme:main\n[group]\nrbf = acme.hooks", "group")
    {'rbf': 'acme.hooks'}
    """
    found = {}
    section = None
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            section = line.strip("[]")
        elif section == group and line and not line.startswith("#"):
            name, equals, value = line.partition("=")
            if not equals:
                raise ValueError(f"{line!r} is no entry point")
            found[name.strip()] = value.strip()
    return found


def identity(distribution: Distribution) -> tuple[str, str]:
    """The name and the version of a distribution."""
    text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
    headers = {}
    for line in text.splitlines():
        if not line:
            break  # the description follows
        header, _, value = line.partition(":")
        headers[header.lower()] = value.strip()
    return headers.get("name", UNKNOWN), headers.get("version", UNKNOWN)
