"""HTML of objects, for notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["table"]


def table(title: object, rows: Iterable[Sequence[object]], header: Sequence[str] = ()) -> str:
    """A title and a table under it; all text is escaped.

    >>> table("scorer 'dot'", [("scale", 0.5)])
    '<b>scorer &#x27;dot&#x27;</b><table><tr><td>scale</td><td>0.5</td></tr></table>'
    """
    lines = [_row("td", row) for row in rows]
    if header:
        lines.insert(0, _row("th", header))
    body = f"<table>{''.join(lines)}</table>" if lines else ""
    return f"<b>{escape(str(title))}</b>{body}"


def _row(kind: str, cells: Sequence[object]) -> str:
    return "<tr>" + "".join(f"<{kind}>{escape(str(cell))}</{kind}>" for cell in cells) + "</tr>"
