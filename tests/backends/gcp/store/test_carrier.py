"""The carrier as a whole: it brings a box home whatever happens to it, to the network and to the worker."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from backends.gcp.store import Store, carrier_bytes
from backends.gcp.store.carrier import carry as carry_module
from backends.gcp.store.carrier.box import GONE, LOST, RUNNING, WAITING, Box
from backends.gcp.store.carrier.carry import Pace
from backends.gcp.store.carrier.trouble import LOG_BYTES, Trouble
from backends.local.box import status_of
from launcher.backend import State
from tests.backends.gcp.store.world import BUCKET, RUN, FakeBox, carrying, names_in, slow, until
from tests.emulators.storage import StorageEmulator


def assert_home(store: Store, box: FakeBox, to: Path) -> None:
    """Stream, manifest and files are those of the box."""
    outbox = store.attempt(RUN, box.attempt, box.number)
    lines, cursor = list[str](), ""
    while (found := outbox.lines(cursor)).lines:
        lines += found.lines
        cursor = found.cursor
    assert lines == box.printed().decode().split("\n")[:-1]
    entries = box.entries()
    assert outbox.fetch(["manifest.json", *(entry["at"] for entry in entries)], to) == {}
    assert (to / "manifest.json").read_bytes() == Path(box.worker.manifest).read_bytes()
    for entry in entries:
        assert hashlib.sha256((to / entry["at"]).read_bytes()).hexdigest() == entry["sha256"]


def test_a_box_comes_home_and_the_mark_is_the_last_that_is_written(
    box: FakeBox, store: Store, storage: StorageEmulator, tmp_path: Path
) -> None:
    outbox = store.attempt(RUN, box.attempt, 1)
    outbox.open()
    with carrying(box.carrier(store)):
        until(lambda: outbox.outcome().box == "waiting")
        box.start().say(b"one\n")
        assert outbox.lines("", wait=5).lines == ("one",)
        box.epoch(1)
        until(lambda: outbox.files())
        until(lambda: outbox.outcome().box == "running")
        assert not outbox.outcome().ended
        box.say(b"two\n")
        box.end()
    outcome = outbox.outcome()
    assert (outcome.ended, outcome.exit, outcome.lost) == (True, {"outcome": "done", "exit_code": 0}, False)
    assert_home(store, box, tmp_path / "came")
    writes = [call.name for call in storage.requests if call.operation == "storage.objects.insert"]
    assert writes[-1].endswith("finished.json")
    assert writes[-3].endswith("exit.json") or writes[-2].endswith("exit.json")
    storage.requests.clear()
    outbox.outcome()
    assert len(storage.requests) == 1


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_supervisor_that_died_without_a_word_is_carried_as_it_lies(
    cancelled: bool, box: FakeBox, store: Store, tmp_path: Path
) -> None:
    with carrying(box.carrier(store)):
        box.start().say(b"one\nhalf a li")
        box.epoch(1)
        if cancelled:
            Path(box.worker.cancel).touch()
        box.die()
    outcome = store.attempt(RUN, box.attempt, 1).outcome()
    assert (outcome.ended, outcome.exit, outcome.lost, outcome.cancelled) == (True, None, not cancelled, cancelled)
    assert_home(store, box, tmp_path / "came")


def test_a_carrier_sees_in_a_box_what_the_local_backend_sees(box: FakeBox) -> None:
    same = {State.QUEUED: WAITING, State.RUNNING: RUNNING, State.LOST: LOST}
    seen = Box(str(box.root))

    def agree() -> str:
        assert same[status_of(box.root).state] == seen.look()
        return seen.look()

    assert agree() == WAITING
    box.start()
    assert agree() == RUNNING
    box.die()
    assert agree() == LOST
    Path(box.worker.exit).write_text("{torn")
    assert agree() == LOST
    Path(box.worker.exit).write_text('{"outcome": "done"}')
    assert seen.look() == "ended"
    assert Box(str(box.root / "nothing")).look() == GONE


def test_a_box_that_is_gone_ends_its_carrier(store: Store, tmp_path: Path) -> None:
    box = FakeBox(tmp_path / "short")
    carrier = box.carrier(store)
    box.root.rename(tmp_path / "away")
    assert carrier.work() == 1


def test_hours_of_silence_are_waited_out_in_bounded_memory(
    box: FakeBox, storage: StorageEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock is wound: each request fails at once, each pause takes no time."""
    store = Store(BUCKET, seconds=0.05)
    pauses: list[float] = []
    silent = storage.faults.add("503", on="*", times=None)

    def pause(self: object, seconds: float) -> None:
        pauses.append(seconds)
        if sum(pauses) > 8 * 3600:
            storage.faults.clear()
        time.sleep(0.0005)

    monkeypatch.setattr(carry_module.Carrier, "_sleep", pause)
    monkeypatch.setattr("backends.gcp.store.carrier.objects.Objects.options", lambda _self, *_: {"retry": None})
    box.start().say(b"one\n" * 1000)
    box.epoch(1)
    box.end()
    with carrying(box.carrier(store, retry=60.0), limit=60):
        pass
    assert silent.hits > 300
    assert max(pauses) <= 60
    log = (box.root / "state/carrier.log").read_text()
    assert "503" in log
    assert "goes on, after it failed" in log
    assert len(log) < 20_000
    assert_home(store, box, tmp_path / "came")
    assert "503" in store.attempt(RUN, box.attempt, 1).log()


