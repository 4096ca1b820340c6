"""A real Chromium before the shop; skipped with a reason where there is none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

MOST_MILLISECONDS = 60_000  # until a page shows what it should, on a machine with other work

NewPage = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, or whichever there is. REQUIRE_BROWSER=1: without one the test fails."""
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if program is None:
        message = f"No Chromium is installed: none of {', '.join(CHROMIUM)} is on the PATH."
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail(message)
        pytest.skip(message)
    with pytest.MonkeyPatch.context() as patch, sync_playwright() as playwright:
        # Playwright runs its event loop on this thread, and Django refuses to ask the database
        # where a loop is running. But none of our code runs in that loop, only Playwright's.
        expect.set_options(MOST_MILLISECONDS)
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        chromium = playwright.chromium.launch(executable_path=program, args=ARGS)
        yield chromium
        chromium.close()


@pytest.fixture
def new_page(browser: Browser, live_server: Any, settings: Any) -> Iterator[NewPage]:
    """A function that opens the shop for one more buyer; any error in a page fails the test."""
    settings.PAGES_PER_ADDRESS = settings.POSTS_PER_ADDRESS = None
    contexts: list[BrowserContext] = []
    errors: list[str] = []

    def open_page(**options: Any) -> Page:
        # A colour in transition may lack contrast when axe looks.
        context = browser.new_context(base_url=live_server.url, reduced_motion="reduce", **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(MOST_MILLISECONDS)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if _bad(message) else None)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert errors == []


def _bad(message: Any) -> bool:
    """Whether a page broke its own rules; that an answer was a 404 or 409 is no such thing."""
    return message.type == "error" and "Failed to load resource" not in message.text


@pytest.fixture
def page(new_page: NewPage) -> Page:
    return new_page()
