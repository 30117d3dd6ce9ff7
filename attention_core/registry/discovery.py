"""Discovery of installed plugins in the metadata of distributions, without importing them.

Distributions are read separately: unreadable metadata of one does not affect the others.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, Any

from attention_core._version import __version__
from attention_core.errors import INTERRUPTS, one_line, said
from attention_core.hookspecs import GROUP

if TYPE_CHECKING:
    from importlib.metadata import Distribution

__all__ = ["BUNDLED", "UNKNOWN", "Discovery", "Plugin", "PluginFailure", "canonical", "discover"]

UNKNOWN = "unknown"
"""Placeholder for the version of a distribution that has none."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """An entry point of the group `attention_core`, and the distribution that ships it."""

    name: str
    distribution: str
    version: str
    value: str
    """The module of its hooks, as an entry point names it."""

    def __str__(self) -> str:
        return f"{self.name} ({self.distribution} {self.version})"

    def is_named_in(self, names: Iterable[str]) -> bool:
        """Whether the names include this plugin or its distribution."""
        mine = {canonical(self.name), canonical(self.distribution)}
        return any(canonical(name) in mine for name in names)


@dataclass(frozen=True, slots=True)
class PluginFailure:
    """A plugin that was skipped, and the reason."""

    plugin: str
    distribution: str
    version: str
    reason: str
    """The exception in one line."""

    def __str__(self) -> str:
        return f"{self.plugin} ({self.distribution} {self.version}) - {self.reason}"


BUNDLED = Plugin("standard", "attention-core", __version__, "attention_core_standard.hooks")
"""The plugin of this package, known without metadata, which may belong to another package."""


@dataclass(slots=True)
class Discovery:
    """Plugins in a fixed order, unreadable ones, and notices."""

    plugins: list[Plugin] = field(default_factory=list)
    unreadable: dict[Plugin, BaseException] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Source:
    """A distribution that offers plugins, or shares the name of attention-core."""

    name: str
    version: str
    place: str
    entries: tuple[tuple[str, str], ...]

    @property
    def plugins(self) -> list[Plugin]:
        return [Plugin(one_line(n), self.name, self.version, value) for n, value in self.entries]

    def differs_from(self, other: _Source) -> bool:
        return (self.version, self.entries) != (other.version, other.entries)


OURS = _Source(
    BUNDLED.distribution,
    BUNDLED.version,
    os.path.dirname(os.path.dirname(globals().get("__file__", ""))) or "this program",
    ((BUNDLED.name, BUNDLED.value),),
)


def discover() -> Discovery:
    """Find every plugin that an installed distribution declares, the bundled one first.

    Of several distributions with the same name, the first that Python finds is used. The bundled
    scorers are those of the imported package, even if another distribution has its name.
    """
    found = Discovery([BUNDLED])
    if not _is_worth_reading():
        return found
    importlib.invalidate_caches()  # which imports `importlib.metadata`, too
    sources: dict[str, list[_Source]] = {}
    for distribution in _distributions(found):
        source = _read(distribution, found)
        if source is not None:
            same_name = sources.setdefault(canonical(source.name), [])
            if source.place not in [other.place for other in same_name]:
                same_name.append(source)
    for name, (first, *others) in sorted(sources.items()):
        if name != BUNDLED.distribution:
            found.plugins += first.plugins
        elif others or first.entries != OURS.entries:
            first, others = OURS, [first, *others]
        rivals = [each for each in others if each.differs_from(first)]
        if rivals:
            found.notices.append(
                f"several distributions are named {name!r}: "
                + ", ".join(
                    f"{each.version} in {one_line(each.place)}" for each in (first, *rivals)
                )
                + "; the first of them is used"
            )
    found.notices = list(dict.fromkeys(found.notices))  # a folder may be on the path twice
    return found


def _distributions(found: Discovery) -> list[Distribution]:
    """Every distribution, in the order in which Python finds them."""
    from importlib.metadata import DistributionFinder

    every: list[Distribution] = []
    context = DistributionFinder.Context(path=_places())
    for finder in [*sys.meta_path]:
        try:
            find: Any = getattr(finder, "find_distributions", None)
            every.extend(find(context) if find else ())  # keeps those before a failure
        except INTERRUPTS:
            raise
        except BaseException as error:  # noqa: BLE001 - a finder may raise anything
            kind = finder if isinstance(finder, type) else type(finder)
            found.notices.append(
                f"distributions of the import hook {one_line(kind.__name__)} cannot be listed - "
                f"{said(error)}"
            )
    return every


def _places() -> list[str]:
    places: list[Any] = [*sys.path]  # the import system also skips entries that are not strings
    return [place for place in places if isinstance(place, str) and "\0" not in place]


def _is_worth_reading() -> bool:
    """Whether any distribution may offer plugins, which is rare, by a quick look at folders.

    `importlib.metadata` imports email, sockets and archives, which takes longer than everything
    else before the first scorer is made.
    """
    finders = [finder for finder in sys.meta_path if hasattr(finder, "find_distributions")]
    if finders != [PathFinder]:
        return True
    for place in _places():
        if place.endswith(".egg") or os.path.isfile(place):
            return True
        try:
            with os.scandir(place or ".") as content:
                folders = [e.path for e in content if e.name.endswith((".dist-info", ".egg-info"))]
        except OSError:
            continue
        if any(map(_may_offer, folders)):
            return True
    return False


def _may_offer(folder: str) -> bool:
    """Whether a distribution may offer plugins, or has our name but is not the imported package."""
    try:
        with open(os.path.join(folder, "entry_points.txt"), encoding="utf-8") as file:
            text = file.read()
    except UnicodeDecodeError:
        return True  # and is reported
    except OSError:
        text = ""
    group = f"[{GROUP}]"
    name, version = _named_by(os.path.basename(folder))
    if canonical(name) != BUNDLED.distribution:
        return group in text
    rest = text.replace(f"{group}\n{BUNDLED.name} = {BUNDLED.value}\n", "", 1)
    return version != BUNDLED.version or rest == text or group in rest


def _read(distribution: Distribution, found: Discovery) -> _Source | None:
    """Read the relevant metadata of a distribution; None if there is none."""
    name, version = _named_by_folder(distribution)
    try:
        text = distribution.read_text("entry_points.txt") or ""
        entries = distribution.entry_points.select(group=GROUP) if f"[{GROUP}]" in text else ()
        declared = tuple(sorted((entry.name, entry.value) for entry in entries))
    except INTERRUPTS:
        raise
    except BaseException as error:  # noqa: BLE001 - metadata of any package, in any state
        found.unreadable[Plugin(name, name, version, _place(distribution))] = error
        return None
    if not declared and canonical(name) != BUNDLED.distribution:
        return None
    try:
        metadata = distribution.metadata
        name, version = (  # asking for a missing one alone will be a KeyError
            one_line((metadata.get_all(field) or [None])[0]) for field in ("Name", "Version")
        )
    except INTERRUPTS:
        raise
    except BaseException as error:  # noqa: BLE001 - damaged metadata may raise anything
        found.notices.append(
            f"the metadata of {one_line(_place(distribution))} cannot be read - {said(error)}; "
            f"the distribution is named {name!r}, after its folder"
        )
    return _Source(name, version, _place(distribution), declared)


def _named_by_folder(distribution: Distribution) -> tuple[str, str]:
    """The name and version of a distribution, from ``acme_attention-0.3.dist-info``."""
    path = getattr(distribution, "_path", None)  # a folder, possibly in an archive
    return _named_by(getattr(path, "name", "") or type(distribution).__name__)


def _named_by(folder: str) -> tuple[str, str]:
    stem = folder.removesuffix(".dist-info").removesuffix(".egg-info")
    parts = re.fullmatch(r"(.+?)-(\d[^-]*)(-py[\d.]+)?", stem)
    return (one_line(parts[1]), one_line(parts[2])) if parts else (one_line(stem), UNKNOWN)


def _place(distribution: Distribution) -> str:
    """The folder of a distribution's metadata, in canonical form."""
    path = getattr(distribution, "_path", None)
    return os.path.realpath(str(path)) if path else repr(distribution)


def canonical(distribution: str) -> str:
    """The canonical name of a distribution, as packaging tools compare it.

    >>> canonical("Acme_Attention")
    'acme-attention'
    """
    return re.sub(r"[-_.]+", "-", distribution).lower()
