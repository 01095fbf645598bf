"""The browser that the report's tests look with."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.report.browser import Browser, programs, started


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests of a process. Skips where there is none, and fails there in CI."""
    if programs() is None:
        missing = "needs a browser: install chromium and chromium-driver (or Chrome and chromedriver)"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    with started(tmp_path_factory.mktemp("profile")) as found:
        yield found
