"""Calls to Kaggle, with the real SDK against a server that answers wrongly in every way."""

from __future__ import annotations

import base64
import itertools
import json
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backends.kaggle.client import wire
from backends.kaggle.client.credentials import Credential, Kind, Secret
from backends.kaggle.client.refusals import SENTENCES, NotThereError, RefusedError, UnansweredError, UnreadableError
from backends.kaggle.client.wire import Limits, Wire
from launcher.errors import CapacityError, CredentialError, QuotaError, SamerunError, SpecError
from tests.backends.kaggle.scripted import Reply, Request, Server, in_turn, says, serving

TOKEN = "KGAT_very-secret-token"
FAST = Limits(connect=2, silence=0.4, answer=1, total=5, retry_after=0.3, log_silence=0.5, pauses=(0.01, 0.01, 0.01))
HTML = Reply(200, b"<html><h1>Sorry</h1></html>", {"Content-Type": "text/html"})
STATUS = {"userName": "alice", "kernelSlug": "x"}
READS = [wire.KERNEL_STATUS, wire.GET_KERNEL, wire.LIST_OUTPUT, wire.LIST_KERNEL_FILES, wire.LIST_KERNELS]
READS += [wire.QUOTA, wire.DATASET_STATUS, wire.GET_DATASET, wire.LIST_DATASET_FILES, wire.LIST_DATASETS]
READS += [wire.INTROSPECT]
EFFECTS = [wire.SAVE_KERNEL, wire.DELETE_KERNEL, wire.CREATE_DATASET, wire.CREATE_VERSION, wire.DELETE_DATASET]
EFFECTS += [wire.START_UPLOAD, wire.NEW_ACCESS_TOKEN]


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as started:
        yield started


@pytest.fixture
def token(server: Server) -> Iterator[Wire]:
    signed = Wire(Credential(Kind.TOKEN, "a test", Secret(TOKEN)), endpoint=server.url, limits=FAST)
    yield signed
    signed.close()


def ask(signed: Wire, rpc: wire.Rpc = wire.KERNEL_STATUS, **fields: Any) -> Any:
    given = STATUS if rpc is wire.KERNEL_STATUS else {}
    return signed.call(rpc, {**given, **fields}, lambda answer: answer, doing="asking")


def error_of(signed: Wire, rpc: wire.Rpc = wire.KERNEL_STATUS) -> SamerunError:
    with pytest.raises(SamerunError) as caught:
        ask(signed, rpc)
    return caught.value


# What goes out.


def test_a_token_is_sent_as_bearer_and_a_key_as_basic_to_the_path_of_production(server: Server, token: Wire) -> None:
    ask(token)
    ask(Wire(Credential(Kind.KEY, "a test", Secret("k3y"), "alice"), endpoint=server.url))
    ask(Wire(None, endpoint=server.url))
    assert [request.path for request in server.requests] == ["/v1/kernels.KernelsApiService/GetKernelSessionStatus"] * 3
    sent = [request.headers.get("Authorization") for request in server.requests]
    assert sent == [f"Bearer {TOKEN}", "Basic " + base64.b64encode(b"alice:k3y").decode(), None]
    assert {request.headers["User-Agent"] for request in server.requests} == {"samerun"}


