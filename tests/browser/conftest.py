"""Debian's chromium, driven headless; screenshots are kept in build/screenshots."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright
from runs import write_run

from recon.report.page import report

SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"
# WebGL without a graphics card.
SOFTWARE = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]

OpenPage = Callable[..., Page]

# Patience costs nothing where all is well.
expect.set_options(timeout=120_000)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        # A machine of a person may lack it; continuous integration installs it, and must not pass without.
        reason = "no chromium here: apt-get install chromium"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=found, args=SOFTWARE)


@pytest.fixture(scope="session")
def report_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on two runs, the second with the smaller error and a reference of its own."""
    folder = tmp_path_factory.mktemp("report")
    runs = [write_run(folder / "bunny" / "paper", 0.004), write_run(folder / "bunny" / "slow", 0.003, 0.0005)]
    report(runs, folder / "out")
    return folder / "out" / "index.html"


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Opens pages, and finds fault at the end with any that complained or asked the network."""
    complaints: list[str] = []
    contexts = []

    def complain(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and "GPU stall" not in message.text:
            complaints.append(message.text)

    def open_address(address: str, width: int = 1200, scheme: str = "light", motion: str = "reduce") -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion=motion
        )
        contexts.append(context)
        context.set_default_timeout(120_000)
        page = context.new_page()
        page.on("console", complain)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: _local(request.url) or complaints.append(f"asked for {request.url}"))
        page.goto(address)
        return page

    yield open_address
    for context in contexts:
        context.close()
    assert complaints == []


def _local(url: str) -> bool:
    return url.startswith(("file:", "data:", "blob:", "http://127.0.0.1:"))


@pytest.fixture
def report_page(open_page: OpenPage, report_file: Path) -> Page:
    page = open_page(report_file.as_uri())
    page.wait_for_selector("#object[data-drawn]")
    return page
