"""The local backend: the suite, and what can go wrong on this machine alone."""

from __future__ import annotations

import dataclasses
import errno
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from backends.local import LocalBackend
from backends.local.processes import Starter
from launcher.backend import Backend, Handle, Need, State
from launcher.errors import RemoteError, SamerunError, StorageError
from launcher.files import is_held
from launcher.settings import Settings
from launcher.testing import watched
from launcher.testing.attempts import AttemptMaker
from launcher.testing.conformance import Again, Conformance, Faults, Given

AnyBackend = Backend[Any]


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
                "lose_reply": "submitting here sends no message; see test_a_submit_killed_after_the_start_is_found",
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


class TestFaultsOfThisMachine(LocalFixtures, Given):
    """What no other backend can meet."""

    def test_a_submit_killed_before_the_start_is_not_found_and_done_again(
        self, backend: AnyBackend, make_attempt: AttemptMaker
    ) -> None:
        attempt = make_attempt()
        killed_in("posix_spawn", lambda: backend.submit(backend.prepare(attempt)))
        assert [held.attempt for held in backend.owned()] == [attempt.id]
        assert backend.find(attempt) is None
        assert self.ended(backend, backend.submit(backend.prepare(attempt))).state is State.SUCCEEDED
        assert len(make_attempt.starts(attempt)) == 1

    def test_a_submit_killed_after_the_start_is_found(self, backend: AnyBackend, make_attempt: AttemptMaker) -> None:
        attempt = make_attempt()
        killed_in("waitpid", lambda: backend.submit(backend.prepare(attempt)))
        watched.wait_until(lambda: backend.find(attempt) is not None, self.patience_s, "nothing is found")
        assert self.ended(backend, backend.submit(backend.prepare(attempt))).state is State.SUCCEEDED
        assert len(make_attempt.starts(attempt)) == 1

    def test_a_box_that_was_never_started_can_be_cancelled_and_released(
        self, backend: AnyBackend, make_attempt: AttemptMaker
    ) -> None:
        attempt = make_attempt()
        killed_in("posix_spawn", lambda: backend.submit(backend.prepare(attempt)))
        (handle,) = backend.owned()
        assert backend.poll([handle])[attempt.id].state is State.QUEUED
        assert "cancel it first" in backend.release(handle)[0]
        assert backend.cancel(handle).state is State.CANCELLED
        assert backend.submit(backend.prepare(attempt)) == handle
        assert backend.poll([handle])[attempt.id].state is State.CANCELLED
        assert make_attempt.starts(attempt) == []
        assert backend.release(handle) == []
        assert backend.owned() == []

    def test_a_submit_killed_while_it_copies_leaves_nothing_half_done(
        self, backend: AnyBackend, make_attempt: AttemptMaker
    ) -> None:
        attempt = make_attempt()
        killed_in("replace", lambda: backend.submit(backend.prepare(attempt)), of=Path)
        assert (backend.find(attempt), backend.owned()) == (None, [])
        assert self.ended(backend, backend.submit(backend.prepare(attempt))).state is State.SUCCEEDED

    def test_a_worker_that_does_not_start_is_an_error_at_once(
        self, backend: AnyBackend, make_attempt: AttemptMaker
    ) -> None:
        request = backend.prepare(make_attempt())
        for argv in ((sys.executable, "-c", "raise SystemExit(3)", "box"), ("/no/such/python", "box")):
            with pytest.raises(SamerunError, match=r"exit code 3|cannot be started"):
                backend.submit(dataclasses.replace(request, argv=argv))
        assert backend.find(request.attempt) is None

    def test_it_runs_as_long_as_one_of_its_processes_does(
        self, backend: AnyBackend, make_attempt: AttemptMaker, faults: Faults
    ) -> None:
        attempt, handle = self.at_gate(backend, make_attempt, faults, stub={"child_s": 60, "child_group": 1})
        (start,) = make_attempt.starts(attempt)
        assert faults.kill_worker is not None
        faults.kill_worker(handle)
        watched.wait_until(lambda: start.process not in make_attempt.alive(attempt), 5.0, "the training goes on")
        (child,) = make_attempt.alive(attempt)
        assert backend.poll([handle])[attempt.id].state is State.RUNNING
        assert backend.release(handle) != []
        os.kill(child, signal.SIGKILL)
        assert self.ended(backend, handle).state is State.LOST

    def test_an_orphan_is_cancelled_though_nobody_answers(
        self, backend: AnyBackend, make_attempt: AttemptMaker, faults: Faults, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("backends.local.CANCEL_S", 0.2)
        attempt, handle = self.at_gate(backend, make_attempt, faults)
        (start,) = make_attempt.starts(attempt)
        os.kill(start.parent, signal.SIGSTOP)
        assert backend.cancel(handle).state is State.CANCELLED
        watched.wait_until(lambda: not make_attempt.alive(attempt), 1.0, "the training is alive")

    def test_a_poll_does_not_disturb_a_start(
        self, backend: AnyBackend, build: Again, make_attempt: AttemptMaker
    ) -> None:
        attempts = [make_attempt(epochs=1) for _ in range(3)]
        handles = [Handle("local", attempt.id, {}) for attempt in attempts]
        over = threading.Event()

        def poll() -> None:
            other = build()
            while not over.is_set():
                other.poll(handles)
                time.sleep(0.0002)

        thread = threading.Thread(target=poll)
        thread.start()
        try:
            for attempt in attempts:
                assert self.ended(backend, backend.submit(backend.prepare(attempt))).state is State.SUCCEEDED
        finally:
            over.set()
            thread.join()

    def test_several_followers_are_all_woken_also_beside_one_that_never_reads(
        self,
        backend: AnyBackend,
        again: Again,
        make_attempt: AttemptMaker,
        faults: Faults,
        settings: Settings,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        attempt, handle = self.at_gate(backend, make_attempt, faults, stub={"print": "much\n" * 2000})
        monkeypatch.chdir(settings.runs_dir / ".local" / attempt.id / "state")  # the path of a socket is short
        deaf = socket.socket(socket.AF_UNIX)
        deaf.connect("bell")
        found: list[list[str]] = []

        def follow() -> None:
            found.append(watched.wait_for_line(again(), handle, lambda line: watched.is_event(line, "done"), 20.0))

        threads = [threading.Thread(target=follow) for _ in range(5)]
        for thread in threads:
            thread.start()
        make_attempt.let_go(attempt)
        for thread in threads:
            thread.join(20.0)
        deaf.close()
        assert found == [watched.all_lines(backend, handle)] * 5
        assert found[0].count("much") == 6000

    def test_a_follower_that_leaves_disturbs_nothing(
        self,
        backend: AnyBackend,
        make_attempt: AttemptMaker,
        faults: Faults,
        settings: Settings,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        attempt, handle = self.at_gate(backend, make_attempt, faults)
        monkeypatch.chdir(settings.runs_dir / ".local" / attempt.id / "state")
        for _ in range(40):  # more than may wait in line
            with socket.socket(socket.AF_UNIX) as visitor:
                visitor.connect("bell")
        make_attempt.let_go(attempt)
        assert self.ended(backend, handle).state is State.SUCCEEDED

    @pytest.mark.parametrize(
        "name", ["with spaces", "q'uo\"tes $(x) `y` ;", "new\nline", "\u00fcn\u00efc\u00f6de \u2603", "-n", "long" * 50]
    )
    def test_the_runs_folder_may_have_any_name(
        self, settings: Settings, make_attempt: AttemptMaker, tmp_path: Path, name: str
    ) -> None:
        runs = tmp_path / name / "runs"
        backend = watched.watched(LocalBackend(dataclasses.replace(settings, runs_dir=runs)), self.limit_s)
        attempt = make_attempt(hold=1)
        handle = self.started(backend, attempt)
        watched.wait_for_line(backend, handle, lambda line: watched.is_event(line, "checkpoint"), self.patience_s)
        cursor = backend.lines(handle, "", 0.0).cursor
        threading.Timer(0.05, make_attempt.let_go, (attempt,)).start()
        begun = time.monotonic()
        assert backend.lines(handle, cursor, 10.0).lines, "the bell has not rung"
        assert time.monotonic() - begun < 2.0
        assert self.ended(backend, handle).state is State.SUCCEEDED
        manifest, _ = watched.manifest_of(backend, handle, tmp_path / "to")
        assert manifest.complete
        assert backend.release(handle) == []

    def test_a_runs_folder_that_cannot_be_is_a_finding_and_an_error_of_ours(
        self, settings: Settings, make_attempt: AttemptMaker, tmp_path: Path
    ) -> None:
        (tmp_path / "file").write_text("in the way")
        settings = dataclasses.replace(settings, runs_dir=tmp_path / "file" / "runs")
        backend = watched.watched(LocalBackend(settings), self.limit_s)
        assert [finding.severity for finding in backend.check() if finding.code == "local.runs-dir"] == ["error"]
        attempt = make_attempt()
        with pytest.raises(StorageError, match="file"):
            backend.submit(backend.prepare(attempt))
        assert (backend.find(attempt), backend.owned()) == (None, [])

    def test_links_of_the_outbox_are_not_followed(
        self, backend: AnyBackend, make_attempt: AttemptMaker, settings: Settings, tmp_path: Path
    ) -> None:
        attempt = make_attempt()
        handle = backend.submit(backend.prepare(attempt))
        self.ended(backend, handle)
        (settings.runs_dir / ".local" / attempt.id / "out" / "train" / "link").symlink_to("/etc/passwd")
        assert "train/link" not in [file.path for file in backend.files(handle) or ()]
        backend.fetch(handle, ["train/link"], tmp_path / "to")
        assert not (tmp_path / "to" / "train" / "link").exists()


def killed_in(name: str, work: Callable[[], object], of: object = os) -> None:
    """Do this work in a process that is killed when it calls os.NAME for the first time."""
    child = os.fork()
    if child == 0:
        setattr(of, name, lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGKILL))
        try:
            work()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


class TestSharedFolders:
    """A runs folder on a network file system, seen from a machine that is not the attempt's own."""

    def test_a_box_of_another_machine_is_unknown_and_left_alone(self, tmp_path: Path) -> None:
        backend = LocalBackend(Settings(tmp_path / "runs", tmp_path / "cache"))
        state = tmp_path / "runs" / ".local" / "tiny-abcdef-a1" / "state"
        state.mkdir(parents=True)
        (state / "host").write_text("another-machine")
        (state / "started").write_text(str(os.getpid()))  # whoever has this number here must not be harmed
        handle = Handle("local", "tiny-abcdef-a1")
        status = backend.poll([handle])["tiny-abcdef-a1"]
        assert status.state is State.UNKNOWN
        assert "another-machine" in status.reason
        with pytest.raises(RemoteError, match="another-machine"):
            backend.cancel(handle)
        assert backend.release(handle) != []
        (state / "exit.json").write_text('{"outcome": "done"}')
        assert backend.poll([handle])["tiny-abcdef-a1"].state is State.SUCCEEDED

    def test_a_file_system_without_locks_is_no_running_worker(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def no_locks(*_: object) -> None:
            raise OSError(errno.ENOSYS, "Function not implemented")

        monkeypatch.setattr("fcntl.flock", no_locks)
        with pytest.raises(OSError, match="not implemented"):
            is_held(tmp_path / "lock")


def test_cuda_that_is_hidden_is_not_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backends.local.CUDA_SIGNS", (str(tmp_path),))
    backend = LocalBackend(Settings(tmp_path / "runs", tmp_path / "cache"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert backend.offer(Need()).device == "cuda"
    assert not backend.offer(Need("cuda")).findings
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert backend.offer(Need()).device != "cuda"
    assert "CUDA_VISIBLE_DEVICES" in backend.offer(Need("cuda")).findings[0].evidence


def test_macos_is_kept_awake_for_as_long_as_the_supervisor_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What can be shown of it without a Mac: what is called, with which process, after the box was taken."""
    caffeinate = tmp_path / "caffeinate"
    caffeinate.write_text(f'#!/bin/sh\ncd {tmp_path} && echo "$@" > part && mv part called\n')
    caffeinate.chmod(0o755)
    box = tmp_path / "box"
    (box / "state").mkdir(parents=True)
    monkeypatch.setattr("backends.local.processes.CAFFEINATE", str(caffeinate))
    monkeypatch.setattr("backends.local.processes.sys.platform", "darwin")
    take = "import sys, os; open(os.path.join(sys.argv[1], 'state', 'started'), 'w').write('4711')"
    Starter().start((sys.executable, "-c", take), box, os.environ)
    watched.wait_until((tmp_path / "called").exists, 10.0, "caffeinate was not called")
    assert (tmp_path / "called").read_text().split() == ["-i", "-w", "4711"]
