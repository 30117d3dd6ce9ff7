"""``attention-core new-scorer``: a project that works, to turn an idea into a package."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Annotated

import typer

import attention_core
from attention_core import OptionError, UnknownScorerError
from attention_core.files.atomic import workspace
from attention_core.registry.default import default_registry

__all__ = ["new_scorer"]

# Where each file of the template goes; `$` names are filled in, in the paths as in the files.
FILES = {
    "pyproject.toml.in": "pyproject.toml",
    "README.md.in": "README.md",
    "package.py.in": "src/$package/__init__.py",
    "${kind}hooks.py.in": "src/$package/hooks.py",
    "${kind}scorer.py.in": "src/$package/scorer.py",
    "py.typed.in": "src/$package/py.typed",
    "${kind}test.py.in": "tests/test_$name.py",
}
FIXED = {
    "kind": "",
    "formula": "-scale * sum_d |q_d - k_d|",
    "scale": "0.5",
    "setting": "scale=0.5",
}
TRAINABLE = {
    "kind": "trainable_",
    "formula": "-sum_d |scale_d (q_d - k_d)|",
    "scale": "[0.5, 0.5]",
    "setting": "dim=3",
}


def new_scorer(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="What users will choose it by, such as taxicab.")
    ],
    trainable: Annotated[
        bool, typer.Option("--trainable", help="With parameters that are learned, and gradients.")
    ] = False,
) -> None:
    """Write a project for a scorer of your own, which works and passes its tests as it is.

    It goes to a new folder, attention-core-NAME.
    """
    _check_name(name)
    words = {
        "name": name,
        "distribution": f"attention-core-{name.replace('_', '-')}",
        "package": f"attention_core_{name}",
        "class_name": "".join(map(str.capitalize, name.split("_"))) + "Scorer",
        "version": ".".join(attention_core.__version__.split(".")[:2]),
        **(TRAINABLE if trainable else FIXED),
    }
    project = {
        Template(path).substitute(words): Template(
            _template(Template(file).substitute(words))
        ).substitute(words)
        for file, path in FILES.items()
    }
    folder = Path(words["distribution"])
    if folder.exists():
        raise OptionError(f"{str(folder)!r} exists already; nothing was written")
    with workspace(folder) as temporary:
        new = temporary / folder
        for path, text in project.items():
            (new / path).parent.mkdir(parents=True, exist_ok=True)
            (new / path).write_text(text, encoding="utf-8")
        new.rename(folder)  # a full disk leaves no half of it
    typer.echo(f"written to {folder}: {', '.join(project)}")
    typer.echo("next:")
    typer.echo(f"  cd {folder}")
    typer.echo("  python -m pip install -e '.[test]'")
    typer.echo("  python -m pytest")
    typer.echo(f"  attention-core check {words['package']}.hooks")


def _template(file: str) -> str:
    return (files("attention_core.cli") / "template" / file).read_text(encoding="utf-8")


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise OptionError(
            f"scorer name {name!r} must be lower-case letters, digits and underscores, beginning "
            f"with a letter; the package will be called attention-core-NAME"
        )
    try:
        info = default_registry().info(name)
    except UnknownScorerError:
        return
    source = f"{info.distribution} {info.version}" if info.distribution else "this process"
    raise OptionError(f"scorer name {name!r} is taken by {source}; choose another")
