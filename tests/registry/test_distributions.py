"""Reading what is installed: the same answers as `importlib.metadata`, without importing it."""

import importlib.metadata
import subprocess
import sys
import zipfile
from pathlib import Path

import fakes
import pytest
from fakes import SCORER, hooks

from attention_core import Registry
from attention_core.registry.distributions import (
    entry_points,
    identity,
    installed_distributions,
)
from attention_core.registry.loading import installed_plugins

install = fakes.install
RBF = hooks("name='rbf', factory='acme_attention.rbf:FakeScorer'")


def names(distributions):
    return [identity(distribution)[0] for distribution in distributions]


def test_everything_that_is_installed_reads_the_same():
    ours = {identity(distribution): distribution for distribution in installed_distributions()}
    theirs = list(importlib.metadata.distributions())
    assert len(theirs) > 5
    for distribution in theirs:
        mine = ours[distribution.metadata["Name"], distribution.version]
        for group in {entry.group for entry in distribution.entry_points}:
            declared = distribution.entry_points.select(group=group)
            assert entry_points(mine, group) == {entry.name: entry.value for entry in declared}


def test_importlib_metadata_is_not_imported():
    code = "import sys, attention_core as ac; ac.scorers(); print('email' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"


def test_the_order_is_that_of_the_path(install):
    install("one")
    install("two")
    install("three")
    assert names(installed_distributions())[:3] == ["three", "two", "one"]


@pytest.mark.parametrize("listing", [sorted, lambda paths: sorted(paths, reverse=True)])
def test_the_order_does_not_depend_on_the_file_system(install, tmp_path, monkeypatch, listing):
    install(version="0.2")
    install(version="0.3")
    (old,), (new,) = tmp_path.glob("*-0.2/*.dist-info"), tmp_path.glob("*-0.3/*.dist-info")
    new.rename(old.parent / new.name)
    iterdir = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: iter(listing(iterdir(path))))
    found = [identity(distribution) for distribution in installed_distributions()]
    assert found[:2] == [("acme-attention", "0.2"), ("acme-attention", "0.3")]


@pytest.fixture
def archive(install, tmp_path, monkeypatch):
    """A plugin inside an archive that is on the path."""
    install(hooks=RBF, rbf=SCORER)
    (root,) = tmp_path.glob("acme_attention-*")
    with zipfile.ZipFile(tmp_path / "plugins.zip", "w") as file:
        for path in root.rglob("*.*"):
            file.write(path, path.relative_to(root))
    sys.path.remove(str(root))
    monkeypatch.syspath_prepend(tmp_path / "plugins.zip")


def test_an_archive_on_the_path_is_read(archive):
    assert Registry.from_entry_points().make("rbf").gamma == 1.0


def test_an_import_hook_with_distributions_is_asked(install, tmp_path, monkeypatch):
    install(hooks=RBF, rbf=SCORER)
    (folder,) = tmp_path.glob("acme_attention-*/*.dist-info")
    hidden = folder.rename(tmp_path / "hidden.dist-info")

    class Hook:
        @staticmethod
        def find_spec(*args):
            return None

        @staticmethod
        def find_distributions(context):
            return [importlib.metadata.PathDistribution(hidden)]

    assert "rbf" not in [info.name for info in Registry.from_entry_points().scorers()]
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Hook])
    assert Registry.from_entry_points().make("rbf").gamma == 1.0


def test_places_that_are_not_there_do_no_harm(install, tmp_path, monkeypatch):
    install(hooks=RBF)
    monkeypatch.syspath_prepend(tmp_path / "nowhere")
    monkeypatch.setattr(sys, "path", ["", None, b"bytes", *sys.path])
    assert "acme-attention" in names(installed_distributions())


def test_older_metadata_is_read(install, tmp_path):
    install(hooks=RBF)
    (folder,) = tmp_path.glob("acme_attention-*/*.dist-info")
    (folder / "METADATA").rename(folder / "PKG-INFO")
    folder.rename(folder.with_suffix(".egg-info"))
    assert "acme (acme-attention 0.3)" in map(str, installed_plugins())


class Files:
    """A distribution of these files; texts that are exceptions are raised."""

    def __init__(self, entry_points=None, **files):
        self.files = {"entry_points.txt": entry_points, **files}

    def read_text(self, filename):
        text = self.files.get(filename)
        if isinstance(text, Exception):
            raise text
        return text


@pytest.mark.parametrize(
    "error", [FileNotFoundError(), PermissionError(), UnicodeDecodeError("utf-8", b"x", 0, 1, "")]
)
def test_a_file_that_cannot_be_read_says_nothing(error):
    broken = Files(entry_points=error, METADATA=error)
    assert entry_points(broken, "group") == {}
    assert identity(broken) == ("unknown", "unknown")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("[group]", {}),
        ("[group]\na = b", {"a": "b"}),
        ("[group]\n  a=b:c [extra]  \r\n\n# x = y\n", {"a": "b:c [extra]"}),
        ("[group]\na = b = c", {"a": "b = c"}),
        ("[other]\nno equals sign\n[group]\na = b\n[more]\nc = d", {"a": "b"}),
        ("[group]\nno equals sign\na = b", {"no equals sign": "", "a": "b"}),
        ("a = b\n[groups]\nc = d", {}),
    ],
)
def test_entry_points(text, expected):
    assert entry_points(Files(entry_points=text), "group") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Name: acme\nVersion: 1\n", ("acme", "1")),
        ("name:acme\r\nVERSION: 1\r\n", ("acme", "1")),
        ("Name: acme\n\nVersion: 1\n", ("acme", "unknown")),
        ("", ("unknown", "unknown")),
        (None, ("unknown", "unknown")),
    ],
)
def test_the_name_and_version_are_in_the_headers(text, expected):
    assert identity(Files(METADATA=text)) == expected
    assert identity(Files(**{"PKG-INFO": text})) == expected
