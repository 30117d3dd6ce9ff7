"""Settings of Sphinx: ``sphinx-build -W --keep-going -b html docs docs/_build`` builds the site."""

import sys
from pathlib import Path

import attention_core

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

project = "attention-core"
author = "The attention-core developers"
project_copyright = author
release = version = attention_core.__version__

extensions = [
    "architecture",
    "figures",
    "myst_nb",  # brings myst_parser
    "prose",
    "run_pages",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "tables",
]
# a table of contents lists its pages in order, then any others
suppress_warnings = ["toc.empty_glob"]
exclude_patterns = ["_build", "data/*.md", "jupyter_execute"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
# the notebook runs each time the site is built, and an error in it is an error of the site
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True
nb_code_prompt_show, nb_code_prompt_hide = "Show the solution", "Hide the solution"
# names in docstrings are parameters as often as objects, so none has to be found
default_role = "py:obj"

# their classes are documented even if they are not installed
autodoc_mock_imports = ["jax", "torch"]
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say more: shapes
autodoc_default_options = {"members": True}
napoleon_google_docstring = False
napoleon_use_rtype = False

# commands and doctests are copied without their prompts, and printed output is not copied at all
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_selector = "div:not(.highlight-text) > div.highlight > pre"

html_theme = "furo"
html_title = f"attention-core {release}"
html_show_copyright = False
html_show_sphinx = False
html_static_path = ["static"]
html_css_files = ["site.css"]
html_js_files = ["search.js", "scroll.js"]
