"""A real browser, Debian's Chromium, in front of a whole mesh whose model answers by rule."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.browser.seat import seat
from tests.browser.visitor import READY_MS, Visit, Visitor
from tests.system.mesh import Mesh

SWITCHES = [
    "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
SCREEN = {"width": 1280, "height": 800}


@pytest.fixture(scope="session", autouse=True)
def chromium() -> str:
    """Its path; looked for before a mesh is started."""
    path = shutil.which("chromium")
    if not path:
        pytest.skip("Chromium is missing: apt-get install chromium")
    return path


@pytest.fixture(scope="package")
def browser(chromium: str) -> Iterator[Browser]:
    """Closed with the last test of this folder: its loop would be in the way of tests that have one of their own."""
    expect.set_options(timeout=READY_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=SWITCHES)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser, scripted_mesh: Mesh, tmp_path: Path) -> Iterator[Visit]:
    """People who come to the page, each with a browser profile of their own. With an account they are signed in."""
    with ExitStack() as leaving:

        def come(account: str = "", **options: Any) -> Visitor:
            context = browser.new_context(**{"viewport": SCREEN, "reduced_motion": "reduce", **options})
            context.set_default_timeout(READY_MS)
            leaving.callback(context.close)
            place = seat(scripted_mesh.port, account) if account else None
            return Visitor.arrive(context, scripted_mesh.url, place)

        yield come


@pytest.fixture
def member(visit: Visit) -> Visitor:
    """Acme's member, signed in."""
    return visit("member@acme")
