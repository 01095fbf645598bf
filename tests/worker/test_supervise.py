"""The supervisor, in a process of its own, on a box laid by hand: kills, floods, lies, full disks."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.worker.laid import ATTEMPT, STUB, Laid, alive, until

NOTE = "open(os.path.join(box.work, {name!r}), 'w').write('%d\\n' % os.getpid())\n"
SLEEP = NOTE.format(name="pid") + "time.sleep(60)\n"


def numbered(box: Laid) -> bool:
    return [event["seq"] for event in box.events] == list(range(1, len(box.events) + 1))


def test_a_training_from_its_first_line_to_its_last_word(tmp_path: Path) -> None:
    box = Laid(tmp_path / "box")
    assert box.run() == 0
    assert box.epochs() == [1, 2, 3]
    assert box.events[-1]["event"] == "done"
    assert numbered(box)
    assert all(event["attempt"] == ATTEMPT for event in box.events)
    manifest = (box.root / "out/manifest.json").read_bytes()
    assert box.exit["outcome"] == "done"
    assert box.exit["manifest"] == box.events[-1]["manifest"] == hashlib.sha256(manifest).hexdigest()
    assert json.loads(manifest)["complete"] is True
    for file in json.loads(manifest)["files"]:
        assert file["written"] == round((box.root / "out" / file["at"]).stat().st_mtime, 3)
    assert not box.held


def test_exit_json_is_written_last(tmp_path: Path) -> None:
    box = Laid(tmp_path / "box")
    box.run()
    stamp = (box.root / "state/exit.json").stat().st_mtime_ns
    others = [path for path in (box.root / "out").rglob("*") if path.is_file()]
    assert stamp >= max(path.stat().st_mtime_ns for path in others)


def test_a_killed_training_is_named_and_goes_on(tmp_path: Path) -> None:
    box = Laid(tmp_path / "box")
    assert box.run(SAMERUN_STUB_KILL_EPOCH="2") == 0
    assert box.epochs() == [1, 2, 3]
    (warning,) = box.named("warning")
    assert (warning["code"], warning["signal"], warning["restart"]) == ("trainer-killed", "SIGKILL", 1)
    assert [event["epoch"] for event in box.named("resumed")] == [1]
    assert [event["epoch"] for event in box.named("epoch")] == [1, 2, 3]
    assert numbered(box)


@pytest.mark.parametrize("restarts", [0, 2])
def test_restarts_are_counted_and_then_it_has_failed(tmp_path: Path, restarts: int) -> None:
    box = Laid(tmp_path / "box", "say('start\\n'); os.kill(os.getpid(), signal.SIGSEGV)", restarts=restarts)
    assert box.run() == 128 + signal.SIGSEGV
    assert box.log == ["start"] * (restarts + 1)
    assert len(box.named("warning")) == restarts
    assert box.exit["outcome"] == "failed"
    assert "SIGSEGV" in box.exit["reason"]


def test_a_training_that_fails_by_itself_is_not_started_again(tmp_path: Path) -> None:
    box = Laid(tmp_path / "box")
    assert box.run(SAMERUN_STUB_FAIL_EPOCH="2") == 1
    assert len(box.named("started")) == 1
    assert box.exit["outcome"] == "failed"
    manifest = json.loads((box.root / "out/manifest.json").read_bytes())
    assert (manifest["complete"], manifest["epoch"]) == (False, 1)
    assert any("told to fail" in line for line in box.log)


def test_a_python_that_is_not_there_is_a_failure_with_a_reason(tmp_path: Path) -> None:
    box = Laid(tmp_path / "box")
    box.describe(python="/no/such/python")
    assert box.run() == 127
    assert box.exit["outcome"] == "failed"
    assert "/no/such/python" in box.exit["reason"]
    assert box.named("failed")


def test_however_often_it_is_started_it_runs_once(tmp_path: Path) -> None:
    payload = "open(os.path.join(box.work, 'starts'), 'a').write('x'); time.sleep(0.5)"
    box = Laid(tmp_path / "box", payload)
    started = [box.start() for _ in range(6)]
    assert sorted(process.wait(30) for process in started) == [0] * 6
    assert box.run() == 0
    assert box.mark("starts").read_text() == "x"
    assert len(box.named("done")) == 1


def test_when_the_supervisor_is_killed_all_is_gone_and_the_lock_is_free(tmp_path: Path) -> None:
    child = f"[sys.executable, '-c', {'import time; time.sleep(60)'!r}]"
    payload = (
        f"child = subprocess.Popen({child})\nopen(os.path.join(box.work, 'child'), 'w').write('%d\\n' % child.pid)\n"
    )
    box = Laid(tmp_path / "box", payload + SLEEP)
    supervisor = box.start()
    pids = [box.pid("pid"), box.pid("child")]
    assert box.held
    supervisor.kill()
    supervisor.wait()
    until(lambda: not any(map(alive, pids)), 2.0)
    until(lambda: not box.held, 2.0)
    assert not (box.root / "state/exit.json").exists()


def test_what_the_training_leaves_behind_is_killed(tmp_path: Path) -> None:
    payload = f"""
