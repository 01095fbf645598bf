"""A pushed script really runs, where and as Kaggle's would."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.emulators.clients import Bare, outputs, printed, push, request, status
from tests.emulators.kaggle import KaggleEmulator
from tests.emulators.kaggle.machine.layout import Machine

MARKER = "samerun-manifest.json"
FIND_AND_WRITE = f"""
import os, pathlib
root = pathlib.Path(os.environ.get("KAGGLE_INPUT_ROOT", "/kaggle/input"))
work = pathlib.Path(os.environ.get("KAGGLE_WORKING_ROOT", "/kaggle/working"))
(marker,) = root.rglob("{MARKER}")
print("found", marker.read_text(), marker.relative_to(root).parent)
assert pathlib.Path.cwd() == work
(work / "runs").mkdir()
(work / "runs" / "results.csv").write_text("epoch,loss")
"""
LOOK_AROUND = """
import glob, json, os, socket
seen = {"env": dict(os.environ), "tmp": os.listdir("/tmp"), "kaggle": sorted(os.listdir("/kaggle"))}
seen["all"] = [open(path).read() for path in glob.glob("/proc/[0-9]*/environ")]
def attempt(name, work):
    try:
        work()
        seen[name] = "done"
    except OSError as error:
        seen[name] = error.strerror
for name in ("", "datasets/", "datasets/alice/reef-set/"):
    attempt("write " + name, lambda: open("/kaggle/input/" + name + "x", "w"))
