"""Random command lines: a result, or an error in a single line."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from typer.testing import CliRunner

import attention_core as ac
from campaign.calls import Rng, chance
from campaign.files import folder

QUICK = 40
ODD = (
    "", "0", "-1", "3", "2,2", "1,0", ",", "a", "9" * 400, "1e999", "nan", "x.npz", "no.npz",
    "x.npz:value", "x.npz:no", "\x1b[2J", "--", "-", ".", "/", "é" * 300, "0x10", "1.5",
    "general.npz", "x" * 300 + ".npz", "[[[[", "true",
)  # fmt: skip
FINE = {
    "--scorer": ("dot", "scaled_dot", "gaussian"),
    "--key-lengths": ("3", "0", "5"),
    "--query-lengths": ("2", "4"),
    "--query-offset": ("0", "1", "-2"),
    "--window": ("1,1", "2,", ",0"),
    "--softcap": ("5", "0.5"),
    "--tile": ("2,2", "1,7"),
    "--workers": ("1", "2"),
    "--set": ("scale=0.5", "scale=[1.0,2.0,3.0]"),
    "--parameters": ("general.npz",),
    "--config": ("config.toml",),
    "--top-k": ("2",),
    "--mask": ("mask.npy",),
    "--bias": ("bias.npy",),
    "--batch": ("0",),
    "--query-labels": ("labels.txt",),
}
COMPARED = {"--scorer", "--softcap", "--query-offset", "--workers", "--mask", "--bias"}
FLAGS = ("--causal", "--weights", "--log-normalizer", "--entropy", "--show")
COMMANDS = (["scorers"], ["scorers", "--json"], ["config", "schema"], ["config", "check"],
            ["check"], ["--version"], ["demo", "nothing"], ["nothing"])  # fmt: skip


def prepare() -> Path:
    path = folder()
    if not (path / "labels.txt").exists():
        (path / "labels.txt").write_text("a\nb\nc\nd\n")
        (path / "config.toml").write_text("[scorer]\nname = 'dot'\n[attention]\nis_causal = true\n")
        np.save(path / "mask.npy", np.random.default_rng(1).random((4, 5)) < 0.7)
        np.save(path / "bias.npy", np.random.default_rng(2).standard_normal((4, 5)))
    return path


def run(arguments: list[str]) -> Any:
    from attention_core.cli.app import app

    return CliRunner().invoke(app, arguments)


def random_arguments(rng: Rng) -> list[str]:
    if chance(rng, 0.1):
        arguments = list(COMMANDS[int(rng.integers(len(COMMANDS)))])
        arguments += [odd(rng) for _ in range(int(rng.integers(2)))]
    else:
        arguments = ["attend", odd(rng) if chance(rng, 0.05) else "x.npz"]
        if chance(rng, 0.3):  # what can be compared with the library
            arguments = ["attend", "x.npz", "--scorer", str(rng.choice(["dot", "scaled_dot"]))]
            for option in sorted(COMPARED - {"--scorer"}):
                arguments += [option, fine(rng, option)] if chance(rng, 0.4) else []
            return arguments
        if chance(rng, 0.9):
            arguments += ["--scorer", fine(rng, "--scorer")]
        for option in rng.permutation(list(FINE))[: int(rng.integers(0, 4))]:
            arguments += [str(option), odd(rng) if chance(rng, 0.3) else fine(rng, str(option))]
        arguments += [str(flag) for flag in FLAGS if chance(rng, 0.15)]
    return arguments


def check(rng: Rng) -> None:
    path, arguments = prepare(), random_arguments(rng)
    for left in path.glob("output.*"):
        left.unlink()
    inputs = {file.name: file.read_bytes() for file in path.iterdir() if file.is_file()}
    output = path / f"output{rng.choice(['.npy', '.npz', '.safetensors'])}"
    with contextlib.chdir(path):
        result = run([*arguments, *(["-o", output.name] if arguments[0] == "attend" else [])])
    assert result.exit_code in (0, 1, 2), (arguments, result.exit_code, result.exception)
    assert isinstance(result.exception, SystemExit | None), (arguments, result.exception)
    assert "Traceback" not in result.output, (arguments, result.output)
    assert not any(mark in result.stderr for mark in ("\x1b[2J", "\0")), arguments
    written = output.exists()
    if arguments[0] == "attend":
        assert written == (result.exit_code == 0), (arguments, result.output)
    if written:
        check_output(arguments, output)
        output.unlink()
    assert inputs == {file.name: file.read_bytes() for file in path.iterdir() if file.is_file()}


def check_output(arguments: list[str], output: Path) -> None:
    """Compare the files written with the library, if the arguments are plain."""
    given = dict(zip(arguments[2::2], arguments[3::2], strict=False))
    if not set(arguments[2::2]) <= COMPARED or output.suffix != ".npy":
        return
    arrays = dict(np.load(folder() / "x.npz"))
    options: dict[str, Any] = {"scorer": given["--scorer"]}
    for name, kind in (("--softcap", float), ("--query-offset", int)):
        if name in given:
            options[name[2:].replace("-", "_")] = kind(given[name])
    for name in ("--mask", "--bias"):
        if name in given:
            options[name[2:]] = np.load(folder() / given[name])
    wanted = ac.attend(arrays["query"], arrays["key"], arrays["value"], **options)
    np.testing.assert_allclose(np.load(output), wanted.context, rtol=1e-12)


def odd(rng: Rng) -> str:
    return ODD[int(rng.integers(len(ODD)))]


def fine(rng: Rng, option: str) -> str:
    return FINE[option][int(rng.integers(len(FINE[option])))]


def run_that(change: Any) -> mock.mock._patch:
    honest = run
    return mock.patch(f"{__name__}.run", lambda arguments: change(honest, arguments))


def forgets_the_bias(honest: Any, arguments: list[str]) -> Any:
    if "--bias" in arguments:
        place = arguments.index("--bias")
        arguments = arguments[:place] + arguments[place + 2 :]
    return honest(arguments)


def spoils_an_input(honest: Any, arguments: list[str]) -> Any:
    result = honest(arguments)
    if result.exit_code == 2 and "--config" in arguments:
        Path("config.toml").write_text("scorer = 'dot'")
    return result


def leaves_a_half(honest: Any, arguments: list[str]) -> Any:
    result = honest(arguments)
    if result.exit_code == 2 and arguments[0] == "attend":
        Path(arguments[-1]).write_bytes(b"half")
    return result


FAULTS = {
    "forgets the bias": lambda: run_that(forgets_the_bias),
    "spoils an input": lambda: run_that(spoils_an_input),
    "leaves half a file": lambda: run_that(leaves_a_half),
}
