"""``attention-core check``: whether a scorer, or all those of a plugin, keep the contract."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from attention_core import OptionError, PluginError, ScorerContractError, UnknownScorerError
from attention_core.cli.values import settings
from attention_core.errors import printable
from attention_core.registry.default import default_registry
from attention_core.testing import Check, Report, plugin_checks, run_checks, scorer_checks

__all__ = ["check"]


def check(
    what: Annotated[
        str,
        typer.Argument(
            metavar="NAME|MODULE",
            help="A scorer, or a plugin's module of hooks such as acme_attention.hooks.",
        ),
    ],
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="A parameter of the scorer, in place of its example's; repeatable.",
        ),
    ] = None,
    query_dim: Annotated[
        int | None, typer.Option(metavar="DQ", min=1, help="Features of queries; found by default.")
    ] = None,
    key_dim: Annotated[
        int | None, typer.Option(metavar="DK", min=1, help="Features of keys; found by default.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the arrays it is tried with.")] = 0,
) -> None:
    """Find out whether a scorer keeps the contract, or a plugin with all its scorers.

    Exit code 1 if a check fails.
    """
    parameters = settings(setting or [])
    registry = default_registry()
    checks: Iterator[Check]
    try:
        info = registry.info(what)
    except UnknownScorerError as error:
        if not _is_module(what):
            raise UnknownScorerError(f"{error}\n  nor is there a module of this name") from None
        if parameters or query_dim or key_dim:
            raise OptionError(
                "--set, --query-dim and --key-dim go with the name of a scorer"
            ) from None
        checks = plugin_checks(what, seed=seed)
    else:
        try:
            scorer = registry.make(what, **(parameters or info.example))
        except (PluginError, ScorerContractError) as error:  # its fault, not that of --set
            typer.echo(f"error: {printable(str(error))}", err=True)
            raise typer.Exit(1) from error
        checks = scorer_checks(scorer, query_dim=query_dim, key_dim=key_dim, seed=seed)
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
    text.highlight_regex(r"(?m)^(scorer|plugin) .*$", "bold")
    text.highlight_regex(r"(?m)^  passed ", "green")
    Console(highlight=False).print(text, soft_wrap=True)
