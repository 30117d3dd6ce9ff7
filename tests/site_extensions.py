"""The modules of the documentation site, which do not belong to a package."""

from __future__ import annotations

import importlib.util
from types import ModuleType

from projects import ROOT

__all__ = ["DOCS", "architecture", "figures", "prose", "run_pages", "tables"]

DOCS = ROOT / "docs"


def _extension(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCS / "extensions" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


architecture, figures = _extension("architecture"), _extension("figures")
prose, run_pages, tables = _extension("prose"), _extension("run_pages"), _extension("tables")
