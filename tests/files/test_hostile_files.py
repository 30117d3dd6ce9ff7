"""Malicious files, and paths that cannot be written: a clear error, and no loss of data."""

import io
import json
import os
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from typer.testing import CliRunner

import attention_core as ac
from attention_core import ParameterFileError
from attention_core.cli.app import app
from attention_core.files.atomic import workspace
from attention_core.files.npy import read_npy
from attention_core.parameter_files import load_scorer, read_arrays, save_parameters, write_arrays

SUFFIXES = [".npz", ".safetensors"]
ARRAY = np.ones(2)
suffixes = pytest.mark.parametrize("suffix", SUFFIXES)


def archive(path, note=None, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        if note is not None:
            file.writestr("attention_core.json", json.dumps(note))
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


def npy(header, data=b""):
    text = header.encode() + b" " * (63 - (len(header) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


def header(shape, descr="'<f8'"):
    return npy(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}", b"\0" * 64)


# --- requests of files ---


def test_a_note_that_asks_for_random_arrays(tmp_path):
    note = {
        "scorer": {"name": "general", "query_dim": 20_000, "key_dim": 20_000, "rng": 0},
        "shapes": {},
    }
    path = archive(tmp_path / "w.npz", note)
    text = "its note asks for arrays drawn from a seed, 'rng'"
    with pytest.raises(ParameterFileError, match=text):
        load_scorer(path)
    with pytest.raises(ac.ConfigError, match=text):
        ac.Attention.from_config({"scorer": {"name": "general", "parameters": path}})


def test_a_scorer_must_have_the_arrays_of_its_file(tmp_path):
    buffer = io.BytesIO()
    np.save(buffer, np.array(0.5))
    path = archive(
        tmp_path / "w.npz",
        {"scorer": {"name": "scaled_dot"}, "shapes": {"scale": []}},
        scale=buffer.getvalue(),
    )
    with pytest.raises(ParameterFileError, match="does not fit its scorer"):
        load_scorer(path)


@pytest.mark.parametrize("name", [3, None, ["dot"], {"a": 1}, True])
def test_a_name_that_is_not_a_string(tmp_path, name):
    path = archive(tmp_path / "w.npz", {"scorer": {"name": name}, "shapes": {}})
    with pytest.raises(ParameterFileError, match="cannot read its note"):
        load_scorer(path)


@suffixes
def test_a_note_that_is_too_long(tmp_path, suffix):
    with pytest.raises(ParameterFileError, match="its note would have"):
        write_arrays(tmp_path / f"w{suffix}", {}, note="x" * (1 << 21))
    path = archive(tmp_path / "w.npz", "x" * (1 << 21))
    with pytest.raises(ParameterFileError, match="its note has 2097154 bytes"):
        read_arrays(path)


def test_only_what_is_asked_for_is_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.npz", "w", zipfile.ZIP_DEFLATED) as file:
        for name in ("query", "bomb"):
            length = 2 if name == "query" else 20_000_000
            with file.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, np.zeros(length))
    code = (
        "import resource, sys; from attention_core.parameter_files import read_arrays;"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "read_arrays(sys.argv[1], ['query']);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "w.npz"], capture_output=True, text=True
    )
    assert int(done.stdout) < 30_000, done.stderr  # KiB; the bomb has 160 MB


def test_a_small_file_does_not_fill_the_memory(tmp_path):
    """Neither highly compressed arrays nor sizes to draw from a seed exhaust the memory."""
    np.savez_compressed(tmp_path / "w.npz", weight=np.zeros((3, 3_000_000)))
    config = {"scorer": {"name": "general", "parameters": str(tmp_path / "w.npz")}}
    with pytest.raises(
        ac.ConfigError, match=r"'weight' of shape \(3, 3000000\) is compressed more"
    ):
        ac.Attention.from_config(config)
    np.savez_compressed(tmp_path / "w.npz", weight=np.zeros((3, 1000)))  # is harmless
    ac.Attention.from_config(config)
    drawn = {"name": "additive", "query_dim": 3, "key_dim": 3, "hidden_dim": 292233720, "rng": 0}
    with pytest.raises(ac.ConfigError, match="hidden_dim must be at most 1048576, got 292233720"):
        ac.Attention.from_config({"scorer": drawn})
    layer = {"multi_head": {"query_dim": 4, "heads": 2, "head_dim": 2**30, "rng": 0}}
    with pytest.raises(ac.ConfigError, match="head_dim must be an integer from 1 to 1048576"):
        ac.MultiHeadAttention.from_config(layer)
    relative = {"name": "relative", "max_distance": 10**9}
    with pytest.raises(ac.ConfigError, match="max_distance must be at most 1048576"):
        ac.Attention.from_config({"scorer": "dot", "bias": relative})


@pytest.mark.parametrize(
    ("shape", "descr"),
    [
        ("(True,)", "'<f8'"),
        (f"({10**30},)", "'<f8'"),
        (f"(0, {10**30})", "'<f8'"),
        ("(-1,)", "'<f8'"),
        ("(9,)", "'<f8'"),
        ("(2.0,)", "'<f8'"),
        ("(1,)", "'|O'"),
        ("(1,)", "'|V2'"),
        ("(1,)", "('<f8', (1000000000,))"),
        ("(1,)", "'|V99999999999'"),
        ("(" * 4000, "'<f8'"),
    ],
)
def test_headers_that_lie(tmp_path, shape, descr):
    (tmp_path / "x.npy").write_bytes(header(shape, descr))
    with pytest.raises(ParameterFileError, match="can be read safely: "):
        read_npy(tmp_path / "x.npy")
    archive(tmp_path / "x.npz", x=header(shape, descr))
    with pytest.raises(ParameterFileError):
        read_arrays(tmp_path / "x.npz")


def test_bfloat16_of_numpy_is_named(tmp_path):
    np.savez(tmp_path / "x.npz", query=np.ones(3, ml_dtypes.bfloat16))
    with pytest.raises(ParameterFileError, match=r"array 'query': it has dtype .*bfloat16.*save"):
        read_arrays(tmp_path / "x.npz")


@suffixes
@pytest.mark.parametrize("name", ["a\0b", "\ud800", "__metadata__"])
def test_names_that_files_cannot_hold(tmp_path, suffix, name):
    path = tmp_path / f"w{suffix}"
    if (suffix, name) == (".npz", "__metadata__"):
        write_arrays(path, {name: np.ones(1)})
        return
    with pytest.raises(ParameterFileError, match="has a name that"):
        write_arrays(path, {name: np.ones(1)})
    assert not list(tmp_path.iterdir())


def test_odd_names_are_quoted_and_cut(tmp_path):
    odd = "\x1b[2J\n" + "a" * 60_000
    write_arrays(tmp_path / "w.npz", {odd: np.ones(2)})
    with pytest.raises(ParameterFileError) as error:
        read_arrays(tmp_path / "w.npz", ["other"])
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 500
    (tmp_path / "c.json").write_text(json.dumps({odd: 1, "scorer": {"name": "dot", odd: 1}}))
    with pytest.raises(ac.ConfigError) as error:
        ac.Attention.from_config(tmp_path / "c.json")
    assert "\x1b" not in str(error.value)


# --- owners of scorers ---


def test_old_files_name_no_distribution(tmp_path):
    buffer = io.BytesIO()
    np.save(buffer, np.ones((1, 2)))
    note = {"scorer": {"name": "general"}, "shapes": {"weight": [1, 2]}}
    path = archive(tmp_path / "w.npz", note, weight=buffer.getvalue())
    assert load_scorer(path).origin.name == "general"


class Bilinear(ac.InnerProductScorer):
    def __init__(self, weight):
        self.weight = weight


@suffixes
def test_another_scorer_can_be_chosen(tmp_path, suffix):
    path = tmp_path / f"w{suffix}"
    save_parameters(path, ac.make_scorer("general", weight=[[1.0]]))
    assert type(load_scorer(path, scorer=Bilinear)) is Bilinear
    assert load_scorer(path, scorer="luong").origin.name == "general"
    assert type(ac.load(path, scorer=lambda weight: Bilinear(weight))) is Bilinear
    layer = ac.MultiHeadAttention.initialize(4, heads=2, scorer=ac.load(path), head_dim=1, rng=0)
    ac.save(path, layer)
    assert [type(s) for s in ac.load(path, scorer=Bilinear).scorers] == [Bilinear] * 2
    assert ac.load(path).scorers[0].origin.name == "general"


def test_a_distribution_that_is_gone(tmp_path):
    path = tmp_path / "w.npz"
    registry = ac.Registry()
    spec = ac.ScorerSpec(name="mine", factory=lambda weight: Bilinear(np.asarray(weight)))
    registry.register(spec, distribution="acme", version="0.3")
    save_parameters(path, registry.make("mine", weight=[[1.0]]))
    assert type(load_scorer(path, registry)) is Bilinear
    with pytest.raises(ac.UnknownScorerError, match=r"saved with 'acme' 0\.3; install it, or"):
        load_scorer(path)


# --- writing ---


@suffixes
@pytest.mark.parametrize("mode", [0o600, 0o664, 0o640])
def test_the_old_mode_is_kept(tmp_path, suffix, mode):
    path = tmp_path / f"w{suffix}"
    path.touch()
    path.chmod(mode)
    write_arrays(path, {"x": np.ones(1)})
    assert stat.S_IMODE(path.stat().st_mode) == mode


@suffixes
def test_a_new_file_has_the_mode_of_the_umask(tmp_path, suffix):
    before = os.umask(0o027)
    try:
        write_arrays(tmp_path / f"w{suffix}", {"x": np.ones(1)})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / f"w{suffix}").stat().st_mode) == 0o640


