"""A third-party distribution is built, installed, used and removed.

Its sources are in this repository, but the package does not refer to it.
"""

import json
import re

import numpy as np
import pytest
from bundled import SCORERS
from projects import ROOT, Environment, build

import attention_core as ac

PROJECT = ROOT / "plugins" / "attention-core-kernels"
NAMES = ["cosine", "gatv2", "laplacian", "polynomial", "rbf"]
CONFIG = """
[scorer]
name = "rbf"
gamma = 2.0
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """Our distribution and the third-party one."""
    folder = tmp_path_factory.mktemp("wheels")
    for project in (ROOT, PROJECT):
        build(project, folder, "-t", "wheel")
    return sorted(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def environment(tmp_path_factory, wheels):
    """A fresh environment with both, some arrays and a config."""
    environment = Environment(tmp_path_factory.mktemp("third_party"))
    environment.install(*wheels)
    query, key, value = np.random.default_rng(0).normal(size=(3, 6, 4))
    np.savez(environment.folder / "arrays.npz", query=query, key=key, value=value)
    (environment.folder / "rbf.toml").write_text(CONFIG)
    return environment


@pytest.fixture(scope="module")
def expected(environment):
    """The context of the configured `rbf`, computed with a bundled scorer."""
    with np.load(environment.folder / "arrays.npz") as arrays:
        query, key, value = (arrays[name] for name in ("query", "key", "value"))
    return ac.attend(4 * query, key, value, scorer="dot", bias=-2 * (key**2).sum(-1))


def context(environment):
    """Read and remove the context.npy that a command wrote."""
    path = environment.folder / "context.npy"
    array = np.load(path)
    path.unlink()
    return array


def test_its_scorers_are_listed_as_its_own(environment):
    listed = json.loads(environment.run("attention-core", "scorers", "--json"))
    theirs = [s for s in listed["scorers"] if s["distribution"] == "attention-core-kernels"]
    assert [scorer["name"] for scorer in theirs] == NAMES
    assert all(s["formula"] and s["summary"] and s["reference"] for s in theirs)
    assert {scorer["version"] for scorer in theirs} == {"0.1.0"}
    assert listed["conflicts"] == listed["not_loaded"] == []


def test_a_scorer_is_selected_by_name_in_python(environment, expected):
    environment.run("python", "-W", "error", "-c", """
import numpy as np, attention_core as ac
with np.load("arrays.npz") as arrays:
    result = ac.attend(**arrays, scorer={"name": "rbf", "gamma": 2.0})
np.save("context.npy", result.context)
""")  # fmt: skip
    np.testing.assert_allclose(context(environment), expected.context)


def test_a_scorer_is_selected_by_name_in_a_config(environment, expected):
    environment.run("python", "-W", "error", "-c", """
import numpy as np, attention_core as ac
attention = ac.Attention.from_config("rbf.toml")
assert attention.to_config() == {"scorer": {"name": "rbf", "gamma": 2.0}}
with np.load("arrays.npz") as arrays:
    np.save("context.npy", attention(**arrays).context)
""")  # fmt: skip
    np.testing.assert_allclose(context(environment), expected.context)


@pytest.mark.parametrize(
    "choice", [("--scorer", "rbf", "--set", "gamma=2.0"), ("--config", "rbf.toml")]
)
def test_a_scorer_is_selected_by_name_on_the_command_line(environment, expected, choice):
    environment.run("attention-core", "attend", "arrays.npz", *choice, "--output", "context.npy")
    np.testing.assert_allclose(context(environment), expected.context)


def test_its_scorers_read_digits(environment):
    """The images of the demonstration: the last 597 attend to the first 1,200."""
    printed = environment.run("python", "-W", "error", "-c", """
import attention_core as ac
from attention_core.demo.digits import KEYS, load_digits
digits = load_digits()
for scorer in ({"name": "rbf", "gamma": 2}, {"name": "cosine", "temperature": 1 / 64}):
    result = ac.attend(digits.queries(), digits.keys(), digits.values(), scorer=scorer)
    print(f"{(result.context.argmax(axis=-1) == digits.labels[KEYS:]).mean():.3f}")
""")  # fmt: skip
    assert printed.split() == ["0.966", "0.966"]


PARTS = """
[scorer]
name = "dot"

[normalizer]
name = "scalable_softmax"
scale = 0.5

[bias]
name = "kerple"
amplitude = 2.0
"""

BROKEN = {
    "pyproject.toml": """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "acme-broken"
version = "0.1"

[project.entry-points.attention_core]
broken = "acme_broken"
worse = "acme_worse"
""",
    "acme_broken/__init__.py": """
from attention_core import NormalizerSpec, hookimpl

@hookimpl
def attention_core_normalizers():
    yield NormalizerSpec(name="broken", factory="acme_broken:make", summary="of no use")

def make():
    raise RuntimeError("out of order")
""",
    "acme_worse/__init__.py": """
