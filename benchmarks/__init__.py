"""Time and memory of attention-core compared with its peers.

``python -m benchmarks.compare`` writes docs/performance.md; ``python -m benchmarks.scaling`` adds
how time and memory grow. Both need ``pip install -e . --group bench``; a peer that is not installed
is reported as absent.

- `problems`: one computation and its arrays; `cases`: the problems to compare, with limits.
- `peers`: the libraries that compute them, one file each.
- `worker`: one peer and one problem in a separate process; `measure`: turns of these processes.
- `machine`: the description of the machine; `report`: the page with the results.
"""