@suffixes
def test_a_read_only_file_is_refused(tmp_path, suffix):
    path = tmp_path / f"w{suffix}"
    path.write_bytes(b"old")
    path.chmod(0o400)
    with pytest.raises(ParameterFileError, match=r"it is read-only$"):
        write_arrays(path, {"x": np.ones(1)})
    assert path.read_bytes() == b"old"


def test_a_link_to_itself(tmp_path):
    (tmp_path / "w.npz").symlink_to(tmp_path / "w.npz")
    with pytest.raises(ParameterFileError, match=r"it is a link to itself$"):
        write_arrays(tmp_path / "w.npz", {"x": np.ones(1)})


@suffixes
def test_names_may_be_as_long_as_the_system_allows(tmp_path, suffix):
    path = tmp_path / ("w" * (255 - len(suffix)) + suffix)
    write_arrays(path, {"x": np.ones(1)})
    assert list(tmp_path.iterdir()) == [path]


def test_files_of_a_killed_process_are_removed(tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path;"
        "from attention_core.files.atomic import workspace\n"
        "with workspace(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'half').write_bytes(b'half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "w.npz"], check=False)
    assert len(list(tmp_path.iterdir())) == 1
    with workspace(tmp_path / "x.npz") as mine:
        assert list(tmp_path.iterdir()) == [mine]
        write_arrays(tmp_path / "w.npz", {})  # which keeps files in use
        assert mine.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["w.npz"]


# --- the command line ---


@pytest.fixture
def folder(tmp_path, monkeypatch, rng):
    monkeypatch.chdir(tmp_path)
    x = rng.standard_normal((5, 3))
    np.savez("x.npz", query=x[:4], key=x, value=x)
    return tmp_path


def attend(*arguments, code=2):
    result = CliRunner().invoke(app, ["attend", "x.npz", *map(str, arguments)])
    assert result.exit_code == code, (result.output, result.exception)
    if code:
        assert result.stderr.startswith("error: ")
        assert "Traceback" not in result.stderr
    return result


@pytest.mark.parametrize("link", [None, "symlink_to", "hardlink_to"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_parameters_named_in_a_config_are_inputs(folder, link, suffix):
    path = folder / f"w{suffix}"
    save_parameters(path, ac.make_scorer("general", query_dim=3, key_dim=3, rng=0))
    before = path.read_bytes()
    (folder / "c.toml").write_text(f"[scorer]\nname = 'general'\nparameters = 'w{suffix}'\n")
    output = path if link is None else folder / f"other{suffix}"
    if link is not None:
        getattr(output, link)(path)
    assert "it is an input" in attend("--config", "c.toml", "-o", output).stderr
    assert path.read_bytes() == before


def test_labels_are_inputs(folder):
    (folder / "labels.npz").write_text("a\nb\nc\nd\n")
    arguments = ["--scorer", "dot", "--show", "--query-labels", "labels.npz", "-o", "labels.npz"]
    assert "it is an input" in attend(*arguments).stderr


def test_labels_are_counted_before_work_starts(folder):
    (folder / "labels.txt").write_text("a\nb\n")
    text = attend("--scorer", "dot", "--show", "--query-labels", "labels.txt", "-o", "o.npz").stderr
    assert text == "error: query_labels must have one label per query, 4; got 2\n"
    assert not (folder / "o.npz").exists()


def test_options_of_pictures_are_checked_before_work_starts(folder):
    text = attend("--scorer", "dot", "--show", "--batch", "0", "-o", "o.npz").stderr
    assert text == "error: batch: (0,) does not index batch axes ()\n"
    assert not (folder / "o.npz").exists()


def test_labels_are_read_like_configs(folder):
    (folder / "labels.txt").write_bytes("\ufeffeins\r\nz\u2028w\r\ndrei\r\nvier".encode())
    text = attend("--scorer", "dot", "--show", "--query-labels", "labels.txt", code=0).stdout
    assert " eins │" in text


@pytest.mark.parametrize(
    "arguments",
    [
        ["--scorer", "scaled_dot", "--set", f"scale={'9' * 400}"],
        ["--scorer", "scaled_dot", "--set", f"scale={'[' * 3000}"],
        ["--scorer", "scaled_dot", "--set", f"scale=0x{'f' * 5000}"],
        ["--scorer", "dot", "--query-offset", "9" * 5000],
        ["--scorer", "dot", "--window", f"{'9' * 5000},0"],
        ["--config", "big.toml"],
        ["--config", "hex.toml"],
        ["--config", "deep.toml"],
        ["--config", "nul.json"],
    ],
)
def test_numbers_that_are_too_large(folder, arguments):
    (folder / "big.toml").write_text(f"scorer = 'dot'\n[attention]\nsoftcap = 1{'0' * 400}\n")
    (folder / "hex.toml").write_text(f"scorer = 'dot'\n[attention]\nworkers = 0x{'f' * 5000}\n")
    (folder / "deep.toml").write_text(f"scorer = {'[' * 5000}")
    (folder / "nul.json").write_text(
        '{"scorer": {"name": "general", "parameters": "a\\u0000.npz"}}'
    )
    assert len(attend(*arguments, "-o", "o.npy").stderr) < 2000
    assert not (folder / "o.npy").exists()


@pytest.mark.parametrize(
    "raised", ["TypeError('no')", "SystemExit(0)", "OverflowError('big')", "RecursionError()"]
)
def test_a_factory_that_fails(folder, monkeypatch, raised):
    from attention_core.registry import default

    def factory():
        raise eval(raised)

    registry = ac.Registry()
    registry.register(ac.ScorerSpec(name="bad", factory=factory))
    monkeypatch.setattr(default, "_default", registry)
    attend("--scorer", "bad", "-o", "o.npy")
    result = CliRunner().invoke(app, ["check", "bad"])
    assert result.exit_code in (1, 2)


def run(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "attention_core", *arguments],
        stderr=subprocess.PIPE, text=True, check=False, **options,
    )  # fmt: skip


@pytest.mark.parametrize("arguments", [["--help"], ["scorers"], ["attend", "--help"]])
def test_a_full_disk_behind_stdout(arguments):
    with Path("/dev/full").open("w") as full:
        done = run(*arguments, stdout=full)
    assert done.returncode == 2
    assert done.stderr == "error: [Errno 28] No space left on device\n"


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_every_command_prints_what_the_stream_can_hold(folder, encoding):
    (folder / "labels.txt").write_text("你好\né\nx\ny\n", encoding="utf-8")
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    for arguments in (
        ["demo", "translate", "12 juin 2024"],
        ["attend", "x.npz", "--scorer", "dot", "--show", "--query-labels", "labels.txt"],
        ["scorers"],
    ):
        done = run(*arguments, stdout=subprocess.PIPE, env=environment, encoding=encoding)
        assert (done.returncode, done.stderr) == (0, "")


def test_ascii_only_is_ascii():
    weights = np.full((3, 30), 1 / 30)
    labels = {"query_labels": ["é\n", " ", "長" * 30], "key_labels": ["ü…"] * 30}
    for options in ({}, {"width": 40}, {"names": None, "what": "weights"}):
        assert ac.plot.text(weights, **labels, **options, ascii_only=True).isascii()


def test_a_plugin_that_prints_leaves_json_alone(folder, monkeypatch, capsys):
    from attention_core.cli.commands import listing

    def loading():
        registry = ac.Registry()
        spec = ac.ScorerSpec(name="a", factory=lambda weight, bias=ARRAY: None)
        registry.register(spec)
        return registry

    monkeypatch.setattr(listing, "default_registry", loading)
    (listed,) = json.loads(CliRunner().invoke(app, ["scorers", "--json"]).stdout)["scorers"]
    assert [p["name"] for p in listed["parameters"] if p["required"]] == ["weight"]


def test_dimensions_are_positive():
    result = CliRunner().invoke(app, ["check", "dot", "--query-dim", "0"])
    assert result.exit_code == 2
    assert "--query-dim" in result.output
