"""Names and their owners, among components of one kind.

A name belongs to its only claimant. The bundled names are reserved, since a package installed later
must never change the numbers of a working program. A rival of a bundled name is available by its
qualified name, and a name that two other packages claim can only be used qualified. A conflict does
not affect other names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from attention_core.errors import AmbiguousScorerError, PluginError
from attention_core.registry.discovery import canonical
from attention_core.registry.entries import Offer
from attention_core.registry.infos import Info

__all__ = ["Claims", "NameConflict"]


@dataclass(frozen=True, slots=True)
class NameConflict:
    """A name, or alias, that several distributions claim."""

    name: str
    kept_by: str | None
    """The distribution and version that keeps the name, or None."""
    claims: Mapping[str, str]
    """Names to use instead -> the distribution and version each comes from."""
    kind: str = "scorer"

    def __str__(self) -> str:
        names = " or ".join(map(repr, self.claims))
        sources = ", ".join(self.claims.values())
        if self.kept_by is None:
            return (
                f"{self.kind} name {self.name!r} is ambiguous; use {names}\n  offered by: {sources}"
            )
        return (
            f"{self.kind} name {self.name!r} is reserved for {self.kept_by}; "
            f"use {names} for the {self.kind} of {sources}"
        )


class Claims:
    """Names and aliases, and the offers that claim each; immutable, so reading needs no lock.

    Examples
    --------
    >>> from attention_core.hookspecs import ScorerSpec
    >>> spec = ScorerSpec(name="rbf", factory="acme_attention.rbf:RBFScorer", aliases=("gauss",))
    >>> claims = Claims().with_offers([Offer(spec, distribution="acme-attention", version="0.3")])
    >>> claims.find("gauss") is claims.find("acme-attention/rbf")
    True
    """

    def __init__(self, offers: Mapping[str, tuple[Offer, ...]] | None = None) -> None:
        self._offers = dict(offers or {})  # by name and by alias

    def with_offers(self, offers: Iterable[Offer]) -> Claims:
        """These claims and those of more offers, all of them or none.

        An offer made at run time replaces an earlier one of its name made at run time, so a cell of
        a notebook can be run twice.

        Raises
        ------
        PluginError
            For a name that the same distribution has already claimed; for a name registered at run
            time that anything else has, or the reverse.
        """
        claims = dict(self._offers)
        for offer in offers:
            if offer.distribution is None:
                claims = _without_run_time(offer.spec.name, claims)
            for name in offer.names:
                rivals = claims.get(name, ())
                for rival in rivals:
                    if not offer.may_compete_with(rival):
                        raise PluginError(f"{offer.kind} name {name!r} is already taken by {rival}")
                claims[name] = (*rivals, offer)
        return Claims(claims)

    def find(self, name: str) -> Offer | None:
        """Find the offer of a name, an alias or a qualified name.

        Raises
        ------
        AmbiguousScorerError
            For a name that several distributions claim, none of them attention-core.
        """
        distribution, slash, plain = name.rpartition("/")
        if slash:
            for offer in self._offers.get(plain, ()):
                if offer.distribution and canonical(offer.distribution) == canonical(distribution):
                    return offer
            return None
        holder = self._holder(name)
        if holder is None and name in self._offers:
            raise AmbiguousScorerError(str(self._conflict(name)))
        return holder

    def name_of(self, offer: Offer) -> str:
        """The name of an offer; qualified if another offer has the plain name."""
        name = offer.spec.name
        return name if self._holder(name) is offer else offer.qualified_name

    def infos(self) -> tuple[Any, ...]:
        """Every offer, ordered by name."""
        return tuple(self.info(offer) for _, offer in self._by_name())

    def conflicts(self) -> tuple[NameConflict, ...]:
        """Every name that several distributions claim, in order."""
        contested = sorted(name for name, offers in self._offers.items() if len(offers) > 1)
        return tuple(map(self._conflict, contested))

    def info(self, offer: Offer) -> Info:
        """Describe an offer."""
        spec = offer.spec
        return offer.kind.info(
            name=self.name_of(offer),
            aliases=tuple(alias for alias in spec.aliases if self._holder(alias) is offer),
            summary=spec.summary,
            formula=spec.formula,
            reference=spec.reference,
            distribution=offer.distribution,
            version=offer.version,
            qualified_name=offer.qualified_name,
            example=dict(spec.example),
            factory=spec.factory,
        )

    def spellings(self) -> tuple[str, ...]:
        """Every string that `find` knows, except needlessly qualified ones."""
        return tuple({**self._offers, **dict(self._by_name())})

    def __str__(self) -> str:
        """The names, grouped by distribution, the bundled ones first."""
        names: dict[str, list[str]] = {}
        for name, offer in sorted(self._by_name(), key=lambda pair: pair[1].precedence):
            names.setdefault(offer.source, []).append(name)
        return ", ".join(f"{', '.join(group)} ({source})" for source, group in names.items())

    def _by_name(self) -> list[tuple[str, Offer]]:
        offers = {offer: None for offers in self._offers.values() for offer in offers}
        return sorted(((self.name_of(offer), offer) for offer in offers), key=lambda pair: pair[0])

    def _holder(self, name: str) -> Offer | None:
        """The offer of a plain name: the bundled one, or the only one."""
        offers = self._offers.get(name, ())
        bundled = tuple(offer for offer in offers if offer.is_bundled)
        offers = bundled or offers
        return offers[0] if len(offers) == 1 else None

    def _conflict(self, name: str) -> NameConflict:
        holder = self._holder(name)
        return NameConflict(
            name=name,
            kept_by=holder.source if holder else None,
            claims={
                f"{offer.distribution}/{name}": offer.source
                for offer in self._offers[name]
                if offer is not holder
            },
            kind=str(self._offers[name][0].kind),
        )


def _without_run_time(
    name: str, claims: Mapping[str, tuple[Offer, ...]]
) -> dict[str, tuple[Offer, ...]]:
    """The claims without those of the offer of this name that was made at run time."""
    kept = {
        claimed: tuple(o for o in offers if o.distribution is not None or o.spec.name != name)
        for claimed, offers in claims.items()
    }
    return {claimed: offers for claimed, offers in kept.items() if offers}
