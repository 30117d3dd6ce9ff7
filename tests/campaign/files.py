"""Corrupt files of parameters, masks and configurations.

Any contents of a file give one of our errors or a working object, without much memory or a crash.
"""

from __future__ import annotations

import atexit
import io
import json
import re
import shutil
import struct
import tempfile
import tomllib
import warnings
import zipfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import scipy.sparse
from typer.testing import CliRunner

import attention_core as ac
from campaign.calls import Rng, chance
from campaign.memory import extra_mebibytes

QUICK = 120
MOST_MEBIBYTES = 200
ODD = (
    -1, 0, 1, 7, 2**31, 2**63, -(2**63) - 1, 10**30, 0.5, -0.0, 1e308, 1e-320, float("inf"),
    float("nan"), True, None, "", "dot", "nothing", "a" * 60_000, "\x1b[2J\n", "../../etc/passwd",
    "\0", "\ud800", [], {}, [[[[]]]], {"name": "dot"}, [1, "a", None],
)  # fmt: skip
TOKENS = [
    *(repr(odd) for odd in ODD[:14]), "true", "nan", "-inf", '""', "[]", "{}", "[" * 3000, "0xff",
    "1e999", "'''", "9" * 5000, "=", "\n[attention]\n", "\ufeff", "\x00", "1979-05-27", "# ", ",",
]  # fmt: skip
CONFIGS = [
    {"scorer": "dot"},
    {"scorer": {"name": "additive", "query_dim": 3, "key_dim": 3, "hidden_dim": 2, "rng": 0}},
    {"scorer": {"name": "general", "weight": [[1.0, 0.0, 0.5]] * 3}},
    {"scorer": {"name": "general", "parameters": "general.npz"}},
    {
        "scorer": {"name": "scaled_dot", "scale": 0.5},
        "attention": {"is_causal": True, "window": [4, 0], "query_offset": 1, "softcap": 30.0,
                      "tile": [8, 8], "workers": 1},
    },
]  # fmt: skip


