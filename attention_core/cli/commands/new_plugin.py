"""``attention-core new-plugin``: a working project, to turn an idea into a package."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Annotated

import typer

import attention_core
from attention_core import OptionError
from attention_core.cli.kinds import kind_named, kinds_with
from attention_core.files.atomic import workspace
from attention_core.registry.default import default_registry
from attention_core.registry.kinds import SCORER

__all__ = ["new_plugin"]

# Destinations of the files of the template; `$` names are filled in, in paths and in files.
FILES = {
    "pyproject.toml.in": "pyproject.toml",
    "README.md.in": "README.md",
    "package.py.in": "src/$package/__init__.py",
    "py.typed.in": "src/$package/py.typed",
    "$form/hooks.py.in": "src/$package/hooks.py",
    "$form/$kind.py.in": "src/$package/$kind.py",
    "$form/test.py.in": "tests/test_$name.py",
}
# The text of the README for each form.
FORMS = {
    "scorer": {
        "result": "score",
        "formula": "-scale * sum_d |q_d - k_d|",
        "arguments": 'scorer={"name": "$name", "scale": 0.5}',
        "weights": "array([[0.73, 0.27],\n       [0.27, 0.73]])",
        "options": "--scorer $name --set scale=0.5",
    },
    "trainable": {
        "result": "score",
        "formula": "-sum_d |scale_d (q_d - k_d)|",
        "arguments": 'scorer={"name": "$name", "scale": [0.5, 0.5]}',
        "weights": "array([[0.73, 0.27],\n       [0.27, 0.73]])",
        "options": "--scorer $name --set dim=3",
    },
    "normalizer": {
        "result": "weights_j",
        "formula": "max(s_j, 0) ^ power / sum_k max(s_k, 0) ^ power",
        "arguments": 'scorer="dot", normalizer={"name": "$name", "power": 2}',
        "weights": "array([[0., 0.],\n       [0., 1.]])",
        "options": "--scorer dot --normalizer $name --set normalizer.power=2",
    },
    "bias": {
        "result": "bias_ij",
        "formula": "-rate log(1 + |j - i|)",
        "arguments": 'scorer="dot", bias={"name": "$name", "rate": 1.0}',
        "weights": "array([[0.67, 0.33],\n       [0.06, 0.94]])",
        "options": "--scorer dot --bias $name --set bias.rate=1.0",
    },
}


def new_plugin(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The name for users, such as taxicab.")
    ],
    kind: Annotated[
        str, typer.Option(metavar="KIND", help="scorer, normalizer or bias.")
    ] = "scorer",
    trainable: Annotated[
        bool,
        typer.Option(
            "--trainable", help="A scorer with parameters that are learned, and gradients."
        ),
    ] = False,
) -> None:
    """Write a working project, with passing tests, for a component of your own.

    The project is a new folder, attention-core-NAME.
    """
    chosen = kind_named(kind)
    if trainable and chosen is not SCORER:
        raise OptionError(
            f"--trainable goes with scorers; the {kind} of the template has gradients"
        )
    _check_name(kind, name)
    words = {
        "name": name,
        "kind": kind,
        "form": "trainable" if trainable else kind,
        "distribution": f"attention-core-{name.replace('_', '-')}",
        "package": f"attention_core_{name}",
        "class_name": "".join(map(str.capitalize, [*name.split("_"), kind])),
        "version": ".".join(attention_core.__version__.split(".")[:2]),
    }
    words |= {k: Template(v).substitute(words) for k, v in FORMS[words["form"]].items()}
    project = {
        Template(path).substitute(words): Template(
            _template(Template(file).substitute(words))
        ).substitute(words)
        for file, path in FILES.items()
    }
    folder = Path(words["distribution"])
    if folder.exists():
        raise OptionError(f"{str(folder)!r} already exists; nothing was written")
    with workspace(folder) as temporary:
        new = temporary / folder
        for path, text in project.items():
            (new / path).parent.mkdir(parents=True, exist_ok=True)
            (new / path).write_text(text, encoding="utf-8")
        new.rename(folder)  # never half of it, even on a full disk
    typer.echo(f"written to {folder}: {', '.join(project)}")
    typer.echo("next:")
    typer.echo(f"  cd {folder}")
    typer.echo("  python -m pip install -e '.[test]'")
    typer.echo("  python -m pytest")
    typer.echo(f"  attention-core check {words['package']}.hooks")


def _template(file: str) -> str:
    return (files("attention_core.cli") / "template" / file).read_text(encoding="utf-8")


def _check_name(kind: str, name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise OptionError(
            f"{kind} name {name!r} must be lower-case letters, digits and underscores, beginning "
            f"with a letter; the package will be called attention-core-NAME"
        )
    for taken in kinds_with(name, [kind_named(kind)]):
        info = default_registry().of(taken).info(name)
        source = f"{info.distribution} {info.version}" if info.distribution else "this process"
        raise OptionError(f"{kind} name {name!r} is taken by {source}; choose another")
