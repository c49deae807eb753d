"""A real Chromium, drawing with its own software renderer, and pages in it."""

import os
import shutil
import threading
from contextlib import contextmanager

import pytest
from helpers.made_view import SHAPE, make_case, oblique_grid

from softlabels.grid import Grid

#: Without a graphics card, and without the lookups and updates that a browser begins by itself.
_ARGUMENTS = [
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
#: Compiling the page's shaders takes long where several tests share few cores.
READY_MS = 240_000


@pytest.fixture(scope="session")
def browser():
    """Return Playwright's handle of the system's Chromium."""
    if os.environ.get("SOFTLABELS_TEST_BROWSER") != "1":
        pytest.skip("needs the Chromium that `make test-browser` finds or installs")
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert path, "no chromium, chromium-browser or google-chrome in PATH"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, headless=True, args=_ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def serving(views):
    """Serve cases and give their address."""
    from softlabels.view.viewer.serve import Server, Viewer

    with Server(Viewer(views)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.address
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def opened(browser, address, **options):
    """Open an address, wait until all of its panels are drawn, and give the page and the requests it made."""
    context = browser.new_context(**({"viewport": {"width": 1500, "height": 900}} | options))
    try:
        page, faults, requests = context.new_page(), [], []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: requests.append(request.url))
        page.goto(address, wait_until="commit")
        page.wait_for_selector("body[data-state]", state="attached", timeout=READY_MS)
        assert page.evaluate("document.body.dataset.state") == "ready", page.inner_text("body")
        page.requests, page.faults = requests, faults
        yield page
    finally:
        context.close()


@pytest.fixture(scope="session")
def straight(tmp_path_factory):
    return make_case(tmp_path_factory.mktemp("straight"), "straight", Grid(SHAPE, (3.0, 1.0, 1.0)))


@pytest.fixture(scope="session")
def oblique(tmp_path_factory):
    return make_case(tmp_path_factory.mktemp("oblique"), "oblique", oblique_grid())


@pytest.fixture(scope="module")
def page(browser, straight):
    """A page of the straight case without a cross hair, which would hide what is under it."""
    with serving([straight[0]]) as address, opened(browser, address) as page:
        page.keyboard.press("x")
        yield page
