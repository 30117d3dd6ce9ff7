"""Opening the readout of a computed problem."""

from __future__ import annotations

from attention_core.engine.base import Problem, Readout
from attention_core.engine.tile_readout import TileReadout
from attention_core.engine.tiles import TileEngine
from attention_core.normalizing.normalizer import Statistics
from attention_core.typing import Array

__all__ = ["open_readout"]


def open_readout(problem: Problem, statistics: Statistics, kept: Array | None) -> Readout:
    """The readout of a problem, given the statistics of each row and the scores that were kept.

    The edges of a sparse mask are read out as sparse arrays, wherever the context was computed, so
    that what is sparse never depends on speed.
    """
    if problem.masking is not None and problem.masking.is_sparse:
        from attention_core.engine.edge_readout import EdgeReadout  # only sparse masks need SciPy
        from attention_core.engine.edges import EdgeEngine

        return EdgeReadout(EdgeEngine(problem), statistics)
    return TileReadout(TileEngine(problem, kept), statistics)
