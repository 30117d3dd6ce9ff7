"""How pictures look: colors, sizes in inches, and fonts that have the letters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from attention_core.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.colors import Colormap

__all__ = ["color_map", "need_matplotlib", "style"]

INK = "#222222"
QUIET = "#6b6b6b"
# Light is little and dark is much, as ink on paper. Each step is equally far from the last in the
# Oklab color space, and lightness alone tells the order, so that it survives color blindness and
# a copier.
SCALE = [
    *("#fdfaf4", "#fce7cf", "#fcd1ae", "#fbba94", "#f8a27f", "#f38a6f", "#eb7166", "#de5b64"),
    *("#cb4a68", "#b53d6e", "#9c3472", "#832d72", "#6a266e", "#522065", "#3a1b57", "#261644"),
    "#141030",
]
# What is no weight lies beside the map: a gray and a blue, both hatched.
MASKED, MASKED_HATCH = "#dcdcdc", "#9a9a9a"
NAN, NAN_HATCH = "#56b4e9", "#ffffff"
NAN_TEXT = "#0072b2"
BARS = "#5f5f6b"


def need_matplotlib() -> None:
    """Raise an error that says what to install, unless it is there.

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


def color_map() -> Colormap:
    """The scale of the cells; masked cells are gray."""
    from matplotlib.colors import LinearSegmentedColormap

    scale = LinearSegmentedColormap.from_list("attention", SCALE)
    return scale.with_extremes(bad=MASKED)


@contextmanager
def style(texts: Iterable[str] = ()) -> Iterator[None]:
    """Draw with these settings, and not with those of the program around."""
    from matplotlib import rc_context, rcParamsDefault

    backend = {"backend", "backend_fallback", "interactive", "toolbar", "webagg.port"}
    defaults = {name: value for name, value in rcParamsDefault.items() if name not in backend}
    with rc_context(
        defaults
        | {
            "font.family": _families(texts),
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
            "svg.hashsalt": "attention-core",  # the same picture is the same file
            "pdf.fonttype": 42,
        }
    ):
        yield


def _families(texts: Iterable[str]) -> list[str]:
    """DejaVu Sans, which comes with matplotlib, and installed fonts for letters it lacks."""
    from matplotlib import font_manager

    families = ["DejaVu Sans"]
    missing = {ord(c) for text in texts for c in text}
    missing -= _letters(font_manager.findfont(families[0]))
    if missing:
        for font in sorted(font_manager.fontManager.ttflist, key=lambda font: font.name):
            if font.style == "normal" and font.name not in families:
                found = missing & _letters(font.fname)
                if found:
                    families.append(font.name)
                    missing -= found
                if not missing:
                    break
    return families


def _letters(path: str) -> set[int]:
    from matplotlib import font_manager

    try:
        return set(font_manager.get_font(path).get_charmap())
    except (OSError, RuntimeError, ValueError):  # moved away, or of a kind it cannot read
        return set()