def test_a_bad_token_in_the_environment_does_not_replace_the_key_that_was_given(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", "stale")
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")
    ask(Wire(Credential(Kind.KEY, "a test", Secret("k3y"), "alice"), endpoint=server.url))
    assert server.requests[0].headers["Authorization"].startswith("Basic ")


def test_an_endpoint_here_is_reached_past_the_proxy_and_one_elsewhere_through_it(server: Server) -> None:
    # conftest sets a dead proxy for every test.
    ask(Wire(None, endpoint=server.url))
    started = time.monotonic()
    away = Wire(None, endpoint="https://kaggle.invalid", limits=Limits(pauses=(), connect=2))
    error = error_of(away)
    assert isinstance(error, UnansweredError)
    assert "proxy" in error.message
    assert not error.maybe_done
    assert time.monotonic() - started < 2


def test_a_proxy_of_the_environment_is_used(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    ask(Wire(None, endpoint="http://kaggle.invalid"))
    assert server.requests[0].path.startswith("http://kaggle.invalid/v1/")


def test_a_field_that_the_request_does_not_have_is_a_defect_and_is_not_sent(server: Server, token: Wire) -> None:
    with pytest.raises(AssertionError, match="enable_gpu"):
        ask(token, enable_gpu=True)
    assert not server.requests


@pytest.mark.parametrize("rpc", READS + EFFECTS, ids=lambda rpc: rpc.method)
def test_every_call_exists_in_the_installed_client(server: Server, token: Wire, rpc: wire.Rpc) -> None:
    ask(token, rpc)
    assert len(server.requests) == 1


def test_the_private_parts_of_the_client_that_we_use_are_there() -> None:
    client = wire._new_client("http://127.0.0.1:1", "x", FAST)
    assert client._http_client._session.auth is None
    assert client._http_client._endpoint == "http://127.0.0.1:1"
    assert client._http_client._get_request_url("S", "M") == "http://127.0.0.1:1/v1/S/M"


def test_threads_have_clients_of_their_own(server: Server, token: Wire) -> None:
    threads = [threading.Thread(target=ask, args=(token,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ask(token)
    ask(token)
    assert len(server.requests) == 6
    assert len({request.peer for request in server.requests}) == 5


def test_the_client_does_not_look_for_credentials_of_its_own(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", str(tmp_path))  # a folder: whoever reads it fails
    ask(Wire(None, endpoint=server.url))
    assert "Authorization" not in server.requests[0].headers


# What may be asked again.


def passing() -> dict[str, Reply]:
    return {
        "429 with JSON": says({"code": 429, "message": "slow down"}, 429),
        "429 with HTML": Reply(429, b"<html>429</html>", {"Content-Type": "text/html"}),
        "429 within 200": says({"code": 429, "message": "slow down"}),
        "503": Reply(503, b"x"),
        "502": Reply(502),
        "500": says({"code": 500, "message": "oops"}, 500),
        "HTML with 200": HTML,
        "HTML that calls itself JSON": Reply(200, b"<html>", {"Content-Type": "application/json"}),
        "cut before the status": Reply(cut=-1),
        "cut in the body": Reply(200, b'{"status": "RUNNING"}', {"Content-Type": "application/json"}, cut=9),
    }


@pytest.mark.parametrize("fault", passing())
def test_a_read_is_asked_again_and_then_answered(server: Server, token: Wire, fault: str) -> None:
    server.answer = in_turn(passing()[fault], passing()[fault], says({"status": "RUNNING"}))
    assert ask(token).status.name == "RUNNING"
    assert len(server.requests) == 3


@pytest.mark.parametrize("fault", passing())
def test_a_read_is_asked_a_bounded_number_of_times(server: Server, token: Wire, fault: str) -> None:
    server.answer = in_turn(passing()[fault])
    assert isinstance(error_of(token), UnansweredError)
    assert len(server.requests) == 1 + len(FAST.pauses)


@pytest.mark.parametrize("rpc", EFFECTS, ids=lambda rpc: rpc.method)
def test_a_call_with_effects_is_sent_once_whatever_breaks(rpc: wire.Rpc) -> None:
    for fault, reply in passing().items():
        with serving(in_turn(reply)) as server:
            error = error_of(Wire(None, endpoint=server.url, limits=FAST), rpc)
            assert isinstance(error, UnansweredError)
            assert len(server.requests) == 1, fault
            assert error.maybe_done is ("429" not in fault), fault


def test_a_call_with_effects_takes_a_new_connection_so_that_an_old_one_cannot_fail_it(
    server: Server, token: Wire
) -> None:
    ask(token)
    ask(token)
    ask(token, wire.DELETE_KERNEL)
    first, second, third = (request.peer for request in server.requests)
    assert first == second != third


def test_a_refused_connection_says_that_nothing_was_done() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    error = error_of(Wire(None, endpoint=f"http://127.0.0.1:{port}", limits=FAST), wire.SAVE_KERNEL)
    assert isinstance(error, UnansweredError)
    assert not error.maybe_done


def test_retry_after_is_waited_for_but_not_longer_than_the_cap(server: Server) -> None:
    slept: list[float] = []
    signed = Wire(None, endpoint=server.url, limits=FAST, sleep=slept.append)
    server.answer = in_turn(
        Reply(429, headers={"Retry-After": "0.2"}),
        Reply(429, headers={"Retry-After": "0"}),
        Reply(503, headers={"Retry-After": "3600"}),
        says({}),
    )
    ask(signed)
    # urllib3 reads whole seconds only: a fraction is no number to it, and the pause stays ours.
    assert [round(wait, 1) for wait in slept] == [0.0, 0.0, 0.3]


def test_a_date_in_retry_after_is_understood(server: Server) -> None:
    slept: list[float] = []
    signed = Wire(None, endpoint=server.url, limits=FAST, sleep=slept.append)
    server.answer = in_turn(Reply(429, headers={"Retry-After": "Fri, 31 Dec 2100 23:59:59 GMT"}), says({}))
    ask(signed)
    assert slept == [FAST.retry_after]


def test_a_server_that_hangs_ends_the_call_within_its_limits(server: Server) -> None:
    gone = threading.Event()
    server.answer = lambda request: says({"waited": gone.wait(5)})
    started = time.monotonic()
    error = error_of(Wire(None, endpoint=server.url, limits=FAST), wire.SAVE_KERNEL)
    gone.set()
    assert isinstance(error, UnansweredError)
    assert error.maybe_done
    assert time.monotonic() - started < 1


def test_an_answer_that_drips_for_ever_ends_the_call_within_its_limits(server: Server) -> None:
    def drip() -> Iterator[bytes]:
        for _ in range(100):
            yield b" "
            time.sleep(0.1)

    server.answer = lambda request: Reply(200, headers={"Content-Type": "application/json"}, pieces=drip())
    started = time.monotonic()
    error = error_of(Wire(None, endpoint=server.url, limits=FAST), wire.SAVE_KERNEL)
    assert isinstance(error, UnansweredError)
    assert time.monotonic() - started < 2.5


# What comes back.


def test_a_new_enum_name_is_unreadable_and_is_not_asked_again(server: Server, token: Wire) -> None:
    for value in ("HIBERNATING", 7, ["RUNNING"], {"a": 1}):
        server.requests.clear()
        server.answer = in_turn(says({"status": value}))
        assert isinstance(error_of(token), UnreadableError)
        assert len(server.requests) == 1


@pytest.mark.parametrize("body", [[1, 2], 5, "x", None, {"code": "many"}, {"status": None, "code": None}])
def test_json_of_another_shape_is_one_of_our_errors(server: Server, token: Wire, body: Any) -> None:
    server.answer = in_turn(says(body))
    assert isinstance(error_of(token), (UnreadableError, UnansweredError))


def test_404_and_403_of_a_kernel_are_told_apart(server: Server, token: Wire) -> None:
    server.answer = in_turn(says({"code": 404, "message": "Not found"}, 404), says({"code": 403, "message": "No"}, 403))
    first, second = error_of(token), error_of(token)
    assert isinstance(first, NotThereError)
    assert isinstance(second, NotThereError)
    assert (first.certain, second.certain) == (True, False)


def test_403_of_a_call_that_names_nothing_is_about_the_account(server: Server, token: Wire) -> None:
    server.answer = in_turn(says({"code": 403, "message": "No"}, 403))
    assert isinstance(error_of(token, wire.SAVE_KERNEL), CredentialError)


def test_401_names_where_the_credential_is_and_what_to_do(server: Server, token: Wire) -> None:
    server.answer = in_turn(says({"code": 401, "message": f"bad token {TOKEN}"}, 401))
    error = error_of(token)
    assert isinstance(error, CredentialError)
    assert "a test" in error.message
    assert error.remedy


KNOWN = {
    "Maximum batch GPU session count of 2 reached.": CapacityError,
    "Maximum batch CPU session count of 5 reached": CapacityError,
    "Maximum weekly GPU quota of 30.00 hours reached.": QuotaError,
    'The requested title "x" is already in use by a notebook. Please choose another title.': SpecError,
    "Notebook not found": SpecError,
    "You must verify your account with a phone number": CredentialError,
    "The moon is in the wrong house": RefusedError,
}


@pytest.mark.parametrize(("status", "inside"), [(400, False), (409, False), (403, False), (200, True)])
@pytest.mark.parametrize("text", KNOWN)
def test_known_sentences_have_classes_wherever_they_stand(
    server: Server, token: Wire, text: str, status: int, inside: bool
) -> None:
    code = 400 if inside else status
    server.answer = in_turn(
        says({"error": {"code": code, "message": text}} if status == 409 else {"code": code, "message": text}, status)
    )
    expected = CredentialError if status == 403 and KNOWN[text] is RefusedError else KNOWN[text]
    error = error_of(token, wire.SAVE_KERNEL)
    assert type(error) is expected
    assert text in error.message


def test_every_sentence_of_the_table_has_an_example_and_a_source() -> None:
    from backends.kaggle.client.refusals import known

    used = {known(text) for text in KNOWN} | {known("Unauthenticated")}
    assert used >= set(SENTENCES)
    assert all(sentence.seen and sentence.remedy for sentence in SENTENCES)


# Secrets.


def test_no_error_shows_a_secret_even_when_the_server_does(
    server: Server, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    basic = base64.b64encode(b"alice:k3y-secret").decode()
    for credential in (
        Credential(Kind.TOKEN, "a test", Secret(TOKEN)),
        Credential(Kind.KEY, "a test", Secret("k3y-secret"), "alice"),
    ):
        signed = Wire(credential, endpoint=server.url, limits=FAST)
        echo = f"{TOKEN} k3y-secret {basic}"
        faults = [says({"code": code, "message": echo}, code) for code in (400, 401, 403, 404, 409, 429, 500)]
        faults += [says({"status": echo}), Reply(200, echo.encode(), {"Content-Type": "text/html"}), Reply(cut=-1)]
        for fault, rpc in itertools.product(faults, (wire.KERNEL_STATUS, wire.SAVE_KERNEL)):
            server.answer = in_turn(fault)
            with pytest.raises(SamerunError) as caught:
                # A value that nobody knows comes back in the error of whoever parses it.
                signed.call(rpc, {}, (lambda answer: int(str(answer))) if rpc.effects else str, doing="asking")
            shown = f"{caught.value} {caught.value!r} {caught.value.remedy} {signed!r} {credential!r} {credential}"
            for secret in (TOKEN,) if credential.kind is Kind.TOKEN else ("k3y-secret", basic):
                assert secret not in shown
    out = capfd.readouterr()
    assert not out.out
    for secret in (TOKEN, "k3y-secret", basic):
        assert secret not in caplog.text + out.err


@pytest.mark.parametrize("bad", ["two\nlines-secret", "snow-secret-☃", "\tsecret"])
def test_a_secret_that_no_header_can_hold_is_not_shown_by_the_error(server: Server, bad: str) -> None:
    error = error_of(Wire(Credential(Kind.TOKEN, "a test", Secret(bad)), endpoint=server.url, limits=FAST))
    assert isinstance(error, CredentialError)
    assert "secret" not in str(error)
    assert error.__context__ is None
    assert not server.requests


# The import.


def test_importing_the_backend_imports_no_client() -> None:
    code = (
        "import sys, backends.kaggle\n"
        "from backends.kaggle.client import blobs, credentials, download, logs, service, wire\n"
        "print([name for name in ('kagglesdk', 'kaggle', 'requests', 'urllib3') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_first_call_prints_nothing_and_does_not_import_the_module_that_signs_in(server: Server) -> None:
    code = (
        "import sys\nfrom backends.kaggle.client import wire\n"
        f"wire.Wire(None, endpoint={server.url!r}).call(wire.QUOTA, {{}}, str, doing='x')\n"
        "assert 'kagglesdk' in sys.modules and 'kaggle' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_log_stream_asks_for_a_version_and_says_which_kind_it_is(server: Server, token: Wire) -> None:
    def answer(request: Request) -> Reply:
        if "v3" in request.path:
            return Reply(200, headers={"Content-Type": "text/event-stream"}, pieces=iter([b"data: {}\n\n"]))
        return says([])

    server.answer = answer
    live, done = token.open_log("alice", "x", 3), token.open_log("alice", "x")
    assert (live.live, b"".join(live.pieces)) == (True, b"data: {}\n\n")
    assert (done.live, json.loads(b"".join(done.pieces))) == (False, [])
    assert [r.path for r in server.requests] == [
        "/v1/kernels/logs/stream/alice/x?versionLabel=v3",
        "/v1/kernels/logs/stream/alice/x",
    ]
    server.answer = in_turn(HTML)
    with pytest.raises(UnansweredError, match="HTML"):
        token.open_log("alice", "x")
    server.answer = in_turn(says({"code": 404, "message": "no session"}, 404))
    with pytest.raises(NotThereError):
        token.open_log("alice", "x")
