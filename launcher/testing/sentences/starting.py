"""Sentences 1 to 4: nothing happens before submit, one attempt is one job, and what was sent is what arrives."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from launcher.backend import Backend, Feature, Handle, Need, Request, State
from launcher.errors import RemoteError, SpecError
from launcher.finding import Severity
from launcher.testing import watched
from launcher.testing.attempts import AttemptMaker
from launcher.testing.faults import Faults
from launcher.testing.sentences.given import Again, Given, needed, sees_processes

TOKEN = 'tok"en\\-\u00fc-7c1f0e9d52-\u00e9'
KEY_FILE = "-----BEGIN 7c1f0e9d52-----\nMIIEvgIBADANBgkqhki+7c1f0e9d52\n-----END 7c1f0e9d52-----\n"
KERNEL = b"7c1f0e9d52"  # in every way to write the secrets down
ODD_NAME = "J\u00fcrgen's best model (2).pt"
DATASET = {
    "images/a b.jpg": b"\xff\xd8 no picture",
    "images/\u00fc/2.jpg": b"2" * 5000,
    "labels/a b.txt": b"0 .5 .5 .1 .1\n",
}
THREADS = 6
HEAVY = ("torch", "ultralytics", "cv2", "matplotlib")
IMPORT = "import sys, importlib; importlib.import_module(sys.argv[1]); print(*sorted(sys.modules))"


class Starting(Given):
    """From nothing to a job that has all it needs."""

    def test_it_has_a_name_and_says_in_words_what_it_lacks(self, backend: Backend[Any]) -> None:
        assert re.fullmatch(r"[a-z][a-z0-9-]*", backend.name)
        for feature, reason in backend.lacks.items():
            assert isinstance(feature, Feature)
            assert len(reason.split()) > 2, f"{feature}: {reason!r} says nothing to a human"

    def test_importing_it_does_nothing_and_stays_light(self, build: Again, tmp_path: Path) -> None:
        module = type(build()).__module__
        before = watched.tree(tmp_path)
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}
        argv = [sys.executable, "-c", IMPORT, module]
        done = subprocess.run(argv, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
        assert done.stderr == ""
        assert len(done.stdout.splitlines()) == 1, "importing it prints something"
        assert not set(HEAVY) & set(done.stdout.split())
        assert watched.tree(tmp_path) == before

    def test_constructing_it_does_nothing(self, again: Again, tmp_path: Path) -> None:
        again()  # what comes with the first one, like an emulator that the fixture starts
        before = (watched.tree(tmp_path), dict(os.environ), Path.cwd())
        threads = set(threading.enumerate())
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)]
        again()
        assert (watched.tree(tmp_path), dict(os.environ), Path.cwd()) == before
        assert set(threading.enumerate()) <= threads
        assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)]

    def test_check_and_offer_have_no_side_effect(self, backend: Backend[Any], tmp_path: Path) -> None:
        before = watched.tree(tmp_path), backend.owned()
        findings = backend.check()
        offer = backend.offer(Need())
        assert (watched.tree(tmp_path), backend.owned()) == before
        assert [finding for finding in findings if not (finding.code and finding.message)] == []
        assert offer.machine
        assert offer.device in ("cpu", "cuda", "mps", "auto")

    def test_check_and_offer_report_missing_access(self, again: Again, faults: Faults) -> None:
        with needed(faults, "no_access")():
            backend = again()
            errors = [finding for finding in backend.check() if finding.severity is Severity.ERROR]
            backend.offer(Need())
        assert errors, "check() has nothing to say about missing access"
        assert all(finding.remedy for finding in errors)

    def test_a_machine_that_does_not_exist_is_an_error_finding(self, backend: Backend[Any]) -> None:
        def possible(device: str) -> bool:
            offer = backend.offer(Need(device=device))
            refused = any(finding.severity is Severity.ERROR for finding in offer.findings)
            assert refused or offer.device == device
            return not refused

        assert not possible("a-quantum-computer")
        assert not (possible("cuda") and possible("mps")), "no machine has both"

    def test_a_setting_that_does_not_exist_is_an_error_finding(self, backend: Backend[Any]) -> None:
        offer = backend.offer(Need(options={"no_such_setting": 1}))
        errors = [finding for finding in offer.findings if finding.severity is Severity.ERROR]
        assert any("no_such_setting" in finding.message for finding in errors)

    def test_prepare_has_no_side_effect(
        self, backend: Backend[Any], make_attempt: AttemptMaker, tmp_path: Path
    ) -> None:
        attempt = make_attempt(data=DATASET)
        before = watched.tree(tmp_path), backend.owned()
        backend.prepare(attempt)
        assert (watched.tree(tmp_path), backend.owned()) == before
        assert backend.find(attempt) is None

    def test_a_request_is_a_frozen_printable_value(
        self, backend: Backend[Any], again: Again, make_attempt: AttemptMaker
    ) -> None:
        attempt = make_attempt(model="a.pt")
        request = backend.prepare(attempt)
        assert isinstance(request, Request)
        for field in dataclasses.fields(request):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(request, field.name, None)
        shown = json.dumps(request.show())
        assert attempt.id in shown
        assert all(file.sha256 in shown for file in attempt.inputs)
        assert shown == json.dumps(again().prepare(attempt).show()), "the same attempt is prepared in two ways"

    @pytest.mark.parametrize("secret", [TOKEN, KEY_FILE], ids=["token", "key-file"])
    def test_no_secret_is_written_down(
        self,
        backend: Backend[Any],
        make_attempt: AttemptMaker,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        secret: str,
    ) -> None:
        monkeypatch.setenv("SUITE_SECRET", secret)
        attempt = make_attempt(variables={"TOKEN": "${env:SUITE_SECRET}"}, stub={"say": "TOKEN"})
        try:
            request = backend.prepare(attempt)
        except SpecError as error:
            pytest.skip(f"{backend.name} carries no variables: {error}")
        backend.stage(request, lambda what, done, of: None)
        handle = backend.submit(request)
        status = self.ended(backend, handle)
        lines = watched.all_lines(backend, handle)
        assert status.state is State.FAILED
        assert any("the secret is ***" in line for line in lines), "the training did not get its variable"
        told = [json.dumps(request.show()), repr(request), repr(handle), repr(status), *lines]
        assert [text for text in told if KERNEL.decode() in text] == []
        assert watched.files_with(tmp_path, KERNEL) == []

    def test_a_variable_that_is_not_set_stops_before_anything_is_sent(
        self, backend: Backend[Any], make_attempt: AttemptMaker
    ) -> None:
        attempt = make_attempt(variables={"TOKEN": "${env:SUITE_IS_NOT_SET}"})
        with pytest.raises(SpecError):
            watched.submitted(backend, attempt)
        assert backend.find(attempt) is None
        assert backend.owned() == []

    def test_find_says_nothing_before_and_the_handle_after(
        self, backend: Backend[Any], again: Again, make_attempt: AttemptMaker
    ) -> None:
        attempt, other = make_attempt(), make_attempt()
        assert backend.find(attempt) is None
        handle = watched.submitted(backend, attempt)
        assert backend.find(attempt) == handle
        assert again().find(attempt) == handle
        assert backend.find(other) is None
        assert (handle.backend, handle.attempt) == (backend.name, attempt.id)

    def test_submitting_again_is_the_same_job(
        self, backend: Backend[Any], again: Again, make_attempt: AttemptMaker, faults: Faults
    ) -> None:
        sees_processes(faults)
        attempt, handle = self.at_gate(backend, make_attempt, faults)
        assert watched.submitted(backend, attempt) == handle
        other = again()
        assert watched.submitted(other, attempt) == handle
        make_attempt.let_go(attempt)
        assert self.ended(backend, handle).state is State.SUCCEEDED
        assert watched.submitted(other, attempt) == handle
        self.ended(other, later := watched.submitted(other, make_attempt()))  # a second start would have come by now
        assert other.release(later) == []
        assert self.ended(other, handle).state is State.SUCCEEDED
        assert len(make_attempt.starts(attempt)) == 1
        assert [found.attempt for found in backend.owned()] == [attempt.id]

    def test_submitting_from_many_threads_at_once_is_one_job(
        self, backend: Backend[Any], again: Again, make_attempt: AttemptMaker, faults: Faults
    ) -> None:
        sees_processes(faults)
        attempt = make_attempt()
        barrier = threading.Barrier(THREADS)
        handles: list[Handle] = []

        def submit() -> None:
            mine = again()
            request = mine.prepare(attempt)
            barrier.wait()
            mine.stage(request, lambda what, done, of: None)
            handles.append(mine.submit(request))

        threads = [threading.Thread(target=submit) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(self.limit_s)
        assert handles == [handles[0]] * THREADS
        assert self.ended(backend, handles[0]).state is State.SUCCEEDED
        assert len(make_attempt.starts(attempt)) == 1

    def test_find_tells_what_became_of_a_lost_reply(
        self, backend: Backend[Any], again: Again, make_attempt: AttemptMaker, faults: Faults
    ) -> None:
        lose_reply = needed(faults, "lose_reply")
        attempt = make_attempt()
        request = backend.prepare(attempt)
        backend.stage(request, lambda what, done, of: None)
        with lose_reply(), contextlib.suppress(RemoteError):  # it may have looked it up itself
            backend.submit(request)
        found = again().find(attempt)
        assert found is not None
        assert backend.submit(request) == found
        assert self.ended(backend, found).state is State.SUCCEEDED
        assert not faults.same_machine or len(make_attempt.starts(attempt)) == 1

    def test_a_handle_works_in_another_process(
        self, backend: Backend[Any], again: Again, make_attempt: AttemptMaker, tmp_path: Path
    ) -> None:
        handle = watched.handed_over(watched.submitted(backend, make_attempt()))
        other = again()
        assert self.ended(other, handle).state is State.SUCCEEDED
        assert watched.events(watched.all_lines(other, handle))[-1]["event"] == "done"
        assert watched.manifest_of(other, handle, tmp_path / "to")[0].complete
        assert other.cancel(handle).state is State.SUCCEEDED
        assert other.release(handle) == []

    def test_two_attempts_are_two_jobs(self, backend: Backend[Any], make_attempt: AttemptMaker) -> None:
        good, bad = make_attempt(), make_attempt(stub={"fail_epoch": 1})
        first, second = (watched.submitted(backend, attempt) for attempt in (good, bad))
        assert self.ended(backend, second).state is State.FAILED
        assert self.ended(backend, first).state is State.SUCCEEDED
        for handle in (first, second):
            lines = watched.all_lines(backend, handle)
            assert {event["attempt"] for event in watched.events(lines)} == {handle.attempt}

    def test_inputs_and_dataset_arrive_as_they_were_sent(
        self, backend: Backend[Any], make_attempt: AttemptMaker
    ) -> None:
        attempt = make_attempt(model=ODD_NAME, data=DATASET, stub={"data": 1})
        status = self.ended(backend, watched.submitted(backend, attempt))
        assert (status.state, status.reason) == (State.SUCCEEDED, "")

    def test_a_checkpoint_that_is_sent_along_is_gone_on_from(
        self, backend: Backend[Any], make_attempt: AttemptMaker, tmp_path: Path
    ) -> None:
        handle = watched.submitted(backend, make_attempt(epochs=4, resume=2))
        assert self.ended(backend, handle).state is State.SUCCEEDED
        events = watched.events(watched.all_lines(backend, handle))
        assert [event["epoch"] for event in events if event["event"] == "resumed"] == [2]
        assert [event["epoch"] for event in events if event["event"] == "epoch"] == [3, 4]
        backend.fetch(handle, ["train/results.csv"], tmp_path / "to")
        rows = (tmp_path / "to/train/results.csv").read_text().splitlines()[1:]
        assert [row.split(",")[0] for row in rows] == ["1", "2", "3", "4"]
