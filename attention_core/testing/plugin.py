"""The checks of a plugin: its hooks module and the components that it describes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any

from attention_core import OptionTypeError, Registry
from attention_core.arguments import checked_arguments
from attention_core.errors import INTERRUPTS, shown
from attention_core.hookspecs import Spec
from attention_core.registry.default import default_registry
from attention_core.registry.discovery import BUNDLED, Plugin, discover
from attention_core.registry.kinds import Kind, kind_of
from attention_core.registry.loading import load_specs
from attention_core.testing.checks import component_checks
from attention_core.testing.kit import passed
from attention_core.testing.report import Check, Report, Violation, run_checks

__all__ = ["check_plugin", "plugin_checks"]

# Run in a fresh interpreter: prints the modules loaded before and by reading the descriptions.
PROBE = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from attention_core.registry.default import default_registry
from attention_core.registry.discovery import Plugin
from attention_core.registry.loading import load_specs
before = list(sys.modules)
load_specs(Plugin("probe", "", "", sys.argv[2]))
print()
print(json.dumps([before, list(sys.modules)[len(before):]]))
"""


@checked_arguments
def plugin_checks(module: str | ModuleType, *, seed: int = 0) -> Iterator[Check]:
    """The checks of a plugin and of its scorers, normalizers and biases, to run one by one.

    The name of a check of a component begins with the component's name, as in ``rbf.tiles``.
    Components are made with the `example` of their descriptions.

    Parameters
    ----------
    module
        The hooks module that the entry point names, or the name of that module.
    seed
        The seed of the random arrays.

    Examples
    --------
    >>> from attention_core.testing import plugin_checks
    >>> [check.name for check in plugin_checks("attention_core_standard.hooks")][:4]
    ['hooks', 'light', 'additive.reserved', 'additive.example']
    """
    if not isinstance(module, (str, ModuleType)):
        raise OptionTypeError(f"module must be a module or its name, got {shown(module)}")
    plugin = _plugin(module if isinstance(module, str) else module.__name__)
    about = f"plugin {plugin.value!r}"
    yield Check(
        "hooks",
        about,
        "the module describes its components",
        "pass the module that the entry point names, such as acme_attention.hooks; in it, decorate "
        "attention_core_scorers() with @hookimpl and yield a ScorerSpec for each scorer; "
        "normalizers and biases likewise",
        lambda: _describes(plugin),
    )
    try:
        specs = load_specs(plugin)
    except INTERRUPTS:
        raise
    except BaseException:  # noqa: BLE001 - the check above reports any error
        return
    yield Check(
        "light",
        about,
        "the hooks module imports only attention_core and the standard library",
        "let the hooks module import attention_core only, and name each factory in a string: "
        'factory="acme_attention.rbf:RBFScorer"',
        lambda: _is_light(plugin.value),
    )
    registry = Registry()
    for spec in specs:
        registry.register(spec, distribution=plugin.distribution or None, version=plugin.version)
    for spec in specs:
        for check in _spec_checks(spec, plugin, registry, seed):
            yield replace(check, name=f"{spec.name}.{check.name}")


def _plugin(module: str) -> Plugin:
    """The installed plugin with this hooks module, or a plugin that is not installed."""
    for plugin in discover().plugins:
        if plugin.value == module:
            return plugin
    return Plugin(module, "", "", module)


def _describes(plugin: Plugin) -> str | None:
    if not load_specs(plugin):
        raise Violation("its hooks yield nothing")
    return None if plugin.distribution else "no installed entry point names it"


def _is_light(value: str) -> None:
    path = json.dumps([str(entry) for entry in sys.path])
    done = subprocess.run(
        [sys.executable, "-c", PROBE, path, value], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Violation(f"in a fresh interpreter: {done.stderr.strip().splitlines()[-1]}")
    before, added = json.loads(done.stdout.splitlines()[-1])
    module = value.partition(":")[0]
    parents = {module[:end] for end, letter in enumerate(f"{module}.") if letter == "."}
    known = {*map(_top, before), *sys.stdlib_module_names} - {_top(module)}
    heavy = {  # in the order of import; names with an underscore are parts of other packages
        name if _top(name) == _top(module) else _top(name): None
        for name in added
        if name not in parents and _top(name) not in known and not name.startswith("_")
    }
    if heavy:
        raise Violation(f"it also imports {', '.join(heavy)}")


def _top(module: str) -> str:
    return module.partition(".")[0]


def _spec_checks(spec: Spec, plugin: Plugin, registry: Registry, seed: int) -> Iterator[Check]:
    def make() -> None:
        registry.of(kind).make(spec.name, spec.example)

    kind = kind_of(spec)
    try:
        component = registry.of(kind).make(spec.name, spec.example)
    except INTERRUPTS:
        raise
    except BaseException:  # noqa: BLE001 - the check of the example reports it
        own: list[Check] = []
        about = f"{kind} {spec.name!r} of plugin {plugin.value!r}"
    else:
        own = list(component_checks(kind, component, seed=seed, registry=registry))
        about = own[0].subject
    yield Check(
        "reserved",
        about,
        f"no name or alias belongs to a bundled {kind}",
        "choose another name: those of bundled components are reserved",
        lambda: _has_free_names(spec, kind, plugin),
    )
    yield Check(
        "example",
        about,
        f"its example makes a {kind}",
        f"give its spec an example: parameters that make a small working {kind}, such as "
        'example={"query_dim": 4, "key_dim": 3, "rng": 0}',
        make,
    )
    yield from own


def _has_free_names(spec: Spec, kind: Kind[Any], plugin: Plugin) -> None:
    if plugin.distribution == BUNDLED.distribution:
        return
    reserved = {
        name
        for info in default_registry().of(kind).claims.infos()
        if info.distribution == BUNDLED.distribution
        for name in (info.name, *info.aliases)
    }
    taken = sorted(reserved & {spec.name, *spec.aliases})
    if taken:
        raise Violation(f"{', '.join(map(repr, taken))} is bundled with attention-core")


@checked_arguments
def check_plugin(
    module: str | ModuleType, *, seed: int = 0, expected_failures: Mapping[str, str] | None = None
) -> Report:
    """Run every check of a plugin and of its components.

    Parameters
    ----------
    module, seed
        As for `plugin_checks`.
    expected_failures
        Names of checks that are known to fail, such as ``"rbf.zeros"``, with a reason for each;
        as for `check_scorer`.

    Returns
    -------
    Report
        The outcome of each check, readable when printed.

    Raises
    ------
    CheckError
        If a check fails; the message is the report.

    Examples
    --------
    >>> from attention_core.testing import check_plugin
    >>> check_plugin("attention_core_standard.hooks").ok
    True
    """
    return passed(run_checks(plugin_checks(module, seed=seed), expected_failures=expected_failures))
