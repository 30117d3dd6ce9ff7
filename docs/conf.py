"""How Sphinx builds the site: ``sphinx-build -W --keep-going -b html docs docs/_build``."""

import sys
from pathlib import Path

import attention_core

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

project = "attention-core"
author = "The attention-core developers"
project_copyright = author
release = version = attention_core.__version__

extensions = [
    "myst_parser",
    "prose",
    "run_pages",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "tables",
]
# a table of contents names its pages in order, and takes up others where there are any
suppress_warnings = ["toc.empty_glob"]
exclude_patterns = ["_build", "data/*.md"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
# names in docstrings are parameters as often as objects, so none has to be found
default_role = "py:obj"

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say more: shapes
autodoc_default_options = {"members": True}
napoleon_google_docstring = False
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"attention-core {release}"
html_show_copyright = False
html_show_sphinx = False
html_static_path = ["static"]
html_css_files = ["site.css"]
