"""``attention-core check``: check the contract of a component or of all those of a plugin."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from attention_core import OptionError, PluginError, ScorerContractError, UnknownScorerError
from attention_core.cli.kinds import kind_named, kinds_with, unknown_name
from attention_core.cli.values import settings
from attention_core.errors import printable, shown
from attention_core.registry.default import default_registry
from attention_core.registry.kinds import KINDS, SCORER
from attention_core.testing import Check, Report, plugin_checks, run_checks
from attention_core.testing.checks import component_checks

__all__ = ["check"]


def check(
    what: Annotated[
        str,
        typer.Argument(
            metavar="NAME|MODULE",
            help="A scorer, a normalizer, a bias, or a plugin's module of hooks such as "
            "acme_attention.hooks.",
        ),
    ],
    kind: Annotated[
        str | None,
        typer.Option(metavar="KIND", help="scorer, normalizer or bias, if several have the name."),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="A parameter, in place of its example's; repeatable.",
        ),
    ] = None,
    query_dim: Annotated[
        int | None, typer.Option(metavar="DQ", min=1, help="Features of queries; found by default.")
    ] = None,
    key_dim: Annotated[
        int | None, typer.Option(metavar="DK", min=1, help="Features of keys; found by default.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the arrays that it is tried with.")] = 0,
) -> None:
    """Check whether a scorer, a normalizer, a bias, or a whole plugin keeps the contract.

    Exit code 1 if a check fails.
    """
    parameters = settings(setting or [])
    dims = {k: v for k, v in {"query_dim": query_dim, "key_dim": key_dim}.items() if v}
    kinds = KINDS if kind is None else [kind_named(kind)]
    found = kinds_with(what, kinds)
    if len(found) > 1:
        claimants = " and a ".join(map(str, found))
        raise OptionError(f"{shown(what)} is a {claimants}; choose one with --kind")
    checks: Iterator[Check]
    if found:
        if dims and found[0] is not SCORER:
            raise OptionError(
                f"{shown(what)} is a {found[0]}; --query-dim and --key-dim go with scorers"
            )
        names = default_registry().of(found[0])
        try:
            component = names.make(what, parameters or names.info(what).example)
        except (PluginError, ScorerContractError) as error:  # not caused by --set
            typer.echo(f"error: {printable(str(error))}", err=True)
            raise typer.Exit(1) from error
        checks = component_checks(found[0], component, seed=seed, **dims)
    else:
        if not _is_module(what):
            text = unknown_name(what, kinds)
            raise UnknownScorerError(f"{text}\n  nor is there a module of this name")
        if parameters or dims:
            raise OptionError("--set, --query-dim and --key-dim go with the name of a component")
        checks = plugin_checks(what, seed=seed)
    report = run_checks(checks)
    _print(report)
    if not report.ok:
        raise typer.Exit(1)


def _is_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _print(report: Report) -> None:
    text = Text(str(report))
    text.highlight_words(["FAILED"], "bold red")
    text.highlight_regex(r"(?m)^(scorer|normalizer|bias|plugin) .*$", "bold")
    text.highlight_regex(r"(?m)^  passed ", "green")
    Console(highlight=False).print(text, soft_wrap=True)
