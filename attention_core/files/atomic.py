"""Atomic writes: a file is written to a folder next to its target, then moved there."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attention_core.errors import ParameterFileError, file_error, shown

try:
    import fcntl
except ImportError:  # Windows: folders left behind by a killed process stay there
    fcntl = None  # type: ignore[assignment]  # checked where it is used

__all__ = ["replacing", "workspace", "writable"]

_PREFIX = ".attention-core-"
_LEFTOVER = re.compile(rf"{re.escape(_PREFIX)}[0-9a-f]{{16}}")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path, which replaces `path` at the end, or is removed after an error.

    The file keeps the mode of the file that it replaces; the umask applies to a new one. If `path`
    is a link, the file that it points to is replaced.

    Raises
    ------
    ParameterFileError
        As `writable`, and for what the system refuses.
    """
    target = writable(path)
    try:
        with workspace(target) as folder:
            temporary = folder / "new"  # short, for any name of the target
            temporary.touch()  # before the writer, which may choose another mode
            mode = stat.S_IMODE((target if target.exists() else temporary).stat().st_mode)
            yield temporary
            with temporary.open("r+b") as file:
                os.fsync(file.fileno())  # or a crash could leave an empty file under the old name
            temporary.chmod(mode)
            temporary.replace(target)
    except OSError as error:
        raise file_error("write", path, error) from error


def writable(path: Path) -> Path:
    """Return the file that a write to `path` replaces, following links.

    Raises
    ------
    ParameterFileError
        For a link to itself, a read-only file, and anything but a regular file.
    """
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        reason = "it is a link to itself"
    elif target.is_dir():
        reason = os.strerror(errno.EISDIR)
    elif target.exists() and not target.is_file():
        reason = "it is not a regular file"
    elif target.exists() and not (target.stat().st_mode & 0o222 and os.access(target, os.W_OK)):
        reason = "it is read-only"
    else:
        return target
    raise ParameterFileError(f"cannot write {shown(str(path), 300)}: {reason}")


@contextmanager
def workspace(target: Path) -> Iterator[Path]:
    """Yield a temporary folder next to `target`, which is removed even after an interrupt.

    A killed process cannot clean up. Each folder is locked while it is in use, so the next
    workspace next to it recognizes and removes the folders of processes that have ended.
    """
    parent = Path(os.path.realpath(target)).parent
    _remove_leftovers(parent)
    lock = None
    while True:
        # named before it is made, unlike with `tempfile`, so that it is always removed
        folder = parent / f"{_PREFIX}{secrets.token_hex(8)}"
        try:
            folder.mkdir(0o700)
            lock = _lock(folder)
            if not folder.exists():  # removed as a leftover before it was locked
                continue
            yield folder
            return
        except BlockingIOError:  # being removed as a leftover
            continue
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            if lock is not None:
                os.close(lock)
                lock = None


def _remove_leftovers(parent: Path) -> None:
    try:
        with os.scandir(parent) as entries:
            found = [Path(e.path) for e in entries if _LEFTOVER.fullmatch(e.name)]
    except OSError:
        return  # the write to the folder will report the error
    for folder in found:
        try:
            lock = _lock(folder)
        except OSError:
            continue  # in use
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def _lock(folder: Path) -> int | None:
    """Lock a folder until the returned descriptor is closed; None if folders cannot be locked.

    Raises
    ------
    BlockingIOError
        If another descriptor locks it.
    """
    if fcntl is None:
        return None
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError:  # a file system without locks
        os.close(descriptor)
        return None
    return descriptor
