"""Generated modules, written to the user's cache and imported from there.

numba stores machine code next to its module. A module's name is a hash of its source and of the
versions it is compiled with. Another process therefore finds the same machine code, and never that
of another scorer or release.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["compiled_function"]

_TIME = 1_000_000_000  # modification time of every module; numba recompiles when it changes


def _generated_module(text: str, *, on_disk: bool = True) -> ModuleType:
    """Import the module with this source, through the cache if that can be written."""
    name = f"attention_core_{hashlib.sha256((_context() + text).encode()).hexdigest()[:32]}"
    path = _written(name, text) if on_disk else None
    spec = importlib.util.spec_from_loader(name, None, origin=str(path or f"<{name}>"))
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    module.__dict__["__cached_on_disk__"] = path is not None
    module.__file__ = spec.origin
    sys.modules[name] = module  # where numba looks for it
    exec(compile(text, str(spec.origin), "exec"), module.__dict__)
    return module


def compiled_function(text: str, name: str, types: tuple[Any, ...]) -> Any:
    """Compile a function of the module with this source for arguments of these types of numba."""
    from numba.core.errors import NumbaError

    try:
        function = getattr(_generated_module(text), name)
        function.compile(types)
    except NumbaError:
        raise
    except Exception:  # noqa: BLE001 - whatever is wrong with files, compiling needs none
        function = getattr(_generated_module(text, on_disk=False), name)
        function.compile(types)
    return function


def _written(name: str, text: str) -> Path | None:
    """Write the file of a module; None if there is no private folder for it."""
    try:
        folder = _folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_private(folder):
            return None
        path = folder / f"{name}.py"
        with suppress(FileNotFoundError):
            if path.read_text("utf-8") == text:
                return path
        handle, temporary = tempfile.mkstemp(dir=folder)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
                file.write(text)
            os.utime(temporary, (_TIME, _TIME))
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except (OSError, RuntimeError):  # read-only, full, or no home
        return None
    return path


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
    import numba
    import numpy

    folder = Path(__file__).parent
    names = "extrema", "polynomials", "registers", "runtime"
    sources = [(folder / f"{name}.py").read_text("utf-8") for name in names]
    return "\n".join([numba.__version__, numpy.__version__, *sources])
