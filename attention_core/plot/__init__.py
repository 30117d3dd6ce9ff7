"""Pictures of attention, for papers (extra ``plot``), for browsers and for terminals.

`heatmap` draws a result with matplotlib, and `save` writes what it draws. `page` makes a page to be
explored, and `text` a picture in letters; both need nothing else. All are methods of a result too:
``result.plot("weights.svg")``, ``result.to_html("weights.html")`` and ``print(result.to_text())``.
"""

from attention_core.plot.figure import heatmap
from attention_core.plot.files import save
from attention_core.plot.terminal import text
from attention_core.plot.web.page import page

__all__ = ["heatmap", "page", "save", "text"]
