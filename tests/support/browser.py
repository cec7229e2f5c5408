"""A real browser for tests: Chromium, driven by Playwright. Tests that need it are skipped if there is none."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser. CI installs Chromium as a Debian package (.ci/run)."""
    playwright = pytest.importorskip("playwright.sync_api")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


def opened(browser: Any, path: Path) -> tuple[Any, list[str]]:
    """A page that shows a file, and a list that collects its errors, warnings and requests to other places.

    Wait with locators: `wait_for_function` evaluates text in the page again and again, which the page's own content
    security policy forbids, so it fails if the text is not there at the first look.
    """
    page = browser.new_page(viewport={"width": 1500, "height": 1000}, accept_downloads=True)
    page.set_default_timeout(60_000)
    trouble: list[str] = []
    page.on("console", lambda message: trouble.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on(
        "request", lambda request: None if request.url.startswith(("file:", "blob:")) else trouble.append(request.url)
    )
    page.goto(path.as_uri())
    page.wait_for_selector(".cases .view")
    return page, trouble
