"""`attention-core attend`: inputs, results, outputs, and files that it must not modify."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import scipy.sparse as sp
from typer.testing import CliRunner

import attention_core as ac
from attention_core.cli import blocks, outputs
from attention_core.cli.app import app
from attention_core.parameter_files import read_arrays, save_parameters, write_arrays
from attention_core.registry import default


@pytest.fixture
def folder(tmp_path, monkeypatch, rng):
    """A working directory with arrays in every kind of file."""
    monkeypatch.chdir(tmp_path)
    query, key, value = (rng.standard_normal(shape) for shape in ((5, 4), (7, 4), (7, 3)))
    for name, array in {"q": query, "k": key, "v": value}.items():
        np.save(f"{name}.npy", array)
    np.savez("qkv.npz", query=query, key=key, value=value)
    write_arrays("qkv.safetensors", {"query": query, "key": key, "value": value})
    np.save("mask.npy", rng.random((5, 7)) > 0.3)
    np.save("bias.npy", rng.standard_normal((5, 7)))
    sp.save_npz("edges.npz", sp.csr_array(np.load("mask.npy")))
    return tmp_path


@pytest.fixture
def arrays(folder):
    return [np.load(f"{name}.npy") for name in "qkv"]


def run(*arguments, code=0):
    result = CliRunner().invoke(app, ["attend", *map(str, arguments)])
    assert result.exit_code == code, result.output
    if code == 0:
        assert result.stderr == ""
    return result


def saved(*arguments, output="out.npz"):
    run(*arguments, "--output", output)
    return read_arrays(output)


def files(folder):
    return sorted(path.name for path in folder.iterdir())


# --- components by name ---


def test_a_normalizer_by_name_with_its_settings(arrays):
    options = ["qkv.npz", "--scorer", "dot", "--normalizer", "entmax", "--weights"]
    found = saved(*options, "--set", "normalizer.alpha=1.3")
    entmax = ac.make_normalizer("entmax", alpha=1.3)
    expected = ac.attend(*arrays, scorer="dot", normalizer=entmax)
    np.testing.assert_allclose(found["weights"], expected.weights, rtol=1e-12)
    np.testing.assert_allclose(found["context"], expected.context, rtol=1e-12)


def test_a_bias_by_name_in_blocks_of_queries(arrays, monkeypatch):
    monkeypatch.setattr(blocks, "_rows_per_block", lambda _: 2)
    options = ["qkv.npz", "--scorer", "scaled_dot", "--set", "scale=2", "--bias", "alibi"]
    found = saved(*options, "--set", "bias.slopes=0.5", "--causal", "--query-offset", "end")
    expected = ac.attend(
        *arrays,
        scorer={"name": "scaled_dot", "scale": 2},
        bias={"name": "alibi", "slopes": 0.5},
        is_causal=True,
        query_offset="end",
    )
    np.testing.assert_allclose(found["context"], expected.context, rtol=1e-12)


def test_names_override_those_of_a_config(arrays):
    Path("config.toml").write_text(
        "scorer = 'dot'\nnormalizer = 'sigmoid'\n[bias]\nname='alibi'\nslopes=1.0\n"
    )
    by_config = ac.Attention.from_config("config.toml")
    found = saved("qkv.npz", "--config", "config.toml")
    np.testing.assert_allclose(found["context"], by_config(*arrays).context, rtol=1e-12)
    found = saved("qkv.npz", "--config", "config.toml", "--normalizer", "sparsemax")
    expected = ac.attend(*arrays, scorer="dot", bias=by_config.bias, normalizer="sparsemax")
    np.testing.assert_allclose(found["context"], expected.context, rtol=1e-12)
    found = saved("qkv.npz", "--config", "config.toml", "--bias", "bias.npy")
    expected = ac.attend(*arrays, scorer="dot", bias=np.load("bias.npy"), normalizer="sigmoid")
    np.testing.assert_allclose(found["context"], expected.context, rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--normalizer", "sofmax"], "no normalizer named 'sofmax'; did you mean 'softmax'?"),
        (["--bias", "alibbi"], "no bias named 'alibbi'; did you mean 'alibi'?"),
        (["--bias", "alibi.npy"], "cannot read 'alibi.npy': No such file or directory"),
        (
            ["--normalizer", "entmax", "--set", "normalizer.alpha=1"],
            (
                f"normalizer 'entmax' (attention-core {ac.__version__}): alpha must be at least "
                "1.001, got 1"
            ),
        ),
        (
            ["--set", "bias.slopes=1"],
            "--set bias.slopes needs the name of a bias: give --bias NAME",
        ),
        (
            ["--set", "bais.slopes=1"],
            "--set 'bais.slopes': the prefix must be 'normalizer.' or 'bias.'",
        ),
    ],
)
def test_components_that_cannot_be_made(folder, options, text):
    done = run("qkv.npz", "--scorer", "dot", *options, code=2)
    assert done.stderr.splitlines()[0] == f"error: {text}"


# --- inputs ---


@pytest.mark.parametrize(
    "inputs",
    [
        ["qkv.npz"],
        ["qkv.safetensors"],
        ["--query", "q.npy", "--key", "k.npy", "--value", "v.npy"],
        ["qkv.npz", "--query", "q.npy"],
        ["--query", "qkv.npz", "--key", "qkv.safetensors:key", "--value", "v.npy"],
    ],
)
def test_arrays_come_from_every_kind_of_file(arrays, inputs):
    found = saved(*inputs, "--scorer", "scaled_dot")
    assert list(found) == ["context"]
    expected = ac.attend(*arrays, scorer="scaled_dot").context
    np.testing.assert_allclose(found["context"], expected, rtol=1e-12)


def test_the_only_array_of_a_file_needs_no_name(arrays):
    np.savez("other.npz", whatever=arrays[0])
    found = saved("qkv.npz", "--query", "other.npz", "--scorer", "dot")
    np.testing.assert_allclose(
        found["context"], ac.attend(*arrays, scorer="dot").context, rtol=1e-12
    )


def test_a_colon_in_the_name_of_a_file(arrays):
    np.save("a:b.npy", arrays[0])
    saved("qkv.npz", "--query", "a:b.npy", "--scorer", "dot")


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (["--causal"], {"is_causal": True}),
        (["--is-causal", "--query-offset", "2"], {"is_causal": True, "query_offset": 2}),
        (["--causal", "--query-offset", "-2"], {"is_causal": True, "query_offset": -2}),
        (["--window", "1,2"], {"window": (1, 2)}),
        (["--window", ",0"], {"window": (None, 0)}),
        (["--softcap", "0.5"], {"softcap": 0.5}),
        (["--tile", "2,3", "--workers", "1"], {"tile": (2, 3)}),
        (["--key-lengths", "4"], {"key_lengths": 4}),
        (["--query-lengths", "3"], {"query_lengths": 3}),
    ],
)
def test_options(arrays, arguments, options):
    found = saved("qkv.npz", "--scorer", "dot", "--weights", *arguments)
    expected = ac.attend(*arrays, scorer="dot", **options)
    np.testing.assert_allclose(found["context"], expected.context, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(found["weights"], expected.weights, rtol=1e-12, atol=1e-15)
    assert (expected.weights != ac.attend(*arrays, scorer="dot").weights).any() or "tile" in options


def test_masks_and_biases(arrays):
    mask, bias = np.load("mask.npy"), np.load("bias.npy")
    found = saved("qkv.npz", "--scorer", "dot", "--mask", "mask.npy", "--bias", "bias.npy")
    expected = ac.attend(*arrays, scorer="dot", mask=mask, bias=bias).context
    np.testing.assert_allclose(found["context"], expected, rtol=1e-12)


def test_a_sparse_mask_is_recognized_and_gives_sparse_weights(arrays):
    found = saved("qkv.npz", "--scorer", "dot", "--mask", "edges.npz", "--weights", "--top-k", "2")
    expected = ac.attend(*arrays, scorer="dot", mask=np.load("mask.npy"))
    np.testing.assert_allclose(found["context"], expected.context, rtol=1e-12)
    coords, shape = tuple(found["weights_coords"]), tuple(found["weights_shape"])
    weights = sp.coo_array((found["weights_data"], coords), shape=shape)
    np.testing.assert_allclose(weights.toarray(), expected.weights, rtol=1e-12)
    np.testing.assert_array_equal(found["top_k_indices"], expected.top_k(2).indices)


def test_lengths_and_offsets_for_each_batch_item(arrays):
    batch = [np.stack([array, array]) for array in arrays]
    np.savez("batch.npz", **dict(zip(("query", "key", "value"), batch, strict=True)))
    np.save("lengths.npy", np.array([5, 2], np.uint8))
    found = saved(
        *("batch.npz", "--scorer", "dot", "--causal", "--query-offset", "0,3"),
        *("--key-lengths", "lengths.npy", "--query-lengths", "4,1"),
    )
    expected = ac.attend(
        *batch,
        scorer="dot",
        is_causal=True,
        query_offset=[0, 3],
        key_lengths=[5, 2],
        query_lengths=[4, 1],
    )
    np.testing.assert_allclose(found["context"], expected.context, rtol=1e-12)


# --- the scorer ---


def test_settings_of_the_scorer(arrays):
    found = saved("qkv.npz", "--scorer", "scaled_dot", "--set", "scale=0.1")
    expected = ac.attend(*arrays, scorer={"name": "scaled_dot", "scale": 0.1}).context
    np.testing.assert_allclose(found["context"], expected, rtol=1e-12)


SEEDED = {"query_dim": 4, "key_dim": 4, "hidden_dim": 6, "rng": 0}


def test_a_seeded_scorer(arrays):
    settings = [f"--set={name}={value}" for name, value in SEEDED.items()]
    found = saved("qkv.npz", "--scorer", "bahdanau", *settings)
    expected = ac.attend(*arrays, scorer={"name": "additive", **SEEDED}).context
    np.testing.assert_allclose(found["context"], expected, rtol=1e-12)


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_parameters_from_a_file(arrays, suffix):
    scorer = ac.make_scorer("additive", **SEEDED)
    save_parameters(f"w.{suffix}", scorer)
    found = saved("qkv.npz", "--scorer", "additive", "--parameters", f"w.{suffix}")
    expected = ac.attend(*arrays, scorer=scorer).context
    np.testing.assert_allclose(found["context"], expected, rtol=1e-12)


def test_options_given_here_win_over_those_of_the_config(arrays, folder):
    config = {"scorer": {"name": "dot"}, "attention": {"is_causal": True, "window": [1, 0]}}
    (folder / "c.json").write_text(json.dumps(config))
    found = saved("qkv.npz", "--config", "c.json", "--window", "2,0", "--weights")
    expected = ac.attend(*arrays, scorer="dot", is_causal=True, window=(2, 0)).weights
    np.testing.assert_allclose(found["weights"], expected, rtol=1e-12)
    found = saved("qkv.npz", "--config", "c.json", "--window", ",", "--no-causal", "--weights")
    assert found["weights"].all()


# --- outputs ---


ALL = ["--weights", "--top-k", "2", "--log-normalizer", "--entropy"]


@pytest.mark.parametrize("output", ["out.npz", "out.safetensors"])
def test_everything_that_can_be_asked_for(arrays, output):
    found = saved("qkv.npz", "--scorer", "dot", *ALL, output=output)
    result = ac.attend(*arrays, scorer="dot")
    expected = {
        "context": result.context,
        "entropy": result.entropy,
        "log_normalizer": result.log_normalizer,
        "top_k_indices": result.top_k(2).indices,
        "top_k_weights": result.top_k(2).weights,
        "weights": result.weights,
    }
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-12, err_msg=name)


def test_npy_holds_the_context(arrays, folder):
    result = run("qkv.npz", "--scorer", "dot", "-o", "out.npy")
    assert result.stdout == "context (5, 3) float64\nwritten to out.npy\n"
    np.testing.assert_allclose(
        np.load("out.npy"), ac.attend(*arrays, scorer="dot").context, rtol=1e-12
    )


def test_without_output_the_numbers_are_printed(folder):
    for name in ("query", "key", "value"):
        np.save(f"{name}.npy", np.eye(2, dtype=np.float32))
    inputs = [f"--{name}={name}.npy" for name in ("query", "key", "value")]
    before = files(folder)
    result = run(*inputs, "--scorer", "dot", "--key-lengths", "1", "--log-normalizer")
    assert result.stdout == (
        "context (2, 2) float32\n[[1. 0.]\n [1. 0.]]\nlog_normalizer (2,) float32\n[1. 0.]\n"
    )
    assert files(folder) == before


def test_nothing_but_the_output_is_left(folder):
    before = files(folder)
    saved("qkv.npz", "--scorer", "dot", *ALL)
    assert files(folder) == sorted([*before, "out.npz"])


def test_a_link_stays_a_link(folder):
    (folder / "link.npy").symlink_to("target.npy")
    run("qkv.npz", "--scorer", "dot", "-o", "link.npy")
    assert (folder / "link.npy").is_symlink()
    assert np.load("target.npy").shape == (5, 3)


def test_half_precision_keeps_its_dtype(arrays):
    half = {
        name: array.astype(ml_dtypes.bfloat16)
        for name, array in zip(("query", "key", "value"), arrays, strict=True)
    }
    write_arrays("half.safetensors", half)
    found = saved("half.safetensors", "--scorer", "dot", output="out.safetensors")
    assert found["context"].dtype == ml_dtypes.bfloat16
    result = run("half.safetensors", "--scorer", "dot", "-o", "out.npy", code=2)
    assert result.stderr == (
        "error: 'out.npy' cannot hold context of dtype bfloat16; write .safetensors\n"
    )


def test_one_query(arrays):
    np.save("one.npy", arrays[0][0])
    found = saved("qkv.npz", "--query", "one.npy", "--scorer", "dot", *ALL)
    assert found["context"].shape == (3,)
    assert found["weights"].shape == (7,)


def test_no_queries(arrays):
    np.save("none.npy", arrays[0][:0])
    found = saved("qkv.npz", "--query", "none.npy", "--scorer", "dot", *ALL)
    assert found["context"].shape == (0, 3)
    assert found["weights"].shape == (0, 7)


# --- failures halfway ---


class Fragile(ac.Scorer):
    """Fails at its second tile."""

    def __init__(self):
        self.tiles = 0

    def score(self, query, key):
        self.tiles += 1
        if self.tiles == 2:
            raise RuntimeError("out of ideas")
        return query @ key.T


def test_a_failure_halfway_leaves_the_old_output(folder, monkeypatch):
    monkeypatch.setattr(default, "_default", ac.Registry())
    ac.register_scorer(ac.ScorerSpec(name="fragile", factory=Fragile))
    monkeypatch.setattr(blocks, "_rows_per_block", lambda _: 1)
    np.save("out.npy", np.zeros(1))
    before = files(folder)
    result = run("qkv.npz", "--scorer", "fragile", "-o", "out.npy", code=2)
    assert result.stderr == (
        "error: scorer 'fragile' raised RuntimeError in score for arrays of shape "
        "(1, 4), (7, 4): out of ideas\n"
    )
    assert files(folder) == before
    assert np.load("out.npy").shape == (1,)


def test_a_full_disk_is_found_out_first(folder, monkeypatch):
    usage = outputs.shutil.disk_usage(folder)
    monkeypatch.setattr(outputs.shutil, "disk_usage", lambda _: usage._replace(free=100))
    before = files(folder)
    result = run("qkv.npz", "--scorer", "dot", "-o", "out.npy", code=2)
    assert result.stderr == "error: out.npy: No space left on device\n"
    assert files(folder) == before


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_leaves_nothing(folder, rng, signum, code):
    for name, rows in {"query": 2_000_000, "key": 2_000, "value": 2_000}.items():
        np.save(f"{name}.npy", rng.standard_normal((rows, 4), np.float32))
    before = files(folder)
    inputs = [f"--{name}={name}.npy" for name in ("query", "key", "value")]
    process = subprocess.Popen(
        [sys.executable, "-m", "attention_core", "attend", *inputs, "--scorer=dot", "-oout.npy"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 60
    while files(folder) == before and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    assert [name for name in files(folder) if name.startswith(".attention-core-")]
    os.kill(process.pid, signum)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout, stderr) == (code, b"", b"")
    assert files(folder) == before


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("stream", "shown"), [(Terminal, True), (io.StringIO, False)])
def test_progress_shows_on_a_terminal(folder, monkeypatch, stream, shown):
    monkeypatch.setattr(blocks, "_rows_per_block", lambda _: 1)
    monkeypatch.setattr(sys, "stderr", stream())
    app(["attend", "qkv.npz", "--scorer", "dot", "-o", "out.npy"], standalone_mode=False)
    assert ("attending [" in sys.stderr.getvalue()) is shown
