"""Jobs that the threads of a call do besides its computation."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from attention_core.parallel.threads import map_blocks

__all__ = ["Jobs"]


class Jobs:
    """Independent jobs, which any thread of a call may begin.

    Parameters
    ----------
    jobs
        Functions without a result.
    cost
        An estimate of all of them, in nanoseconds on one core.
    """

    def __init__(self, jobs: Iterable[Callable[[], None]], cost: float) -> None:
        self._jobs = list(jobs)
        self._cost = cost

    def begin(self) -> None:
        """Do jobs until none is left to begin; other threads may still be busy with some."""
        while self._jobs:
            try:
                job = self._jobs.pop()
            except IndexError:  # another thread began the last one
                return
            job()

    def finish(self, workers: int | None) -> None:
        """Do what is left, on threads if it is worth it."""
        left, self._jobs = self._jobs, []
        if left:
            map_blocks(lambda job: job(), left, cost=self._cost, workers=workers)
