"""Pictures in files, written whole or not at all, with reproducible bytes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attention_core.arguments import checked_arguments
from attention_core.errors import OptionTypeError, ParameterFileError, shown
from attention_core.files.atomic import replacing
from attention_core.files.paths import as_path
from attention_core.plot.style import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["SUFFIXES", "checked_suffix", "save"]

SUFFIXES = (".png", ".svg", ".pdf")

# A date would make every file differ.
_METADATA: dict[str, dict[str, Any]] = {
    ".png": {},
    ".svg": {"Date": None},
    ".pdf": {"CreationDate": None},
}


@checked_arguments
def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a picture as PNG, SVG or PDF, according to the extension.

    The file is replaced whole or not at all, and the same picture gives the same bytes. In SVG,
    text stays text that can be searched, copied and read aloud.

    Parameters
    ----------
    figure
        From `heatmap`, or any other figure.
    path
        File to write, with the extension ``.png``, ``.svg`` or ``.pdf``.

    Raises
    ------
    ParameterFileError
        For another extension, or a path that cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import attention_core as ac
    >>> figure = ac.plot.heatmap([[0.2, 0.8], [1.0, 0.0]])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     ac.plot.save(figure, Path(folder) / "weights.svg")
    ...     [path.name for path in Path(folder).iterdir()]
    ['weights.svg']
    """
    target = as_path(path)
    kind = checked_suffix(target, SUFFIXES)
    if not hasattr(figure, "savefig"):
        raise OptionTypeError(f"figure must be a matplotlib figure, got {shown(figure)}")
    with style(), replacing(target) as temporary:
        figure.savefig(temporary, format=kind[1:], metadata=_METADATA[kind])


def checked_suffix(path: Path, suffixes: Sequence[str]) -> str:
    """The extension in lower case; raises `ParameterFileError` unless it is one of these."""
    kind = path.suffix.lower()
    if kind not in suffixes:
        raise ParameterFileError(
            f"cannot write {str(path)!r}: the name must end in {' or '.join(suffixes)}"
        )
    return kind
