"""The command line: listing scorers, checking configs, versions, help, and missing extras."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import fakes
import jsonschema
import pytest
from bundled import NORMALIZERS, SCORERS
from fakes import SCORER, hooks
from typer.testing import CliRunner

import attention_core as ac
from attention_core.cli.app import app
from attention_core.compiled.switch import is_switched_on
from attention_core.registry import default

install = fakes.install
RBF = "name='rbf', factory='acme_attention.rbf:FakeScorer', summary='Gaussian kernel'"


@pytest.fixture
def run(install, monkeypatch):
    """Run the command line with a separate registry; the default is not touched."""
    monkeypatch.setattr(default, "_default", None)

    def run(*arguments, code=0, width=200):
        monkeypatch.setenv("COLUMNS", str(width))
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == code, result.output
        return result

    return run


def python(*arguments, **options):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, **options)


# --- scorers ---


def test_scorers_as_json_is_what_the_library_knows(run):
    listed = json.loads(run("scorers", "--json").stdout)
    assert [info["name"] for info in listed["scorers"]] == SCORERS
    assert listed["conflicts"] == listed["not_loaded"] == []
    additive = listed["scorers"][0]
    info = next(info for info in ac.scorers() if info.name == "additive")
    assert additive == {
        "name": "additive",
        "aliases": ["bahdanau", "mlp"],
        "summary": info.summary,
        "formula": info.formula,
        "reference": info.reference,
        "distribution": "attention-core",
        "version": ac.__version__,
        "qualified_name": "attention-core/additive",
        "example": {"query_dim": 4, "key_dim": 3, "hidden_dim": 5, "rng": 0},
        "parameters": [
            {"name": name, "required": False, "default": None}
            for name in (
                "query_weight", "key_weight", "score_weight", "bias",
                "query_dim", "key_dim", "hidden_dim", "rng",
            )
        ],
        "compiled": is_switched_on(),
    }  # fmt: skip
    assert not any(info["compiled"] for info in listed["scorers"][1:])


@pytest.mark.parametrize("width", [60, 80, 200])
def test_scorers_as_a_table(run, width):
    output = run("scorers", width=width).stdout
    assert all(len(line) <= width for line in output.splitlines())
    words = " ".join(output.split())
    for info in ac.scorers():
        assert info.name in words
        assert info.formula in words
        assert info.reference.split()[0] in words
    assert "= bahdanau" in words
    assert "attention-core" in words


def test_third_party_scorers(run, install):
    install(hooks=hooks(RBF), rbf=SCORER)
    output = run("scorers").stdout
    assert "Gaussian kernel" in output
    assert "acme-attention" in output
    assert "0.3" in output


def test_a_broken_plugin_is_shown_without_a_warning(run, install):
    install("acme-gpu", "2.1", plugin="acme_gpu", hooks="import cupy_of_acme\n")
    result = run("scorers")
    assert result.stdout.endswith(
        "Not loaded\n  acme_gpu (acme-gpu 2.1) - ModuleNotFoundError: "
        "No module named 'cupy_of_acme'\n\n"
    )
    assert result.stderr == ""


def test_a_broken_plugin_as_json(run, install):
    install("acme-gpu", "2.1", plugin="acme_gpu", hooks="import cupy_of_acme\n")
    listed = json.loads(run("scorers", "--json").stdout)
    assert [info["name"] for info in listed["scorers"]] == SCORERS
    assert listed["not_loaded"] == [
        {
            "plugin": "acme_gpu",
            "distribution": "acme-gpu",
            "version": "2.1",
            "reason": "ModuleNotFoundError: No module named 'cupy_of_acme'",
        }
    ]


def test_a_blocked_plugin_is_shown(run, install, monkeypatch):
    monkeypatch.setenv("ATTENTION_CORE_BLOCK", "acme-attention")
    install(hooks=hooks(RBF), rbf=SCORER)
    output = run("scorers").stdout
    assert output.endswith("Blocked\n  acme (acme-attention 0.3)\n\n")
    (blocked,) = json.loads(run("scorers", "--json").stdout)["blocked"]
    assert blocked == "acme (acme-attention 0.3)"


def test_rivals_are_shown(run, install):
    install(hooks=hooks("name='dot', factory='acme_attention.rbf:FakeScorer'"), rbf=SCORER)
    result = run("scorers")
    assert "acme-attention/dot" in result.stdout
    assert "Name conflicts\n  scorer name 'dot' is reserved for attention-core" in result.stdout
    (conflict,) = json.loads(run("scorers", "--json").stdout)["conflicts"]
    assert conflict == {
        "name": "dot",
        "kept_by": f"attention-core {ac.__version__}",
        "claims": {"acme-attention/dot": "acme-attention 0.3"},
    }


# --- config check ---


def test_a_good_config(run, tmp_path):
    path = tmp_path / "good.toml"
    path.write_text(
        '[scorer]\nname = "luong"\nquery_dim = 3\nkey_dim = 4\nrng = 0\n'
        "[normalizer]\nname = 'softmax'\nsink = 0.5\n[bias]\nname = 'alibi'\nslopes = 0.5\n"
        "[attention]\nis_causal = true\nwindow = [512, inf]\n"
    )
    assert run("config", "check", str(path)).stdout == (
        f"OK: {path}\n"
        f"scorer 'general' (attention-core {ac.__version__})\n"
        f"normalizer 'softmax' (attention-core {ac.__version__})\n"
        f"bias 'alibi' (attention-core {ac.__version__})\n"
        "  weight (3, 4) float64\n"
        "is_causal = True\n"
        "window = [512, None]\n"
    )


def test_a_config_with_several_problems(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.toml").write_text(
        '[scorer]\nname = "scaled_dot"\nscael = 0.5\n'
        "[attention]\nis_causl = true\nsoftcap = -1\nwindow = [1]\n"
    )
    result = run("config", "check", "bad.toml", code=2)
    assert result.stdout == ""
    assert result.stderr == (
        "error: 4 problems in 'bad.toml'\n"
        f"  scorer.scael: scorer 'scaled_dot' (attention-core {ac.__version__}) has no parameter "
        "'scael'; did you mean 'scale'? accepts: scale\n"
        "  attention.is_causl: unknown key; did you mean 'is_causal'?\n"
        "  attention.softcap: softcap must be positive and finite, or None for no cap, got -1\n"
        "  attention.window: window must be a pair (left, right) of key counts, None for an open "
        "side, got [1]\n"
    )


# --- the command itself ---


def test_version(run):
    assert run("--version").stdout == f"attention-core {ac.__version__}\n"


@pytest.mark.parametrize("command", [[], ["scorers"], ["attend"], ["config", "check"], ["demo"]])
@pytest.mark.parametrize("width", [60, 100])
def test_help(run, command, width):
    output = run(*command, "--help", width=width).stdout
    assert " ".join(["Usage: attention-core", *command]).split()[-1] in output
    assert all(len(line) <= width for line in output.splitlines())


def test_nothing_asked_for_is_help(run):
    assert "attend" in run(code=2).output


@pytest.mark.parametrize("module", ["attention_core", "attention_core.cli"])
def test_it_runs_as_a_module(module):
    done = python("-m", module, "--version")
    assert (done.returncode, done.stdout) == (0, f"attention-core {ac.__version__}\n")


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_the_extra(missing):
    code = (
        f"import sys; sys.modules[{missing!r}] = None; from attention_core.cli import main; main()"
    )
    done = python("-c", code)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "attention-core: the command line needs typer and rich: pip install 'attention-core[cli]'\n"
    )


def test_importing_the_command_imports_nothing_heavy():
    code = "import sys; before = set(sys.modules); import attention_core.cli; print(*sys.modules)"
    modules = set(python("-c", code).stdout.split())
    assert "attention_core.cli" in modules
    assert not modules & {"typer", "rich", "scipy", "matplotlib", "attention_core.cli.app"}


def test_a_bug_stays_a_traceback(run, monkeypatch):
    from attention_core.cli.commands import listing

    monkeypatch.setattr(listing, "default_registry", lambda: 1 / 0)
    result = CliRunner().invoke(app, ["scorers"])
    assert isinstance(result.exception, ZeroDivisionError)


def test_a_reader_that_leaves_is_no_error():
    command = f"{sys.executable} -m attention_core scorers --json | head -c 1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("{", "")


# --- normalizers and biases ---


@pytest.mark.parametrize(
    ("command", "names", "first"),
    [
        ("normalizers", NORMALIZERS, "alpha"),
        ("biases", ["alibi", "relative", "t5"], "slopes"),
    ],
)
def test_normalizers_and_biases_are_listed_as_scorers_are(run, command, names, first):
    listed = json.loads(run(command, "--json").stdout)
    assert list(listed) == [command, "conflicts", "not_loaded", "blocked"]
    assert [info["name"] for info in listed[command]] == names
    assert listed[command][0]["parameters"][0]["name"] == first
    assert "compiled" not in listed[command][0]
    table = run(command).stdout
    assert table.split()[0] in (command.removesuffix("s"), command.removesuffix("es"))
    for info in listed[command]:
        assert info["formula"] in table
        assert info["reference"] in table


def test_only_the_conflicts_of_a_kind_are_listed_with_it(run, install):
    for distribution in ("acme-one", "acme-two"):
        package = distribution.replace("-", "_")
        source = (
            "from attention_core import BiasSpec, hookimpl\n@hookimpl\n"
            f"def attention_core_biases(): yield BiasSpec(name='fade', factory='{package}:make')\n"
        )
        install(distribution, plugin=package, hooks=source)
    (conflict,) = json.loads(run("biases", "--json").stdout)["conflicts"]
    assert conflict["name"] == "fade"
    assert json.loads(run("scorers", "--json").stdout)["conflicts"] == []


# --- the schema ---


def test_the_schema_has_the_scorers_that_are_installed(run, install):
    spec = "name='rbf', factory='acme_attention.rbf:make', summary='Gaussian', aliases=('gauss',)"
    broken = "name='broken', factory='acme_attention.nothing:make'"
    source = "print('hello')\n" + textwrap.dedent(SCORER)
    source += "def make(gamma, scale=1.0):\n    return FakeScorer(gamma, scale)\n"
    install(hooks=hooks(spec, broken), rbf=source)
    schema = json.loads(run("config", "schema").stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    good = [
        {"scorer": "rbf"},  # the scorer itself rejects a name alone
        {"scorer": {"name": "rbf", "gamma": 2}},
        {"scorer": {"name": "acme-attention/rbf", "gamma": 2, "scale": 3}},
        {"scorer": {"name": "gauss", "parameters": "w.npz"}},
        {"scorer": {"name": "broken", "anything": 1}},
        {"scorer": {"name": "additive", "query_dim": 4, "key_dim": 3, "hidden_dim": 5, "rng": 0}},
    ]
    for config in good:
        jsonschema.validate(config, schema)
    with_parts = {"scorer": "dot", "normalizer": {"name": "entmax", "alpha": 1.2}, "bias": "t5"}
    jsonschema.validate(with_parts, schema)
    for part in (
        {"normalizer": {"name": "entmax", "alhpa": 1.2}},
        {"normalizer": {"name": "entmax", "parameters": "w.npz"}},
        {"bias": {"name": "alibi", "slope": 1.0}},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"scorer": "dot", **part}, schema)
    for scorer in ({"name": "rbf"}, {"name": "rbf", "gama": 2}, {"name": "dot", "scale": 1}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"scorer": scorer}, schema)


def test_a_good_config_of_a_layer(run, tmp_path):
    path = tmp_path / "layer.toml"
    path.write_text("attention.is_causal = true\n[multi_head]\nquery_dim = 4\nheads = 2\nrng = 0\n")
    lines = run("config", "check", str(path)).stdout.splitlines()
    assert lines[0].startswith("OK: ")
    assert "  query_weight (4, 2, 2) float64" in lines
    assert lines[-1] == "is_causal = True"
