"""``attention-core config``: working with configuration files."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import typer

from attention_core import Attention, MultiHeadAttention, PluginError, ScorerInfo
from attention_core import scorers as installed
from attention_core.cli.commands.scorers import plain
from attention_core.cli.plugins import stdout_for_us
from attention_core.config import describes_layer

__all__ = ["app"]

app = typer.Typer(help="Work with configuration files.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


@app.command("schema")
def schema() -> None:
    """Print the JSON Schema of configuration files, with the scorers that are installed."""
    document = json.loads((files("attention_core") / "config.schema.json").read_text("utf-8"))
    with stdout_for_us():
        scorers = [rule for info in installed() if (rule := _parameters_of(info))]
    document["properties"]["scorer"]["allOf"] = scorers
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))


def _parameters_of(info: ScorerInfo) -> dict[str, Any] | None:
    """The rule for a table of one scorer: its parameters; None if its factory cannot be had."""
    try:
        parameters = info.parameters
    except PluginError:
        return None
    properties: dict[str, Any] = {"name": {"description": info.summary}, "parameters": {}}
    for name, parameter in parameters.items():
        has_default = parameter.default is not parameter.empty
        properties[name] = {"default": plain(parameter.default)} if has_default else {}
    required = [name for name, p in parameters.items() if p.default is p.empty]
    names = dict.fromkeys([info.name, *info.aliases, info.qualified_name])
    rule = {"properties": properties, "additionalProperties": False}
    if required:  # by name, or in a file of parameters
        rule["anyOf"] = [{"required": required}, {"required": ["parameters"]}]
    return {
        "if": {"required": ["name"], "properties": {"name": {"enum": list(names)}}},
        "then": rule,
    }


@app.command("check")
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .toml or .json config.")],
) -> None:
    """Check a config file: print what it chooses, or every problem it has."""
    if describes_layer(file):
        layer = MultiHeadAttention.from_config(file)
        typer.echo(f"OK: {file}")
        typer.echo(repr(layer))
        parameters, options = layer.parameters, layer.to_config().get("attention", {})
    else:
        attention = Attention.from_config(file)
        typer.echo(f"OK: {file}")
        typer.echo(str(attention.scorer))
        parameters = attention.scorer.parameters
        options = attention.to_config().get("attention", {})
    for name, array in parameters.items():
        typer.echo(f"  {name} {array.shape} {array.dtype}")
    for name, option in options.items():
        typer.echo(f"{name} = {option}")
