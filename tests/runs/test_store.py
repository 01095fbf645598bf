"""The store: run.json is the truth, the index says the same, whoever was killed in between and whatever was deleted."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from launcher.errors import IntegrityError, NotFoundError, StorageError
from launcher.runs import record as records
from launcher.runs import store as module
from launcher.runs.record import AttemptRecord, RunRecord
from launcher.runs.state import NEXT, IllegalTransitionError, RunState
from launcher.runs.store import INDEX, Store, _row, open_run
from launcher.settings import Settings

ROOT = Path(__file__).parent.parent.parent


class Killed(BaseException):
    """Stands for SIGKILL."""


def fresh(run: str, name: str = "run", created: float = 1.0, **more: Any) -> RunRecord:
    return RunRecord(run, name, "local", RunState.CREATED, f"key of {name}", "b", created, created, **more)


def damage(path: Path, how: str) -> None:
    """Ways in which an index is lost."""
    if how == "gone":
        path.unlink(missing_ok=True)
    elif how == "empty":
        path.unlink(missing_ok=True)
        path.touch()
    elif how == "text":
        path.write_bytes(b"this is no database at all, not even nearly" * 100)
    elif how == "half":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif how == "other":
        path.unlink(missing_ok=True)
        with contextlib.closing(sqlite3.connect(path)) as db:
            db.execute("CREATE TABLE runs (id)")
            db.commit()


DAMAGES = ["gone", "empty", "text", "half", "other"]


class StoreMachine(RuleBasedStateMachine):
    """Any sequence of what launches do, by two stores at once, with kills and a damaged index in between."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="samerun-store-"))
        self.stores = [Store(self.root), Store(self.root)]
        self.model: dict[str, RunRecord] = {}
        self.clock = 1.0

    def teardown(self) -> None:
        for store in self.stores:
            store._close()
        shutil.rmtree(self.root)

    def tick(self) -> float:
        self.clock += 1
        return self.clock

    def draw(self, data: st.DataObject) -> RunRecord:
        return self.model[data.draw(st.sampled_from(sorted(self.model)))]

    @rule(name=st.sampled_from(["a", "a-b", "c"]), which=st.integers(0, 1))
    def create(self, name: str, which: int) -> None:
        store = self.stores[which]
        record = fresh(store.new_id(name), name, self.tick())
        store.create(record, {"spec.yaml": b"x"})
        self.model[record.id] = record

    @precondition(lambda self: self.model)
    @rule(data=st.data(), state=st.sampled_from(RunState), which=st.integers(0, 1))
    def move(self, data: st.DataObject, state: RunState, which: int) -> None:
        record = self.draw(data)
        if state is not record.state and state not in NEXT[record.state]:
            with pytest.raises(IllegalTransitionError):
                record.move(state, self.tick())
            return
        moved = record.move(state, self.tick(), reason=f"to {state}", epoch=int(self.clock))
        self.stores[which].save(moved)
        self.model[record.id] = moved

    @precondition(lambda self: self.model)
    @rule(data=st.data(), which=st.integers(0, 1), written=st.booleans())
    def killed_while_saving(self, data: st.DataObject, which: int, written: bool) -> None:
        """Before the record is written, or between the record and the index."""
        record = replace(self.draw(data), notes=f"at {self.tick()}", epoch=int(self.clock))
        write = records.write

        def killed(folder: Path, found: RunRecord, *, durable: bool = False) -> None:
            if written:
                write(folder, found, durable=durable)
            raise Killed

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(records, "write", killed)
            with pytest.raises(Killed):
                self.stores[which].save(record)
        self.stores[which] = Store(self.root)
        if written:
            self.model[record.id] = record

    @rule(how=st.sampled_from(DAMAGES))
    def lose_the_index(self, how: str) -> None:
        for store in self.stores:
            store._close()  # what a process still holds open is another file from now on
        if (self.root / INDEX).exists():
            for end in ("-wal", "-shm"):
                (self.root / f"{INDEX}{end}").unlink(missing_ok=True)
            damage(self.root / INDEX, how)

    @rule(which=st.integers(0, 1))
    def rebuild(self, which: int) -> None:
        assert self.stores[which].rebuild() == (len(self.model), [])

    @precondition(lambda self: self.model)
    @rule(data=st.data(), which=st.integers(0, 1))
    def remove(self, data: st.DataObject, which: int) -> None:
        record = self.draw(data)
        self.stores[which].remove(record.id)
        del self.model[record.id]

    @invariant()
    def the_index_says_what_the_folders_say(self) -> None:
        expected = sorted(map(_row, self.model.values()), key=lambda row: (-row.created, row.id))
        for store in self.stores:
            assert store.rows() == expected
            assert store.rows(2) == expected[:2]
        for record in self.model.values():
            assert self.stores[0].read(record.id) == record

    @invariant()
    def what_is_unfinished_is_found(self) -> None:
        for name in ("a", "a-b", "c"):
            going = [r for r in self.model.values() if r.name == name and not r.state.ended]
            found = self.stores[1].unfinished(f"key of {name}")
            assert [record.id for record in found] == [r.id for r in sorted(going, key=lambda r: r.created)]


