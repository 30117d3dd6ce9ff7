"""Parameter files: named arrays, and the scorer or layer that they belong to, if known."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from attention_core.arguments import checked_arguments
from attention_core.errors import OptionTypeError, ParameterFileError, listed, shown
from attention_core.files.array_files import open_file
from attention_core.files.paths import as_path
from attention_core.options import OPTIONS
from attention_core.typing import Array

__all__ = [
    "Description",
    "Parameters",
    "describe",
    "describe_scorer",
    "read_arrays",
    "read_named",
    "read_parameters",
]


class Parameters(NamedTuple):
    """The content of a file of parameters."""

    arrays: dict[str, Array]
    """The arrays, by name."""
    scorer: dict[str, Any] | None
    """The scorer's config without its arrays; None in a file of a layer, or of arrays alone."""
    layer: dict[str, Any] | None
    """``groups`` of heads with their scorers' configs, ``normalizers`` likewise, the
    ``bias``, and ``attention`` options; None if it is not the file of a layer."""


@dataclass(frozen=True, slots=True)
class Description:
    """The contents of a parameter file, known before any array is read."""

    shapes: dict[str, tuple[int, ...]]
    scorer: dict[str, Any] | None
    layer: dict[str, Any] | None
    versions: dict[str, str]
    """The version of each distribution whose scorers were saved."""


def describe(path: str | Path) -> Description:
    """Read the names and shapes of the arrays in a file, and its note.

    Raises
    ------
    ParameterFileError
        For a file that cannot be read, or whose arrays are not the saved ones.
    MissingExtraError
        For a ``.safetensors`` file without the extra `safetensors`.
    """
    path = as_path(path)
    with open_file(path) as file:
        shapes, note = file.shapes, file.note
    if note is None:
        return Description(shapes, None, None, {})
    try:
        content = json.loads(note)
        saved = {name: tuple(shape) for name, shape in content["shapes"].items()}
        layer = _layer(content["layer"]) if "layer" in content else None
        scorer = None if layer is not None else _scorer(content["scorer"])
        versions = {str(name): str(v) for name, v in dict(content.get("versions", {})).items()}
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise ParameterFileError(
            f"{shown(str(path), 300)}: cannot read its note about its parameters: {note[:80]!r}"
        ) from error
    owner = "multi-head attention" if scorer is None else f"scorer {shown(scorer['name'])}"
    _check(path, shapes, saved, owner)
    for settings in [scorer] if layer is None else _components(layer):
        if settings is not None and "rng" in settings:
            raise ParameterFileError(
                f"{shown(str(path), 300)}: its note asks for arrays drawn from a seed, 'rng'; a "
                f"file of parameters holds its arrays"
            )
    return Description(shapes, scorer, layer, versions)


def describe_scorer(path: str | Path) -> Description:
    """Describe a file, which must not be that of a layer; errors are those of `describe`."""
    described = describe(path)
    if described.layer is not None:
        raise ParameterFileError(
            f"{shown(str(path), 300)} holds multi-head attention, not a scorer; "
            f"use load_layer(path)"
        )
    return described


def read_named(path: str | Path, names: Collection[str] | None = None) -> dict[str, Array]:
    """Read some arrays of a file, or all of them, without checking its note.

    Raises
    ------
    ParameterFileError
        For a file that cannot be read, or an array that it does not hold; and without names for
        large arrays that only compression makes small.
    MissingExtraError
        For a ``.safetensors`` file without the extra `safetensors`.
    """
    path = as_path(path)
    with open_file(path) as file:
        for name in names or ():
            if name not in file.shapes:
                raise ParameterFileError(
                    f"{shown(str(path), 300)} holds no array {shown(name)}; "
                    f"it holds: {listed(file.shapes) or 'none'}"
                )
        if names is None and file.bombs:
            raise ParameterFileError(
                f"{shown(str(path), 300)}: array {shown(file.bombs[0])} of shape "
                f"{file.shapes[file.bombs[0]]} is compressed more than 100 times, like files made "
                f"to exhaust memory; if it is genuine, save it without compression"
            )
        return {name: file.read(name) for name in (file.shapes if names is None else names)}