from attention_core import hookimpl

@hookimpl
def attention_core_normalizers():
    raise OSError("no licence")
""",
}


@pytest.fixture(scope="module")
def parts(environment):
    """A config of a normalizer and a bias, and its expected context."""
    (environment.folder / "parts.toml").write_text(PARTS)
    with np.load(environment.folder / "arrays.npz") as arrays:
        query, key, value = (arrays[name] for name in ("query", "key", "value"))
    distances = abs(np.arange(6) - np.arange(6)[:, None])
    scores = query @ key.T - 2 * np.log1p(distances)
    powers = 6.0 ** (0.5 * scores)
    return powers @ value / powers.sum(axis=-1, keepdims=True)


def test_a_normalizer_and_a_bias_are_selected_by_name_in_a_config(environment, parts):
    environment.run("python", "-W", "error", "-c", """
import numpy as np, attention_core as ac
attention = ac.Attention.from_config("parts.toml")
assert attention.to_config()["normalizer"] == {"name": "scalable_softmax", "scale": 0.5}
assert attention.bias.origin.distribution == "attention-core-kernels"
with np.load("arrays.npz") as arrays:
    np.save("context.npy", attention(**arrays).context)
""")  # fmt: skip
    np.testing.assert_allclose(context(environment), parts)


@pytest.mark.parametrize(
    "choice",
    [
        ("--config", "parts.toml"),
        (
            *("--scorer", "dot", "--normalizer", "scalable_softmax", "--bias", "kerple"),
            *("--set", "normalizer.scale=0.5", "--set", "bias.amplitude=2.0"),
        ),
    ],
)
def test_a_normalizer_and_a_bias_are_selected_on_the_command_line(environment, parts, choice):
    environment.run("attention-core", "attend", "arrays.npz", *choice, "--output", "context.npy")
    np.testing.assert_allclose(context(environment), parts)


def test_a_broken_normalizer_costs_nobody_else_anything(environment, parts, tmp_path):
    for name, text in BROKEN.items():
        (tmp_path / "broken" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "broken" / name).write_text(text)
    with (tmp_path / "broken" / "pyproject.toml").open("a") as file:
        file.write('[tool.hatch.build.targets.wheel]\npackages = ["acme_broken", "acme_worse"]\n')
    build(tmp_path / "broken", tmp_path, "-t", "wheel")
    environment.install(*tmp_path.glob("*.whl"))
    try:
        listed = json.loads(environment.run("attention-core", "normalizers", "--json"))
        attend = ("attend", "arrays.npz", "--output", "context.npy")
        environment.run("attention-core", *attend, "--config", "parts.toml")
        np.testing.assert_allclose(context(environment), parts)
        choice = ("--scorer", "dot", "--normalizer", "broken")
        error = environment.run("attention-core", *attend, *choice, fails=True)
    finally:
        environment.run("pip", "uninstall", "--yes", "acme-broken")
    names = [info["name"] for info in listed["normalizers"]]
    assert names == ["broken", "entmax", "scalable_softmax", "sigmoid", "softmax", "sparsemax"]
    assert [(each["plugin"], each["reason"]) for each in listed["not_loaded"]] == [
        ("worse", "OSError: no licence")
    ]
    assert "error: normalizer 'broken' failed with RuntimeError: out of order\n" in error


def test_uninstalled_its_names_are_unknown_again(environment, wheels):
    try:
        environment.run("pip", "uninstall", "--yes", "attention-core-kernels")
        attend = ("attend", "arrays.npz", "--scorer", "rbf")
        error = environment.run("attention-core", *attend, fails=True)
    finally:
        environment.install(*(wheel for wheel in wheels if "kernels" in wheel.name))
    assert error == (
        "error: no scorer named 'rbf'\n"
        f"  available: {', '.join(SCORERS)} (attention-core {ac.__version__})\n"
    )


def test_the_page_on_graphs_runs_as_it_says(environment):
    """The Python of the page, one block after the other, prints the page's text."""
    page = (ROOT / "docs" / "how-to" / "sparse-graphs.md").read_text()
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    folder = environment.folder / "docs" / "how-to"
    folder.mkdir(parents=True)
    (folder.parent / "data").symlink_to(ROOT / "docs" / "data")
    code = "".join(body for language, body in blocks if language == "python")
    (folder / "page.py").write_text(f"import os\nos.chdir({str(folder)!r})\n{code}")
    printed = environment.run("python", "-W", "error", folder / "page.py")
    assert printed == "".join(body for language, body in blocks if language == "text")
    assert (folder / "karate.png").stat().st_size > 10_000


def test_nothing_of_ours_knows_that_it_exists():
    for package in (ROOT / "attention_core", ROOT / "plugins" / "attention_core_standard"):
        files = [path for path in package.rglob("*") if path.suffix in {".py", ".json", ".toml"}]
        assert len(files) > 4
        assert not [path for path in files if re.search(r"core.kernels", path.read_text())]
