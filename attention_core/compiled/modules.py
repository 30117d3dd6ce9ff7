"""Functions of generated modules, compiled, and stored in the user's cache.

The name of a file is a hash of a module's source, the versions it is compiled with, and the
processor. Another process therefore finds the same machine code, and never that of another scorer
or release. Functions that only numba can run are in modules, next to which numba stores its own.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

from attention_core.compiled.machine_code import host, load, machine_code
from attention_core.parallel.forks import COMPILING

__all__ = ["compiled_function"]

_DIGEST = 32
_TIME = 1_000_000_000  # modification time of every module; numba recompiles when it changes


def compiled_function(text: str, name: str) -> Callable[[int], Any]:
    """A function of the module with this source, compiled; it takes an address.

    Raises
    ------
    NumbaError
        If it cannot be compiled.
    """
    module = f"attention_core_{hashlib.sha256((_context() + text).encode()).hexdigest()[:32]}"
    file = f"{module}_{name}.o"
    stored = _read(file) or b""
    digest, code = stored[:_DIGEST], stored[_DIGEST:]
    if digest != hashlib.sha256(code).digest():  # absent, or damaged
        code = _machine_code(text, module, name)
        _write(file, hashlib.sha256(code).digest() + code)
    if code:
        with suppress(Exception):  # numba does without what LLVM lacks here
            run = load(code)
            return lambda address: run(address) and _by_numba(text, module, name)(address)
    found: Callable[[int], Any] = _by_numba(text, module, name)
    return found


def _machine_code(text: str, module: str, name: str) -> bytes:
    """The machine code of a function; empty if numba has to run it."""
    from numba.core.errors import NumbaError

    from attention_core.compiled.runtime import compiled, without_wrapper

    try:
        function = getattr(_generated_module(text, module, None), name)
        return machine_code(compiled(without_wrapper(function)))
    except NumbaError:
        raise
    except Exception:  # noqa: BLE001 - whatever LLVM cannot do, numba can
        return b""


@cache
def _by_numba(text: str, module: str, name: str) -> Any:
    """The function as numba compiles it and stores it, with all that Python needs."""
    from numba.core.errors import NumbaError

    from attention_core.compiled.runtime import compiled

    def made(path: Path | None) -> Any:
        return compiled(getattr(_generated_module(text, module, path), name))

    with COMPILING:
        try:
            return made(_write(f"{module}.py", text.encode()))
        except NumbaError:
            raise
        except Exception:  # noqa: BLE001 - whatever is wrong with files, compiling needs none
            return made(None)


def _generated_module(text: str, name: str, path: Path | None) -> ModuleType:
    """Import the module with this source; with a path, numba stores what it compiles there."""
    spec = importlib.util.spec_from_loader(name, None, origin=str(path or f"<{name}>"))
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    module.__dict__["__cached_on_disk__"] = path is not None
    module.__file__ = spec.origin
    sys.modules[name] = module  # where numba looks for it
    exec(compile(text, str(spec.origin), "exec"), module.__dict__)
    return module


def _read(name: str) -> bytes | None:
    """A file of the cache; None if there is none, or no private folder for it."""
    try:
        return (folder / name).read_bytes() if (folder := _private_folder()) else None
    except OSError:
        return None


def _write(name: str, content: bytes) -> Path | None:
    """Write a file of the cache; its path, or None if there is no private folder for it."""
    if (folder := _private_folder()) is None:
        return None
    path = folder / name
    if _read(name) == content:
        return path
    try:
        handle, temporary = tempfile.mkstemp(dir=folder)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.utime(temporary, (_TIME, _TIME))
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError:  # full
        return None
    return path


def _private_folder() -> Path | None:
    """The folder of the cache; None if it cannot be used."""
    try:
        folder = _folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder if _is_private(folder) else None
    except (OSError, RuntimeError):  # read-only, or no home
        return None


def _folder() -> Path:
    """``ATTENTION_CORE_CACHE``, or a folder in the user's cache directory."""
    if chosen := os.environ.get("ATTENTION_CORE_CACHE"):
        return Path(chosen)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "attention-core"


def _is_private(folder: Path) -> bool:
    """Whether only this user can write there, since machine code is loaded from it."""
    if not hasattr(os, "getuid"):
        return True
    status = folder.stat()
    return (
        status.st_uid == os.getuid() and not status.st_mode & 0o022 and os.access(folder, os.W_OK)
    )


@cache
def _context() -> str:
    """Dependencies of machine code other than its module, which numba does not check."""
    import numpy

    folder = Path(__file__).parent
    names = "extrema", "polynomials", "products/registers", "runtime"
    sources = [(folder / f"{name}.py").read_text("utf-8") for name in names]
    return "\n".join([version("numba"), numpy.__version__, host(), *sources])
