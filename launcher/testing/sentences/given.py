"""What every test of the suite is given: a backend on a place of its own, attempts to give it, faults to do to it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from launcher.backend import Attempt, Backend, Feature, Handle, Status
from launcher.errors import SamerunError
from launcher.settings import Settings
from launcher.testing import watched
from launcher.testing.attempts import AttemptMaker
from launcher.testing.faults import Faults

T = TypeVar("T")
Again = Callable[[], Backend[Any]]
HOMES = {"HOME": "", "XDG_CONFIG_HOME": ".config", "XDG_CACHE_HOME": ".cache", "XDG_DATA_HOME": ".local/share"}


class Given:
    """Fixtures, two of which a backend's tests define; and how long things may take."""

    patience_s = 30.0
    """How long a stub attempt may take from submit to its end."""
    limit_s = 45.0
    """How long one call of the backend may take."""
    slack_s = 3.0
    """How much longer than it was told to wait a call for lines may take."""
    device = "auto"
    """What attempts ask for: `cpu` where the machines of `auto` have a GPU that the tests' machine has not."""

    @pytest.fixture
    def settings(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
        """Settings that name folders of this test's own. None of them exists yet."""
        for variable, folder in HOMES.items():
            monkeypatch.setenv(variable, str(tmp_path / "home" / folder))
        (tmp_path / "home").mkdir(exist_ok=True)
        return Settings(runs_dir=tmp_path / "runs", cache_dir=tmp_path / "cache")

    @pytest.fixture
    def build(self, settings: Settings) -> Again:
        """To be defined: a callable that gives a new backend object on this test's place."""
        raise NotImplementedError("define the fixture `build` in the backend's test class")

    @pytest.fixture
    def faults(self) -> Faults:
        """To be defined, for the tests that break something."""
        return Faults()

    @pytest.fixture
    def again(self, build: Again) -> Again:
        """A callable that gives one more backend object on the same place, as another process would have."""
        return lambda: watched.watched(build(), self.limit_s)

    @pytest.fixture
    def backend(self, again: Again) -> Backend[Any]:
        """A backend that nothing was submitted to yet."""
        return again()

    @pytest.fixture
    def make_attempt(self, again: Again, faults: Faults, settings: Settings, tmp_path: Path) -> Iterator[AttemptMaker]:
        """A callable that gives new attempts; afterwards everything that they started is ended and released."""
        maker = AttemptMaker(
            tmp_path / "made", settings.cache_dir, same_machine=faults.same_machine, device=self.device
        )
        yield maker
        maker.end_all()
        backend = again()
        for attempt in maker.made:
            with contextlib.suppress(SamerunError, AssertionError):
                if (handle := backend.find(attempt)) is not None:
                    watched.ended(backend, handle, self.patience_s)
                    backend.release(handle)

    # What several tests do.

    def ended(self, backend: Backend[Any], handle: Handle) -> Status:
        """Wait for the attempt's end."""
        return watched.ended(backend, handle, self.patience_s)

    def started(self, backend: Backend[Any], attempt: Attempt) -> Handle:
        """Submit, and wait until a machine works on it."""
        handle = watched.submitted(backend, attempt)
        watched.until(backend, handle, watched.running, self.patience_s)
        return handle

    def at_gate(
        self, backend: Backend[Any], maker: AttemptMaker, faults: Faults, **options: Any
    ) -> tuple[Attempt, Handle]:
        """An attempt that has done its first epoch and waits there."""
        attempt = maker(hold=1, epochs=3, **options)
        handle = self.started(backend, attempt)
        if Feature.LIVE_LINES not in backend.lacks:
            watched.wait_for_line(backend, handle, lambda line: watched.is_event(line, "checkpoint"), self.patience_s)
        elif faults.same_machine:
            watched.wait_until(lambda: bool(maker.alive(attempt)), self.patience_s, "the payload has not started")
        return attempt, handle


def needed(faults: Faults, name: str) -> Any:
    """The fault of this name; skips the test when the backend's tests cannot bring it about."""
    fault = getattr(faults, name)
    if fault is None:
        pytest.skip(f"fault {name!r}: {faults.reasons.get(name, 'not offered by the tests of this backend')}")
    return fault


def sees_processes(faults: Faults) -> None:
    """Skip a test that looks at the worker's processes where it cannot."""
    if not faults.same_machine:
        pytest.skip("the worker's processes are on another computer")


def can(backend: Backend[Any], feature: Feature) -> None:
    """Skip a test of a feature that this backend lacks, with the reason that it gives."""
    if feature in backend.lacks:
        pytest.skip(f"{backend.name} lacks {feature}: {backend.lacks[feature]}")
