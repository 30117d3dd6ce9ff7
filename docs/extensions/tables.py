"""The tables of the reference, generated from the code when the site is built.

A line ``<!-- table: NAME -->`` in a page stands for what the function of that name returns.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

import attention_core as ac
from attention_core.registry.discovery import discover
from attention_core.registry.installed import make_offer
from attention_core.registry.kinds import KINDS, Kind, kind_of
from attention_core.registry.loading import load_specs
from attention_core.testing.kit import RULES

if TYPE_CHECKING:
    from sphinx.application import Sphinx

__all__ = [
    "TABLES",
    "checks",
    "commands",
    "components",
    "config",
    "errors",
    "expand",
    "messages",
    "setup",
]

PLACE = re.compile(r"^<!-- table: (\w+) -->$", flags=re.MULTILINE)


def expand(text: str) -> str:
    """A page with its tables."""
    return PLACE.sub(lambda found: TABLES[found[1]](), text)


def components(kind: Kind[Any]) -> str:
    """Every component of a kind that is installed."""
    rows = []
    for plugin in discover().plugins:
        for spec in load_specs(plugin):
            if kind_of(spec) is not kind:
                continue
            offer = make_offer(spec, plugin)
            rows.append(
                [
                    code(spec.name)
                    + ("" if offer.is_bundled else f"<br>from {plugin.distribution}"),
                    "<br>".join(map(code, spec.aliases)),
                    f"{code(spec.formula)}<br>{spec.summary}",
                    ", ".join(map(parameter, offer.signature.parameters.values())),
                    linked(spec.reference),
                ]
            )
    return table(["name", "aliases", "formula", "parameters", "paper"], sorted(rows))


def parameter(each: inspect.Parameter) -> str:
    """A parameter, with its default if it is informative."""
    return code(each.name if each.default in (each.empty, None) else f"{each.name}={each.default}")


def linked(reference: str) -> str:
    """A reference with links for arXiv ids and DOIs."""
    reference = re.sub(r"arXiv:([\d.]+\d)", r"[arXiv:\1](https://arxiv.org/abs/\1)", reference)
    return re.sub(r"doi:(10\.\S*\w)", r"[doi:\1](https://doi.org/\1)", reference)


def config() -> str:
    """Every key of a configuration, from its published schema."""
    schema = json.loads((files("attention_core") / "config.schema.json").read_text("utf-8"))
    rows = [
        [code(path), kind(schema, key), default(key), description(schema, key)]
        for path, key in config_keys(schema)
    ]
    return table(["key", "kind", "default", "meaning"], rows)


def config_keys(schema: Mapping[str, Any], path: str = "") -> list[tuple[str, Mapping[str, Any]]]:
    """Each key of a schema with its path, such as ``attention.window``."""
    keys = []
    for name, key in schema.get("properties", {}).items():
        if not name.startswith("$"):
            keys += [(path + name, key), *config_keys(key, f"{path}{name}.")]
    for choice in schema.get("oneOf", []):
        keys += config_keys(choice, path)
    return keys


def kind(schema: Mapping[str, Any], key: Mapping[str, Any]) -> str:
    """The type of a key, in words."""
    if "$ref" in key:
        reference = key["$ref"].rsplit("/", 1)[1]
        return "text" if reference == "name" else "array of integers"
    if "oneOf" in key:
        return " or ".join(kind(schema, choice) for choice in key["oneOf"])
    if key["type"] == "array" and key.get("minItems") == key.get("maxItems") == 2:
        return f"pair of {kind(schema, key['items'])}"
    names = {"object": "table", "string": "text", "boolean": "true or false"}
    types = [key["type"]] if isinstance(key["type"], str) else key["type"]
    return " or ".join(names.get(name, name) for name in types)


def default(key: Mapping[str, Any]) -> str:
    """The default of a key, in the words of JSON."""
    return code(json.dumps(key["default"])) if "default" in key else ""


def description(schema: Mapping[str, Any], key: Mapping[str, Any]) -> str:
    """The schema of a key, with references followed."""
    if "$ref" in key:
        key = schema["$defs"][key["$ref"].rsplit("/", 1)[1]]
    return str(key.get("description", ""))


def commands() -> str:
    """The command line: each command with its arguments and options."""
    from typer.main import get_command

    from attention_core.cli.app import app

    return "\n\n".join(map(command_section, walk("attention-core", get_command(app))))


def walk(name: str, command: Any) -> Iterable[tuple[str, Any]]:
    """A command and its subcommands, each with the words that call it."""
    yield name, command
    for part, subcommand in getattr(command, "commands", {}).items():
        yield from walk(f"{name} {part}", subcommand)


def command_section(named: tuple[str, Any]) -> str:
    """The section of one command: its help, arguments and options."""
    name, command = named
    hints = get_type_hints(command.callback)
    rows = [
        [
            ", ".join(map(code, spellings(each))),
            code(taken(each, hints[each.name])) if not is_flag(each) else "",
            (each.help or "") + (" Required." if each.required else "") + shown_default(each),
        ]
        for each in command.params
    ]
    text = re.sub(r"^(attention-core .*)$", r"`\1`", command.help or "", flags=re.MULTILINE)
    columns = ["argument or option", "takes", "meaning"]
    return f"## `{name}`\n\n{text}\n\n" + (table(columns, rows) if rows else "")


def spellings(each: Any) -> list[str]:
    """The spelling of an option; for an argument, its name in the help."""
    if each.param_type_name == "argument":
        return [each.metavar or each.name.upper()]
    return [*each.opts, *each.secondary_opts]


def is_flag(each: Any) -> bool:
    """Whether an option takes no value."""
    return bool(getattr(each, "is_flag", False))


def taken(each: Any, hint: Any) -> str:
    """The value of an argument or option: as the help says, or the type of the Python function."""
    if each.metavar and each.param_type_name == "option":
        return str(each.metavar)
    types = [each for each in get_args(hint) or [hint] if each is not NoneType]
    return str(types[0].__name__.upper())


def shown_default(each: Any) -> str:
    """The default of an option, where it is a number."""
    is_number = isinstance(each.default, int) and not isinstance(each.default, bool)
    return f" Default: {each.default}." if is_number else ""


def errors() -> str:
    """Every error and warning."""
    found = [getattr(ac, name) for name in ac.__all__]
    found = [each for each in found if isinstance(each, type) and issubclass(each, Exception)]
    rows = []
    for error in found:
        builtins = [base for base in error.__mro__ if base.__module__ == "builtins"]
        nearest = [
            code(base.__name__)
            for place, base in enumerate(builtins)
            if not any(issubclass(each, base) for each in builtins[:place])
        ]
        text = inspect.getdoc(error) or ""
        rows.append([f"{{py:exc}}`~attention_core.{error.__name__}`", ", ".join(nearest), text])
    return table(["error", "is also a", "when"], rows)


def messages() -> str:
    """The texts of errors in the code, a list for each kind."""
    texts: dict[str, set[str]] = {}
    for package in ("attention_core", "attention_core_standard"):
        for path in Path(str(files(package))).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                match node:
                    case ast.Raise(exc=ast.Call(func=ast.Name(id=name), args=[text, *_])):
                        texts.setdefault(name, set()).add(message(text))
    sections = [
        f"## {name}\n\n" + "\n".join(f"- {code(text)}" for text in sorted(found - {"…"}))
        for name, found in sorted(texts.items())
        if hasattr(ac, name) and found - {"…"}
    ]
    return "\n\n".join(sections)


def message(text: ast.expr) -> str:
    """The text of an error, on one line, with "…" for the parts that depend on the call."""
    match text:
        case ast.Constant(value=str(value)):
            return " ".join(value.replace("`", "'").split())
        case ast.JoinedStr(values=values):
            parts = [part.value if isinstance(part, ast.Constant) else "…" for part in values]
            return " ".join(re.sub("…+", "…", "".join(parts)).replace("`", "'").split())
    return "…"


def checks() -> str:
    """The table of the kit's checks, for each kind of component."""
    rows = [[kind, code(rule.name), rule.claim] for kind, rules in RULES.items() for rule in rules]
    return table(["of a", "check", "what must be true"], rows)


def code(text: str) -> str:
    """The text as code."""
    return f"`{text}`"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines
    )


TABLES: Mapping[str, Callable[[], str]] = {
    "checks": checks,
    "commands": commands,
    "config": config,
    "errors": errors,
    "messages": messages,
    **{kind.plural: partial(components, kind) for kind in KINDS},
}


def _expand_page(_: Sphinx, __: str, source: list[str]) -> None:
    source[0] = expand(source[0])


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the extension to Sphinx."""
    app.connect("source-read", _expand_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
