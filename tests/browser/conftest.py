"""A browser for the tests: the system's Chromium, without a network."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager

import pytest

NAMES = "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"


def _missing(why):
    """Skip, or fail if a browser is required."""
    if os.environ.get("ATTENTION_CORE_NEED_BROWSER") == "1":
        pytest.fail(why)
    pytest.skip(why)


@pytest.fixture(scope="session")
def browser():
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _missing("needs the dependency group browser")
    found = os.environ.get("ATTENTION_CORE_CHROMIUM") or next(
        filter(None, map(shutil.which, NAMES)), None
    )
    if found is None:
        _missing("needs Chromium: apt-get install chromium, or ATTENTION_CORE_CHROMIUM=its path")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield started
        started.close()


class Opened:
    """An open page, its requests and its error messages."""

    def __init__(self, page, url):
        self.page, self.url = page, url
        self.requests, self.complaints = [], []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _hear(self, message):
        if message.type == "error":
            self.complaints.append(message.text)

    def check(self):
        """Assert that it requested only itself, and reported no errors."""
        others = {url for url in self.requests if not url.startswith(("data:", "about:srcdoc"))}
        assert others == {self.url}
        assert self.complaints == []


@pytest.fixture
def opened(browser):
    """Open a file: ``with opened(path, width=390, color_scheme="dark") as page``."""

    @contextmanager
    def open_file(path, *, width=1366, height=900, check=True, **options):
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        context.set_offline(True)
        found = Opened(context.new_page(), path.as_uri())
        found.page.goto(found.url)
        yield found.page
        context.close()
        if check:
            found.check()

    return open_file


@pytest.fixture(scope="session")
def serious():
    """The serious and critical violations that axe finds in a page."""
    try:
        from axe_playwright_python.sync_playwright import Axe
    except ImportError:
        _missing("needs the dependency group browser")

    def run(page):
        return [
            (found["id"], [node["html"] for node in found["nodes"]])
            for found in Axe().run(page).response["violations"]
            if found["impact"] in ("serious", "critical")
        ]

    return run
