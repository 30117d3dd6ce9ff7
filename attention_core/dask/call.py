"""One call on dask arrays: its blocks, and the tasks that compute the final state of every row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from attention_core.components.bias import Bias
from attention_core.dask.graph import Layer, Tasks, make_layer, tree
from attention_core.dask.grid import Grid, Index
from attention_core.dask.work import Block, Work, attend_block, finish, merge
from attention_core.normalizing.normalizer import Normalizer
from attention_core.scoring.scorer import Scorer

__all__ = ["LazyCall"]


@dataclass(frozen=True)
class LazyCall:
    """A checked call that is not computed yet."""

    scorer: Scorer
    normalizer: Normalizer
    bias: Bias | None
    """The bias that has parameters by name."""
    shared: Work
    grid: Grid
    token: str
    """Token of all arguments, the same in every process."""
    is_single: bool
    """Whether the query was given without its L axis."""
    result_dtype: np.dtype[Any]
    dtypes: tuple[np.dtype[Any], ...]
    """Dtypes of the gradients of query, key and value."""

    @cached_property
    def work(self) -> Layer:
        """The part that all tasks share, as a separate task: it is sent once to each worker."""
        name = f"attend-work-{self.token}"
        return make_layer(name, {name: self.shared}, [])

    @cached_property
    def states(self) -> Layer:
        """The final state of each chunk of rows, by its index, and the tasks that compute it."""
        work, tasks = self.work.name, Tasks()
        features = self.grid.features
        for index, blocks in self.grid.blocks.items():
            place = self.grid.places[index]
            parts = []
            for number, block in blocks.items():
                parts.append((f"attend-block-{self.token}", *index, number))
                arrays = self.grid.keys_of(index, number)
                tasks[parts[-1]] = (attend_block, work, block, *arrays)
            tasks[self.state_of(index)] = tree(
                tasks,
                (f"attend-merge-{self.token}", *index),
                parts,
                lambda keys: (merge, work, keys),
                lambda keys, place=place: (finish, work, place, features, keys),  # type: ignore[misc]  # has a default
            )
        return make_layer(self._states, tasks, [self.work, *self.grid.sources])

    def state_of(self, index: Index) -> Any:
        """The key of the final state of a chunk of rows."""
        return (self._states, *index)

    def blocks(self) -> Iterator[tuple[Index, int, Block]]:
        """The blocks that some query can reach: in order of their rows, then of their keys."""
        for index, blocks in self.grid.blocks.items():
            for number, block in blocks.items():
                yield index, number, block

    @property
    def _states(self) -> str:
        return f"attend-state-{self.token}"
