"""What a file of parameters holds: arrays by name, and whose they are if it says so."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from attention_core.errors import ParameterFileError
from attention_core.files.array_files import read_file
from attention_core.options import OPTIONS
from attention_core.typing import Array

__all__ = ["Parameters", "read_parameters", "read_scorer_parameters"]


class Parameters(NamedTuple):
    """What a file of parameters holds."""

    arrays: dict[str, Array]
    """The arrays, by name."""
    scorer: dict[str, Any] | None
    """The scorer's config without its arrays; None in a file of a layer, or of arrays alone."""
    layer: dict[str, Any] | None
    """``groups`` of heads with their scorers' configs, and ``attention`` options; None if it is
    not the file of a layer."""


def read_parameters(path: str | Path) -> Parameters:
    """The arrays of a file and the scorer or layer they belong to, if the file says so.

    Raises
    ------
    ParameterFileError
        As `read_arrays`; also when the arrays are not those that were saved.
    MissingExtraError
        As `read_arrays`.
    """
    path = Path(path)
    arrays, note = read_file(path)
    if note is None:
        return Parameters(arrays, None, None)
    try:
        content = json.loads(note)
        saved = {name: tuple(shape) for name, shape in content["shapes"].items()}
        layer = _layer(content["layer"]) if "layer" in content else None
        scorer = None if layer is not None else dict(content["scorer"])
        owner = "multi-head attention" if scorer is None else f"scorer {str(scorer['name'])!r}"
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise ParameterFileError(
            f"{str(path)!r}: cannot read what it says about its parameters: {note[:80]!r}"
        ) from error
    _check(path, arrays, saved, owner)
    return Parameters(arrays, scorer, layer)


def read_scorer_parameters(path: str | Path) -> tuple[dict[str, Array], dict[str, Any] | None]:
    """The arrays of a file for a scorer, and which scorer, if the file says so.

    Raises
    ------
    ParameterFileError
        As `read_parameters`; also for the file of a layer.
    MissingExtraError
        As `read_parameters`.
    """
    arrays, scorer, layer = read_parameters(path)
    if layer is not None:
        raise ParameterFileError(
            f"{str(path)!r} holds multi-head attention, not a scorer; use load_layer(path)"
        )
    return arrays, scorer


def _layer(content: Mapping[str, Any]) -> dict[str, Any]:
    """What a file says about a layer, when each head has one scorer and the options are known.

    Raises
    ------
    AttributeError, LookupError, TypeError, ValueError
        For anything else.

    Examples
    --------
    >>> _layer({"groups": [{"heads": [0], "scorer": {"name": "dot"}}], "attention": {}})
    {'groups': [{'heads': [0], 'scorer': {'name': 'dot'}}], 'attention': {}, 'zero_key': False}
    """
    groups = [
        {"heads": list(group["heads"]), "scorer": dict(group["scorer"])}
        for group in content["groups"]
    ]
    heads = sorted(head for group in groups for head in group["heads"])
    if heads != list(range(len(heads))) or not all(group["heads"] for group in groups):
        raise ValueError(f"each head must have one scorer, got scorers for heads {heads}")
    options = dict(content["attention"])
    if not options.keys() <= OPTIONS.keys():
        raise ValueError(f"options must be of {', '.join(OPTIONS)}, got {', '.join(options)}")
    zero_key = content.get("zero_key", False)
    if not isinstance(zero_key, bool):
        raise ValueError(f"zero_key must be true or false, got {zero_key!r}")
    return {"groups": groups, "attention": options, "zero_key": zero_key}


def _check(
    path: Path, arrays: Mapping[str, Array], saved: Mapping[str, tuple[int, ...]], owner: str
) -> None:
    """Refuse other arrays than the file says were saved."""
    for name in {**saved, **arrays}:
        if name not in arrays:
            raise ParameterFileError(f"{str(path)!r}: array {name!r} of {owner} is missing")
        if name not in saved:
            raise ParameterFileError(
                f"{str(path)!r}: array {name!r} is not one of {owner}, "
                f"which was saved with: {', '.join(saved) or 'none'}"
            )
        if arrays[name].shape != saved[name]:
            raise ParameterFileError(
                f"{str(path)!r}: array {name!r} has shape {arrays[name].shape}, "
                f"but was saved with shape {saved[name]}"
            )
