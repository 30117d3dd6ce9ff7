"""A description of the machine, without names of hosts, users or paths."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_info

__all__ = ["describe_machine"]


def describe_machine() -> dict[str, str]:
    """The processor, its caches, and NumPy's BLAS and SIMD features."""
    blas = next((pool for pool in threadpool_info() if pool["user_api"] == "blas"), None)
    simd: Any = np.show_config(mode="dicts")
    extensions = simd.get("SIMD Extensions", {})
    return {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else "?"),
        "busy with other work before": _load(),
        "caches": ", ".join(_caches()) or "unknown",
        "system": f"{platform.system()}, Python {platform.python_version()}",
        "numpy": f"{np.__version__}, SIMD {' '.join(extensions.get('found', [])) or 'baseline'}",
        "blas": f"{blas['internal_api']} {blas['version']}, kernel {blas.get('architecture')}"
        if blas
        else "unknown",
    }


def _load() -> str:
    """The number of busy cores in the last minute; above 0.5, times are unreliable."""
    return f"{os.getloadavg()[0]:.1f} cores" if hasattr(os, "getloadavg") else "?"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _caches() -> list[str]:
    """The caches of the first core, such as ``L2 2048K``."""
    found = []
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = (
            (index / name).read_text().strip() for name in ("level", "type", "size")
        )
        if kind != "Instruction":
            found.append(f"L{level} {size}")
    return found
