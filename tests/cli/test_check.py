"""``attention-core check``: scorers, plugins, and invalid arguments."""

from __future__ import annotations

import fakes
import pytest
from bundled import BIASES, NORMALIZERS, SCORERS
from fakes import DESCRIBED, MATHS, hooks
from typer.testing import CliRunner

import attention_core as ac
from attention_core.cli.app import app
from attention_core.registry import default
from attention_core.testing import run_checks, scorer_checks
from attention_core.testing.kit import RULES

install = fakes.install
CORE = f"attention-core {ac.__version__}"
AVAILABLE = f"""\
  scorers: {", ".join(SCORERS)} ({CORE})
  normalizers: {", ".join(NORMALIZERS)} ({CORE})
  biases: {", ".join(BIASES)} ({CORE})"""


@pytest.fixture
def run(install, monkeypatch):
    """Run the command with a separate registry; the default is not touched."""
    monkeypatch.setattr(default, "_default", None)

    def run(*arguments, code=0):
        result = CliRunner().invoke(app, ["check", *arguments])
        assert result.exit_code == code, result.output
        return result

    return run


def test_the_report_of_a_scorer_is_that_of_the_kit(run):
    expected = run_checks(scorer_checks(ac.make_scorer("dot")))
    assert run("dot").stdout == f"{expected}\n"


@pytest.mark.parametrize(
    ("name", "made"),
    [("bahdanau", "additive"), ("attention-core/additive", "attention-core/additive")],
)
def test_a_learned_scorer_is_made_from_its_example(run, name, made):
    output = run(name).stdout
    assert output.startswith(f"scorer {made!r} ({CORE}) with query_dim=4, key_dim=3\n")


def test_a_scorer_with_parameters_of_ones_own(run):
    output = run("general", "--set", "weight=[[1.0], [2.0]]").stdout
    assert output.startswith(f"scorer 'general' ({CORE}) with query_dim=2, key_dim=1\n")


def test_dimensions_can_be_given(run):
    output = run("dot", "--query-dim", "6", "--key-dim", "6", "--seed", "1").stdout
    assert output.startswith(f"scorer 'dot' ({CORE}) with query_dim=6, key_dim=6\n")


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (["softmax", "--set", "sink=[0.5, 1.0]"], "normalizer"),
        (["sparsemax", "--kind", "normalizer"], "normalizer"),
        (["relative"], "bias"),
    ],
)
def test_normalizers_and_biases(run, arguments, kind):
    output = run(*arguments).stdout
    assert output.startswith(f"{kind} {arguments[0]!r} ({CORE})\n")
    assert "  passed   gradients  " in output
    assert output.endswith(f"\n{len(RULES[kind])} passed\n")


def test_a_name_of_several_kinds(run, install):
    source = (
        "from attention_core import BiasSpec, ScorerSpec, hookimpl\n"
        "@hookimpl\ndef attention_core_scorers():\n"
        f"    yield ScorerSpec({DESCRIBED})\n"
        "@hookimpl\ndef attention_core_biases():\n"
        "    yield BiasSpec(name='rbf', factory='attention_core_standard.biases:make_alibi',\n"
        "                   summary='a line', formula='-|d|', example={'heads': 1})\n"
    )
    install(hooks=source, rbf=MATHS)
    error = run("rbf", code=2).stderr
    assert error == "error: 'rbf' is a scorer and a bias; choose one with --kind\n"
    assert run("rbf", "--kind", "bias").stdout.startswith("bias 'rbf' (acme-attention 0.3)\n")
    output = run("acme_attention.hooks").stdout
    assert "  passed   rbf.tiles " in output
    assert "  passed   rbf.offsets " in output


def test_a_plugin(run, install):
    install(hooks=hooks(DESCRIBED), rbf=MATHS)
    output = run("acme_attention.hooks").stdout
    assert output.startswith("plugin 'acme_attention.hooks'\n  passed   hooks ")
    assert "\nscorer 'rbf' (acme-attention 0.3) with query_dim=4, key_dim=4\n" in output
    assert "  passed   rbf.tiles " in output


def test_a_failed_check_is_exit_code_1(run, install):
    install(hooks=hooks(DESCRIBED), rbf=MATHS.replace("* self.gain", "* self.gain + query.sum()"))
    result = run("rbf", code=1)
    assert "  FAILED   projection  " in result.stdout
    assert "           seen: results of project_query for rows 0:3 alone differ at" in result.stdout
    assert "           fix:  project each query and key by itself" in result.stdout
    assert result.stderr == ""
    assert "rbf.projection" in run("acme_attention.hooks", code=1).stdout


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        ("raise SystemExit(0)", "SystemExit: 0"),
        ("return None", "its factory returned None; expected an attention_core.Scorer"),
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("raise Panic", "Panic"),
    ],
)
def test_a_factory_that_makes_no_scorer_fails(run, install, line, seen):
    module = f"class Panic(BaseException): pass\ndef RBF():\n    {line}\n"
    install(hooks=hooks(DESCRIBED), rbf=module)
    result = run("acme_attention.hooks", code=1)
    assert "  FAILED   rbf.example " in result.stdout
    assert seen in result.stdout
    if line != "raise Panic":  # which ends the command
        result = run("rbf", code=1)
        assert result.stderr.startswith("error: scorer 'rbf' (acme-attention 0.3): ")
        assert seen in result.stderr


def test_a_module_that_is_no_plugin_fails(run):
    assert "  FAILED   hooks  the module describes its components" in run("json", code=1).stdout


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            ["dto"],
            (
                "no scorer, normalizer or bias named 'dto'; did you mean 'dot'?\n"
                f"{AVAILABLE}\n"
                "  nor is there a module of this name"
            ),
        ),
        (
            ["attention_core_standard.hook"],
            (
                "no scorer, normalizer or bias named 'attention_core_standard.hook'\n"
                f"{AVAILABLE}\n"
                "  nor is there a module of this name"
            ),
        ),
        (
            ["general", "--set", "query_dim=3"],
            (
                f"scorer 'general' ({CORE}): a learned scorer needs its parameters; give weight, "
                "or query_factor and key_factor, or query_dim, key_dim and rng (and optionally "
                "rank); got query_dim"
            ),
        ),
        (
            ["sofmax", "--kind", "normalizer"],
            (
                "no normalizer named 'sofmax'; did you mean 'softmax'?\n"
                f"  normalizers: {', '.join(NORMALIZERS)} ({CORE})\n"
                "  nor is there a module of this name"
            ),
        ),
        (["dot", "--kind", "score"], "--kind must be scorer, normalizer or bias, got 'score'"),
        (
            ["alibi", "--query-dim", "3"],
            "'alibi' is a bias; --query-dim and --key-dim go with scorers",
        ),
        (
            ["entmax", "--set", "alpha=1"],
            f"normalizer 'entmax' ({CORE}): alpha must be at least 1.001, got 1",
        ),
        (
            ["attention_core_standard.hooks", "--key-dim", "3"],
            "--set, --query-dim and --key-dim go with the name of a component",
        ),
    ],
)
def test_bad_input_is_exit_code_2(run, arguments, text):
    result = run(*arguments, code=2)
    assert result.stderr == f"error: {text}\n"
    assert result.stdout == ""


@pytest.mark.parametrize("name", ["", ".hooks", "a..b", "acme/rbf", "-"])
def test_arguments_that_are_neither_name_nor_module(run, name):
    assert "nor is there a module of this name" in run("--", name, code=2).stderr
