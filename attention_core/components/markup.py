"""HTML of objects, for notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["table"]


def table(title: object, rows: Iterable[Sequence[object]], header: Sequence[str] = ()) -> str:
    """A title and a table under it; all text is escaped.

    >>> table("scorer 'dot'", [("scale", 0.5)])
    '<b>scorer &#x27;dot&#x27;</b><table><tr><td>scale</td><td>0.5</td></tr></table>'
    """
    from html import escape  # only notebooks need it

    def line(kind: str, cells: Sequence[object]) -> str:
        parts = (f"<{kind}>{escape(str(cell))}</{kind}>" for cell in cells)
        return f"<tr>{''.join(parts)}</tr>"

    lines = [line("td", row) for row in rows]
    if header:
        lines.insert(0, line("th", header))
    body = f"<table>{''.join(lines)}</table>" if lines else ""
    return f"<b>{escape(str(title))}</b>{body}"