@checked_arguments
def read_arrays(path: str | Path, names: Collection[str] | None = None) -> dict[str, Array]:
    """Read named arrays from an ``.npz`` or ``.safetensors`` file.

    Parameters
    ----------
    path
        The file.
    names
        The arrays to read; all of them by default.

    Raises
    ------
    ParameterFileError
        For a file that is missing, damaged, of another kind, or holds Python objects, and for an
        array that it does not hold.
    MissingExtraError
        For a ``.safetensors`` file without the extra `safetensors`.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/weights.npz", weight=np.eye(2))
    ...     read_arrays(f"{folder}/weights.npz")
    {'weight': array([[1., 0.],
           [0., 1.]])}
    """
    if isinstance(names, str) or not (names is None or isinstance(names, Collection)):
        raise OptionTypeError(f"names must be a list of names of arrays, got {shown(names)}")
    describe(path)  # checks that the arrays are the saved ones
    return read_named(path, names)


def read_parameters(path: str | Path) -> Parameters:
    """Read the arrays of a file and the scorer or layer they belong to, if the file says so.

    Raises
    ------
    ParameterFileError
        As `read_arrays`.
    MissingExtraError
        As `read_arrays`.
    """
    described = describe(path)
    return Parameters(read_named(path), described.scorer, described.layer)


def _scorer(content: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a component."""
    config = dict(content)
    if not isinstance(config["name"], str):
        raise ValueError(f"the name of a component must be a string, got {config['name']!r}")
    return config


def _components(layer: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        *(group["scorer"] for group in layer["groups"]),
        *(group["normalizer"] for group in layer["normalizers"]),
        *([layer["bias"]] if layer["bias"] else []),
    ]


def _groups(content: Any, kind: str, count: int | None = None) -> list[dict[str, Any]]:
    """Groups of heads with the config of their component; each head must have one."""
    groups = [{"heads": list(each["heads"]), kind: _scorer(each[kind])} for each in content]
    heads = sorted(head for group in groups for head in group["heads"])
    expected = list(range(len(heads) if count is None else count))
    if heads != expected or not all(group["heads"] for group in groups):
        raise ValueError(f"each head must have one {kind}, got {kind}s for heads {heads}")
    return groups


def _layer(content: Mapping[str, Any]) -> dict[str, Any]:
    """Check the note of a layer: each head has one scorer, and the options are known.

    Heads have the default normalizer if the note names none.

    Raises
    ------
    AttributeError, LookupError, TypeError, ValueError
        For anything else.

    Examples
    --------
    >>> layer = _layer({"groups": [{"heads": [0], "scorer": {"name": "dot"}}], "attention": {}})
    >>> layer["groups"], layer["normalizers"]
    ([{'heads': [0], 'scorer': {'name': 'dot'}}], [])
    """
    groups = _groups(content["groups"], "scorer")
    count = sum(len(group["heads"]) for group in groups)
    given = content.get("normalizers", [])
    normalizers = _groups(given, "normalizer", count) if given else []
    options = dict(content["attention"])
    if not options.keys() <= OPTIONS.keys():
        raise ValueError(f"options must be of {', '.join(OPTIONS)}, got {', '.join(options)}")
    zero_key = content.get("zero_key", False)
    if not isinstance(zero_key, bool):
        raise ValueError(f"zero_key must be true or false, got {zero_key!r}")
    bias = content.get("bias")
    return {
        "groups": groups,
        "normalizers": normalizers,
        "bias": None if bias is None else _scorer(bias),
        "attention": options,
        "zero_key": zero_key,
    }


def _check(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    saved: Mapping[str, tuple[int, ...]],
    owner: str,
) -> None:
    """Refuse arrays that are not the saved ones."""
    subject = shown(str(path), 300)
    for name in {**saved, **shapes}:
        if name not in shapes:
            raise ParameterFileError(f"{subject}: array {shown(name)} of {owner} is missing")
        if name not in saved:
            raise ParameterFileError(
                f"{subject}: array {shown(name)} is not one of {owner}, "
                f"which was saved with: {listed(saved) or 'none'}"
            )
        if shapes[name] != saved[name]:
            raise ParameterFileError(
                f"{subject}: array {shown(name)} has shape {shapes[name]}, "
                f"but was saved with shape {shown(saved[name])}"
            )
