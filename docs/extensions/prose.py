"""Corrections of the output of autodoc and napoleon: docstrings of attributes, and signatures.

"The scores: (..., L, S)" is a sentence, but napoleon takes the text before a colon in the first
line as a type, and moves it to the end. A value without a docstring shows that of its type, which
does not describe the value; its page does. ``**unknown`` collects arguments for an error message,
so a signature without it says what may be passed.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

__all__ = ["put_right", "setup", "without_unknown"]


def put_right(_: Sphinx, what: str, __: str, value: Any, ___: Any, lines: list[str]) -> None:
    """Drop the docstring of a type, and prepend a hidden comment to any other."""
    if what in ("attribute", "data", "property"):
        of_type = (inspect.getdoc(type(value)) or "").splitlines()
        is_of_type = of_type and lines[: len(of_type)] == of_type
        lines[:] = [] if is_of_type else ["..", "", *lines]


def without_unknown(
    _: Sphinx, __: str, ___: str, ____: Any, _____: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Drop ``**unknown`` from a signature."""
    return signature and signature.replace(", **unknown", ""), returns


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the extension to Sphinx."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", put_right, priority=400)  # napoleon's is 500
    app.connect("autodoc-process-signature", without_unknown)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
