"""The site for readers: on a phone, with the keyboard, and in the search."""

from __future__ import annotations

import subprocess
import sys

import pytest
from site_extensions import DOCS

pytestmark = pytest.mark.slow

PAGES = [
    "index",
    "gallery",
    "tutorial/one-step",
    "how-to/pages",
    "performance",
    "reference/attending",
    "reference/messages",
    "explanation/architecture",
]


@pytest.fixture(scope="module")
def site(browser, tmp_path_factory):
    pytest.importorskip("furo")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html"]
    done = subprocess.run([*command, DOCS, folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", [1366, 400])
def test_everybody_can_read_a_page(opened, site, serious, name, width):
    with opened(site / f"{name}.html", width=width, check=False) as page:
        assert serious(page) == []


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_no_wider_than_a_phone(opened, site, name):
    with opened(site / f"{name}.html", width=400, check=False) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_the_first_screen_has_a_figure_that_works(opened, site):
    with opened(site / "index.html", height=768, check=False) as page:
        box = page.locator("iframe").bounding_box()
        assert box["y"] + 300 < 768
        frame = page.frame_locator("iframe")
        frame.locator("#query-6").hover()
        frame.locator("#key-name", has_text="j").wait_for()


def test_every_frame_shows_something(opened, site):
    for name in PAGES:
        with opened(site / f"{name}.html", check=False) as page:
            for frame in page.locator("iframe").all():
                frame.scroll_into_view_if_needed()
                frame.content_frame.locator("#figure").wait_for()


def test_frames_on_a_phone_are_as_tall_as_their_pages(opened, site):
    for name in PAGES:
        with opened(site / f"{name}.html", width=390, check=False) as page:
            for frame in page.locator("iframe").all():
                frame.scroll_into_view_if_needed()
                root = frame.content_frame.locator("html")
                frame.content_frame.locator("#figure").wait_for()
                assert root.evaluate("e => e.scrollHeight <= innerHeight"), frame


def test_tables_of_numbers_can_be_read_on_a_phone(opened, site):
    with opened(site / "performance.html", width=400, check=False) as page:
        page.evaluate(
            "document.querySelectorAll('.table-wrapper').forEach(e => e.scrollLeft = 150)"
        )
        row = page.locator("table.docutils tbody tr").nth(20)
        row.scroll_into_view_if_needed()
        first, number = row.locator("td").nth(0).bounding_box(), row.locator("td").nth(2)
        assert first["x"] >= 0  # the name of the case stays beside the numbers
        assert number.bounding_box()["height"] < 200
        assert number.evaluate("e => getComputedStyle(e).whiteSpace") == "nowrap"


def test_signatures_have_only_what_may_be_passed(opened, site):
    with opened(site / "reference/attending.html", check=False) as page:
        signature = page.inner_text("[id='attention_core.attend']")
        assert "weight_factors=None" in signature
        assert "unknown" not in signature


def test_names_and_numbers_in_tables_stay_on_one_line(opened, site):
    for name, selector in (
        ("how-to/migrate", "td code .pre"),
        ("performance", "td:not(:first-child) p"),
    ):
        with opened(site / f"{name}.html", check=False) as page:
            found = page.locator(f"table.docutils {selector}")
            assert found.count() > 20
            heights = found.evaluate_all(
                "all => all.map(e => e.offsetHeight / parseFloat(getComputedStyle(e).lineHeight))"
            )
            assert max(heights) < 1.5


@pytest.mark.parametrize(
    "query",
    [
        "must have one label per",
        "weights must be real numbers, got dtype float8",
        "key_labels must have one label per key, 7; got 3",
    ],
)
def test_the_search_finds_the_texts_of_errors(opened, site, query):
    with opened(site / "search.html", check=False) as page:
        page.fill("form[role=search] input[name=q] >> visible=true", query)
        page.keyboard.press("Enter")
        page.locator("#search-results li", has_text="Error messages").first.wait_for(timeout=20_000)
