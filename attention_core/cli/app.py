"""The commands and their common options."""

from __future__ import annotations

from typing import Annotated

import typer

import attention_core
from attention_core.cli.commands import attend, check, config, demo, listing, new_plugin
from attention_core.cli.errors import Commands

__all__ = ["app"]

app = typer.Typer(
    cls=Commands,
    name="attention-core",
    help="Attention with a pluggable alignment function.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("scorers")(listing.scorers)
app.command("normalizers")(listing.normalizers)
app.command("biases")(listing.biases)
app.command("attend")(attend.attend)
app.add_typer(config.app, name="config")
app.add_typer(demo.app, name="demo")
app.command("check")(check.check)
app.command("new-plugin")(new_plugin.new_plugin)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"attention-core {attention_core.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    pass
