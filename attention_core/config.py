"""Configurations: which scorer, with which parameters and attention options.

TOML, JSON and mappings mean the same. Nothing in them is ignored: an unknown key or an impossible
value is a problem. One error reports all problems, each with its location.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from attention_core.arrays.scalars import is_integer
from attention_core.errors import (
    AttentionCoreError,
    ConfigError,
    MissingExtraError,
    OptionError,
    ParameterFileError,
    ScorerLookupError,
    did_you_mean,
    listed,
    said,
    shown,
)
from attention_core.files.documents import check_integers, read_document
from attention_core.files.saved_parameters import describe_scorer, read_named
from attention_core.options import OPTIONS, check_option
from attention_core.registry.default import registry_or_default
from attention_core.registry.kinds import BIAS, NORMALIZER, SCORER, Kind
from attention_core.registry.registry import Registry
from attention_core.scoring.scorer import Scorer

__all__ = ["LAYER", "SECTIONS", "Reader", "config_files", "describes_layer", "read_config"]

SECTIONS = ("scorer", "normalizer", "bias", "attention")
LAYER = "multi_head"
"""The section that makes a configuration that of a layer."""
IGNORED = "$schema"
"""The key with which a JSON file refers to its schema, for editors."""


def read_config(
    source: str | Path | Mapping[str, Any], registry: Registry | None = None
) -> tuple[Scorer, dict[str, Any]]:
    """Read a configuration: make its scorer, and check its attention options.

    Parameters
    ----------
    source
        The path of a ``.toml`` or ``.json`` file, or a mapping. Paths of parameter files are
        relative to the folder of the file, or to the working directory for a mapping.
    registry
        The registry in which to look up names; the installed scorers by default.

    Returns
    -------
    scorer
        The scorer.
    options
        The normalizer, the bias and the options that the configuration sets, for `Attention`.

    Raises
    ------
    ConfigError
        Lists every problem: ``attention.windw: unknown key; did you mean 'window'?``

    Examples
    --------
    >>> scorer, options = read_config({"scorer": {"name": "dot"}, "attention": {"softcap": 30}})
    >>> scorer.to_config(), options
    ({'name': 'dot'}, {'softcap': 30.0})
    """
    reader = Reader.of(source, registry)
    if LAYER in reader.content:
        raise ConfigError(
            f"{reader.title} describes a layer, in [{LAYER}]; use MultiHeadAttention.from_config"
        )
    reader.check_sections(SECTIONS)
    scorer = reader.scorer(reader.content.get("scorer"))
    options = reader.components() | reader.options(reader.content.get("attention", {}))
    reader.finish()
    assert scorer is not None  # a scorer that could not be made left a problem
    return scorer, options


def describes_layer(path: Path) -> bool:
    """Whether a config file describes a layer; raises `ConfigError` if it cannot be parsed."""
    return LAYER in read_document(path)


def config_files(path: Path) -> list[Path]:
    """List the files that a config refers to, including itself.

    Raises
    ------
    ConfigError
        For a file that cannot be parsed.
    """
    content = read_document(path)
    scorers = content.get("scorer")
    sections = [*(scorers if isinstance(scorers, list) else [scorers]), content.get(LAYER)]
    named = [s["parameters"] for s in sections if isinstance(s, Mapping) and "parameters" in s]
    return [path, *(path.parent / file for file in named if isinstance(file, str))]


class Reader:
    """Reads the sections of a configuration and collects their problems.

    Parameters
    ----------
    title
        Name of the configuration in errors.
    folder
        Folder of the files that it names.
    content
        Its sections.
    registry
        Registry in which names are looked up.
    """

    def __init__(
        self, title: str, folder: Path, content: Mapping[str, Any], registry: Registry
    ) -> None:
        self.title = title
        self.folder = folder
        self.content = content
        self.registry = registry
        self.place = "scorer"  # location of the table that is read
        self.kind: Kind[Any] = SCORER
        self.problems: list[str] = []
        self.cause: Exception | None = None  # of the first problem that was an exception

    @classmethod
    def of(cls, source: str | Path | Mapping[str, Any], registry: Registry | None) -> Self:
        """The reader of a file or a mapping; see `read_config`."""
        if isinstance(source, Mapping):
            title, folder, content = "the configuration", Path(), source
        elif isinstance(source, (str, os.PathLike)):
            path = Path(source)
            title, folder, content = repr(str(path)), path.parent, read_document(path)
        else:
            raise ConfigError(f"a configuration is a path or a mapping, got {shown(source)}")
        check_integers(title, content)
        return cls(title, folder, content, registry_or_default(registry))

    def check_sections(self, sections: Iterable[str]) -> None:
        """Report unknown sections."""
        for key in self.content:
            if key not in (*sections, IGNORED):
                self.report_unknown("", key, sections)

    def finish(self) -> None:
        """Raise an error that lists all problems, if there are any."""
        if self.problems:
            count = f"{len(self.problems)} problem{'s' if self.problems[1:] else ''}"
            lines = (problem.replace("\n", "\n    ") for problem in self.problems)
            text = "\n  ".join([f"{count} in {self.title}", *lines])
            raise ConfigError(text) from self.cause

    def report(self, place: str, problem: str | Exception) -> None:
        """Record a problem at a location."""
        if isinstance(problem, Exception):
            self.cause = self.cause or problem
        self.problems.append(f"{place}: {problem}")

    def report_unknown(self, place: str, key: Any, known: Iterable[str]) -> None:
        """Record an unknown key, with a suggestion."""
        hint = did_you_mean(str(key), known) or f"; known keys: {', '.join(known)}"
        self.report(f"{place}{listed([key])}", f"unknown key{hint}")

    def options(self, section: Any) -> dict[str, Any]:
        """The options of attention in a section."""
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

    def components(self) -> dict[str, Any]:
        """The normalizer and the bias, if they have sections without problems."""
        found = {
            kind.name: self.component(self.content[kind.name], kind, kind.name)
            for kind in (NORMALIZER, BIAS)
            if kind.name in self.content
        }
        return {name: own for name, own in found.items() if own is not None}

    def scorer(self, section: Any, place: str = "scorer") -> Scorer | None:
        """The scorer of a name or a table; None if a problem was reported."""
        found: Scorer | None = self.component(section, SCORER, place)
        return found

    def component(self, section: Any, kind: Kind[Any], place: str) -> Any:
        """The component of a name or a table; None if a problem was reported."""
        self.place, self.kind = place, kind
        if isinstance(section, str):
            section = {"name": section}
        if not isinstance(section, Mapping):
            got = "missing" if section is None else f"got {shown(section)}"
            self.report(place, f"{got}; give a table with the name of a {kind}")
            return None
        before = len(self.problems)
        name = self._component_name(section)
        special = ("name", "parameters") if kind is SCORER else ("name",)
        parameters = {key: section[key] for key in section if key not in special}
        self._check_seed(parameters)
        from_file: dict[str, Any] | None = {}
        if kind is SCORER:
            from_file = self._parameters_from_file(name, section, parameters)
        if name is not None:
            self._check_parameters(name, parameters, from_file)
        if name is not None and from_file is not None and not self.problems[before:]:
            try:
                return self.registry.of(kind).make(name, {**parameters, **from_file})
            except Exception as error:  # noqa: BLE001 - a factory may raise anything
                self._report_failure(place, name, error)
        if name is not None:
            self._try_each(name, parameters)
        return None

    def _report_failure(self, place: str, name: str, error: Exception) -> None:
        if isinstance(error, AttentionCoreError):
            self.report(place, error)
        else:
            self.report(place, f"{name!r} failed with {said(error, 300)}")
            self.cause = self.cause or error

    def _try_each(self, name: str, parameters: Mapping[str, Any]) -> None:
        """Report each value that the factory rejects, since it stops at the first."""
        told = "\n".join(self.problems)
        values = {key: value for key, value in parameters.items() if key != "rng"}
        try:
            rejected = self.registry.of(self.kind).rejected(name, values)
        except AttentionCoreError:  # its factory cannot be imported, which is already reported
            return
        for key, error in rejected.items():
            if str(error) not in told:
                self._report_failure(f"{self.place}.{key}", name, error)

    def _component_name(self, section: Mapping[str, Any]) -> str | None:
        name = section.get("name")
        if not isinstance(name, str):
            got = f"got {shown(name)}" if "name" in section else "missing"
            known = ", ".join(info.name for info in self.registry.of(self.kind).claims.infos())
            self.report(f"{self.place}.name", f"{got}; give one of: {known}")
            return None
        try:
            self.registry.of(self.kind).info(name)
        except ScorerLookupError as error:
            self.report(f"{self.place}.name", error)
            return None
        return name

    def _check_seed(self, parameters: Mapping[str, Any]) -> None:
        seed = parameters.get("rng", 0)
        if not is_integer(seed) or seed < 0:
            self.report(
                f"{self.place}.rng", f"must be a seed, an integer of at least 0, got {shown(seed)}"
            )

    def _parameters_from_file(
        self, name: str | None, section: Mapping[str, Any], inline: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """Arguments from the file named in ``parameters``; None if it cannot be used."""
        if "parameters" not in section:
            return {}
        file = section["parameters"]
        place = f"{self.place}.parameters"
        if not isinstance(file, (str, os.PathLike)):
            self.report(
                place, f"must be the path of an .npz or .safetensors file, got {shown(file)}"
            )
            return None
        path, subject = self.folder / file, shown(str(file), 300)
        try:
            described = describe_scorer(path)
            saved = described.scorer or {}
            saved_name = saved.pop("name", name)
            if name is not None and not self._mean_the_same(name, saved_name):
                self.report(
                    place, f"{subject} holds parameters of {shown(saved_name)}, not {name!r}"
                )
                return None
            twice = [key for key in inline if key in saved or key in described.shapes]
            for key in twice:
                self.report(
                    f"{self.place}.{listed([key])}", f"given here and in {subject}; give only one"
                )
            if twice or (name is not None and not self._knows(name, [*saved, *described.shapes])):
                return {**saved, **described.shapes}  # for names only; values are not used
            return {**saved, **read_named(path)}
        except (ParameterFileError, MissingExtraError) as error:
            self.report(place, error)
            return None

    def _knows(self, name: str, parameters: Iterable[str]) -> bool:
        """Whether a scorer has parameters of these names; if not, their arrays are not read."""
        try:
            return not self.registry.problems(name, dict.fromkeys(parameters)).keys() & {
                *parameters
            }
        except AttentionCoreError:
            return False

    def _mean_the_same(self, name: str, other: str) -> bool:
        try:
            return self.registry.info(name) == self.registry.info(other)
        except ScorerLookupError:
            return False

    def _check_parameters(
        self, name: str, inline: Mapping[str, Any], from_file: Mapping[str, Any] | None
    ) -> None:
        try:
            problems = self.registry.of(self.kind).problems(name, {**inline, **(from_file or {})})
        except AttentionCoreError as error:
            self.report(f"{self.place}.name", error)
            return
        for key, problem in problems.items():
            if key in inline:
                self.report(f"{self.place}.{listed([key])}", problem)
            elif from_file is not None:  # missing ones may be in a file that cannot be read
                self.report(f"{self.place}.parameters" if key in from_file else self.place, problem)
