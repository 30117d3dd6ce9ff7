"""The arrays of scorers in files, ``.npz`` or ``.safetensors``, never pickled.

A file that `save_parameters` writes says which scorer its arrays belong to; any other file of
arrays by name is read as well.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from numpy.typing import NDArray

from attention_core.array_files import read_file, write_file
from attention_core.errors import ParameterFileError, ScorerConfigError

if TYPE_CHECKING:
    from attention_core.registry import Registry
    from attention_core.scorer import Scorer

__all__ = [
    "Parameters",
    "load_scorer",
    "read_arrays",
    "read_parameters",
    "save_parameters",
    "write_arrays",
]

Array = NDArray[Any]


class Parameters(NamedTuple):
    """What a file of parameters holds."""

    arrays: dict[str, Array]
    """The arrays, by name."""
    scorer: dict[str, Any] | None
    """The scorer's config without its arrays; None in a plain file of arrays."""


def read_arrays(path: str | Path) -> dict[str, Array]:
    """The arrays of an ``.npz`` or ``.safetensors`` file, by name; never unpickles.

    Raises
    ------
    ParameterFileError
        For a file that is missing, damaged, of another kind, or holds Python objects.
    MissingExtraError
        For a ``.safetensors`` file without the extra `safetensors`.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/weights.npz", weight=np.eye(2))
    ...     read_arrays(f"{folder}/weights.npz")
    {'weight': array([[1., 0.],
           [0., 1.]])}
    """
    return read_parameters(path).arrays


def read_parameters(path: str | Path) -> Parameters:
    """The arrays of a file and the scorer they belong to, if the file says so.

    Raises
    ------
    ParameterFileError
        As `read_arrays`; also when the arrays are not those that were saved.
    MissingExtraError
        As `read_arrays`.
    """
    path = Path(path)
    arrays, note = read_file(path)
    return Parameters(arrays, None if note is None else _checked(path, arrays, note))


def write_arrays(path: str | Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays by name; the file appears whole, or stays as it was.

    Raises
    ------
    ParameterFileError
        For another ending than ``.npz`` or ``.safetensors``, a dtype that such a file cannot
        hold, or a place that cannot be written.
    MissingExtraError
        For a ``.safetensors`` file without the extra `safetensors`.
    """
    write_file(Path(path), arrays)


def save_parameters(path: str | Path, scorer: Scorer) -> None:
    """Write the arrays of a scorer, and what else makes it, for `load_scorer` or a config.

    Raises
    ------
    ParameterFileError, MissingExtraError
        As `write_arrays`.
    ScorerConfigError
        For a scorer that was built by hand and has no registered name.
    """
    arrays = scorer.parameters
    # with_parameters forgets dimensions and seeds: the arrays say it all
    config = scorer.with_parameters(arrays).to_config()
    note = {
        "scorer": {name: value for name, value in config.items() if name not in arrays},
        "shapes": {name: array.shape for name, array in arrays.items()},
    }
    write_file(Path(path), arrays, json.dumps(note))


def load_scorer(path: str | Path, registry: Registry | None = None) -> Scorer:
    """The scorer that `save_parameters` wrote.

    Raises
    ------
    ParameterFileError
        For a file that cannot be read, does not name its scorer, or does not fit it.
    ScorerLookupError
        When no such scorer is installed.

    Examples
    --------
    >>> import tempfile, attention_core as ac
    >>> scorer = ac.make_scorer("general", query_dim=3, key_dim=4, rng=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_parameters(f"{folder}/general.npz", scorer)
    ...     loaded = load_scorer(f"{folder}/general.npz")
    >>> bool((loaded.weight == scorer.weight).all())
    True
    """
    if registry is None:
        from attention_core.installed import default_registry  # reading arrays needs no names

        registry = default_registry()
    arrays, scorer = read_parameters(path)
    if scorer is None:
        raise ParameterFileError(
            f"{str(path)!r} does not say which scorer its arrays belong to; "
            f"use make_scorer(name, **read_arrays(path))"
        )
    try:
        return registry.resolve({**scorer, **arrays})
    except ScorerConfigError as error:
        raise ParameterFileError(f"{str(path)!r} does not fit its scorer: {error}") from error


def _checked(path: Path, arrays: Mapping[str, Array], note: str) -> dict[str, Any]:
    """What the file says about its scorer, once its arrays are found to be those it names."""
    try:
        content = json.loads(note)
        scorer = dict(content["scorer"])
        saved = {name: tuple(shape) for name, shape in content["shapes"].items()}
        scorer_name = str(scorer["name"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ParameterFileError(
            f"{str(path)!r}: cannot read what it says about its scorer: {note[:80]!r}"
        ) from error
    for name in {**saved, **arrays}:
        if name not in arrays:
            raise ParameterFileError(
                f"{str(path)!r}: array {name!r} of scorer {scorer_name!r} is missing"
            )
        if name not in saved:
            raise ParameterFileError(
                f"{str(path)!r}: array {name!r} is not one of scorer {scorer_name!r}, "
                f"which was saved with: {', '.join(saved) or 'none'}"
            )
        if arrays[name].shape != saved[name]:
            raise ParameterFileError(
                f"{str(path)!r}: array {name!r} has shape {arrays[name].shape}, "
                f"but was saved with shape {saved[name]}"
            )
    return scorer