def test_trouble_is_seen_from_afar_while_it_lasts(box: FakeBox, store: Store, storage: StorageEmulator) -> None:
    outbox = store.attempt(RUN, box.attempt, 1)
    box.start().epoch(1)
    storage.faults.add("403", on=f"{BUCKET}/samerun/runs/{RUN}/objects/*", times=None)
    with carrying(box.carrier(store)):
        until(lambda: "Forbidden" in outbox.outcome().trouble)
        assert "Forbidden" in outbox.log()
        storage.faults.clear()
        until(lambda: outbox.outcome().trouble == "" and outbox.files())
        box.end()


def test_lines_do_not_wait_for_a_large_file(box: FakeBox, store: Store, storage: StorageEmulator) -> None:
    box.start().epoch(1)
    storage.faults.add("slow", on=f"{BUCKET}/samerun/runs/{RUN}/objects/*", seconds=1.5)
    outbox = store.attempt(RUN, box.attempt, 1)
    with carrying(box.carrier(store)):
        box.say(b"one\n")
        assert outbox.lines("", wait=1.0).lines == ("one",)
        assert outbox.files() is None
        box.end()


def test_two_carriers_do_not_carry_one_box(box: FakeBox, store: Store) -> None:
    with carry_module.only_one(str(box.root / "state/carrier.lock")) as mine:
        assert mine
        assert box.carrier(store).run() == 0
        assert box.carrier(store).run() == 0


def test_the_pause_between_pieces_grows_with_the_run() -> None:
    pace = Pace()
    assert [pace.between(age) for age in (0, 600, 3600, 86400)] == [1.0, 1.0, 6.0, 15.0]
    age, pieces = 0.0, 0
    while age < 24 * 3600:
        age += pace.between(age)
        pieces += 1
    assert pieces < 8000


def test_the_log_of_trouble_stays_small(tmp_path: Path) -> None:
    trouble = Trouble(str(tmp_path / "log"))
    for number in range(3000):
        trouble.note("files", ValueError(f"number {number} {'x' * 100}"))
    assert len((tmp_path / "log").read_bytes()) < 2 * LOG_BYTES
    assert "number 2999" in (tmp_path / "log").read_text()
    assert "number 2999" in str(trouble)
    assert len(trouble.tail()) <= LOG_BYTES


class Program:
    """carrier.pyz in a process of its own, as on the VM."""

    def __init__(self, folder: Path, box: FakeBox, store: Store) -> None:
        self.file = folder / "carrier.pyz"
        self.file.write_bytes(carrier_bytes())
        self.box = box
        config = box.config(store)
        (box.root / "in/carrier.json").write_text(json.dumps(config))

    def start(self) -> subprocess.Popen[bytes]:
        argv = [sys.executable, str(self.file), "carry", str(self.box.root)]
        return subprocess.Popen(argv, start_new_session=True, env=dict(os.environ))