attempt("scratch", lambda: open("/kaggle/temp/x", "w"))
attempt("network", lambda: socket.create_connection(("203.0.113.1", 80), 2))
print(json.dumps(seen))
"""


def sandboxed(kaggle: KaggleEmulator, ref: str) -> bool:
    session = kaggle.kernels[ref].latest.session
    return session is not None and session.conditions["sandbox"] == "chroot"


@pytest.mark.parametrize(
    ("layout", "sandbox", "place"),
    [
        ("new", "auto", "datasets/alice/reef-set"),
        ("old", "auto", "reef-set"),
        ("new", "plain", "datasets/alice/reef-set"),
        ("old", "plain", "reef-set"),
    ],
)
def test_a_script_finds_its_dataset_by_its_marker_and_its_files_come_back(
    kaggle: KaggleEmulator, client: Any, bare: Bare, layout: Any, sandbox: Any, place: str
) -> None:
    kaggle.settings.layout, kaggle.settings.sandbox = layout, sandbox
    kaggle.datasets.add("alice/reef-set", {MARKER: b"{}", "images/a.jpg": b"jpg"})
    push(client, "first run", FIND_AND_WRITE, dataset_data_sources=["alice/reef-set"])
    assert kaggle.kernels.wait("alice/first-run") == "COMPLETE"
    listing = outputs(client, "first-run")
    assert printed(listing.log) == f"found {{}} {place}\n"
    assert [file.file_name for file in listing.files] == ["runs/results.csv"]
    assert bare("GET", listing.files[0].url).body == b"epoch,loss"


def test_a_kernel_sees_a_clean_machine_with_read_only_input_and_no_internet(
    kaggle: KaggleEmulator, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SAMERUN_SECRETS", "KAGGLE_KEY", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "secret")
    kaggle.datasets.add("alice/reef-set", {"a.txt": b"a"})
    push(client, "look around", LOOK_AROUND, dataset_data_sources=["alice/reef-set"])
    assert kaggle.kernels.wait("alice/look-around") == "COMPLETE"
    if not sandboxed(kaggle, "alice/look-around"):
        pytest.skip("this system allows no root of its own")
    seen = json.loads(printed(outputs(client, "look-around").log))
    assert set(seen["env"]) <= {"KAGGLE_KERNEL_RUN_TYPE", "HOME", "LANG", "PATH", "LC_CTYPE"}
    assert seen["env"]["KAGGLE_KERNEL_RUN_TYPE"] == "Batch"
    assert not any("secret" in environment for environment in seen["all"])
    if not Path(sys.prefix).is_relative_to(tempfile.gettempdir()):  # the image's Python is not hidden
        assert seen["tmp"] == []
    assert [seen[f"write {name}"] for name in ("", "datasets/", "datasets/alice/reef-set/")] == [
        "Read-only file system"
    ] * 3
    assert seen["scratch"] == "done"
    assert seen["network"] == "Network is unreachable"
    assert outputs(client, "look-around").files == []
    assert not Path("/kaggle").exists()


def test_an_emulator_without_namespaces_says_so_in_the_record(kaggle: KaggleEmulator, client: Any) -> None:
    kaggle.settings.sandbox = "plain"
    push(client, "plain machine", "print(1)", machine_shape="NvidiaTeslaP100")
    kaggle.kernels.wait("alice/plain-machine")
    session = kaggle.kernels["alice/plain-machine"].latest.session
    assert session is not None
    assert session.conditions["sandbox"] == "plain"
    assert session.conditions["internet"] == "not enforced"
    assert session.conditions["machineShape"] == "NvidiaTeslaT4"


@pytest.mark.parametrize(("sandbox", "ends"), [("auto", "COMPLETE"), ("chroot", "ERROR")])
def test_where_there_is_no_root_of_its_own_it_is_plain_or_says_no(
    kaggle: KaggleEmulator, client: Any, monkeypatch: pytest.MonkeyPatch, sandbox: Any, ends: str
) -> None:
    prepare = Machine.prepare

    def without_root(self: Machine, *args: Any) -> Path:
        path = prepare(self, *args)
        path.write_text(json.dumps({**json.loads(path.read_text()), "root": "/nowhere"}))
        return path

    monkeypatch.setattr(Machine, "prepare", without_root)
    kaggle.settings.sandbox = sandbox
    push(client, "my kernel", "import os\nprint(os.environ['KAGGLE_WORKING_ROOT'] == os.getcwd())")
    assert kaggle.kernels.wait("alice/my-kernel") == ends
    session = kaggle.kernels["alice/my-kernel"].latest.session
    assert session is not None
    assert session.conditions["sandbox"] == ("plain" if sandbox == "auto" else "not started")
    said = "".join(record["data"] for record in session.log)
    assert said.startswith("True\n" if sandbox == "auto" else "this system allows no root")


def test_nothing_is_listed_before_the_end(kaggle: KaggleEmulator, client: Any) -> None:
    push(client, "slow writer", "import time\nopen('a.txt', 'w').write('1')\nprint(1, flush=True)\ntime.sleep(60)")
    until(lambda: status(client, "slow-writer") == "RUNNING")
    session = kaggle.kernels["alice/slow-writer"].latest.session
    until(lambda: session is not None and bool(session.log))
    listing = outputs(client, "slow-writer")
    assert (listing.files, listing.log) == ([], "")
    asked = request("ListKernelFiles", user_name="alice", kernel_slug="slow-writer")
    assert client.kernels.kernels_api_client.list_kernel_files(asked).files == []


@pytest.mark.parametrize("sandbox", ["auto", "plain"])
def test_deleting_a_kernel_kills_everything_that_it_has_started(
    kaggle: KaggleEmulator, client: Any, sandbox: Any
) -> None:
    kaggle.settings.sandbox = sandbox
    push(client, "with children", "import subprocess\nsubprocess.run(['setsid', 'sleep', '600'])")
    session = kaggle.kernels["alice/with-children"].latest.session
    assert session is not None
    until(lambda: any(process.name() == "sleep" for process in session.processes()))
    before = session.processes()
    client.kernels.kernels_api_client.delete_kernel(
        request("DeleteKernel", user_name="alice", kernel_slug="with-children")
    )
    assert not [process for process in before if process.is_running() and process.status() != "zombie"]
    assert len(kaggle.kernels) == 0
    assert not session.machine.folder.exists()


def test_what_a_script_leaves_behind_ends_with_it(kaggle: KaggleEmulator, client: Any) -> None:
    choices: tuple[Any, ...] = ("auto", "plain")
    seconds = f"600.{time.time_ns()}"
    for sandbox in choices:
        kaggle.settings.sandbox = sandbox
        push(client, "leaves child", f"import subprocess\nsubprocess.Popen(['setsid', 'sleep', '{seconds}'])")
        assert kaggle.kernels.wait("alice/leaves-child") == "COMPLETE"
    assert not [process for process in psutil.process_iter() if seconds in words_of(process)]


def test_a_script_that_fails_ends_with_error_and_keeps_its_log_and_files(kaggle: KaggleEmulator, client: Any) -> None:
    push(client, "failing run", "open('a.txt', 'w').write('1')\nraise SystemExit(3)")
    assert kaggle.kernels.wait("alice/failing-run") == "ERROR"
    assert [file.file_name for file in outputs(client, "failing-run").files] == ["a.txt"]


def test_the_log_is_whole_however_it_is_cut(kaggle: KaggleEmulator, client: Any) -> None:
    lines = "".join(f"line {number} äö🐠\n" for number in range(500))
    push(client, "long log", f"import sys\nprint({lines!r}, end='')\nprint('oh', file=sys.stderr)")
    kaggle.kernels.wait("alice/long-log")
    log = outputs(client, "long-log").log
    assert printed(log) == lines
    assert {record["stream_name"] for record in json.loads(log)} == {"stdout", "stderr"}
    assert any(not record["data"].endswith("\n") for record in json.loads(log))


def test_a_session_past_its_time_is_killed(kaggle: KaggleEmulator, client: Any) -> None:
    push(client, "too long", "import time\ntime.sleep(60)", session_timeout_seconds=1)
    assert kaggle.kernels.wait("alice/too-long") == "ERROR"
    asked = request("GetKernelSessionStatus", user_name="alice", kernel_slug="too-long")
    assert "longer" in client.kernels.kernels_api_client.get_kernel_session_status(asked).failure_message


@pytest.mark.parametrize("kept", [True, False])
def test_a_session_past_its_time_keeps_its_outputs_or_not(kaggle: KaggleEmulator, client: Any, kept: bool) -> None:
    kaggle.settings.keep_timed_out_outputs = kept
    push(client, "too long", "import time\nopen('a.txt', 'w').write('1')\ntime.sleep(60)")
    session = kaggle.kernels["alice/too-long"].latest.session
    until(lambda: session is not None and (session.machine.working / "a.txt").exists())
    kaggle.kernels.expire("alice/too-long")
    assert len(outputs(client, "too-long").files) == kept


def test_too_much_output_is_an_error(kaggle: KaggleEmulator, client: Any) -> None:
    kaggle.settings.output_limit = 1000
    push(client, "too much", "open('a.bin', 'wb').write(bytes(1001))")
    assert kaggle.kernels.wait("alice/too-much") == "ERROR"
    assert outputs(client, "too-much").files == []


def test_a_kernel_reads_the_outputs_of_another_and_of_a_competition(
    kaggle: KaggleEmulator, client: Any, tmp_path: Path
) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "train.csv").write_text("x")
    kaggle.competitions.add("reef-2026", tmp_path / "files")
    push(client, "first part", "open('last.pt', 'w').write('weights')")
    kaggle.kernels.wait("alice/first-part")
    script = """
