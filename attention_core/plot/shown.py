"""Figures that notebooks show and ``plt.show()`` opens in scripts."""

from __future__ import annotations

import sys
from io import BytesIO
from typing import Any, cast

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

__all__ = ["HeatMap", "new_figure"]

FILE_DPI = 160


class HeatMap(Figure):
    """A `matplotlib.figure.Figure` that a notebook shows when it is the last line of a cell."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """The picture at twice the displayed resolution, for high-density screens."""
        buffer = BytesIO()
        self.savefig(buffer, format="png", dpi=FILE_DPI)
        width, height = self.get_size_inches() * FILE_DPI / 2
        return buffer.getvalue(), {"width": round(width), "height": round(height)}


def new_figure(width: float, height: float) -> HeatMap:
    """Make a figure; it is registered with pyplot only if pyplot opens windows.

    Elsewhere pyplot would keep it until closed, and a notebook would show it twice.
    """
    if _opens_windows():
        import matplotlib.pyplot as plt

        return cast(HeatMap, plt.figure(FigureClass=HeatMap, figsize=(width, height)))
    figure = HeatMap(figsize=(width, height), dpi=FILE_DPI)
    FigureCanvasAgg(figure)  # measures text
    return figure


def _opens_windows() -> bool:
    """Whether the program has imported pyplot with an interactive backend."""
    if "matplotlib.pyplot" not in sys.modules:
        return False
    from matplotlib import get_backend
    from matplotlib.backends import registry

    registered: Any = registry.backend_registry  # ships no types
    windows = registered.list_builtin(registry.BackendFilter.INTERACTIVE)
    return get_backend().lower() in {name.lower() for name in windows}
