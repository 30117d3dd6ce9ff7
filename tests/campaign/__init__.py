"""Endless random and hostile cases: each module has a `check` of one case, drawn from a seed.

Its `FAULTS` are put into the library one by one, to check that the cases find them. The tests run
a few cases of each; ``python -m tests.campaign --minutes 30`` runs them for longer.
"""

NAMES = (
    "forward",
    "gradients",
    "layers",
    "files",
    "plugins",
    "command_line",
    "signals",
    "concurrency",
    "storm",
)