import os
for folder, _, files in sorted(os.walk(os.environ.get("KAGGLE_INPUT_ROOT", "/kaggle/input"))):
    for name in files:
        print(os.path.join(folder, name).split("input/")[1])
"""
    sources: dict[str, Any] = {"kernel_data_sources": ["alice/first-part"], "competition_data_sources": ["reef-2026"]}
    choices: tuple[Any, ...] = ("auto", "plain")
    for sandbox in choices:
        kaggle.settings.sandbox = sandbox
        push(client, "second part", script, **sources)
        kaggle.kernels.wait("alice/second-part")
        listed = printed(outputs(client, "second-part").log)
        assert listed == "competitions/reef-2026/train.csv\nnotebooks/alice/first-part/last.pt\n"


def test_a_notebook_needs_a_kernel_name(kaggle: KaggleEmulator, client: Any) -> None:
    cells = [{"cell_type": "code", "source": ["print('cell')"]}, {"cell_type": "markdown", "source": "words"}]
    for metadata, ends in (({}, "ERROR"), ({"kernelspec": {"name": "python3"}}, "COMPLETE")):
        text = json.dumps({"cells": cells, "metadata": metadata})
        push(client, "notebook run", text, kernel_type="notebook")
        assert kaggle.kernels.wait("alice/notebook-run") == ends
    assert printed(outputs(client, "notebook-run").log) == "cell\n"


def until(true: Any, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not become so"
        time.sleep(0.01)


def words_of(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []
