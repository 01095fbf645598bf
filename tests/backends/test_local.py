"""The local backend: the suite, and what can go wrong on this machine alone."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from backends.local import LocalBackend
from launcher.backend import Handle
from launcher.settings import Settings
from launcher.testing.conformance import Conformance, Faults
from launcher.testing.sentences.given import Again


class LocalFixtures:
    """What the suite needs to know of the local backend."""

    @pytest.fixture
    def build(self, settings: Settings) -> Again:
        return lambda: LocalBackend(settings)

    @pytest.fixture
    def faults(self, settings: Settings, tmp_path: Path) -> Faults:
        def box(handle: Handle) -> Path:
            return settings.runs_dir / ".local" / handle.attempt

        def tell(handle: Handle, number: int) -> None:
            os.kill(int((box(handle) / "state" / "started").read_text()), number)

        def rewrite(handle: Handle, path: str, size: int, first: bytes) -> None:
            file = box(handle) / "out" / path
            file.write_bytes((first + file.read_bytes()[len(first) :])[:size])

        def append(handle: Handle, data: bytes) -> None:
            with (box(handle) / "out" / "stream.log").open("ab") as stream:
                stream.write(data)

        return Faults(
            silence=no_files_left_to_open,
            kill_worker=lambda handle: tell(handle, signal.SIGKILL),
            stop_machine=lambda handle: tell(handle, signal.SIGTERM),
            corrupt=lambda handle, path: rewrite(handle, path, 1 << 30, b"*"),
            truncate=lambda handle, path: rewrite(handle, path, 100, b""),
            remove=lambda handle, path: (box(handle) / "out" / path).unlink(),
            append=append,
            reasons={
                "lose_reply": "submitting here sends no message; see test_a_submit_killed_half_way",
                "no_access": "this machine asks for no credentials",
            },
        )


@contextmanager
def no_files_left_to_open() -> Iterator[None]:
    """This process can open nothing more: the one way in which this machine does not answer."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    probe = os.dup(0)
    os.close(probe)
    resource.setrlimit(resource.RLIMIT_NOFILE, (probe, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class TestLocal(LocalFixtures, Conformance):
    """The whole suite."""
