"""Fonts for the letters of a picture."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING

from attention_core.plot.axis import has_no_glyph

if TYPE_CHECKING:
    from matplotlib.font_manager import FontEntry

__all__ = ["families"]

FIRST = "DejaVu Sans"  # comes with matplotlib
# These show a box or nothing for every letter.
_PLACEHOLDERS = ("lastresort", "adobeblank")


def families(texts: Iterable[str]) -> list[str]:
    """DejaVu Sans, and installed fonts for letters that it lacks; those with most come first.

    Warns
    -----
    UserWarning
        For letters that no installed font has; the warning names them.
    """
    from matplotlib import font_manager

    found = [FIRST]
    missing = {ord(c) for text in texts for c in text if not has_no_glyph(c)}
    missing -= _letters(font_manager.findfont(FIRST), 0)
    if not missing:
        return found
    fonts = sorted(filter(_is_upright, font_manager.fontManager.ttflist), key=_rank)
    while missing:
        covered = [missing & _letters(font.fname, getattr(font, "index", 0)) for font in fonts]
        font, letters = max(
            zip(fonts, covered, strict=True), key=lambda pair: len(pair[1])
        )  # the first of the best
        if not letters:
            break
        found.append(font.name)
        missing -= letters
    if missing:
        named = ", ".join(f"{chr(code)!r} (U+{code:04X})" for code in sorted(missing)[:8])
        more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
        warnings.warn(
            f"no installed font has {named}{more}; they are drawn as boxes. Install a font that "
            "has them, such as one of the Noto family, and restart Python",
            stacklevel=_outside(),
        )
    return found


def _is_upright(font: FontEntry) -> bool:
    name = font.name.lower().replace(" ", "")
    return font.style == "normal" and not any(each in name for each in _PLACEHOLDERS)


def _rank(font: FontEntry) -> tuple[bool, int, str]:
    """Sort key of fonts with the same number of letters: plain ones come first."""
    weight = font.weight if isinstance(font.weight, int) else 400
    return "sans" not in font.name.lower(), abs(weight - 400), font.name


@cache
def _letters(path: str, index: int) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(path, face_index=index) if index else FT2Font(path)
        return frozenset(font.get_charmap())
    except (OSError, RuntimeError, TypeError, ValueError):  # moved away, or cannot be read
        return frozenset()


def _outside() -> int:
    """Stack level, for `warnings.warn`, of the first caller outside this package."""
    import sys

    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(
        ("attention_core.", "contextlib")
    ):
        level, frame = level + 1, frame.f_back
    return level
