"""Paths that no function can use: each raises the same errors of ours."""

import io
import os
from functools import partial

import numpy as np
import pytest

import attention_core as ac
from attention_core import parameter_files

X = np.eye(3)
LAYER = ac.MultiHeadAttention.initialize(3, heads=1, rng=0)


def figure():
    return ac.plot.heatmap(X)


USERS = {
    "save": (lambda path: ac.save(path, LAYER), ".npz"),
    "load": (ac.load, ".npz"),
    "load_layer": (parameter_files.load_layer, ".safetensors"),
    "load_scorer": (parameter_files.load_scorer, ".npz"),
    "read_arrays": (parameter_files.read_arrays, ".npz"),
    "read_parameters": (parameter_files.read_parameters, ".npz"),
    "write_arrays": (lambda path: parameter_files.write_arrays(path, {"a": X}), ".npz"),
    "to_html": (lambda path: ac.attend(X, X, X, scorer="dot").to_html(path), ".html"),
    "to_html of a layer": (lambda path: LAYER(X, X, X).to_html(path), ".html"),
    "page": (partial(ac.plot.page, X), ".html"),
    "plot": (lambda path: ac.attend(X, X, X, scorer="dot").plot(path), ".svg"),
    "plot.save": (lambda path: ac.plot.save(figure(), path), ".svg"),
}


class OfBytes:
    def __fspath__(self):
        return b"weights.npz"


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize(
    ("path", "seen"),
    [
        (3, "3"),
        (["a.npz"], "['a.npz']"),
        (io.BytesIO(), "<_io.BytesIO object>"),
        (b"a.npz", "b'a.npz'; convert it with os.fsdecode(path)"),
        (OfBytes(), f"<{__name__}.OfBytes object>; convert it with os.fsdecode(path)"),
    ],
    ids=["number", "list", "file", "bytes", "path of bytes"],
)
def test_what_is_no_path(user, path, seen):
    use, _ = USERS[user]
    with pytest.raises(ac.OptionTypeError) as caught:
        use(path)
    assert str(caught.value) == f"path must be a string or a pathlib.Path, got {seen}"


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("name", ["a\0b", "\ud800"], ids=["NUL", "half of a pair"])
def test_what_no_file_can_be_called(user, name):
    if name == "\ud800" and os.name == "nt":
        pytest.skip("Windows has such names")
    use, suffix = USERS[user]
    with pytest.raises(ac.ParameterFileError) as caught:
        use(name + suffix)
    assert str(caught.value) == (
        f"path {name + suffix!r} has a character that no file name can have; remove it"
    )


@pytest.mark.parametrize(("make", "config"), [
    (ac.Attention.from_config, {"scorer": {"name": "general", "parameters": "a\0.npz"}}),
    (ac.MultiHeadAttention.from_config, {"multi_head": {"parameters": "a\0.npz"}}),
])  # fmt: skip
def test_configs_say_so_too(make, config):
    with pytest.raises(ac.ConfigError, match=r"^a configuration is a path or a mapping, got 3$"):
        make(3)
    with pytest.raises(ac.ConfigError, match=r"^cannot read config file 'a\\x00.toml': "):
        make("a\0.toml")
    with pytest.raises(ac.ConfigError, match=r": path 'a\\x00.npz' has a character that no file"):
        make(config)
