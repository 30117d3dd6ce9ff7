"""The peak memory of a block of code beyond that before it, on systems that report it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["extra_mebibytes"]

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def _kibibytes(line: str) -> int:
    found = re.search(rf"^{line}:\s+(\d+) kB", STATUS.read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


@contextmanager
def extra_mebibytes() -> Iterator[list[float]]:
    """Yield a list that holds the bytes at the end; 0 if they cannot be measured."""
    extra = [0.0]
    if not RESET.exists():
        yield extra
        return
    RESET.write_text("5")  # reset the peak
    before = _kibibytes("VmRSS")
    yield extra
    extra[0] = (_kibibytes("VmHWM") - before) / 1024
