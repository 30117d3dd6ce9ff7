"""Distributions for tests: a package and its metadata in a folder on the path."""

from __future__ import annotations

import sys
import textwrap

import pytest

from attention_core.registry import installed
from attention_core.registry.discovery import Discovery, discover

__all__ = ["DESCRIBED", "HOOKS", "MATHS", "SCORER", "hooks", "install"]

HOOKS = "from attention_core import ScorerSpec, hookimpl\n"

SCORER = """
    import numpy as np
    from attention_core import Scorer

    class FakeScorer(Scorer):
        def __init__(self, gamma=1.0, scale=1.0):
            self.gamma = gamma
            self.scale = scale

        def score(self, query, key):  # (..., L, D), (..., S, D) -> (..., L, S)
            return self.gamma * np.matmul(query, key.swapaxes(-1, -2))
    """


def hooks(*specs):
    """The source of a hooks module that yields specs, each written as arguments of ScorerSpec."""
    yields = "\n".join(f"    yield ScorerSpec({spec})" for spec in specs)
    return f"{HOOKS}@hookimpl\ndef attention_core_scorers():\n{yields}\n"


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a fake distribution; returns the name of its package.

    Installed plugins other than the bundled one are hidden.
    """
    seen = {"attention-core"}
    packages = set()

    def seen_plugins():
        found = discover()
        plugins = [plugin for plugin in found.plugins if plugin.distribution in seen]
        return Discovery(plugins, found.unreadable, found.notices)

    def install(distribution="acme-attention", version="0.3", *, plugin="acme", **files):
        """Keyword arguments are the modules of the package; `entry_points` and `metadata` replace
        what its metadata says."""
        package = distribution.replace("-", "_").lower()
        seen.update([distribution, package])  # the folder's, if the metadata have none
        packages.add(package)
        metadata = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
        entry_points = f"[attention_core]\n{plugin} = {package}.hooks\n"
        root = tmp_path / f"{package}-{version}"
        info = root / f"{package}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(files.pop("metadata", metadata))
        (info / "entry_points.txt").write_text(files.pop("entry_points", entry_points))
        (root / package).mkdir()
        for name, source in {"__init__": "", **files}.items():
            (root / package / f"{name}.py").write_text(textwrap.dedent(source))
        monkeypatch.syspath_prepend(root)
        return package

    monkeypatch.setattr(installed, "discover", seen_plugins)
    yield install
    for name in [name for name in sys.modules if name.split(".")[0] in packages]:
        del sys.modules[name]


DESCRIBED = "name='rbf', factory='acme_attention.rbf:RBF', summary='Gaussian', formula='-|q - k|^2'"
MATHS = '''
    import numpy as np
    from attention_core import InnerProductScorer, ShapeError

    class RBF(InnerProductScorer):
        """score = gain * q . k"""

        def __init__(self, gain=1.0):
            self.gain = float(gain)

        def check_features(self, query_dim, key_dim):
            if query_dim != key_dim:
                raise ShapeError("equal features, please")

        def project_query(self, query):
            return query * self.gain
'''
