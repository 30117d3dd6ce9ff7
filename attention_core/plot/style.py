"""The look of pictures: colors, and settings of matplotlib."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import TYPE_CHECKING

from attention_core.errors import MissingExtraError, OptionError, OptionTypeError, shown
from attention_core.plot.fonts import families

if TYPE_CHECKING:
    from matplotlib.colors import Colormap

__all__ = ["color_map", "need_matplotlib", "style"]

INK = "#222222"
QUIET = "#6b6b6b"
# Small is light and large is dark, like ink on paper. All steps are equal in the Oklab color space
# and ordered by lightness, so the map works with any color vision and in grayscale.
SCALE = [
    *("#fdfaf4", "#fce7cf", "#fcd1ae", "#fbba94", "#f8a27f", "#f38a6f", "#eb7166", "#de5b64"),
    *("#cb4a68", "#b53d6e", "#9c3472", "#832d72", "#6a266e", "#522065", "#3a1b57", "#261644"),
    "#141030",
]
# Masked cells and NaN have colors outside the map, gray and blue, and are hatched.
MASKED, MASKED_HATCH = "#dcdcdc", "#9a9a9a"
NAN, NAN_HATCH = "#56b4e9", "#ffffff"
NAN_TEXT = "#0072b2"
BARS = "#5f5f6b"


def need_matplotlib() -> None:
    """Raise an error that says what to install, unless matplotlib is installed.

    Raises
    ------
    MissingExtraError
        When matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401 - found missing here, not halfway through
    except ImportError as error:
        raise MissingExtraError(
            "drawing needs matplotlib: pip install 'attention-core[plot]'"
        ) from error


def color_map(cmap: str | Colormap | None = None) -> Colormap:
    """The color map of the cells, the default or another; masked cells are gray.

    Raises
    ------
    OptionError
        For a name that matplotlib does not know.
    """
    from matplotlib import colormaps
    from matplotlib.colors import Colormap, LinearSegmentedColormap

    if cmap is None:
        scale: Colormap = LinearSegmentedColormap.from_list("attention", SCALE)
    elif isinstance(cmap, str):
        if cmap not in colormaps:
            close = get_close_matches(cmap, colormaps, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise OptionError(f"cmap: matplotlib has no color map {shown(cmap)}{hint}")
        scale = colormaps[cmap]
    elif isinstance(cmap, Colormap):
        scale = cmap
    else:
        raise OptionTypeError(f"cmap must be a name or a matplotlib Colormap, got {shown(cmap)}")
    return scale.with_extremes(bad=MASKED)


@contextmanager
def style(texts: Iterable[str] = ()) -> Iterator[None]:
    """Draw with these settings instead of those of the calling program."""
    from matplotlib import rc_context, rcParamsDefault

    backend = {"backend", "backend_fallback", "interactive", "toolbar", "webagg.port"}
    defaults = {name: value for name, value in rcParamsDefault.items() if name not in backend}
    with rc_context(
        defaults
        | {
            "font.family": families(texts),
            "font.size": 9,
            "text.color": INK,
            "axes.labelcolor": INK,
            "axes.edgecolor": QUIET,
            "axes.linewidth": 0.6,
            "xtick.color": INK,
            "ytick.color": INK,
            "hatch.linewidth": 0.6,
            "figure.facecolor": "white",
            "savefig.facecolor": "white",
            "svg.fonttype": "none",  # text stays text: it can be read aloud, searched and copied
            "svg.hashsalt": "attention-core",  # the same picture gives the same file
            "pdf.fonttype": 42,
        }
    ):
        yield
