"""Arrays by name in ``.npz`` and ``.safetensors`` files, with a note; never pickled.

A file is written whole or not at all: beside its place first, then moved there.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from attention_core.errors import MissingExtraError, ParameterFileError
from attention_core.files.atomic import replacing
from attention_core.typing import Array

__all__ = ["read_file", "write_file"]


NOTE = "attention_core"
"""Where the note is: the member ``attention_core.json`` of an .npz archive, or a key of the
metadata of a .safetensors file."""


def read_file(path: Path) -> tuple[dict[str, Array], str | None]:
    """The arrays of a file, and its note if it has one.

    Raises
    ------
    ParameterFileError
        For a file that is missing, damaged, of another kind, or holds Python objects.
    MissingExtraError
        For a ``.safetensors`` file without the extra `safetensors`.
    """
    read_kind = {".npz": _read_npz, ".safetensors": _read_safetensors}[_kind(path)]
    try:
        return read_kind(path)
    except ParameterFileError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise ParameterFileError(f"cannot read {str(path)!r}: {reason}") from error
    except Exception as error:  # damaged bytes raise whatever the decoder stumbles over
        raise ParameterFileError(
            f"{str(path)!r} is damaged or no {path.suffix} file: {error}"
        ) from error


def write_file(path: Path, arrays: Mapping[str, Array], note: str | None = None) -> None:
    """Write arrays by name, and a note; the file appears whole, or stays as it was.

    Raises
    ------
    ParameterFileError
        For another ending than ``.npz`` or ``.safetensors``, a dtype that such a file cannot
        hold, or a place that cannot be written.
    MissingExtraError
        For a ``.safetensors`` file without the extra `safetensors`.
    """
    write_kind = {".npz": _write_npz, ".safetensors": _write_safetensors}[_kind(path)]
    for name, array in arrays.items():
        reason = None
        if array.dtype.hasobject:
            reason = "holds Python objects"
        elif path.suffix == ".npz" and array.dtype.isbuiltin == 2:  # of another package
            reason = f"has dtype {array.dtype}; write .safetensors, or convert it to float32"
        if reason is not None:
            raise ParameterFileError(f"cannot write {str(path)!r}: array {name!r} {reason}")
    try:
        with replacing(path) as temporary:
            write_kind(temporary, arrays, note)
    except Exception as error:  # safetensors has its own for what the system and NumPy raise
        reason = getattr(error, "strerror", None) or str(error)
        raise ParameterFileError(f"cannot write {str(path)!r}: {reason}") from error


def _kind(path: Path) -> str:
    if path.suffix not in (".npz", ".safetensors"):
        raise ParameterFileError(
            f"{str(path)!r} has the ending {path.suffix!r}; "
            f"arrays by name are kept in .npz or .safetensors files"
        )
    if path.suffix == ".safetensors":
        _import_safetensors(path)
    return path.suffix


def _import_safetensors(path: Path) -> None:
    with suppress(ImportError):
        import ml_dtypes  # noqa: F401 - teaches NumPy what bfloat16 is
    try:
        import safetensors  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            f"{str(path)!r} needs the package safetensors; "
            f"pip install 'attention-core[safetensors]'"
        ) from error


def _read_npz(path: Path) -> tuple[dict[str, Array], str | None]:
    arrays = {}
    note = None
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            with archive.open(member) as file:
                if member == f"{NOTE}.json":
                    note = file.read().decode()
                elif member.endswith(".npy"):
                    name = member.removesuffix(".npy")
                    arrays[name] = _read_npy(path, name, file)
    return arrays, note


def _read_npy(path: Path, name: str, file: Any) -> Array:
    try:
        array: Array = np.lib.format.read_array(file, allow_pickle=False)
    except ValueError as error:
        reason = "it holds Python objects" if "pickle" in str(error) else str(error)
        raise ParameterFileError(f"{str(path)!r}: cannot read array {name!r}: {reason}") from error
    return array


def _read_safetensors(path: Path) -> tuple[dict[str, Array], str | None]:
    from safetensors import safe_open

    with path.open("rb"):  # safe_open has its own, wordier exceptions for missing files
        pass
    with safe_open(path, framework="np") as file:
        arrays = {name: file.get_tensor(name) for name in sorted(file.keys())}
        return arrays, (file.metadata() or {}).get(NOTE)


def _write_npz(path: Path, arrays: Mapping[str, Array], note: str | None) -> None:
    # not numpy.savez, which cannot save an array called "file" and pickles where it must
    with zipfile.ZipFile(path, "x") as archive:
        if note is not None:
            archive.writestr(zipfile.ZipInfo(f"{NOTE}.json"), note)
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


def _write_safetensors(path: Path, arrays: Mapping[str, Array], note: str | None) -> None:
    from safetensors.numpy import save_file

    # its writer copies memory as it lies
    ordered = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    save_file(ordered, path, metadata=None if note is None else {NOTE: note})
