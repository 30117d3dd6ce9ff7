"""The memory that some code takes beyond what the process had, where the system says so."""

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
    """A list that holds the number at the end; 0 where it cannot be measured."""
    extra = [0.0]
    if not RESET.exists():
        yield extra
        return
    RESET.write_text("5")  # forget the highest number so far
    before = _kibibytes("VmRSS")
    yield extra
    extra[0] = (_kibibytes("VmHWM") - before) / 1024
