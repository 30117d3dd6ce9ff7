"""``attention-core config``: working with configuration files."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import typer

from attention_core import Attention, MultiHeadAttention
from attention_core.cli.commands.listing import parameters_of
from attention_core.cli.plugins import stdout_for_us
from attention_core.config import describes_layer
from attention_core.registry.default import default_registry
from attention_core.registry.infos import Info
from attention_core.registry.kinds import KINDS, SCORER, Kind

__all__ = ["app"]

app = typer.Typer(help="Work with configuration files.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


@app.command("schema")
def schema() -> None:
    """Print the JSON Schema of configuration files, with the components that are installed."""
    document = json.loads((files("attention_core") / "config.schema.json").read_text("utf-8"))
    with stdout_for_us():
        for kind in KINDS:
            infos = default_registry().of(kind).claims.infos()
            rules = [rule for info in infos if (rule := _parameters_of(kind, info))]
            document["properties"][kind.name]["allOf"] = rules
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))


def _parameters_of(kind: Kind[Any], info: Info) -> dict[str, Any] | None:
    """The schema of a component's parameters; None if its factory cannot be imported."""
    parameters = parameters_of(info)
    if parameters is None:
        return None
    properties: dict[str, Any] = {"name": {"description": info.summary}}
    if kind is SCORER:
        properties["parameters"] = {}
    for each in parameters:
        properties[each["name"]] = {} if each["required"] else {"default": each["default"]}
    required = [each["name"] for each in parameters if each["required"]]
    names = dict.fromkeys([info.name, *info.aliases, info.qualified_name])
    rule: dict[str, Any] = {"properties": properties, "additionalProperties": False}
    if required and kind is SCORER:  # by name, or in a file of parameters
        rule["anyOf"] = [{"required": required}, {"required": ["parameters"]}]
    elif required:
        rule["required"] = required
    return {
        "if": {"required": ["name"], "properties": {"name": {"enum": list(names)}}},
        "then": rule,
    }


@app.command("check")
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .toml or .json config.")],
) -> None:
    """Check a config file: print its contents, or every problem in it."""
    if describes_layer(file):
        layer = MultiHeadAttention.from_config(file)
        typer.echo(f"OK: {file}")
        typer.echo(repr(layer))
        parameters, options = layer.parameters, layer.to_config().get("attention", {})
    else:
        attention = Attention.from_config(file)
        typer.echo(f"OK: {file}")
        sections = attention.to_config()
        typer.echo(str(attention.scorer))
        for part in ("normalizer", "bias"):
            if part in sections:
                typer.echo(str(getattr(attention, part)))
        parameters = attention.scorer.parameters
        options = sections.get("attention", {})
    for name, array in parameters.items():
        typer.echo(f"  {name} {array.shape} {array.dtype}")
    for name, option in options.items():
        typer.echo(f"{name} = {option}")