@cache
def folder() -> Path:
    path = Path(tempfile.mkdtemp(prefix="campaign-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    rng = np.random.default_rng(0)
    scorer = ac.make_scorer("general", query_dim=3, key_dim=3, rng=0)
    ac.save(path / "general.npz", scorer)
    arrays = {name: rng.standard_normal((n, 3)) for name, n in (("query", 4), ("key", 5))}
    np.savez(path / "x.npz", value=arrays["key"], **arrays)
    return path


@cache
def parameter_files() -> list[tuple[str, bytes]]:
    """The extensions and contents of valid files."""
    dims = {"query_dim": 3, "key_dim": 3, "rng": 0}
    owners = [
        ac.make_scorer("dot"),
        ac.make_scorer("additive", hidden_dim=2, **dims),
        ac.make_scorer("general", **dims),
        ac.make_scorer("gaussian", dim=3),
        ac.MultiHeadAttention.initialize(4, heads=2, rng=0, is_causal=True),
        ac.MultiHeadAttention.initialize(
            6, heads=2, rng=0, scorer=["dot", {"name": "general", **dims}]
        ),
    ]
    found = []
    for suffix in (".npz", ".safetensors"):
        for owner in owners:
            path = folder() / f"right{suffix}"
            ac.save(path, owner)
            found.append((suffix, path.read_bytes()))
    return found


@cache
def mask_files() -> list[tuple[str, bytes]]:
    dense = np.random.default_rng(0).random((4, 5)) < 0.6
    found = []
    for layout in ("csr", "csc", "coo", "bsr", "dia"):
        buffer = io.BytesIO()
        scipy.sparse.save_npz(buffer, scipy.sparse.coo_array(dense).asformat(layout))
        found.append((".npz", buffer.getvalue()))
    buffer = io.BytesIO()
    np.save(buffer, dense)
    return [*found, (".npy", buffer.getvalue())]


@cache
def bomb() -> bytes:
    """An array of 400 MiB, compressed to 400 KiB."""
    buffer = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": (400, 2**17)}
    with (
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file,
        file.open("x", "w", force_zip64=True) as member,
    ):
        np.lib.format.write_array_header_1_0(member, header)
        for _ in range(400):
            member.write(bytes(2**20))
    return buffer.getvalue()


# --- mutations ---


def tree(rng: Rng, content: Any) -> Any:
    """Change, remove or add one node of JSON content."""
    if isinstance(content, dict) and content and chance(rng, 0.85):
        name = str(rng.choice(sorted(content)))
        rest = {k: v for k, v in content.items() if k != name}
        kind = rng.random()
        if kind < 0.1:
            return rest
        if kind < 0.2:
            return {**content, name + "x" * int(rng.integers(2)): odd(rng)}
        return {**content, name: tree(rng, content[name])}
    if isinstance(content, list) and content and chance(rng, 0.7):
        place = int(rng.integers(len(content)))
        return [*content[:place], tree(rng, content[place]), *content[place + 1 :]]
    return odd(rng)


def odd(rng: Rng) -> Any:
    return ODD[int(rng.integers(len(ODD)))]


def raw(rng: Rng, content: bytes) -> bytes:
    """Change, cut, repeat or insert bytes."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        if not data:
            break
        a, b = sorted(int(n) for n in rng.integers(0, len(data) + 1, 2))
        kind = int(rng.integers(6))
        if kind == 0:
            data[min(a, len(data) - 1)] = int(rng.integers(256))
        elif kind == 1:
            del data[a:]
        elif kind == 2:
            del data[a : min(b, a + 20)]
        elif kind == 3:
            data[a:a] = rng.bytes(int(rng.integers(1, 12)))
        elif kind == 4:
            data[a:a] = data[a : min(b, a + 200)]
        else:
            data[a : min(b, a + 8)] = b"\xff" * int(rng.integers(1, 9))
    return bytes(data)


def header_of_npy(rng: Rng, content: bytes) -> bytes:
    """Change the header of an array, keeping its length valid."""
    end = 10 + int.from_bytes(content[8:10], "little")
    text = content[10:end].decode("latin1").strip()
    shapes = ["(1,)", "()", "(0,)", f"({10**30},)", "(-1,)", "(True,)", "(4, 1000000000)", "4",
              "(2**40,)", "(" * 200]  # fmt: skip
    kinds = ["'|O'", "'<f4'", "'>f8'", "'<U8'", "'|V8'", "'<M8[s]'", "'<c16'", "'|b1'",
             "[('a', '<f8')]", "'<f2'", "'<i8'", "'<x9'", "('<f8', (1000000,))"]  # fmt: skip
    if chance(rng, 0.5):
        text = re.sub(r"'shape': \([^)]*\)", f"'shape': {rng.choice(shapes)}", text)
    else:
        kind = kinds[int(rng.integers(len(kinds)))]
        text = re.sub(r"'descr': '[^']*'", lambda _: f"'descr': {kind}", text)
    line = text.encode("latin1") + b" " * (-(len(text) + 11) % 64) + b"\n"
    return content[:8] + len(line).to_bytes(2, "little") + line + content[end:]


def array_of_npy(rng: Rng, content: bytes) -> bytes:
    """Change numbers, such as indices to values out of range."""
    with suppress(ValueError):
        array = np.load(io.BytesIO(content), allow_pickle=False)
        if array.dtype.kind in "iuf" and array.size:
            array = array.copy()
            place = int(rng.integers(array.size))
            array.flat[place] = rng.choice([-1, 0, 3, 5, 10**6, -2000, 2**31 - 1])
            if chance(rng, 0.3):
                array = array[:-1] if array.ndim else array
            if chance(rng, 0.2):
                with np.errstate(all="ignore"):
                    array = array.astype(str(rng.choice(["f4", "i8", "u1", "i2", "f2", "c8"])))
        buffer = io.BytesIO()
        np.save(buffer, array)
        return buffer.getvalue()
    return content


def archive(rng: Rng, content: bytes) -> bytes:
    """Make a valid zip with an invalid member."""
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        members = {name: file.read(name) for name in file.namelist()}
    name = str(rng.choice(sorted(members)))
    kind = rng.random()
    new: list[tuple[str, bytes]] = []
    for each, data in members.items():
        if each != name:
            new.append((each, data))
        elif kind < 0.1:
            continue
        elif kind < 0.15:
            new += [(each, data), (each, raw(rng, data))]
        elif kind < 0.2:
            new.append((each + str(rng.choice(["x", "/", "\0", "é", ".npy"])), data))
        elif name.endswith(".json"):
            text = json.dumps(tree(rng, json.loads(data)))
            new.append((each, text.encode() if chance(rng, 0.9) else raw(rng, data)))
        else:
            change = (raw, header_of_npy, array_of_npy, array_of_npy)[int(rng.integers(4))]
            new.append((each, change(rng, data)))
    has_bomb = chance(rng, 0.01)
    if has_bomb:
        with zipfile.ZipFile(io.BytesIO(bomb())) as file:
            new.append((str(rng.choice(["bomb.npy", "weight.npy"])), file.read("x")))
    buffer = io.BytesIO()
    # an uncompressed file may need its own size
    is_deflated = chance(rng, 0.5) or has_bomb
    method = zipfile.ZIP_DEFLATED if is_deflated else zipfile.ZIP_STORED
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", method) as file:
        warnings.simplefilter("ignore")  # duplicate names
        for each, data in new:
            file.writestr(each, data)
    return buffer.getvalue()


def tensors(rng: Rng, content: bytes) -> bytes:
    """Change the header of a .safetensors file."""
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    if chance(rng, 0.5) and "__metadata__" in header:
        notes = header["__metadata__"]
        name = next(iter(notes))
        header["__metadata__"] = {name: json.dumps(tree(rng, json.loads(notes[name])))}
    else:
        header = tree(rng, header)
    text = json.dumps(header).encode()
    said = len(text) if chance(rng, 0.9) else int(rng.choice([0, 7, 2**40, len(text) + 1]))
    return struct.pack("<Q", said) + text + content[8 + length :]


def changed(rng: Rng, suffix: str, content: bytes) -> bytes:
    if chance(rng, 0.3):
        return raw(rng, content)
    if suffix == ".npy":
        return (header_of_npy, array_of_npy)[int(rng.integers(2))](rng, content)
    return (archive if suffix == ".npz" else tensors)(rng, content)


# --- loading the files ---


def parameters(rng: Rng) -> Callable[[], None]:
    suffix, content = parameter_files()[int(rng.integers(len(parameter_files())))]
    path = folder() / f"parameters{suffix}"
    path.write_bytes(changed(rng, suffix, content))

    def read() -> None:
        with suppress(ac.AttentionCoreError):
            ac.Attention.from_config({"scorer": {"name": "general", "parameters": str(path)}})
        with suppress(ac.AttentionCoreError):
            found = ac.load(path)
            repr(found)
            ac.save(folder() / f"again{suffix}", found)
            ac.load(folder() / f"again{suffix}")

    return read


def config(rng: Rng) -> Callable[[], None]:
    content = CONFIGS[int(rng.integers(len(CONFIGS)))]
    if chance(rng, 0.5):
        path = folder() / "config.json"
        text = json.dumps(tree(rng, content), ensure_ascii=chance(rng, 0.9))
    else:
        path = folder() / "config.toml"
        text = toml(content)
        places = [m.span() for m in re.finditer(r"[\w.]+|\"[^\"]*\"|[\[\]=,\n]", text)]
        for _ in range(int(rng.integers(1, 3))):
            a, b = places[int(rng.integers(len(places)))]
            text = text[:a] + TOKENS[int(rng.integers(len(TOKENS)))] + text[b:]
    data = text.encode("utf-8", "surrogatepass")
    path.write_bytes(raw(rng, data) if chance(rng, 0.2) else data)

    def read() -> None:
        with suppress(ac.AttentionCoreError):
            attention = ac.Attention.from_config(path)
            repr(attention)
            x = np.ones((4, 3))
            attention(x, x, x)
            attention.to_config()

    return read


def toml(content: dict[str, Any]) -> str:
    """The values above as TOML."""
    scorer = content["scorer"]
    sections = {"scorer": {"name": scorer} if isinstance(scorer, str) else scorer}
    sections |= {name: section for name, section in content.items() if name != "scorer"}
    text = "\n".join(
        f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in section.items())
        for name, section in sections.items()
    )
    tomllib.loads(text)
    return text


def mask(rng: Rng) -> Callable[[], None]:
    suffix, content = mask_files()[int(rng.integers(len(mask_files())))]
    path = folder() / f"mask{suffix}"
    path.write_bytes(changed(rng, suffix, content))
    return lambda: attend_with_mask(path)


def attend_with_mask(path: Path) -> None:
    from attention_core.cli.app import app

    output = folder() / "out.npy"
    output.unlink(missing_ok=True)
    arguments = ["attend", str(folder() / "x.npz"), "--scorer=dot", f"--mask={path}", f"-o{output}"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code in (0, 2), (result.exit_code, result.exception, result.output)
    if result.exit_code == 2:
        assert result.stderr.startswith("error: "), result.stderr
        assert not output.exists()
        return
    # each row is a weighted mean of values, or exactly zero
    context, values = np.load(output), np.load(folder() / "x.npz")["value"]
    assert context.shape == (4, 3)
    inside = (context >= values.min(axis=0) - 1e-9) & (context <= values.max(axis=0) + 1e-9)
    assert (inside.all(axis=1) | (context == 0).all(axis=1)).all(), context


def check(rng: Rng) -> None:
    folder()
    kind = (parameters, parameters, config, config, mask)[int(rng.integers(5))]
    read = kind(rng)
    with extra_mebibytes() as extra:
        read()
    assert extra[0] <= MOST_MEBIBYTES, (kind.__name__, extra)


def reads_everything() -> mock.mock._patch:
    load = ac.load

    def greedy(path, **options):
        np.ones(400 * 2**17)
        return load(path, **options)

    return mock.patch.object(ac, "load", greedy)


def fails_with(error: type[Exception]) -> mock.mock._patch:
    """Errors of an underlying library are not converted."""
    load = ac.load

    def careless(path, **options):
        try:
            return load(path, **options)
        except ac.ParameterFileError as found:
            raise error from found

    return mock.patch.object(ac, "load", careless)


def believes_configs() -> mock.mock._patch:
    from_config = ac.Attention.from_config

    def careless(path):
        try:
            return from_config(path)
        except ac.ConfigError as found:
            raise KeyError from found

    return mock.patch.object(ac.Attention, "from_config", careless)


FAULTS = {
    "reads everything": reads_everything,
    "lets a KeyError through": lambda: fails_with(KeyError),
    "lets a KeyError of configs through": believes_configs,
}
