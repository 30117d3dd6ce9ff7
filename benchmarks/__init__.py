"""Time and memory of attention-core next to its peers.

``python -m benchmarks.compare`` writes docs/performance.md; ``python -m benchmarks.scaling`` adds
how time and memory grow. Both need ``pip install -e . --group bench``; a peer that is not installed
is reported as absent.

- `cases`: the problems, as data; `peers`: the libraries that compute them, one file each.
- `worker`: one peer and one problem in a process of their own; `measure`: taking turns with them.
- `machine`, `report`: what the numbers were measured on, and the page made of them.
"""