child = subprocess.Popen([sys.executable, '-c', {"import time; time.sleep(60)"!r}])
open(os.path.join(box.work, 'child'), 'w').write('%d\\n' % child.pid)
"""
    box = Laid(tmp_path / "box", payload)
    assert box.run() == 0
    until(lambda: not alive(box.pid("child")), 2.0)
    until(lambda: not box.held, 2.0)


def test_cancelled_before_it_starts_it_trains_nothing(tmp_path: Path) -> None:
    box = Laid(tmp_path / "box", "say('never\\n')")
    (box.root / "state/cancel").touch()
    box.run()
    assert box.exit["outcome"] == "cancelled"
    assert box.log == []
    assert box.named("failed")[0]["outcome"] == "cancelled"


@pytest.mark.parametrize("cancel", [True, False])
def test_told_to_stop_it_is_cancelled_or_expired(tmp_path: Path, cancel: bool) -> None:
    box = Laid(tmp_path / "box", SLEEP)
    supervisor = box.start()
    pid = box.pid("pid")
    if cancel:
        (box.root / "state/cancel").touch()
    supervisor.terminate()
    supervisor.wait(5)
    assert not alive(pid)
    assert box.exit["outcome"] == ("cancelled" if cancel else "expired")
    assert box.exit["reason"] == ("cancelled" if cancel else "the machine sent SIGTERM")
    assert json.loads((box.root / "out/manifest.json").read_bytes())["complete"] is False


def test_a_training_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    script = "import samerun_worker.supervise as s; s.GRACE_S = 0.3; sys.exit(s.supervise(sys.argv[1]))"
    box = Laid(tmp_path / "box", "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SLEEP)
    text = f"import sys; sys.path.insert(0, {str(box.root / 'in/worker.pyz')!r}); {script}"
    supervisor = subprocess.Popen([sys.executable, "-c", text, str(box.root)], start_new_session=True)
    pid = box.pid("pid")
    supervisor.terminate()
    supervisor.wait(5)
    assert not alive(pid)
    assert box.exit["outcome"] == "expired"


def test_a_deadline_is_an_end_that_can_be_gone_on_from(tmp_path: Path) -> None:
    script = "import samerun_worker.supervise as s; s.DEADLINE_GRACE_S = 0.2; sys.exit(s.supervise(sys.argv[1]))"
    box = Laid(tmp_path / "box", SLEEP, max_hours=0.5 / 3600)
    text = f"import sys; sys.path.insert(0, {str(box.root / 'in/worker.pyz')!r}); {script}"
    begun = time.monotonic()
    subprocess.run([sys.executable, "-c", text, str(box.root)], start_new_session=True, timeout=10, check=False)
    assert time.monotonic() - begun < 5
    assert box.exit["outcome"] == "expired"
    assert "max_hours" in box.exit["reason"]


def test_the_code_for_expired_is_expired(tmp_path: Path) -> None:
    box = Laid(tmp_path / "box", "emit('error', reason='time is up'); sys.exit(75)")
    box.run()
    assert (box.exit["outcome"], box.exit["reason"]) == ("expired", "time is up")


def test_lines_that_are_redrawn_or_are_no_text(tmp_path: Path) -> None:
    box = Laid(tmp_path / "box", r"""say(b"1%\r50%\r100%\nbad \xff\xfe\n\ncrlf\r\nno end")""")
    box.run()
    assert box.log == ["100%", "bad ��", "", "crlf", "no end"]


def test_a_flood_of_output_is_carried_whole(tmp_path: Path) -> None:
    box = Laid(
        tmp_path / "box",
        "for n in range(100): say(b''.join(b'%07d %s\\n' % (n * 1000 + m, b'x' * 95) for m in range(1000)))",
    )
    assert box.run(60) == 0
    assert [int(line[:7]) for line in box.log] == list(range(100_000))
    assert numbered(box)


def test_a_line_of_a_megabyte_is_cut_and_what_follows_is_not(tmp_path: Path) -> None:
    box = Laid(tmp_path / "box", "say(b'a' * (3 << 20) + b'\\nnext\\n'); emit('fine')")
    assert box.run() == 0
    assert [len(box.log[0]), *box.log[1:]] == [1 << 16, "next"]
    assert box.named("fine")


def test_an_event_cannot_be_forged_by_printing(tmp_path: Path) -> None:
    forged = f'@samerun {{"attempt": "{ATTEMPT}", "seq": 999, "time": 1, "event": "done"}}\\n'
    box = Laid(tmp_path / "box", f"say('{forged}'); say('x\\r{forged}'); sys.exit(3)")
    box.run()
    assert not box.named("done")
    assert numbered(box)
    assert len([line for line in box.log if line.startswith(" @samerun ")]) == 2


def test_what_the_training_sends_cannot_stop_the_supervisor(tmp_path: Path) -> None:
    payload = r"""
