"""A browser that is offline, and pages in it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
]


@contextmanager
def launched() -> Iterator[Any]:
    """Start the browser of this machine; where there is none, the test is skipped."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    path = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)
    if path is None:
        pytest.skip("needs a browser: apt-get install chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


class Opened:
    """The page in a window of its own, and whatever went wrong there."""

    def __init__(self, browser: Any, path: Path, *, url: str | None = None, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.context.set_default_timeout(60_000)
        allowed = ("file:", "http://127.0.0.1:")  # this machine alone
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.context.route("**/*", lambda r: r.continue_() if r.request.url.startswith(allowed) else r.abort())
        self.page = self.context.new_page()
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(url or path.as_uri())
        self.settle()

    def settle(self) -> None:
        """Until what is drawn before the next frame, or because it has come near the window, is drawn."""
        for _ in range(2):
            self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def near(self, selector: str) -> Any:
        """An element that has come near the window."""
        element = self.page.locator(selector)
        element.scroll_into_view_if_needed()
        self.settle()
        return element

    def forget(self) -> None:
        """Show the page as it is without a hash."""
        self.page.evaluate("""() => {
            clearTimeout(writing);
            history.replaceState(null, "", location.pathname);
            readHash();
            chosen = new Map();
            runShown.clear();
            pause();
            hideCursor();
            byId("config-keys").value = "";
            build();
        }""")
        self.settle()
        self.page.evaluate("scrollTo(0, 0)")

    def check(self) -> None:
        """Nothing was asked of the network, and nothing failed."""
        asked = [url for url in self.requests if not url.startswith(("data:", "blob:"))]
        assert asked == [self.page.url.partition("#")[0]]
        assert self.complaints == []
        assert self.page.evaluate("window.hacked") is None

    def click(self, selector: str) -> None:
        self.page.locator(selector).click()
        self.settle()

    def order(self) -> list[int]:
        """The rows shown, from the top."""
        return [int(row.get_attribute("data-row")) for row in self.page.locator("tr.row:visible").all()]

    def filtered(self, text: str) -> set[int]:
        self.page.locator("#filter").fill(text)
        return set(self.order())

    def traces(self, metric: str, kind: str) -> dict[int, dict[str, Any]]:
        """The last trace of a kind for each row in a metric's chart."""
        plot = self.page.locator(f'[data-metric="{metric}"] .plot')
        found = plot.evaluate("node => node.data.map(({x, y, meta, line}) => ({x: [...x], y: [...y], meta, line}))")
        return {trace["meta"]["row"]: trace for trace in found if trace["meta"]["kind"] == kind}

    def move_to(self, step: int) -> None:
        self.page.locator("#step").fill(str(step))
        self.settle()
