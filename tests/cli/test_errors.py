"""Every error of the command line: its exact text, exit code 2, no traceback.

`test_error_texts` and others check the texts of the library's errors; these tests check them on the
command line.
"""

from __future__ import annotations

from pathlib import Path

import fakes
import numpy as np
import pytest
import scipy.sparse as sp
from bundled import SCORERS
from fakes import SCORER, hooks
from typer.testing import CliRunner

import attention_core as ac
from attention_core.cli.app import app
from attention_core.registry import default

install = fakes.install
CORE = f"attention-core {ac.__version__}"
RBF = "name='rbf', factory='{}.rbf:FakeScorer'"
pytestmark = pytest.mark.filterwarnings("default::attention_core.PluginWarning")


@pytest.fixture
def fails(install, tmp_path, monkeypatch, rng):
    """Attend to arrays of `tmp_path`, and return the lines of stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(default, "_default", None)
    arrays = {
        "query": rng.standard_normal((2, 5, 4)),
        "key": rng.standard_normal((2, 7, 4)),
        "value": rng.standard_normal((2, 7, 3)),
    }
    np.savez("qkv.npz", **arrays)

    def fails(*arguments, scorer="dot"):
        chosen = ["--scorer", scorer] if scorer else []
        before = sorted(path.name for path in tmp_path.iterdir())
        result = CliRunner().invoke(
            app, ["attend", "qkv.npz", *chosen, "--output", "out.npz", *arguments]
        )
        assert result.exit_code == 2, result.output
        assert result.stdout == ""
        assert sorted(path.name for path in tmp_path.iterdir()) == before
        assert result.stderr.endswith("\n")
        return result.stderr[:-1]

    return fails


# --- names and plugins ---


def test_an_unknown_scorer_beside_a_broken_and_a_blocked_plugin(fails, install, monkeypatch):
    install(hooks=hooks(RBF.format("acme_attention")), rbf=SCORER)
    install("acme-gpu", "2.1", plugin="acme_gpu", hooks="import cupy_of_acme")
    install("acme-old", "0.1", plugin="acme_old", hooks="import nothing_at_all")
    monkeypatch.setenv("ATTENTION_CORE_BLOCK", "acme_old")
    assert fails(scorer="scaled_dto") == (
        "warning: plugin not loaded: acme_gpu (acme-gpu 2.1) - ModuleNotFoundError: "
        "No module named 'cupy_of_acme'; ATTENTION_CORE_BLOCK=acme_gpu blocks it without a "
        "warning\n"
        "error: no scorer named 'scaled_dto'; did you mean 'scaled_dot'?\n"
        f"  available: {', '.join(SCORERS)} ({CORE}), "
        "rbf (acme-attention 0.3)\n"
        "  not loaded: acme_gpu (acme-gpu 2.1) - ModuleNotFoundError: "
        "No module named 'cupy_of_acme'\n"
        "  blocked: acme_old (acme-old 0.1)"
    )


def test_a_broken_plugin_in_strict_mode(fails, install, monkeypatch):
    install("acme-gpu", "2.1", plugin="acme_gpu", hooks="import cupy_of_acme")
    monkeypatch.setenv("ATTENTION_CORE_STRICT", "1")
    assert fails().startswith("error: plugin not loaded: acme_gpu (acme-gpu 2.1) - ")


def test_an_ambiguous_name(fails, install):
    install("acme-attention", "0.3", hooks=hooks(RBF.format("acme_attention")), rbf=SCORER)
    install("other-attention", "1.0", hooks=hooks(RBF.format("other_attention")), rbf=SCORER)
    assert fails(scorer="rbf") == (
        "error: scorer name 'rbf' is ambiguous; use 'acme-attention/rbf' or 'other-attention/rbf'\n"
        "  offered by: acme-attention 0.3, other-attention 1.0"
    )


def test_an_unknown_parameter_of_a_third_party_scorer(fails, install):
    install(hooks=hooks(RBF.format("acme_attention")), rbf=SCORER)
    assert fails("--set", "gama=2", scorer="rbf") == (
        "error: scorer 'rbf' (acme-attention 0.3) has no parameter 'gama'; did you mean 'gamma'? "
        "accepts: gamma, scale"
    )


def test_a_scorer_that_breaks_its_contract(fails, install):
    wrong = SCORER.replace("key.swapaxes(-1, -2)", "key.swapaxes(-1, -2)[..., :3]")
    install(hooks=hooks(RBF.format("acme_attention")), rbf=wrong)
    assert fails(scorer="rbf") == (
        "error: scorer 'rbf' (acme-attention 0.3) returned shape (2, 5, 3); expected "
        "(..., L, S) = (2, 5, 7) for query (2, 5, 4), key (2, 7, 4)"
    )


def test_a_learned_scorer_without_parameters(fails):
    assert fails(scorer="additive") == (
        f"error: scorer 'additive' ({CORE}): a learned scorer needs its parameters; give "
        "query_weight, key_weight and score_weight (and optionally bias), or query_dim, key_dim, "
        "hidden_dim and rng; got nothing"
    )


# --- arrays ---


def save(name, array):
    np.save(name, array)
    return name


@pytest.mark.parametrize(
    ("option", "array", "message"),
    [
        (
            "--mask",
            np.zeros((5, 7)),
            "mask must be boolean (True = may attend), got dtype float64; to add numbers to the "
            "scores use bias=, to keep nonzero entries use mask != 0",
        ),
        (
            "--mask",
            np.ones((5, 8), bool),
            "mask must broadcast to (..., L, S) = (2, 5, 7), got shape (5, 8)",
        ),
        (
            "--bias",
            np.ones((5, 7), bool),
            "bias must hold real numbers to add to the scores, got a boolean array; use mask=",
        ),
        (
            "--query",
            np.ones((5, 4), complex),
            "query must hold real numbers (float16, bfloat16, float32, float64 or integers), "
            "got dtype complex128; take its .real or its .imag",
        ),
        (
            "--query",
            np.ones((2, 5, 3)),
            f"scorer 'dot' ({CORE}) needs queries and keys with the same number of features, got "
            "query (..., L, 3) and key (..., S, 4); scorer 'general' accepts different ones",
        ),
        (
            "--value",
            np.ones((2, 6, 3)),
            "key (..., S, Dk) and value (..., S, Dv) must agree on S, got key (2, 7, 4) "
            "and value (2, 6, 3)",
        ),
        (
            "--query",
            np.ones((3, 5, 4)),
            "batch axes (all but the last two) must broadcast, got query (3, 5, 4), "
            "key (2, 7, 4), value (2, 7, 3)",
        ),
        (
            "--key-lengths",
            np.ones(3, int),
            "key_lengths must hold one integer, or one per batch item along the leading batch "
            "axes (2,), got shape (3,)",
        ),
        (
            "--key-lengths",
            np.ones(2),
            "key_lengths must be integers, one per batch item, got dtype float64; convert it with "
            "numpy.asarray(..., dtype=int)",
        ),
    ],
)
def test_arrays_that_do_not_fit(fails, option, array, message):
    assert fails(option, save("array.npy", array)) == f"error: {message}"


def test_a_sparse_mask_of_another_shape(fails):
    sp.save_npz("edges.npz", sp.csr_array(np.ones((5, 8), bool)))
    assert fails("--mask", "edges.npz") == (
        "error: a sparse mask must have shape (L, S) = (5, 7), got (5, 8)"
    )


# --- files ---


def test_python_objects_are_never_loaded(fails):
    np.save("objects.npy", np.array([{}]), allow_pickle=True)
    assert fails("--mask", "objects.npy").startswith(
        "error: 'objects.npy' is not an .npy file that can be read safely: "
    )
    np.savez("objects.npz", mask=np.array([{}]))
    assert fails("--mask", "objects.npz").startswith("error: 'objects.npz': cannot read array ")


def test_files_that_are_no_arrays(fails, tmp_path):
    (tmp_path / "noise.npy").write_bytes(b"noise")
    assert fails("--mask", "noise.npy").startswith(
        "error: 'noise.npy' is not an .npy file that can be"
    )
    (tmp_path / "noise.npz").write_bytes(b"noise")
    assert fails("--mask", "noise.npz").startswith(
        "error: 'noise.npz' is damaged or not an .npz file"
    )
    np.savez("edges.npz", format=b"csr", shape=[5, 7], data=[1.0], indices=[9], indptr=[0, 1])
    assert fails("--mask", "edges.npz").startswith(
        "error: 'edges.npz' does not hold a two-dimensional "
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mask", "no.npy"], "cannot read 'no.npy': No such file or directory"),
        (["--mask", "no.npz"], "cannot read 'no.npz': No such file or directory"),
        (["--mask", "no.npy:mask"], "'no.npy' holds one array without a name; omit ':mask'"),
        (
            ["--key", "qkv.npz:kee"],
            "'qkv.npz' holds no array 'kee'; did you mean 'key'? it holds: query, key, value",
        ),
        (["--mask", "qkv.npz"], "'qkv.npz' holds no array 'mask'; it holds: query, key, value"),
        (
            ["--mask", "mask.txt"],
            "'mask.txt' has the extension '.txt'; named arrays must be in .npz or .safetensors "
            "files",
        ),
        (["--output", "qkv.npz"], "cannot write 'qkv.npz': it is an input"),
        (["--output", "no/out.npz"], "cannot write 'no/out.npz': there is no folder 'no'"),
        (
            ["--output", "out.txt"],
            "cannot write 'out.txt': the name must end in .npy or .npz or .safetensors",
        ),
        (
            ["--output", "out.npy", "--top-k", "2"],
            "'out.npy' holds one array, not 3; write .npz or .safetensors",
        ),
    ],
)
def test_files_that_do_not_work(fails, arguments, message):
    assert fails(*arguments) == f"error: {message}"


# --- options ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--window", "3"], "--window: '3' is not a pair of integers such as 512,0"),
        (["--window", "a,b"], "--window: 'a,b' is not a pair of integers such as 512,0"),
        (["--window=-1,0"], "window must hold counts of at least 0, got -1 in (-1, 0)"),
        (["--tile", "0,8"], "tile must hold counts of at least 1, got (0, 8)"),
        (["--workers", "0"], "workers must be at least 1, got 0"),
        (["--softcap", "0"], "softcap must be positive and finite, or None for no cap, got 0.0"),
        (["--top-k", "0"], "top_k: n must be at least 1, got 0"),
        (
            ["--query-offset", "1.5,x"],
            "--query-offset: '1.5,x' is neither an integer, nor integers separated by "
            "commas, nor a file of them",
        ),
        (
            ["--query-offset", "99999999999999999999"],
            "query_offset must be between -2**61 and 2**61, got 99999999999999999999",
        ),
        (["--set", "scale"], "--set: 'scale' is not NAME=VALUE, such as hidden_dim=64"),
        (["--set", "a=1", "--set", "a=2"], "--set: 'a' is given twice"),
        (["--set", "name=dot"], "--set: 'name' is not a parameter; use --scorer and --parameters"),
    ],
)
def test_options_that_do_not_work(fails, arguments, message):
    assert fails(*arguments) == f"error: {message}"


def test_a_scorer_and_a_config(fails, tmp_path):
    (tmp_path / "c.toml").write_text('[scorer]\nname = "dot"\n')
    choice = "error: give either --scorer NAME or --config FILE"
    assert fails(scorer=None) == choice
    assert fails("--config", "c.toml") == choice
    assert fails("--config", "c.toml", "--set", "scale=1", scorer=None) == (
        "error: --set and --parameters go with --scorer; with --config, write them in its [scorer]"
    )


def test_a_config_with_several_problems(fails, tmp_path):
    (tmp_path / "bad.toml").write_text(
        '[scorer]\nname = "dot"\nscale = 1\n[attention]\nis_casual = true\n[extra]\n'
    )
    assert fails("--config", "bad.toml", scorer=None) == (
        "error: 3 problems in 'bad.toml'\n"
        "  extra: unknown key; known keys: scorer, normalizer, bias, attention\n"
        f"  scorer.scale: scorer 'dot' ({CORE}) has no parameter 'scale'; "
        "accepts: no parameters\n"
        "  attention.is_casual: unknown key; did you mean 'is_causal'?"
    )


def test_no_query(install, monkeypatch):
    result = CliRunner().invoke(app, ["attend", "--scorer", "dot"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == ("error: no query: give --query, or one file of query, key and value\n")


@pytest.mark.parametrize("arguments", [["--bogus"], ["--softcap", "x"], ["a", "b"]])
def test_wrong_usage(arguments):
    result = CliRunner().invoke(app, ["attend", *arguments])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Usage: attention-core attend" in result.stderr.replace("root", "attention-core")


@pytest.mark.parametrize("arrays", ["folder", "one.npy"])
def test_arrays_that_are_no_archive_are_named_as_given(tmp_path, monkeypatch, arrays):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    np.save("one.npy", np.eye(2))
    result = CliRunner().invoke(app, ["attend", arrays, "--scorer", "dot"])
    assert (result.exit_code, result.stderr) == (
        2,
        f"error: {arrays!r} has the extension {Path(arrays).suffix!r}; named arrays must be in "
        f".npz or .safetensors files\n",
    )
