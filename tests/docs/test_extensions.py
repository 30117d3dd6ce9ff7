"""The extensions of the site, which run without Sphinx: what breaks them fails here, not there."""

import ast
import subprocess
import sys

import pytest
import site_extensions
from site_extensions import DOCS, figures, prose

NAMES = {path.stem for path in (DOCS / "extensions").glob("*.py")}


def test_the_tests_load_every_extension_and_the_site_uses_it():
    assert {*site_extensions.__all__} - {"DOCS"} == NAMES
    tree = ast.parse((DOCS / "conf.py").read_text("utf-8"))
    (used,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "extensions"
    )
    assert set(used) >= NAMES
    assert all(callable(getattr(site_extensions, name).setup) for name in NAMES)


@pytest.mark.slow
def test_every_figure_is_drawn(kernels, tmp_path):
    command = [sys.executable, "-W", "error", figures.__file__, tmp_path]
    done = subprocess.run(command, env=kernels, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    drawn = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert drawn.keys() == {"live.html", "step-figure.html", "karate-figure.html"}
    assert min(drawn.values()) > 5_000


@pytest.mark.parametrize(("what", "given", "expected"), [
    ("attribute", ["The scores: (..., L, S)"], ["..", "", "The scores: (..., L, S)"]),
    ("data", (int.__doc__ or "").splitlines(), []),
    ("function", ["Attend."], ["Attend."]),
])  # fmt: skip
def test_docstrings_are_put_right(what, given, expected):
    lines = list(given)
    prose.put_right(None, what, "name", 3, None, lines)
    assert lines == expected
