"""Configurations: which scorer, with which parameters and attention options.

TOML, JSON and mappings mean the same. Nothing in them is ignored: whatever cannot be understood
is a problem, and all problems are told at once, each with its place.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral
from pathlib import Path
from typing import Any

from attention_core.errors import (
    AttentionCoreError,
    ConfigError,
    MissingExtraError,
    OptionError,
    ParameterFileError,
    ScorerLookupError,
    did_you_mean,
    listed,
    printable,
    shown,
)
from attention_core.files.saved_parameters import describe, read_named
from attention_core.options import OPTIONS, check_option
from attention_core.registry.default import default_registry
from attention_core.registry.registry import Registry
from attention_core.scoring.scorer import Scorer

__all__ = ["config_files", "read_config"]

SECTIONS = ("scorer", "attention")
IGNORED = "$schema"
"""The key by which a JSON file tells an editor of its schema."""
LONGEST_INTEGER = 1 << 10
"""Bits of an integer; hexadecimal ones of TOML may be too long to be printed in an error."""


def read_config(
    source: str | Path | Mapping[str, Any], registry: Registry | None = None
) -> tuple[Scorer, dict[str, Any]]:
    """The scorer and the attention options that a configuration describes.

    Parameters
    ----------
    source
        The path of a ``.toml`` or ``.json`` file, or a mapping. A file of parameters that it
        names is looked for beside it; one that a mapping names, in the working directory.
    registry
        Where names are looked up; left out, among what is installed.

    Returns
    -------
    scorer
        The scorer.
    options
        The options that the configuration sets, for `Attention`.

    Raises
    ------
    ConfigError
        With every problem, one a line: ``attention.windw: unknown key; did you mean 'window'?``

    Examples
    --------
    >>> scorer, options = read_config({"scorer": {"name": "dot"}, "attention": {"softcap": 30}})
    >>> scorer.to_config(), options
    ({'name': 'dot'}, {'softcap': 30.0})
    """
    if isinstance(source, Mapping):
        title, folder, content = "the configuration", Path(), source
    elif isinstance(source, (str, os.PathLike)):
        path = Path(source)
        title, folder, content = repr(str(path)), path.parent, _parse(path)
    else:
        raise ConfigError(f"a configuration is a path or a mapping, got {shown(source)}")
    _check_integers(title, content)
    reader = _Reader(folder, default_registry() if registry is None else registry)
    for key in content:
        if key not in (*SECTIONS, IGNORED):
            reader.report_unknown("", key, SECTIONS)
    scorer = reader.scorer(content.get("scorer"))
    options = reader.options(content.get("attention", {}))
    if reader.problems:
        count = f"{len(reader.problems)} problem{'s' if reader.problems[1:] else ''}"
        lines = (problem.replace("\n", "\n    ") for problem in reader.problems)
        raise ConfigError("\n  ".join([f"{count} in {title}", *lines])) from reader.cause
    assert scorer is not None  # a scorer that could not be made left a problem
    return scorer, options


def config_files(path: Path) -> list[Path]:
    """The files that reading a config file reads: itself, and the parameters that it names.

    Raises
    ------
    ConfigError
        For a file that cannot be parsed.
    """
    content = _parse(path)
    sections = [content.get("scorer"), content.get("multi_head")]
    named = [s["parameters"] for s in sections if isinstance(s, Mapping) and "parameters" in s]
    return [path, *(path.parent / file for file in named if isinstance(file, str))]


class _Reader:
    """Reads the sections of a configuration and gathers their problems."""

    def __init__(self, folder: Path, registry: Registry) -> None:
        self.folder = folder
        self.registry = registry
        self.problems: list[str] = []
        self.cause: Exception | None = None  # of the first problem that was an exception

    def report(self, place: str, problem: str | Exception) -> None:
        if isinstance(problem, Exception):
            self.cause = self.cause or problem
        self.problems.append(f"{place}: {problem}")

    def report_unknown(self, place: str, key: Any, known: Iterable[str]) -> None:
        hint = did_you_mean(str(key), known) or f"; known keys: {', '.join(known)}"
        self.report(f"{place}{listed([key])}", f"unknown key{hint}")

    def options(self, section: Any) -> dict[str, Any]:
        if not isinstance(section, Mapping):
            self.report("attention", f"must be a table of options, got {shown(section)}")
            return {}
        options = {}
        for name, value in section.items():
            if name not in OPTIONS:
                self.report_unknown("attention.", name, OPTIONS)
                continue
            try:
                options[name] = check_option(name, value)
            except OptionError as error:
                self.report(f"attention.{name}", error)
        return options

    def scorer(self, section: Any) -> Scorer | None:
        if isinstance(section, str):
            section = {"name": section}
        if not isinstance(section, Mapping):
            got = "missing" if section is None else f"got {shown(section)}"
            self.report("scorer", f"{got}; give a table with the name of a scorer")
            return None
        before = len(self.problems)
        name = self.scorer_name(section)
        parameters = {key: section[key] for key in section if key not in ("name", "parameters")}
        self.check_seed(parameters)
        from_file = self.parameters_from_file(name, section, parameters)
        if name is not None:
            self.check_parameters(name, parameters, from_file)
        if name is None or from_file is None or self.problems[before:]:
            return None
        try:
            return self.registry.make(name, **parameters, **from_file)
        except AttentionCoreError as error:
            self.report("scorer", error)
        except Exception as error:  # noqa: BLE001 - a factory may raise anything
            said = printable(str(error), 300)
            self.report("scorer", f"{name!r} failed with {type(error).__name__}: {said}")
            self.cause = self.cause or error
        return None

    def scorer_name(self, section: Mapping[str, Any]) -> str | None:
        name = section.get("name")
        if not isinstance(name, str):
            got = f"got {shown(name)}" if "name" in section else "missing"
            known = ", ".join(info.name for info in self.registry.scorers())
            self.report("scorer.name", f"{got}; give one of: {known}")
            return None
        try:
            self.registry.info(name)
        except ScorerLookupError as error:
            self.report("scorer.name", error)
            return None
        return name

    def check_seed(self, parameters: Mapping[str, Any]) -> None:
        seed = parameters.get("rng", 0)
        if isinstance(seed, bool) or not isinstance(seed, Integral) or int(seed) < 0:
            shown(seed)
            self.report(
                "scorer.rng", f"must be a seed, an integer of at least 0, got {shown(seed)}"
            )

    def parameters_from_file(
        self, name: str | None, section: Mapping[str, Any], inline: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """What the file named in ``parameters`` gives the scorer; None if it cannot be used."""
        if "parameters" not in section:
            return {}
        file = section["parameters"]
        place = "scorer.parameters"
        if not isinstance(file, (str, os.PathLike)):
            shown(file)
            self.report(
                place, f"must be the path of an .npz or .safetensors file, got {shown(file)}"
            )
            return None
        path, subject = self.folder / file, shown(str(file), 300)
        try:
            described = describe(path)
            if described.layer is not None:
                raise ParameterFileError(
                    f"{shown(str(path), 300)} holds multi-head attention, not a scorer; "
                    f"use load_layer(path)"
                )
            saved = described.scorer or {}
            saved_name = saved.pop("name", name)
            if name is not None and not self.mean_the_same(name, saved_name):
                self.report(
                    place, f"{subject} holds parameters of {shown(saved_name)}, not {name!r}"
                )
                return None
            twice = [key for key in inline if key in saved or key in described.shapes]
            for key in twice:
                self.report(
                    f"scorer.{listed([key])}", f"given here and in {subject}; leave one out"
                )
            if twice or (name is not None and not self.knows(name, [*saved, *described.shapes])):
                return {**saved, **described.shapes}  # none of which is used
            return {**saved, **read_named(path)}
        except (ParameterFileError, MissingExtraError) as error:
            self.report(place, error)
            return None

    def knows(self, name: str, parameters: Iterable[str]) -> bool:
        """Whether a scorer has parameters of these names; a reason not to read their arrays."""
        try:
            return not self.registry.problems(name, dict.fromkeys(parameters)).keys() & {
                *parameters
            }
        except AttentionCoreError:
            return False

    def mean_the_same(self, name: str, other: str) -> bool:
        try:
            return self.registry.info(name) == self.registry.info(other)
        except ScorerLookupError:
            return False

    def check_parameters(
        self, name: str, inline: Mapping[str, Any], from_file: Mapping[str, Any] | None
    ) -> None:
        try:
            problems = self.registry.problems(name, {**inline, **(from_file or {})})
        except AttentionCoreError as error:
            self.report("scorer.name", error)
            return
        for key, problem in problems.items():
            if key in inline:
                self.report(f"scorer.{listed([key])}", problem)
            elif from_file is not None:  # else what is missing may be in the unreadable file
                self.report("scorer.parameters" if key in from_file else "scorer", problem)


def _parse(path: Path) -> Mapping[str, Any]:
    """The content of a TOML or JSON file."""
    parsers: dict[str, Callable[[str], Any]] = {".toml": tomllib.loads, ".json": _parse_json}
    suffix, subject = path.suffix.lower(), shown(str(path), 300)
    if suffix not in parsers:
        raise ConfigError(
            f"config file {subject} has the extension {shown(path.suffix)}; use .toml or .json"
        )
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:  # a name with a NUL is a ValueError
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"cannot read config file {subject}: {reason}") from error
    try:
        text = data.decode("utf-8-sig")  # some editors begin a file with a byte-order mark
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"config file {subject} is not UTF-8: byte 0x{data[error.start]:02x} in line {line}"
        ) from error
    try:
        content = parsers[suffix](text)
    except (ValueError, RecursionError) as error:
        said = printable(str(error), 300)
        raise ConfigError(
            f"config file {subject} is not valid {suffix[1:].upper()}: {said}"
        ) from error
    if not isinstance(content, Mapping):
        raise ConfigError(
            f"config file {subject} must hold an object with the keys {', '.join(SECTIONS)}, "
            f"got {shown(content)}"
        )
    return content


def _parse_json(text: str) -> Any:
    """Parse JSON, more strictly: keys once, and no NaN or Infinity, which JSON does not have."""
    return json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for key, value in pairs:
        if key in content:
            raise ValueError(f"key {shown(key)} is given twice")
        content[key] = value
    return content


def _refuse_constant(constant: str) -> Any:
    raise ValueError(f"{constant} is not a JSON number; an open side of a window is null")


def _check_integers(title: str, content: Any, depth: int = 0) -> None:
    """Refuse integers that are too long to be printed, wherever they are."""
    if isinstance(content, int) and content.bit_length() > LONGEST_INTEGER:
        raise ConfigError(
            f"{title} holds an integer of {content.bit_length()} bits; "
            f"at most {LONGEST_INTEGER} are allowed"
        )
    if depth < 100 and isinstance(content, (Mapping, list, tuple)):
        for value in content.values() if isinstance(content, Mapping) else content:
            _check_integers(title, value, depth + 1)