@pytest.mark.parametrize("kills", [1, *slow(12)])
def test_a_carrier_that_is_killed_again_and_again_loses_nothing(
    kills: int, box: FakeBox, store: Store, tmp_path: Path
) -> None:
    """Real processes, real SIGKILLs, at no chosen moment."""
    chance = random.Random(kills)
    program = Program(tmp_path, box, store)
    box.start()
    process = program.start()
    outbox = store.attempt(RUN, box.attempt, 1)
    for number in range(kills):
        for part in range(5):
            box.say(f"line {number} {part}\n".encode() * chance.randrange(200))
        box.epoch(number + 1)
        if number == 0:
            until(lambda: outbox.lines("").lines, 15)
        time.sleep(chance.uniform(0.0, 0.8) if kills > 1 else 0.0)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process = program.start()
    box.end()
    assert process.wait(30) == 0
    assert outbox.outcome().ended
    assert_home(store, box, tmp_path / "came")
    assert program.start().wait(30) == 0


def test_a_machine_that_is_told_to_stop_carries_the_last_word(box: FakeBox, store: Store, tmp_path: Path) -> None:
    program = Program(tmp_path, box, store)
    (box.root / "in/carrier.json").write_text(
        json.dumps({**box.config(store), "pace": {"look": 60, "first": 60, "most": 60, "alive": 60}})
    )
    box.start().say(b"one\n")
    process = program.start()
    outbox = store.attempt(RUN, box.attempt, 1)
    until(lambda: outbox.outcome().alive, 15)
    process.terminate()
    box.epoch(1)
    box.say(b"two\n")
    box.end("expired")
    assert process.wait(10) == 0
    assert outbox.outcome().exit == {"outcome": "expired", "exit_code": 1}
    assert_home(store, box, tmp_path / "came")


@pytest.mark.parametrize("seed", [1, 2, *slow(*range(3, 60))])
def test_any_weather(
    seed: int, box: FakeBox, storage: StorageEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random faults of the service on everything that the carrier asks, while the worker works."""
    chance = random.Random(seed)
    store = Store(BUCKET, seconds=0.5)
    monkeypatch.setattr("backends.gcp.store.carrier.objects.Objects.options", _impatient)
    kinds = ["503", "429", "reset", "lose-reply", "503-after", "cut-upload", "500", "corrupt", "truncated", "502"]
    kinds += ["stall", "stall-upload", "stall-after", "stall-stream"] if seed > 2 else []
    box.start()
    with carrying(box.carrier(store), limit=60):
        for epoch in range(1, 5):
            for _ in range(3):
                storage.faults.add(chance.choice(kinds), on=chance.choice(("*", "storage.objects.*")))
            box.say(f"epoch {epoch}\n".encode())
            box.epoch(epoch)
            time.sleep(chance.uniform(0, 0.1))
        box.end()
    storage.faults.clear()
    assert_home(Store(BUCKET), box, tmp_path / "came")
    outcome = Store(BUCKET).attempt(RUN, box.attempt, 1).outcome()
    assert (outcome.ended, outcome.missing) == (True, ())


def _impatient(self: object, seconds: float | None = None) -> dict[str, object]:
    """No retries by the library: what the carrier itself does is what is tested."""
    return {"timeout": (1.0, 1.0), "retry": None}


def test_what_is_released_is_gone_and_the_last_takes_the_run_along(
    box: FakeBox, store: Store, storage: StorageEmulator, tmp_path: Path
) -> None:
    first, second = store.attempt(RUN, box.attempt, 1), store.attempt(RUN, f"{RUN}-a2", 2)
    first.open()
    with carrying(box.carrier(store)):
        box.start().epoch(1)
        box.end("failed")
    second.open()
    assert {outbox.attempt for outbox in store.owned()} == {first.attempt, second.attempt}
    assert [outbox.number for outbox in store.owned()] == [1, 2]
    assert first.release() == []
    assert first.release() == []
    assert not [name for name in names_in(storage) if first.attempt in name]
    assert [name for name in names_in(storage) if f"runs/{RUN}/objects/" in name]
    assert second.release() == []
    assert names_in(storage) == []
    assert store.owned() == []


def test_what_cannot_be_deleted_is_said(box: FakeBox, store: Store, storage: StorageEmulator) -> None:
    outbox = store.attempt(RUN, box.attempt, 1)
    with carrying(box.carrier(store)):
        box.start().end()
    call: Callable[..., object] = lambda *_: None  # noqa: E731
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("backends.gcp.store.carrier.objects.Objects.delete", call)
        assert "still has" in outbox.release()[0]
