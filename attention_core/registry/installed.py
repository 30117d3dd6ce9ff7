"""Installed plugins: all offers are collected first, then they claim names in order."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from attention_core.errors import INTERRUPTS, PluginError, listed
from attention_core.hookspecs import Spec
from attention_core.registry.choice import Choice
from attention_core.registry.conflicts import Claims
from attention_core.registry.discovery import BUNDLED, Plugin, discover
from attention_core.registry.entries import Offer
from attention_core.registry.kinds import KINDS, Kind, kind_of
from attention_core.registry.loading import load_specs

__all__ = ["Installed", "find_installed", "make_offer", "with_offers"]

log = logging.getLogger("attention_core")
log.addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Installed:
    """Offers that were found, and plugins that could not be used."""

    claims: Mapping[Kind[Any], Claims]
    blocked: list[Plugin]
    failed: Mapping[Plugin, BaseException]
    notices: list[str]
    """Notices that affect no name."""


def find_installed(choice: Choice, registered: Iterable[Offer]) -> Installed:
    """Find and load all selected plugins, and resolve conflicts of names.

    Bundled names come first, then registered components.

    Raises
    ------
    PluginError
        If something was registered under a bundled name.
    """
    found = discover()
    known = [*found.plugins, *found.unreadable]
    failed = {plugin: error for plugin, error in found.unreadable.items() if choice.wants(plugin)}
    loaded: dict[Plugin, list[Offer]] = {}
    for plugin in filter(choice.wants, found.plugins):
        try:
            loaded[plugin] = [make_offer(spec, plugin) for spec in load_specs(plugin)]
        except INTERRUPTS:
            raise
        except BaseException as error:  # noqa: BLE001 - a plugin may raise anything
            failed[plugin] = error
    claims = with_offers({kind: Claims() for kind in KINDS}, loaded.pop(BUNDLED, []))
    claims = with_offers(claims, registered)
    for plugin, offers in loaded.items():
        try:
            claims = with_offers(claims, offers)
            log.debug("%s offers %s", plugin, listed(offer.spec.name for offer in offers))
        except PluginError as error:
            failed[plugin] = error
    return Installed(
        claims,
        [plugin for plugin in known if not choice.wants(plugin)],
        failed,
        [*found.notices, *choice.misspelt(known)],
    )


def make_offer(spec: Spec, plugin: Plugin | None) -> Offer:
    """Make the offer of a spec by a plugin, or at run time."""
    source = (plugin.distribution, plugin.version) if plugin else ()
    return Offer(spec, kind_of(spec), *source)


def with_offers(
    claims: Mapping[Kind[Any], Claims], offers: Iterable[Offer]
) -> dict[Kind[Any], Claims]:
    """The claims of all kinds and those of more offers, all of them or none."""
    groups: dict[Kind[Any], list[Offer]] = {}
    for offer in offers:
        groups.setdefault(offer.kind, []).append(offer)
    return {**claims, **{kind: claims[kind].with_offers(own) for kind, own in groups.items()}}
