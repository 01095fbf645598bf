"""Each fault does what it says, as often as it says, to what it names."""

from __future__ import annotations

import http.client
import importlib
import json
import time
from typing import Any

import pytest

from tests.emulators.clients import Bare, outputs, push, request, status
from tests.emulators.kaggle import KaggleEmulator
from tests.emulators.kaggle.faults import KINDS
from tests.emulators.test_kaggle_datasets import create, listed, ready, state
from tests.emulators.test_kaggle_rules import SLEEP
from tests.emulators.test_kaggle_runs import until

STATUS = {"userName": "alice", "kernelSlug": "my-kernel"}
SAVE = {"slug": "alice/my-kernel", "newTitle": "my kernel", "text": "print(1)", "isPrivate": True}


@pytest.fixture
def done(kaggle: KaggleEmulator, client: Any) -> str:
    """The URL of the one output, 0123456789, of alice/my-kernel, which is COMPLETE."""
    push(client, "my kernel", "print('hello')\nopen('a.txt', 'w').write('0123456789')")
    kaggle.kernels.wait("alice/my-kernel")
    return str(outputs(client, "my-kernel").files[0].url)


# Any call: nothing is done.


@pytest.mark.parametrize(
    ("kind", "expected", "content"),
    [
        ("429", 429, "application/json"),
        ("429-html", 429, "text/html"),
        ("500", 500, "application/json"),
        ("503", 503, "text/html"),
        ("403-html", 403, "text/html"),
        ("404", 404, "application/json"),
        ("html-200", 200, "text/html"),
        ("error-200", 200, "application/json"),
    ],
)
def test_a_call_can_be_refused_n_times_and_then_not(
    kaggle: KaggleEmulator, bare: Bare, kind: str, expected: int, content: str
) -> None:
    kaggle.faults.add(kind, on="SaveKernel", times=2)
    for _ in range(2):
        answer = bare.rpc("SaveKernel", SAVE)
        assert (answer.status, answer.headers["Content-Type"].split(";")[0]) == (expected, content)
        assert "Retry-After" not in answer.headers
        assert bare.rpc("ListKernels").status == 200
    assert len(kaggle.kernels) == 0
    assert bare.rpc("SaveKernel", SAVE).json["versionNumber"] == 1


@pytest.mark.parametrize("kind", ["429", "429-html", "503"])
def test_a_refusal_can_say_when_to_come_again(kaggle: KaggleEmulator, bare: Bare, kind: str) -> None:
    kaggle.faults.add(kind, on="ListKernels", retry_after=7)
    assert bare.rpc("ListKernels").headers["Retry-After"] == "7"


def test_an_error_in_a_good_reply_is_raised_by_the_real_client(kaggle: KaggleEmulator, client: Any) -> None:
    kaggle.faults.add("error-200", on="SaveKernel", message="Something is wrong", code=400)
    with pytest.raises(importlib.import_module("requests").HTTPError, match="Something is wrong"):
        push(client, "my kernel", "print(1)")


def test_a_fault_may_be_meant_for_a_path_and_for_ever(kaggle: KaggleEmulator, bare: Bare) -> None:
    fault = kaggle.faults.add("500", on="*/kernels.KernelsApiService/*", times=None)
    for _ in range(3):
        assert bare.rpc("ListKernels").status == 500
    assert fault.hits == 3
    kaggle.faults.clear()
    assert bare.rpc("ListKernels").status == 200


def test_a_call_can_hang(kaggle: KaggleEmulator) -> None:
    kaggle.faults.add("hang", on="SaveKernel")
    with pytest.raises(TimeoutError):
        Bare(kaggle, seconds=0.3).rpc("SaveKernel", SAVE)
    assert len(kaggle.kernels) == 0


def test_a_connection_can_be_cut_before_anything_is_done(kaggle: KaggleEmulator, bare: Bare) -> None:
    kaggle.faults.add("cut-before", on="SaveKernel")
    with pytest.raises(http.client.RemoteDisconnected):
        bare.rpc("SaveKernel", SAVE)
    assert len(kaggle.kernels) == 0


# Any call: done, and told wrongly or not at all.


@pytest.mark.parametrize(
    ("kind", "raised"),
    [
        ("lose-reply", http.client.RemoteDisconnected),
        ("cut-middle", http.client.IncompleteRead),
        ("hang-after", TimeoutError),
    ],
)
def test_what_was_done_may_not_be_told(kaggle: KaggleEmulator, kind: str, raised: type[Exception]) -> None:
    kaggle.faults.add(kind, on="SaveKernel")
    with pytest.raises(raised):
        Bare(kaggle, seconds=0.5).rpc("SaveKernel", SAVE)
    until(lambda: "alice/my-kernel" in kaggle.kernels)


