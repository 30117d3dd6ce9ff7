"""Third-party packages with faults in any of their files, several faults at a time.

Every other name works and gives correct numbers, and a warning names each broken package.
"""

from __future__ import annotations

import importlib
import itertools
import sys
import tempfile
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import reference
from bundled import SCORERS

import attention_core as ac
from campaign.calls import Rng, chance
from campaign.files import raw

QUICK = 12
HOOKS = """
import sys
from attention_core import ScorerSpec, hookimpl

@hookimpl
def attention_core_scorers():
    yield ScorerSpec(
        name="{name}",
        factory="{package}.scorer:Scorer",
        aliases=["{name}_too"],
        summary="of a third party",
        example={{"gain": 2.0}},
    )
"""
SCORER = """
import numpy as np
from attention_core import Scorer as Base

class Scorer(Base):
    def __init__(self, gain=1.0):
        self.gain = gain

    def project_key(self, key):
        return self.gain * key

    def score(self, query, key):
        return np.matmul(query, key.swapaxes(-1, -2))
"""
RAISED = ("ValueError('no')", "SystemExit(0)", "BaseException", "MemoryError", "GeneratorExit",
          "RecursionError", "ImportError('cuda')", "AssertionError", "StopIteration")  # fmt: skip
RETURNED = ("None", "query", "np.nan", "np.ones(3)", "'x'", "np.ma.masked_array(query)",
            "query.astype('c8')", "query.__setitem__(..., 0)", "[1, [2]]")  # fmt: skip
numbers = itertools.count()


def files(name: str) -> dict[str, bytes]:
    package = f"{name}_package"
    texts = {
        f"{name}-1.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n",
        f"{name}-1.dist-info/entry_points.txt": f"[attention_core]\n{name} = {package}.hooks\n",
        f"{package}/__init__.py": "",
        f"{package}/hooks.py": HOOKS.format(name=name, package=package),
        f"{package}/scorer.py": SCORER,
    }
    return {path: textwrap.dedent(text).encode() for path, text in texts.items()}


def broken(rng: Rng, name: str) -> dict[str, bytes]:
    """The files of a package, one of which is damaged, missing, or raises in some line."""
    content = files(name)
    paths = [path for path, data in content.items() if data]
    path = paths[int(rng.choice(len(paths), p=[0.1, 0.1, 0.5, 0.3]))]
    kind = rng.random()
    if kind < 0.1:
        del content[path]
    elif kind < 0.5 or not path.endswith(".py"):
        content[path] = raw(rng, content[path])
    elif kind < 0.9 or path.endswith("hooks.py"):
        lines = content[path].decode().splitlines()
        place = int(rng.integers(len(lines) + 1))
        indent = " " * int(rng.choice([0, 4, 8]))
        lines.insert(place, f"{indent}raise {rng.choice(list(RAISED))}")
        content[path] = "\n".join(lines).encode()
    else:
        returned = str(rng.choice(list(RETURNED))).encode()
        content[path] = content[path].replace(b"np.matmul(query, key.swapaxes(-1, -2))", returned)
    return content


@contextmanager
def installed(packages: dict[str, dict[str, bytes]]) -> Iterator[None]:
    before = list(sys.path)
    with tempfile.TemporaryDirectory(prefix="campaign-", ignore_cleanup_errors=True) as folder:
        for name, content in packages.items():
            for path, data in content.items():
                file = Path(folder, name, path)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(data)
            sys.path.insert(0, str(Path(folder, name)))
        importlib.invalidate_caches()
        try:
            yield
        finally:
            sys.path[:] = before
            importlib.invalidate_caches()
            for module in [m for m in sys.modules if m.split(".")[0].endswith("_package")]:
                del sys.modules[module]


def check(rng: Rng) -> None:
    number = next(numbers)  # unique names, because imports are cached
    bad = [f"bad{number}x{n}" for n in range(int(rng.integers(1, 4)))]
    fine = f"fine{number}"
    packages = {name: broken(rng, name) for name in bad} | {fine: files(fine)}
    if chance(rng, 0.5):
        packages = dict(reversed(packages.items()))
    with installed(packages), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        registry = ac.Registry.from_entry_points()
        told = [str(w.message) for w in caught if issubclass(w.category, ac.PluginWarning)]
        assert all(text.isprintable() and len(text) < 2000 for text in told), told
        names = {info.name for info in registry.scorers()}
        assert {*SCORERS, fine} <= names
        for failure in registry.failures:
            assert any(failure.distribution in text for text in told), (failure, told)
        for name in sorted(names - set(SCORERS)):
            with suppress(BaseException):  # the behavior of their scorers is not checked
                x = rng.standard_normal((3, 2))
                ac.attend(x, x, x, scorer=registry.make(name, gain=2.0))
        x = rng.standard_normal((3, 2))
        wanted = reference.attend(x, x, x, score=reference.dot).context
        for scorer in (registry.make("dot"), registry.make(fine)):
            np.testing.assert_allclose(ac.attend(x, x, x, scorer=scorer).context, wanted)


def registry_that(change: Any) -> mock.mock._patch:
    make = ac.Registry.from_entry_points

    def worse() -> ac.Registry:
        return change(make)

    return mock.patch.object(ac.Registry, "from_entry_points", worse)


def silent(make: Any) -> ac.Registry:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make()


def all_or_nothing(make: Any) -> ac.Registry:
    registry = make()
    assert not registry.failures
    return registry


FAULTS = {
    "says nothing": lambda: registry_that(silent),
    "gives up": lambda: registry_that(all_or_nothing),
}
