"""Pictures as methods of results."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Unpack

from attention_core.arguments import checked_arguments

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from attention_core.plot.options import PageOptions, PlotOptions, TextOptions

__all__ = ["Pictured"]


class Pictured:
    """Base of results that can be drawn: those of an attention and those of a layer."""

    @checked_arguments
    def plot(
        self: Any, path: str | os.PathLike[str] | None = None, **options: Unpack[PlotOptions]
    ) -> Figure:
        """Draw a heat map of the weights or scores, with entropy and key mass in its margins.

        The heads of a layer are side by side.

        Parameters
        ----------
        path
            File to save it to as well, with the extension ``.png``, ``.svg`` or ``.pdf``.
        **options
            Those of `attention_core.plot.heatmap`, such as ``query_labels`` and ``key_labels``.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        MissingExtraError
            When matplotlib is not installed.

        Examples
        --------
        >>> import numpy as np
        >>> import attention_core as ac
        >>> result = ac.attend(np.eye(3), np.eye(3), np.eye(3), scorer="dot")
        >>> figure = result.plot(query_labels="abc", key_labels="xyz", title="Three letters")
        """
        from attention_core.plot import heatmap, save  # only pictures need it

        figure = heatmap(self, **options)
        if path is not None:
            save(figure, path)
        return figure

    @checked_arguments
    def to_text(self: Any, **options: Unpack[TextOptions]) -> str:
        """Draw a heat map as text, for terminals; the options are those of `plot.text`.

        Examples
        --------
        >>> import numpy as np
        >>> import attention_core as ac
        >>> result = ac.attend(2 * np.eye(3), np.eye(3), np.eye(3), scorer="dot")
        >>> print(result.to_text(query_labels=["one", "two", "three"]))
                  0 1 2
             one │██░░░░│ 0.67 nats
             two │░░██░░│ 0.67
           three │░░░░██│ 0.67
        key mass  ██████  max 1
        ░ 0.031  ▒ 0.13  ▓ 0.28  █ 0.5 and more
        """
        from attention_core.plot import text  # only pictures need it

        return text(self, **options)

    @checked_arguments
    def to_html(
        self: Any, path: str | os.PathLike[str] | None = None, **options: Unpack[PageOptions]
    ) -> str:
        """Make an interactive page of the weights or scores: one file, which needs no network.

        Parameters
        ----------
        path
            File to write it to as well, with the extension ``.html``.
        **options
            Those of `attention_core.plot.page`, such as ``query_labels`` and ``key_labels``.

        Returns
        -------
        str
            The page.

        Examples
        --------
        >>> import numpy as np
        >>> import attention_core as ac
        >>> result = ac.attend(np.eye(3), np.eye(3), np.eye(3), scorer="dot")
        >>> html = result.to_html(query_labels="abc", key_labels="xyz", title="Three letters")
        """
        from attention_core.plot import page  # only pictures need it

        return page(self, path, **options)

    def _repr_html_(self: Any) -> str:
        """The page, for notebooks."""
        from attention_core.plot.web.notebook import in_notebook  # only pictures need it

        return in_notebook(self)
