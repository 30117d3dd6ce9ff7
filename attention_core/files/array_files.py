"""Named arrays in ``.npz`` and ``.safetensors`` files, with a note; never pickled.

Names and shapes are known before any array is read, so a reader can reject the file, or read only
some of its arrays.
"""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from types import NoneType
from typing import Any, Protocol

import numpy as np

from attention_core.arguments import checked_arguments
from attention_core.errors import (
    AttentionCoreError,
    MissingExtraError,
    OptionTypeError,
    ParameterFileError,
    file_error,
    printable,
    shown,
)
from attention_core.files.atomic import replacing
from attention_core.files.npy import checked_members, is_bomb, read_header
from attention_core.files.paths import as_path
from attention_core.typing import Array

__all__ = ["ArrayFile", "open_file", "write_arrays"]

NOTE = "attention_core"
"""The name of the note: the member ``attention_core.json`` of an .npz archive, or a key of the
metadata of a .safetensors file."""
LONGEST_NOTE = 1 << 20
"""The largest size of a note in bytes; a layer with 128 different scorers needs 20,000."""


class ArrayFile(Protocol):
    """An open file of arrays."""

    note: str | None
    shapes: dict[str, tuple[int, ...]]
    """The arrays that the file holds."""
    bombs: list[str]
    """Large arrays that expand a hundred times when read, unlike any trained weights."""

    def read(self, name: str) -> Array:
        """Read one array."""
        ...


@contextmanager
def open_file(path: Path) -> Iterator[ArrayFile]:
    """Open a file whose arrays can be read in the context.

    Raises
    ------
    ParameterFileError
        For a file that is missing, damaged, of another kind, or holds Python objects.
    MissingExtraError
        For a ``.safetensors`` file without the extra `safetensors`.
    """
    kinds: dict[str, Callable[[Path], AbstractContextManager[ArrayFile]]] = {
        ".npz": _opened_npz,
        ".safetensors": _opened_safetensors,
    }
    open_kind = kinds[_kind(path)]
    subject = shown(str(path), 300)
    try:
        with open_kind(path) as file:
            if file.note is not None and len(file.note) > LONGEST_NOTE:
                raise ParameterFileError(
                    f"{subject}: its note has {len(file.note)} characters, more than {LONGEST_NOTE}"
                )
            yield file
    except AttentionCoreError:
        raise
    except OSError as error:
        raise file_error("read", path, error) from error
    except Exception as error:  # a decoder may raise anything for damaged bytes
        said = printable(str(error), 300)
        raise ParameterFileError(
            f"{subject} is damaged or not {_ARTICLED[path.suffix]} file: {said}"
        ) from error


_ARTICLED = {".npz": "an .npz", ".safetensors": "a .safetensors"}


@checked_arguments
def write_arrays(path: str | Path, arrays: Mapping[str, Array], *, note: str | None = None) -> None:
    """Write named arrays to an ``.npz`` or ``.safetensors`` file, atomically.

    Parameters
    ----------
    path
        The file, which is replaced if it exists.
    arrays
        The arrays by name.
    note
        A text to store with them; `save` describes scorers and layers in it.

    Raises
    ------
    ParameterFileError
        For an unsupported extension, dtype or name, or a path that cannot be written.
    MissingExtraError
        For a ``.safetensors`` file without the extra `safetensors`.
    OptionTypeError
        For anything but a path, a mapping and a text.
    """
    path = as_path(path)
    write_kind = {".npz": _write_npz, ".safetensors": _write_safetensors}[_kind(path)]
    subject = f"cannot write {shown(str(path), 300)}"
    if not isinstance(arrays, Mapping):
        raise OptionTypeError(f"arrays must be a mapping of arrays by name, got {shown(arrays)}")
    if not isinstance(note, (str, NoneType)):
        raise OptionTypeError(f"note must be a text or None, got {shown(note)}")
    if note is not None and len(note) > LONGEST_NOTE:
        raise ParameterFileError(
            f"{subject}: its note would have {len(note)} characters, more than {LONGEST_NOTE}"
        )
    named: Mapping[Any, Any] = arrays
    for name, array in named.items():
        reason = None
        if not isinstance(name, str) or not isinstance(array, np.ndarray):
            reason = f"must be a NumPy array with a text as name, got a {type(array).__name__}"
        elif "\0" in name or (not name.isascii() and _is_undecodable(name)):
            reason = "has a name that files cannot hold"
        elif path.suffix == ".safetensors" and name == "__metadata__":
            reason = "has a name that .safetensors files use for something else"
        elif "numpy.ma" in sys.modules and np.ma.is_masked(array):
            reason = "has masked entries, which would be written as numbers; fill them first"
        elif array.dtype.hasobject:
            reason = "holds Python objects"
        elif path.suffix == ".npz" and array.dtype.isbuiltin == 2:  # of another package
            reason = f"has dtype {array.dtype}; write .safetensors, or convert it to float32"
        if reason is not None:
            raise ParameterFileError(f"{subject}: array {shown(name)} {reason}")
    try:
        with replacing(path) as temporary:
            write_kind(temporary, arrays, note)
    except ParameterFileError:
        raise
    except Exception as error:  # safetensors wraps the errors of the system and of NumPy
        raise file_error("write", path, error) from error


