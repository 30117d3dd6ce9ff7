"""Results in a notebook: run, exported and opened."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest

pytestmark = pytest.mark.slow

CELLS = [
    "import numpy as np\nimport attention_core as ac\n"
    "x = np.random.default_rng(0).normal(size=(6, 4))\n"
    "result = ac.attend(x, x, x, scorer='dot')\nresult",
    "ac.make_scorer('general', weight=np.eye(3))",
    "ac.Attention('scaled_dot', is_causal=True)",
]


@pytest.fixture(scope="module")
def exported(browser, tmp_path_factory):
    from nbformat import v4, write

    folder = tmp_path_factory.mktemp("notebook")
    notebook = v4.new_notebook(cells=[v4.new_code_cell(source) for source in CELLS])
    write(notebook, folder / "a.ipynb")
    command = [
        sys.executable,
        "-m",
        "nbconvert",
        "--execute",
        "--to",
        "html",
        "--template",
        "basic",
    ]
    done = subprocess.run([*command, "a.ipynb"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "a.html"


@pytest.fixture(scope="module")
def weights():
    import attention_core as ac

    x = np.random.default_rng(0).normal(size=(6, 4))
    return ac.attend(x, x, x, scorer="dot").weights


def test_an_exported_notebook_has_pages_that_work(opened, exported, weights):
    with opened(exported, check=False) as page:
        frame = page.frame_locator("iframe")
        frame.locator("#query-3").hover()
        strongest = weights[3].argmax()
        frame.locator(f"#key-{strongest}[aria-selected=true]").wait_for()
        assert float(frame.locator("#number").inner_text()) == weights[3, strongest]
        text = page.inner_text("body")
        assert "scorer 'general'" in text
        assert "float64[3, 3]" in text
        assert "is_causal" in text


def test_a_frame_reaches_nothing_outside_of_it(opened, exported):
    with opened(exported, check=False) as page:
        (inside,) = [frame for frame in page.frames if frame.parent_frame]
        reached = inside.evaluate(
            "() => { try { return parent.document.title } catch (error) { return error.name } }"
        )
        assert reached == "SecurityError"


@pytest.mark.parametrize("case", ["no scripts", "no frames"])
def test_elsewhere_it_is_a_picture(opened, exported, tmp_path, case):
    text = exported.read_text("utf-8")
    if case == "no scripts":
        text = text.replace('sandbox="allow-scripts"', 'sandbox=""')
    else:
        text = re.sub("<iframe.*?</iframe>", "", text, flags=re.DOTALL)
    path = tmp_path / "b.html"
    path.write_text(text, "utf-8")
    with opened(path, check=False) as page:
        if case == "no scripts":
            page.frame_locator("iframe").locator("noscript svg").wait_for(timeout=5000)
        else:
            assert page.locator("iframe").count() == 0
            box = page.locator("img").bounding_box()
            assert min(box["width"], box["height"]) > 100


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (2, 2), (3, 12), (9, 9), (5, 100)])
def test_a_frame_is_as_tall_as_what_it_shows(opened, rng, tmp_path, shape):
    import attention_core as ac

    query, key = (rng.normal(size=(count, 4)) for count in shape)
    (tmp_path / "a.html").write_text(ac.attend(query, key, key, scorer="dot")._repr_html_())
    with opened(tmp_path / "a.html", width=960) as page:
        frame = page.frame_locator("iframe").locator("main")
        frame.locator("#key li").first.wait_for()
        page.wait_for_timeout(300)
        tall = page.locator("iframe").bounding_box()["height"]
        assert tall - 30 <= frame.bounding_box()["height"] <= tall
