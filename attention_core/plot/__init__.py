"""Pictures of attention, for screens and papers (extra ``plot``) and for terminals.

`heatmap` draws a result with matplotlib, `save` writes what it draws, and `text` needs nothing but
a terminal. All are there as methods of a result too: ``result.plot("weights.svg")`` and
``print(result.to_text())``.
"""

from attention_core.plot.figure import heatmap
from attention_core.plot.files import save
from attention_core.plot.terminal import text

__all__ = ["heatmap", "save", "text"]
