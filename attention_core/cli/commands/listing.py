"""``attention-core scorers`` and its siblings: installed components, and failures to load."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from attention_core import PluginError, PluginWarning, Registry
from attention_core.cli.plugins import stdout_for_us
from attention_core.compiled.switch import is_switched_on
from attention_core.errors import printable, shown
from attention_core.registry.default import default_registry
from attention_core.registry.infos import Info
from attention_core.registry.kinds import BIAS, NORMALIZER, SCORER, Kind
from attention_core.scoring.compiled_forms import is_compiled

__all__ = ["biases", "normalizers", "parameters_of", "scorers"]

FIELDS = (
    "name",
    "aliases",
    "summary",
    "formula",
    "reference",
    "distribution",
    "version",
    "qualified_name",
    "example",
)


def scorers(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the scorers that are installed, and the plugins that could not be loaded."""
    _print_listing(SCORER, as_json)


def normalizers(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the normalizers that are installed, and the plugins that could not be loaded."""
    _print_listing(NORMALIZER, as_json)


def biases(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the biases that are installed, and the plugins that could not be loaded."""
    _print_listing(BIAS, as_json)


def _print_listing(kind: Kind[Any], as_json: bool) -> None:
    with warnings.catch_warnings(), stdout_for_us():  # the warnings are shown below
        warnings.simplefilter("ignore", PluginWarning)
        registry = default_registry()
        listed = _as_json(registry, kind) if as_json else _table(registry, kind)
    if as_json:
        typer.echo(json.dumps(listed, indent=2))
        return
    console = Console(highlight=False)
    console.print(listed)
    _print_list(console, "Name conflicts", registry.of(kind).claims.conflicts())
    _print_list(console, "Not loaded", registry.failures)
    _print_list(console, "Blocked", registry.blocked)


def _table(registry: Registry, kind: Kind[Any]) -> Table:
    table = Table(box=None, padding=(0, 2, 1, 0), header_style="bold")
    table.add_column(kind.name, no_wrap=True)
    table.add_column("formula and summary")
    table.add_column("from")
    for info in registry.of(kind).claims.infos():
        names = Text(info.name, "bold")
        for alias in info.aliases:
            names.append(f"\n= {alias}", "not bold")
        what = Text("\n").join(
            Text(printable(line)) for line in (info.formula, info.summary, info.reference) if line
        )
        is_fast = kind is SCORER and _is_compiled(registry, info)
        table.add_row(names, what, f"{_source(info)}\ncompiled" if is_fast else _source(info))
    return table


def _source(info: Info) -> str:
    return f"{info.distribution}\n{info.version}" if info.distribution else "run time"


def _print_list(console: Console, title: str, items: Iterable[object]) -> None:
    lines = [str(item) for item in items]
    if lines:
        console.print(Text(title, "bold"))
        for line in lines:
            console.print(Text(f"  {printable(line)}"), soft_wrap=True)
        console.print()


def _as_json(registry: Registry, kind: Kind[Any]) -> dict[str, Any]:
    return {
        kind.plural: [
            {
                **{field: getattr(info, field) for field in FIELDS},
                "parameters": parameters_of(info),
                **({"compiled": _is_compiled(registry, info)} if kind is SCORER else {}),
            }
            for info in registry.of(kind).claims.infos()
        ],
        "conflicts": [
            {"name": conflict.name, "kept_by": conflict.kept_by, "claims": dict(conflict.claims)}
            for conflict in registry.of(kind).claims.conflicts()
        ],
        "not_loaded": [
            {
                "plugin": failure.plugin,
                "distribution": failure.distribution,
                "version": failure.version,
                "reason": failure.reason,
            }
            for failure in registry.failures
        ],
        "blocked": [str(plugin) for plugin in registry.blocked],
    }


def _is_compiled(registry: Registry, info: Info) -> bool:
    """Whether large calls of a scorer use compiled code, according to its example."""
    if not is_switched_on():
        return False
    try:
        return is_compiled(registry.make(info.qualified_name, **info.example), "score_pairs")
    except Exception:  # noqa: BLE001 - a plugin may raise anything; other commands report it
        return False


def parameters_of(info: Info) -> list[dict[str, Any]] | None:
    """List the arguments of a component's factory; None if it cannot be imported."""
    try:
        known = info.parameters
    except PluginError:
        return None
    return [
        {"name": name, "required": True}
        if parameter.default is parameter.empty
        else {"name": name, "required": False, "default": _plain(parameter.default)}
        for name, parameter in known.items()
    ]


def _plain(value: object) -> object:
    """A value as JSON; values that JSON lacks are shown as text."""
    try:
        found: object = json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        return shown(value)
    return found
