"""The program on the host, called here: what it does when machines restart, files are torn and others were first."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.ssh.agent import box, facts, keep, lines
from backends.ssh.agent.answer import Refusal
from launcher.bundle.pack import worker_bytes
from tests.worker.laid import STUB, until
from tests.worker.test_portable import python as python_of

ATTEMPT = "tiny-abcdef-a1"


def inputs(**files: bytes) -> tuple[list[dict[str, Any]], bytes]:
    """What the question for a box says of its files, and their bytes."""
    listed = [
        {"path": path.replace("__", "/"), "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for path, data in files.items()
    ]
    return listed, b"".join(files.values())


def lay(root: Path, *, epochs: int = 2, attempt: str = ATTEMPT, **stub: object) -> Path:
    """A box with the stub payload, laid out by the agent."""
    job = {"version": 1, "train": {"epochs": epochs}, "restarts": 0, "stub": {"epoch_s": 0.01, **stub}}
    files = {"worker.pyz": worker_bytes(), "payload.py": STUB.encode(), "job.json": json.dumps(job).encode()}
    listed, body = inputs(**files)
    described = {"version": 1, "attempt": attempt, "run": "tiny", "number": 1, "bundle": "", "device": "cpu"}
    described.update(variables=[], resume=None, files={})
    asked = {"attempt": attempt, "files": listed, "attempt_json": described}
    box.lay_out(str(root), asked, io.BytesIO(body))
    return root / "boxes" / attempt


def start(root: Path, **env: str) -> dict[str, Any]:
    return box.start(str(root), {"attempt": ATTEMPT, "env": env, "wait": 20.0})


def state(root: Path) -> str:
    found = box.status(str(root), ATTEMPT)
    return str(found.get("outcome") or found["state"])


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "root"
    leader = box.leader_of(str(tmp_path / "root/boxes" / ATTEMPT))
    if leader and box.is_held(str(tmp_path / "root/boxes" / ATTEMPT / "state/lock")):
        os.killpg(leader, signal.SIGKILL)


@contextmanager
def held(path: Path) -> Iterator[None]:
    """The lock of a worker that lives."""
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def test_a_box_is_laid_out_started_and_ends(root: Path) -> None:
    assert state(root) == "lost"
    lay(root)
    assert state(root) == "queued"
    assert start(root) == {"how": "session"}
    until(lambda: state(root) == "done", 20)
    assert start(root) == {"how": ""}, "it is not started again"
    assert box.status(str(root), ATTEMPT)["exit_code"] == 0
    assert box.release(str(root), ATTEMPT) == []
    assert box.boxes(str(root)) == []


def test_of_many_that_start_it_at_once_one_does(root: Path, tmp_path: Path) -> None:
    (tmp_path / "marks").mkdir()
    lay(root, marks=str(tmp_path / "marks"))
    threads = [threading.Thread(target=start, args=(root,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until(lambda: state(root) == "done", 20)
    assert len(list((tmp_path / "marks").iterdir())) == 1


def test_a_worker_that_cannot_start_is_refused_and_one_that_is_slow_is_not_known(root: Path) -> None:
    folder = lay(root)
    (folder / "in/worker.pyz").write_bytes(b"no zip")
    with pytest.raises(Refusal, match="exit code 1") as refused:
        start(root)
    assert not refused.value.unsure
    (folder / "in/worker.pyz").unlink()
    (folder / "in/worker.pyz").mkdir()
    (folder / "in/worker.pyz/__main__.py").write_text("import time; time.sleep(1)")
    with pytest.raises(Refusal, match=r"not within 0.1 s") as slow:
        box.start(str(root), {"attempt": ATTEMPT, "env": {}, "wait": 0.1})
    assert slow.value.unsure


def test_a_restart_of_the_host_is_told_from_a_supervisor_that_was_killed(root: Path) -> None:
    folder = lay(root)
    (folder / "state/started").write_text("1")
    (folder / "state/lock").touch()
    assert "killed" in box.status(str(root), ATTEMPT)["reason"]
    home = json.loads((folder / "state/machine.json").read_text())
    (folder / "state/machine.json").write_text(json.dumps({**home, "boot": "another"}))
    assert box.status(str(root), ATTEMPT) == {"state": "lost", "reason": "the host was restarted", "started": True}
    with held(folder / "state/lock"):
        assert state(root) == "running"
    (folder / "state/exit.json").write_text('{"outcome": "do')  # torn by a power cut
    assert state(root) == "lost"
    (folder / "state/exit.json").write_text('{"outcome": "done"}')
    assert state(root) == "done"


def test_a_box_of_a_host_that_shares_this_folder_is_left_alone(root: Path) -> None:
    folder = lay(root)
    (folder / "state/machine.json").write_text('{"node": "other", "boot": "x"}')
    (folder / "state/started").write_text(str(os.getpid()))  # whoever has this number here must not be harmed
    assert state(root) == "unknown"
    assert "other" in box.status(str(root), ATTEMPT)["reason"]
    assert box.cancel(str(root), ATTEMPT, 0.1, kill=True)["state"] == "unknown"
    assert "other" in box.release(str(root), ATTEMPT)[0]
    with pytest.raises(Refusal, match="other"):
        start(root)
    (folder / "state/exit.json").write_text('{"outcome": "done"}')
    with held(folder / "state/lock"):
        assert state(root) == "done", "a lock here says nothing of a worker there"


def test_a_cancel_before_the_start_keeps_it_from_starting(root: Path, tmp_path: Path) -> None:
    (tmp_path / "marks").mkdir()
    lay(root, marks=str(tmp_path / "marks"))
    assert box.cancel(str(root), ATTEMPT, 1.0, kill=False)["outcome"] == "cancelled"
    assert start(root) == {"how": ""}
    time.sleep(0.2)
    assert (state(root), list((tmp_path / "marks").iterdir())) == ("cancelled", [])


def test_a_supervisor_that_does_not_answer_is_killed_with_all_its_session(root: Path) -> None:
    lay(root, epoch_s=30)
    start(root)
    leader = box.leader_of(str(root / "boxes" / ATTEMPT))
    assert os.getsid(leader) == leader, "it would end with the login's session"
    until(lambda: (root / "boxes" / ATTEMPT / "out/stream.log").stat().st_size, 10)
    os.kill(leader, signal.SIGSTOP)
    assert box.cancel(str(root), ATTEMPT, 0.1, kill=False)["state"] == "running"
    assert box.cancel(str(root), ATTEMPT, 5.0, kill=True)["state"] == "cancelled"


def test_a_box_is_whole_or_not_there(root: Path) -> None:
    listed, body = inputs(**{"job.json": b"{}", "payload.py": b"x" * 1000})
    asked = {"attempt": ATTEMPT, "files": listed, "attempt_json": {}}
    with pytest.raises(ValueError, match="were announced"):
        box.lay_out(str(root), asked, io.BytesIO(body[:-1]))
    with pytest.raises(Refusal, match="other bytes"):
        box.lay_out(str(root), asked, io.BytesIO(body[:-1] + b"y"))
    missing = [{"path": "resume/last.pt", "sha256": "0", "sent": "0/last.pt"}]
    with pytest.raises(Refusal, match="is gone"):
        box.lay_out(str(root), {**asked, "files": missing}, io.BytesIO())
    assert list((root / "boxes").iterdir()) == []
    assert box.lay_out(str(root), asked, io.BytesIO(body)) == {"made": True}
    assert box.lay_out(str(root), asked, io.BytesIO()) == {"made": False}


def test_a_box_that_another_attempt_lays_out_is_not_swept_away(root: Path) -> None:
    theirs = root / "boxes" / f".part-{ATTEMPT}-more-a1-{os.getpid()}"
    theirs.mkdir(parents=True)
    lay(root)
    assert theirs.is_dir()


def test_a_lock_that_was_deleted_is_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    both, entered = threading.Barrier(2), threading.Event()

    def wait() -> None:
        both.wait()
        with box.locked(str(path), wait=True):
            entered.set()
            both.wait()

    with box.locked(str(path), wait=False):
        threading.Thread(target=wait, daemon=True).start()
        both.wait()
        time.sleep(0.1)  # it waits for the lock by now
        path.unlink()
    assert entered.wait(5)
    with box.locked(str(path), wait=False) as free:
        assert not free
    both.wait()


def test_a_worker_that_finds_the_box_taken_by_one_that_dies_is_not_known(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay(root)
    with held(root / "boxes" / ATTEMPT / "state/lock"), pytest.raises(Refusal, match="did not take") as refused:
        box.start(str(root), {"attempt": ATTEMPT, "env": {}, "wait": 1.0})
    assert refused.value.unsure


def test_what_one_that_was_killed_has_half_laid_out_is_swept_away(root: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    part = root / f"boxes/.part-{ATTEMPT}-{dead.pid}"
    alive = root / f"boxes/.part-{ATTEMPT}-{os.getppid()}"
    for each in (part, alive):
        each.mkdir(parents=True)
    lay(root)
    assert (part.exists(), alive.exists()) == (False, True)
    assert box.boxes(str(root)) == [ATTEMPT]


@given(st.text())
def test_a_name_is_a_folder_of_ours_or_refused(name: str) -> None:
    for made in (box.box_of, box._inside):
        try:
            found = os.path.normpath(made("/root", name))
        except Refusal:
            continue
        assert found == "/root" or found.startswith("/root/")


@pytest.mark.parametrize("path", ["../out", "/etc/passwd", "a/../../b"])
def test_inputs_cannot_be_laid_outside(root: Path, path: str) -> None:
    listed, body = inputs(**{path: b"x"})
    with pytest.raises(Refusal, match="leads out"):
        box.lay_out(str(root), {"attempt": ATTEMPT, "files": listed, "attempt_json": {}}, io.BytesIO(body))


@given(st.lists(st.binary().map(lambda data: data.replace(b"\n", b"")), max_size=8), st.integers(0, 40))
def test_lines_are_whole_and_from_any_line_s_end_on_the_same(parts: list[bytes], cut: int) -> None:
    import tempfile

    stream = b"\n".join(parts)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "out").mkdir()
        (Path(folder) / "out/stream.log").write_bytes(stream)
        whole = lines.read(folder, 0)
        assert whole == stream[: stream.rfind(b"\n") + 1]
        for at in (at + 1 for at, byte in enumerate(whole) if byte == 10):
            assert lines.read(folder, at) == whole[at:]
        assert lines.read(folder, len(whole) + cut) == b""


def test_a_dataset_counts_when_its_mark_and_every_size_are_there(tmp_path: Path) -> None:
    root, name = str(tmp_path / "root"), "ab12"
    assert not keep.has_data(root, name)
    picture = tmp_path / "root/data" / name / "images/1.png"
    picture.parent.mkdir(parents=True)
    picture.write_bytes(b"12345")
    assert not keep.has_data(root, name), "it has no mark"
    with pytest.raises(Refusal, match="has not arrived whole"):
        keep.seal_data(root, name, [["images/1.png", 6]])
    keep.seal_data(root, name, [["images/1.png", 5]])
    assert keep.has_data(root, name)
    picture.write_bytes(b"1234")
    assert not keep.has_data(root, name)
    assert [(entry["key"], entry["size"]) for entry in keep.kept(root)] == [("data/ab12", 4)]
    assert keep.discard(root, "data/ab12") == keep.discard(root, "data/ab12") == []
    assert not (tmp_path / "root").exists(), "nothing is left"


@pytest.mark.parametrize("key", ["", "data", "data/..", "data/a/b", "boxes/x", "../x", "agents/x", "/", "envs/.lock"])
def test_nothing_else_can_be_discarded(tmp_path: Path, key: str) -> None:
    (tmp_path / "boxes/x").mkdir(parents=True)
    with pytest.raises(Refusal):
        keep.discard(str(tmp_path), key)
    assert (tmp_path / "boxes/x").exists()


def test_an_environment_that_is_being_made_is_not_discarded(tmp_path: Path) -> None:
    (tmp_path / "envs/abc").mkdir(parents=True)
    with held(tmp_path / "envs/abc.lock"):
        assert "being made" in keep.discard(str(tmp_path), "envs/abc")[0]
    assert keep.discard(str(tmp_path), "envs/abc") == []


def test_a_scope_is_used_where_the_user_lingers_and_it_works(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What can be shown of it without systemd: when it is called, and that the worker starts all the same."""
    import pwd

    programs = tmp_path / "programs"
    programs.mkdir()
    program = programs / "systemd-run"
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/called\nwhile [ "$1" != -- ]; do shift; done\nshift\nexec "$@"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setattr(facts, "LINGER", str(tmp_path / "linger"))
    assert box._scope() == ((), "session")
    (tmp_path / "linger").mkdir()
    (tmp_path / "linger" / pwd.getpwuid(os.getuid()).pw_name).touch()
    lay(root)
    assert start(root, SECRET="7c1f0e9d52") == {"how": "scope"}
    until(lambda: state(root) == "done", 20)
    called = (tmp_path / "called").read_text()
    assert "--user --scope" in called
    assert "7c1f0e9d52" not in called
    program.write_text("#!/bin/sh\nexit 1\n")
    assert box._scope() == ((), "session")


def test_facts_are_told_and_nothing_is_left(tmp_path: Path) -> None:
    argv = [sys.executable, "-I", "-", str(tmp_path / "r"), "abc", "thorough", "/called"]
    done = subprocess.run(argv, input=Path(facts.__file__).read_bytes(), capture_output=True, check=True, timeout=30)
    found = json.loads(done.stdout)
    assert (found["called"], found["exists"], found["agent"]) == ("/called", False, False)
    assert found["boot"] == facts.boot_id() != ""
    assert found["disk"] > 0
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("version", ["3.9", "3.10", "3.14"])
def test_each_module_can_be_imported_by_every_python_that_may_run_it(tmp_path: Path, version: str) -> None:
    python = python_of(version)
    (tmp_path / "agent").mkdir()
    for path in Path(facts.__file__).parent.glob("*.py"):
        shutil.copy(path, tmp_path / "agent")
    names = ", ".join(path.stem for path in (tmp_path / "agent").glob("[a-z]*.py"))
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from agent import {names}, __main__"
    subprocess.run([python, "-I", "-S", "-c", program], check=True, timeout=30)