fd = int(os.environ["SAMERUN_EVENTS"])
for text in (b"[" * 100000, b'{"event": "x", "n": NaN}', b'{"event": "x", "a": ' + b"[" * 99999 + b"]" * 99999 + b"}",
             b'{"event": ["x"]}', b'{"event": "done", "manifest": "0"}', b'[]', b'"x"', b"7", b"\xff", b"{}", b"",
             b'{"event": "y", "seq": 99, "attempt": "other", "t": "\ud800"}'):
    os.write(fd, text + b"\n")
"""
    box = Laid(tmp_path / "box", payload)
    assert box.run() == 0
    assert [event["event"] for event in box.events] == ["y", "done"]
    assert numbered(box)
    assert box.events[0]["attempt"] == ATTEMPT


def test_secrets_are_in_no_line_event_or_file(tmp_path: Path) -> None:
    secrets = {
        "TOKEN": "s3cr3t-t0ken",
        "QUOTED": 'a"b\\c/déjà',
        "KEYFILE": "-----BEGIN-----\nMIIEvQIBADANBg\n-----END-----",
        "WORD": "done",
    }
    payload = """
for name in ("TOKEN", "QUOTED", "KEYFILE", "WORD"):
    print(name, os.environ[name], flush=True)
    print("x" * 65530 + os.environ[name], flush=True)
    emit("tell", text="it is " + os.environ[name], list=[os.environ[name]], table={"key": os.environ[name]})
