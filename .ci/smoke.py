"""Smoke test of the bare wheel: every kind of scorer attends, and missing extras are named."""

import subprocess
import sysconfig
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import scipy.sparse

import attention_core as ac

for extra in ("typer", "rich", "matplotlib", "safetensors"):
    assert find_spec(extra) is None, f"{extra} is installed, so this proves nothing"

rng = np.random.default_rng(0)
query, key, value = rng.normal(size=(5, 4)), rng.normal(size=(6, 4)), rng.normal(size=(6, 3))

assert [info.name for info in ac.scorers()] == [
    "additive",
    "dot",
    "gaussian",
    "general",
    "scaled_dot",
]
for info in ac.scorers():
    dims = {
        "additive": {"query_dim": 4, "key_dim": 4, "hidden_dim": 8, "rng": 0},
        "gaussian": {"dim": 4},
        "general": {"query_dim": 4, "key_dim": 4, "rng": 0},
    }.get(info.name, {})
    result = ac.attend(query, key, value, scorer={"name": info.name, **dims})
    np.testing.assert_allclose(result.weights.sum(axis=-1), 1)
    np.testing.assert_allclose(result.weights @ value, result.context)
    print(f"attended with {info.name} ({info.distribution} {info.version})")

edges = scipy.sparse.eye_array(5, 6, dtype=bool).tocsr()
np.testing.assert_allclose(
    ac.attend(query, key, value, scorer="dot", mask=edges).context, value[:5]
)

command = Path(sysconfig.get_path("scripts")) / "attention-core"
done = subprocess.run([command, "scorers"], capture_output=True, text=True)
assert done.returncode == 2, done
assert done.stderr.count("\n") == 1, done
assert "attention-core[cli]" in done.stderr, done
print(done.stderr.strip())