StoreMachine.TestCase.settings = settings(
    max_examples=25, stateful_step_count=15, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestStore = StoreMachine.TestCase


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


def test_looking_makes_nothing(store: Store) -> None:
    assert store.rows() == []
    assert store.unfinished("k") == []
    assert not store.root.exists()


@pytest.mark.parametrize("how", DAMAGES)
def test_a_lost_index_is_made_again_while_others_have_it_open(store: Store, how: str) -> None:
    other = Store(store.root)
    for number in range(30):
        store.create(fresh(f"run-{number:02}", created=number), {})
    assert len(other.rows()) == 30
    damage(store.root / INDEX, how)
    with contextlib.suppress(sqlite3.Error):
        store.save(fresh("run-07", created=7, reason="new"))
    newest = Store(store.root)
    for found in (newest, other, store):
        rows = {row.id: row.reason for row in found.rows()}
        assert len(rows) == 30
        assert rows["run-07"] == "new"


def test_the_first_save_after_the_index_was_deleted_forgets_nobody(store: Store) -> None:
    store.create(fresh("run-a"), {})
    store._close()
    (store.root / INDEX).unlink()
    Store(store.root).create(fresh("run-b"), {})
    assert {row.id for row in Store(store.root).rows()} == {"run-a", "run-b"}


def test_a_record_that_cannot_be_read_hides_no_other(store: Store) -> None:
    store.create(fresh("run-a"), {})
    store.create(fresh("run-b"), {})
    store.create(fresh("run-c"), {})
    (store.folder("run-b") / records.FILE).write_text("{")
    odd = (store.folder("run-c") / records.FILE).read_text().replace('"created": 1.0', '"created": {"a": 1}')
    (store.folder("run-c") / records.FILE).write_text(odd)
    count, bad = store.rebuild()
    assert count == 2
    assert len(bad) == 2
    assert [row.id for row in store.rows()] == ["run-a"]
    with pytest.raises(IntegrityError):
        store.read("run-b")


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{}", '{"state": "flying"}', "[" * 100_000, '{"attempts": 7}', "\0"]
)
def test_a_damaged_record_is_an_integrity_error(store: Store, text: str) -> None:
    store.create(fresh("run-a"), {})
    (store.folder("run-a") / records.FILE).write_text(text)
    with pytest.raises(IntegrityError):
        store.read("run-a")


def test_a_record_comes_back_as_it_was(store: Store) -> None:
    attempt = AttemptRecord("run-a-a1", 1, "local", 2.0, handle={"box": "/x"}, reason="ü\n", started={"a": [1, None]})
    record = fresh("run-a", attempts=(attempt,), metrics={"m": None}, findings=({"code": "x"},), notes="é")
    store.create(record, {})
    assert store.read("run-a") == record


def test_a_newer_version_of_the_record_is_read(store: Store) -> None:
    store.create(fresh("run-a"), {})
    file = store.folder("run-a") / records.FILE
    file.write_text(file.read_text().replace('"version": 1', '"version": 2, "sparkle": [1]'))
    assert store.read("run-a").id == "run-a"


def test_runs_are_found_by_what_people_type(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.create(fresh("smoke-aaaaaa", "smoke", 1.0), {})
    store.create(fresh("smoke-aabbbb", "smoke", 3.0), {})
    store.create(fresh("smoke-2-cccccc", "smoke-2", 2.0), {})
    assert store.resolve("smoke-aaaaaa") == "smoke-aaaaaa"
    assert store.resolve("smoke-aaa") == "smoke-aaaaaa"
    assert store.resolve("smoke") == "smoke-aabbbb"
    assert store.resolve("smoke-2") == "smoke-2-cccccc"
    assert store.resolve(str(store.folder("smoke-aaaaaa"))) == "smoke-aaaaaa"
    monkeypatch.chdir(store.root)
    assert store.resolve("./smoke-aaaaaa/") == "smoke-aaaaaa"
    with pytest.raises(NotFoundError, match="2 runs"):
        store.resolve("smoke-aa")
    for text in ("", "nothing", "../runs", "smoke%", "'; DROP TABLE runs; --", "\0", "/"):
        with pytest.raises(NotFoundError):
            store.resolve(text)
    elsewhere = Store(tmp_path / "elsewhere")
    elsewhere.create(fresh("far-aaaaaa", "far"), {})
    with pytest.raises(NotFoundError, match="another runs folder") as caught:
        store.resolve(str(elsewhere.folder("far-aaaaaa")))
    assert str(elsewhere.root) in (caught.value.remedy or "")


def test_a_run_is_opened_where_it_lies(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Settings(runs_dir=store.root, cache_dir=tmp_path / "cache")
    store.create(fresh("smoke-aaaaaa", "smoke"), {})
    elsewhere = Store(tmp_path / "elsewhere")
    elsewhere.create(fresh("far-aaaaaa", "far"), {})
    settings, found, record = open_run(here, "smoke")
    assert (settings, found.root, record.id) == (here, store.root, "smoke-aaaaaa")
    settings, found, record = open_run(here, str(elsewhere.folder("far-aaaaaa")))
    assert (settings.runs_dir, settings.cache_dir) == (elsewhere.root.resolve(), here.cache_dir)
    assert (found.root, record.id) == (elsewhere.root.resolve(), "far-aaaaaa")
    monkeypatch.chdir(elsewhere.folder("far-aaaaaa"))
    assert open_run(here, ".")[2].id == "far-aaaaaa"
    assert open_run(here, str(store.folder("smoke-aaaaaa")))[0] == here
    with pytest.raises(NotFoundError) as caught:
        open_run(here, "far")
    assert f"runs are looked for in {store.root}; set SAMERUN_RUNS_DIR" in (caught.value.remedy or "")


def test_who_wants_to_drive_waits_for_who_only_looks(store: Store) -> None:
    store.create(fresh("run-a"), {})
    other, found = Store(store.root), []

    def drive() -> None:
        with other.driving("run-a") as free:
            found.append(free)

    with store.looking("run-a") as looks:
        assert looks
        thread = threading.Thread(target=drive)
        thread.start()
        thread.join(0.2)
        assert found == []
    thread.join(5)
    assert found == [True]
    with store.driving("run-a"), other.looking("run-a") as looks:
        assert not looks


def test_a_wish_to_end_lasts_until_it_is_forgotten(store: Store) -> None:
    store.create(fresh("run-a"), {})
    assert not store.wished_cancelled("run-a")
    store.wish_cancelled("run-a")
    assert Store(store.root).wished_cancelled("run-a")
    store.forget_cancelled("run-a")
    store.forget_cancelled("run-a")
    assert not store.wished_cancelled("run-a")


def test_a_full_disk_while_rebuilding_is_a_storage_error(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.create(fresh("run-a"), {})

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(module, "_put", full)
    with pytest.raises(StorageError) as caught:
        store.rebuild()
    assert caught.value.remedy


def test_one_process_drives_and_others_see_it(store: Store) -> None:
    store.create(fresh("run-a"), {})
    other = Store(store.root)
    with store.driving("run-a") as first, other.driving("run-a") as second:
        assert (first, second) == (True, False)
        assert other.driven("run-a")
    assert not other.driven("run-a")
    with other.driving("run-a") as again:
        assert again


def test_an_error_while_driving_is_not_blamed_on_the_lock(store: Store) -> None:
    store.create(fresh("run-a"), {})
    with pytest.raises(PermissionError), store.driving("run-a"):
        raise PermissionError(13, "Permission denied", "/elsewhere")


def test_a_runs_folder_that_is_a_file_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(StorageError) as caught:
        Store(tmp_path / "runs").create(fresh("run-a"), {})
    assert caught.value.remedy


SAVER = """
import sys
from dataclasses import replace
from pathlib import Path
from launcher.runs.record import RunRecord
from launcher.runs.state import RunState
from launcher.runs.store import Store
store, me = Store(Path(sys.argv[1])), sys.argv[2]
record = RunRecord(f"run-{me}", "run", "local", RunState.CREATED, "k", "b", 1.0, 1.0)
store.create(record, {})
for number in range(int(sys.argv[3])):
    record = replace(record, epoch=number)
    store.save(record)
    if number % 20 == 3 and me == "0":
        store.rebuild()
    store.rows()
"""


def test_several_processes_at_once_with_rebuilds_between(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", SAVER, str(tmp_path / "runs")]
    started = [subprocess.Popen([*argv, str(number), "60"], cwd=ROOT, stderr=subprocess.PIPE) for number in range(3)]
    for process in started:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors.decode()
    assert {row.id: row.epoch for row in Store(tmp_path / "runs").rows()} == dict.fromkeys(
        ["run-0", "run-1", "run-2"], 59
    )


def test_killed_while_it_saves_index_and_folder_agree(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    for delay in (0.15, 0.2, 0.25, 0.3):
        process = subprocess.Popen([sys.executable, "-c", SAVER, str(root), f"x{delay}", "100000"], cwd=ROOT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(delay + 0.1)
        process.kill()
        process.wait()
        store = Store(root)
        for row in store.rows():
            assert row == _row(store.read(row.id))


def test_the_index_is_only_a_file_in_the_runs_folder(store: Store) -> None:
    store.create(fresh("run-a"), {"spec.yaml": b"x"})
    assert sorted(os.listdir(store.folder("run-a"))) == ["run.json", "spec.yaml"]  # noqa: PTH208
    assert module.INDEX in os.listdir(store.root)  # noqa: PTH208