def _kind(path: Path) -> str:
    if path.suffix not in _ARTICLED:
        raise ParameterFileError(
            f"{shown(str(path), 300)} has the extension {shown(path.suffix)}; "
            f"named arrays must be in .npz or .safetensors files"
        )
    if path.suffix == ".safetensors":
        _import_safetensors(path)
    return path.suffix


def _is_undecodable(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return True
    return False


def _import_safetensors(path: Path) -> None:
    with suppress(ImportError):
        import ml_dtypes  # noqa: F401 - registers bfloat16 with NumPy
    try:
        import safetensors  # noqa: F401 - found missing here, not halfway through
    except ImportError as error:
        raise MissingExtraError(
            f"{shown(str(path), 300)} needs the package safetensors; "
            f"pip install 'attention-core[safetensors]'"
        ) from error


class _NpzFile:
    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self.path = path
        self.archive = archive
        members = checked_members(archive, path.stat().st_size)
        note = members.get(f"{NOTE}.json")
        if note is not None and note.file_size > LONGEST_NOTE:
            raise ValueError(f"its note has {note.file_size} bytes, more than {LONGEST_NOTE}")
        self.note = None if note is None else archive.read(note).decode()
        self.members = {
            name.removesuffix(".npy"): member
            for name, member in members.items()
            if name.endswith(".npy")
        }
        self.shapes = {name: self._shape(name) for name in self.members}
        self.bombs = [name for name, member in self.members.items() if is_bomb(member)]

    def read(self, name: str) -> Array:
        with self._reporting(name), self.archive.open(self.members[name]) as file:
            return np.lib.format.read_array(file, allow_pickle=False)

    def _shape(self, name: str) -> tuple[int, ...]:
        member = self.members[name]
        with self._reporting(name), self.archive.open(member) as file:
            return read_header(file, member.file_size).shape

    @contextmanager
    def _reporting(self, name: str) -> Iterator[None]:
        try:
            yield
        except (ValueError, RecursionError, SyntaxError) as error:
            raise ParameterFileError(
                f"{shown(str(self.path), 300)}: cannot read array {shown(name)}: {error}"
            ) from error


class _SafetensorsFile:
    def __init__(self, file: Any) -> None:
        self.file = file
        self.bombs: list[str] = []  # nothing is compressed
        self.note: str | None = (file.metadata() or {}).get(NOTE)
        self.shapes = {
            name: tuple(file.get_slice(name).get_shape()) for name in sorted(file.keys())
        }

    def read(self, name: str) -> Array:
        array: Array = self.file.get_tensor(name)
        return array


@contextmanager
def _opened_npz(path: Path) -> Iterator[_NpzFile]:
    with zipfile.ZipFile(path) as archive:
        yield _NpzFile(path, archive)


@contextmanager
def _opened_safetensors(path: Path) -> Iterator[_SafetensorsFile]:
    from safetensors import safe_open

    with path.open("rb"):  # safe_open has longer messages for missing files
        pass
    with safe_open(path, framework="np") as file:
        yield _SafetensorsFile(file)


def _write_npz(path: Path, arrays: Mapping[str, Array], note: str | None) -> None:
    # not numpy.savez, which cannot save an array named "file", and pickles objects
    with zipfile.ZipFile(path, "w") as archive:
        if note is not None:
            archive.writestr(zipfile.ZipInfo(f"{NOTE}.json"), note)
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


def _write_safetensors(path: Path, arrays: Mapping[str, Array], note: str | None) -> None:
    from safetensors.numpy import save_file

    # the writer of safetensors ignores strides
    ordered = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    save_file(ordered, path, metadata=None if note is None else {NOTE: note})
