"""A real browser for the tests: Chromium or Chrome without a window, driven by its own driver, asking no network."""

from __future__ import annotations

import base64
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MAC = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
DRAW_S = 60.0
"""How long a page may take to draw itself, on a machine that others use."""


def programs() -> tuple[str, str] | None:
    """Browser and driver; None where one of them is not installed."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    browser = browser or (str(MAC) if MAC.is_file() else None)
    beside = os.environ.get("CHROMEWEBDRIVER")  # the folder of the driver, on GitHub's runners
    driver = shutil.which("chromedriver") or (shutil.which("chromedriver", path=beside) if beside else None)
    return (browser, driver) if browser and driver else None


@dataclass
class Browser:
    """An open browser."""

    driver: Chrome
    shown: Path | None = None
    """The page that `keep` left open."""

    def keep(self, page: Path) -> None:
        """Open a file, unless it still is: for tests that leave a page as they found it."""
        if self.shown != page:
            self.open(page)
            self.shown = page

    def open(self, page: Path, *, dark: bool = False, width: int = 1280, height: int = 900) -> None:
        """Open a file and wait until its charts are drawn. What the console said before is forgotten."""
        self.shown = None
        self.requests()
        self.console()
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", media="", features=[theme])
        self.resize(width, height)
        self.driver.get(page.as_uri())
        until = time.monotonic() + DRAW_S
        while (state := self.run("return document.documentElement.dataset.ready")) is None:
            assert time.monotonic() < until, f"not drawn after {DRAW_S} s"
            time.sleep(0.02)
        assert state == "true", self.console()

    def drawn(self) -> None:
        """Wait until what was asked for by a button is drawn."""
        self.wait("return document.documentElement.dataset.ready === 'true'")

    def resize(self, width: int, height: int = 900) -> None:
        """The window's size, in pixels."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.command("Emulation.setDeviceMetricsOverride", **size)

    def run(self, script: str, *arguments: Any) -> Any:
        """Run a function's body in the page."""
        return self.driver.execute_script(script, *arguments)

    def command(self, name: str, **values: Any) -> Any:
        """Send a command of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(name, values)

    def console(self) -> list[str]:
        """What the console said since the last call."""
        return [f"{one['level']} {one['message']}" for one in self._log("browser")]

    def requests(self) -> list[str]:
        """The addresses that were asked for since the last call."""
        sent = [json.loads(one["message"])["message"] for one in self._log("performance")]
        return [one["params"]["request"]["url"] for one in sent if one["method"] == "Network.requestWillBeSent"]

    def _log(self, name: str) -> list[dict[str, Any]]:
        """What the driver kept since the last call; sent as a plain command, for `get_log` has no types."""
        found: list[dict[str, Any]] = self.driver.execute("getLog", {"type": name})["value"]
        return found

    def pdf(self) -> bytes:
        """The page as printed."""
        return base64.b64decode(self.driver.print_page())

    def wait(self, script: str, *arguments: Any) -> Any:
        """Wait until a function's body returns something; returns that."""
        until = time.monotonic() + DRAW_S
        while not (found := self.run(script, *arguments)):
            assert time.monotonic() < until, f"never true: {script}"
            time.sleep(0.02)
        return found


@contextmanager
def started(profile: Path) -> Iterator[Browser]:
    """A browser with an empty profile."""
    found = programs()
    assert found is not None
    options = ChromeOptions()
    options.binary_location = found[0]
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    patch = pytest.MonkeyPatch()
    patch.setenv("NO_PROXY", "localhost")  # the driver listens there; tests/conftest.py sends all else to a dead proxy
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options=options, service=Service(found[1]))
    patch.undo()
    try:
        driver.get("about:blank")
        yield Browser(driver)
    finally:
        driver.quit()