emit("error", type="E", reason="bad " + os.environ["TOKEN"] + os.environ["QUOTED"])
sys.exit(1)
"""
    box = Laid(tmp_path / "box", payload)
    box.describe(variables=sorted(secrets))
    box.run(30.0, **secrets)
    texts = [path.read_text() for path in (box.root / "out/stream.log", box.root / "state/exit.json")]
    for text in texts:
        for part in ("s3cr3t", 'a"b', r"a\"b", "déjà", "MIIEvQ"):
            assert part not in text
    assert [event["event"] for event in box.events] == ["tell"] * 4 + ["error", "failed"], "WORD is ours too"
    assert box.exit["outcome"] == "failed"
    assert box.exit["reason"].startswith("bad ***")


def test_a_training_that_closes_its_output_is_waited_for(tmp_path: Path) -> None:
    box = Laid(tmp_path / "box", "os.close(1); os.close(2); time.sleep(0.3); emit('later')")
    begun = time.process_time()
    assert box.run() == 0
    assert box.named("later")
    assert box.exit["outcome"] == "done"
    assert time.process_time() - begun < 0.3


def test_without_a_followers_socket_it_runs_all_the_same(tmp_path: Path) -> None:
    box = Laid(tmp_path / "box")
    (box.root / "state/bell").write_text("in the way")
    assert box.run() == 0
    assert box.epochs() == [1, 2, 3]


def test_a_box_far_down_with_odd_names(tmp_path: Path) -> None:
    box = Laid(tmp_path / ("deep" * 20) / 'it\'s a "box" $(x) – ünïcödé')
    assert box.run() == 0
    assert box.epochs() == [1, 2, 3]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real disk of 768 KiB."""
    mount = tmp_path / "disk"
    mount.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", "size=768k", "tmpfs", str(mount)]
    if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.run(argv, capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)


def test_on_a_full_disk_the_last_words_are_written(small_disk: Path) -> None:
    payload = """
try:
    with open(os.path.join(box.out, "fill"), "wb", buffering=0) as stream:
        while True:
            stream.write(b"x" * 512)
except OSError as error:
    for n in range(3000):
        say("line %d of many that are too much for this disk\\n" % n)
        if n % 10 == 0:
            emit("count", n=n, pad="x" * 900)
    emit("error", type="OSError", reason=str(error))
    sys.exit(1)
"""
    box = Laid(small_disk / "box", payload)
    box.start().wait(30)
    assert (box.root / "supervisor.err").read_text() == ""
    assert box.exit["outcome"] == "failed"
    assert "No space" in box.exit["reason"]
    assert box.events[-1]["event"] == "failed"
    assert json.loads((box.root / "out/manifest.json").read_bytes())["complete"] is False


def test_a_disk_that_is_full_from_the_start_has_its_last_words_too(small_disk: Path) -> None:
    box = Laid(small_disk / "box", "say('here\\n'); sys.exit(4)")
    (box.root / "supervisor.err").touch()
    room = small_disk / "room"
    room.write_bytes(b"x" * 20_000)
    try:
        (small_disk / "fill").write_bytes(b"x" * (1 << 20))
    except OSError:
        room.unlink()
    box.start().wait(30)
    assert box.exit["outcome"] == "failed"
    assert (box.root / "supervisor.err").read_text() == ""


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="memory is read from /proc")
def test_the_supervisor_is_small(tmp_path: Path) -> None:
    flood = "for n in range(20000): say(b'x' * 200 + b'\\n')\n"
    box = Laid(tmp_path / "box", flood + SLEEP)
    supervisor = box.start()
    box.pid("pid")
    sizes = dict(
        line.split(":", 1) for line in Path(f"/proc/{supervisor.pid}/smaps_rollup").read_text().splitlines()[1:]
    )
    rss = int(sizes["Rss"].split()[0]) / 1024
    own = int(sizes["Pss"].split()[0]) / 1024
    supervisor.terminate()
    supervisor.wait(5)
    assert own <= 15
    assert rss <= 20


def test_the_stub_is_what_ships() -> None:
    assert "samerun_worker" in STUB
    assert sys.version_info >= (3, 11)


def test_a_silent_training_has_a_heartbeat(tmp_path: Path) -> None:
    box = Laid(tmp_path / "box", "time.sleep(1.0)\n")
    code = (
        f"import sys; sys.path.insert(0, {str(box.root / 'in/worker.pyz')!r});"
        "from samerun_worker import supervise; supervise.HEARTBEAT_S = 0.1;"
        f"supervise.supervise({str(box.root)!r})"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
    beats = [event["seconds"] for event in box.named("heartbeat")]
    assert len(beats) >= 4
    assert beats == sorted(beats)
    assert numbered(box)