def test_what_was_done_may_be_told_to_have_failed(kaggle: KaggleEmulator, bare: Bare) -> None:
    kaggle.faults.add("500-after", on="SaveKernel")
    assert bare.rpc("SaveKernel", SAVE).status == 500
    assert "alice/my-kernel" in kaggle.kernels


def test_a_reply_can_be_short_wrong_or_late(kaggle: KaggleEmulator, bare: Bare, done: str) -> None:
    whole = bare.rpc("GetKernelSessionStatus", STATUS).body
    kaggle.faults.add("short-body", on="GetKernelSessionStatus")
    assert bare.rpc("GetKernelSessionStatus", STATUS).body == whole[: len(whole) // 2]
    kaggle.faults.add("wrong-content", on="GetKernelSessionStatus", body="{}")
    assert bare.rpc("GetKernelSessionStatus", STATUS).body == b"{}"
    kaggle.faults.add("slow", on="GetKernelSessionStatus", seconds=0.2)
    start = time.monotonic()
    assert bare.rpc("GetKernelSessionStatus", STATUS).body == whole
    assert time.monotonic() - start > 0.2


def test_a_status_can_be_new_to_the_client(kaggle: KaggleEmulator, client: Any, done: str) -> None:
    kaggle.faults.add("unknown-enum", on="GetKernelSessionStatus")
    with pytest.raises(KeyError):
        status(client, "my-kernel")
    assert status(client, "my-kernel") == "COMPLETE"


# Files and listings.


def test_a_file_can_be_cut_short_changed_or_refused(kaggle: KaggleEmulator, bare: Bare, done: str) -> None:
    kaggle.faults.add("cut-middle", on="a.txt")
    with pytest.raises(http.client.IncompleteRead):
        bare("GET", done)
    kaggle.faults.add("short-body", on="file")
    assert bare("GET", done).body == b"01234"
    kaggle.faults.add("wrong-content", on="a.*")
    wrong = bare("GET", done).body
    assert len(wrong) == 10
    assert wrong != b"0123456789"
    kaggle.faults.add("403-html", on="a.txt")
    assert (bare("GET", done).status, bare("GET", done).body) == (403, b"0123456789")


def test_a_listing_can_name_files_that_are_not_the_kernels(kaggle: KaggleEmulator, client: Any, done: str) -> None:
    kaggle.faults.add("extra-file", on="alice/my-kernel", name="b.txt")
    kaggle.faults.add("evil-name", on="ListKernelSessionOutput")
    names = [[file.file_name for file in outputs(client, "my-kernel").files] for _ in range(3)]
    assert names == [["a.txt", "b.txt"], ["a.txt", "../evil.txt"], ["a.txt"]]


# Uploads.


def test_an_upload_url_can_expire_early_and_an_upload_be_refused(
    kaggle: KaggleEmulator, client: Any, bare: Bare
) -> None:
    asked = request("StartBlobUpload", name="a.bin", content_length=1)
    asked.type = type(asked.type).DATASET
    url = client.blobs.blob_api_client.start_blob_upload(asked).create_url
    kaggle.faults.add("503", on="upload")
    kaggle.faults.add("expired-upload", on="a.bin")
    assert [bare("PUT", url, b"1").status for _ in range(3)] == [503, 404, 200]


# Datasets.


def test_a_dataset_can_fail_never_be_ready_or_lack_a_file(kaggle: KaggleEmulator, client: Any, bare: Bare) -> None:
    kaggle.settings.dataset_seconds = 0
    files = {"a.txt": b"1", "b.txt": b"1"}
    kaggle.faults.add("dataset-missing-file", on="alice/reef-set", name="a.txt")
    create(client, bare, files)
    ready(client)
    assert listed(client) == {"b.txt": 1}
    for kind, expected in (("dataset-failed", "FAILED"), ("dataset-never-ready", "INDIVIDUAL_BLOBS_COMPRESSED")):
        client.datasets.dataset_api_client.delete_dataset(
            request("DeleteDataset", owner_slug="alice", dataset_slug="reef-set")
        )
        kaggle.faults.add(kind)
        create(client, bare, files)
        ready(client, expected)
        time.sleep(0.05)
        assert state(client) == expected


# Kernels.


def test_a_kernel_can_land_at_another_slug(kaggle: KaggleEmulator, client: Any) -> None:
    kaggle.faults.add("wrong-slug")
    assert push(client, "my kernel", "print(1)").ref == "alice/my-kernel-1"


@pytest.mark.parametrize(("kind", "ends"), [("lost", "ERROR"), ("cancelled", "CANCEL_ACKNOWLEDGED")])
def test_a_session_can_be_ended_by_others_after_a_while(
    kaggle: KaggleEmulator, client: Any, kind: str, ends: str
) -> None:
    kaggle.faults.add(kind, on="alice/*", seconds=0.2)
    push(client, "my kernel", SLEEP)
    assert kaggle.kernels.wait("alice/my-kernel") == ends
    assert kaggle.processes_alive == 0


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("how", ["lose", "cancel_on_website"])
def test_a_session_that_others_ended_keeps_its_outputs_or_not(
    kaggle: KaggleEmulator, client: Any, how: str, keep: bool
) -> None:
    push(client, "my kernel", f"open('a.txt', 'w').write('1')\n{SLEEP}")
    session = kaggle.kernels["alice/my-kernel"].latest.session
    until(lambda: session is not None and (session.machine.working / "a.txt").exists())
    getattr(kaggle.kernels, how)("alice/my-kernel", keep=keep)
    assert len(outputs(client, "my-kernel").files) == keep


def test_a_cancel_on_the_website_is_seen_to_be_asked_for_first(kaggle: KaggleEmulator, client: Any) -> None:
    kaggle.settings.cancel_seconds = 60
    kaggle.faults.add("cancelled", seconds=0.1)
    push(client, "my kernel", SLEEP)
    until(lambda: status(client, "my-kernel") == "CANCEL_REQUESTED")
    kaggle.settings.cancel_seconds = 0
    assert kaggle.kernels.wait("alice/my-kernel") == "CANCEL_ACKNOWLEDGED"


def test_a_lost_session_says_so(kaggle: KaggleEmulator, client: Any, bare: Bare) -> None:
    push(client, "my kernel", SLEEP)
    kaggle.kernels.lose("alice/my-kernel")
    told = bare.rpc("GetKernelSessionStatus", STATUS).json
    assert told == {"status": "ERROR", "failureMessage": "The session was lost."}


def test_a_ghost_runs_for_ever_and_counts(kaggle: KaggleEmulator, client: Any) -> None:
    kaggle.settings.max_gpu_sessions = 1
    kaggle.faults.add("ghost")
    push(client, "my kernel", "open('a.txt', 'w').write('1')", enable_gpu=True)
    assert kaggle.kernels.wait("alice/my-kernel") == "RUNNING"
    assert kaggle.processes_alive == 0
    assert outputs(client, "my-kernel").files == []
    assert push(client, "other kernel", "print(1)", enable_gpu=True).error
    client.kernels.kernels_api_client.delete_kernel(request("DeleteKernel", user_name="alice", kernel_slug="my-kernel"))
    assert not push(client, "other kernel", "print(1)", enable_gpu=True).error


def test_a_session_can_wait_long_for_its_machine(kaggle: KaggleEmulator, client: Any) -> None:
    kaggle.faults.add("slow-queue", seconds=0.2)
    push(client, "my kernel", "print(1)")
    assert kaggle.kernels.wait("alice/my-kernel") == "COMPLETE"
    session = kaggle.kernels["alice/my-kernel"].latest.session
    assert session is not None
    assert (session.began or 0) - session.created >= 0.2


# The log stream.

TALK = """
import time
for number in range(3):
    print("line", number, flush=True)
    time.sleep(0.05)
"""
LOGS = "/v1/kernels/logs/stream/alice/my-kernel"


def streamed(bare: Bare) -> tuple[list[Any], bool]:
    """The events of one connection, and whether it came to its proper end."""
    response, body = bare.open("GET", LOGS), b""
    assert response.headers["Content-Type"] == "text/event-stream"
    try:
        while piece := response.read1():
            body += piece
    except (http.client.HTTPException, OSError):
        pass
    lines = [line.removeprefix("data: ") for line in body.decode().split("\n\n") if line.endswith(("}", "LOG"))]
    ended = bool(lines) and lines[-1] == "END_OF_LOG"
    return [json.loads(line) for line in lines if line != "END_OF_LOG"], ended


def text(events: list[Any]) -> str:
    return "".join(event["data"] for event in events)


WHOLE = "line 0\nline 1\nline 2\n"


def test_a_log_is_told_line_by_line_while_it_is_written_and_kept_afterwards(
    kaggle: KaggleEmulator, client: Any, bare: Bare
) -> None:
    push(client, "my kernel", f"{TALK}\nimport os\nwhile not os.path.exists('go'):\n    time.sleep(0.01)")
    response = bare.open("GET", LOGS)
    assert response.readline().startswith(b"data: {")
    session = kaggle.kernels["alice/my-kernel"].latest.session
    assert session is not None
    assert not session.finished
    (session.machine.working / "go").touch()
    assert response.read().endswith(b"data: END_OF_LOG\n\n")
    kept = bare("GET", LOGS)
    assert kept.headers["Content-Type"] == "application/json"
    assert text(kept.json) == WHOLE
    assert bare("GET", f"{LOGS}?versionLabel=v1").json == kept.json
    assert bare("GET", f"{LOGS}?versionLabel=1").status == 404
    assert bare("GET", f"/api{LOGS}").status == 200
    assert bare("GET", f"{LOGS}/1").status == 404


def test_a_log_stream_that_was_cut_begins_again_from_the_start(kaggle: KaggleEmulator, client: Any, bare: Bare) -> None:
    kaggle.faults.add("cut-log", on="alice/my-kernel", at=100)
    push(client, "my kernel", TALK)
    events, ended = streamed(bare)
    assert (len(events), ended) == (1, False)
    events, ended = streamed(bare)
    assert (text(events), ended) == (WHOLE, True)


def test_a_log_stream_can_begin_again_by_itself(kaggle: KaggleEmulator, client: Any, bare: Bare) -> None:
    kaggle.faults.add("replay-log", on="logs", at=100)
    push(client, "my kernel", TALK)
    events, ended = streamed(bare)
    assert ended
    assert len(text(events)) > len(WHOLE)
    assert text(events).startswith("line 0\n")
    assert text(events).endswith(WHOLE)


def test_an_idle_log_stream_is_cut(kaggle: KaggleEmulator, client: Any, bare: Bare) -> None:
    kaggle.settings.log_idle_seconds = 0.3
    push(client, "my kernel", "import time\nprint('one', flush=True)\ntime.sleep(60)")
    start = time.monotonic()
    assert streamed(bare)[1] is False
    assert time.monotonic() - start < 5
    kaggle.faults.add("idle-log", at=5)
    start = time.monotonic()
    assert streamed(bare) == ([], False)
    assert 0.25 < time.monotonic() - start < 5


def test_a_queued_session_may_have_no_log_yet(kaggle: KaggleEmulator, client: Any, bare: Bare) -> None:
    kaggle.settings.queue_seconds, kaggle.settings.logs_while_queued = 60, "404"
    push(client, "my kernel", TALK)
    assert bare("GET", LOGS).status == 404


# Steering from outside.


def test_everything_can_be_steered_over_http(kaggle: KaggleEmulator, client: Any, bare: Bare) -> None:
    def post(what: str, **fields: Any) -> Any:
        return bare("POST", f"/_emulator/{what}", json.dumps(fields).encode())

    assert post("faults", kind="429", on="SaveKernel", times=1, retry_after=3).status == 200
    assert [fault["kind"] for fault in bare("GET", "/_emulator/faults").json] == ["429"]
    assert bare.rpc("SaveKernel", SAVE).headers["Retry-After"] == "3"
    post("faults", kind="500", times=None)
    assert bare("DELETE", "/_emulator/faults").status == 200
    assert post("settings", queue_seconds=0).json["queue_seconds"] == 0
    assert post("accounts", name="bob", phone_verified=False).json["name"] == "bob"
    push(client, "my kernel", SLEEP)
    assert post("kernels", ref="alice/my-kernel", do="lose").status == 200
    assert bare("GET", "/_emulator/kernels").json[0]["versions"][0]["status"] == "ERROR"
    counters = bare("GET", "/_emulator/counters").json
    assert counters["calls"] == {"SaveKernel": 2}
    assert (counters["kernels"], counters["processes_alive"]) == (1, 0)
    assert set(bare("GET", "/_emulator/kinds").json) == set(KINDS)
    assert bare("GET", "/_emulator/datasets").json == []


@pytest.mark.parametrize(
    ("what", "fields", "expected"),
    [
        ("faults", {"kind": "no such"}, 400),
        ("settings", {"no_such": 1}, 400),
        ("kernels", {"ref": "alice/none", "do": "lose"}, 400),
        ("nothing", {}, 404),
    ],
)
def test_steering_that_makes_no_sense_is_refused(bare: Bare, what: str, fields: Any, expected: int) -> None:
    assert bare("POST", f"/_emulator/{what}", json.dumps(fields).encode()).status == expected


def test_what_goes_over_the_wire_is_counted(kaggle: KaggleEmulator, bare: Bare, done: str) -> None:
    before = kaggle.counters.bytes_out
    bare("GET", done)
    assert kaggle.counters.bytes_out == before + 10
    assert kaggle.counters.bytes_in > 0
    assert kaggle.counters.calls["file"] == 1
    assert kaggle.counters.sessions_started == 1
