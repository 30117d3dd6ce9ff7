"""Pictures of attention, for papers (extra ``plot``), for browsers and for terminals.

`heatmap` draws a result with matplotlib, and `save` writes the figure to a file. `page` makes an
interactive page, and `text` a picture in plain text; both need nothing else. Results have them as
methods: ``result.plot("weights.svg")``, ``result.to_html("weights.html")``, ``result.to_text()``.
"""

from attention_core.plot.figure import heatmap
from attention_core.plot.files import save
from attention_core.plot.terminal import text
from attention_core.plot.web.page import page

__all__ = ["heatmap", "page", "save", "text"]
