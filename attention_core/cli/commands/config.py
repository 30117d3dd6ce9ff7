"""``attention-core config``: working with configuration files."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from attention_core import Attention

__all__ = ["app"]

app = typer.Typer(help="Work with configuration files.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


@app.command("schema")
def schema() -> None:
    """Print the JSON Schema of configuration files."""
    typer.echo((files("attention_core") / "config.schema.json").read_text("utf-8"), nl=False)


@app.command("check")
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .toml or .json config.")],
) -> None:
    """Check a config file: print what it chooses, or every problem it has."""
    attention = Attention.from_config(file)
    typer.echo(f"OK: {file}")
    typer.echo(str(attention.scorer))
    for name, array in attention.scorer.parameters.items():
        typer.echo(f"  {name} {array.shape} {array.dtype}")
    for name, option in attention.to_config().get("attention", {}).items():
        typer.echo(f"{name} = {option}")
