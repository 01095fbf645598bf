"""The typed calls: what each sends, what each makes of the answer. The real SDK is in between."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from backends.kaggle.client.answers import DatasetState, KernelState, Push, Quota, slug_of
from backends.kaggle.client.credentials import Credential, Kind, Secret
from backends.kaggle.client.refusals import NotThereError, RefusedError, UnansweredError
from backends.kaggle.client.service import PAGE, Service, sign_in
from backends.kaggle.client.wire import Limits, Wire
from launcher.errors import CapacityError, CredentialError, SpecError
from tests.backends.kaggle.scripted import Reply, Request, Server, in_turn, says, serving

PUSH = Push(
    owner="alice",
    slug="samerun-x",
    title="samerun x",
    text="print('☃')",
    gpu=True,
    internet=False,
    timeout_s=41400,
    machine_shape="NvidiaTeslaT4",
    datasets=("alice/data/3",),
    kernels=("alice/former",),
    competitions=("reef",),
)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as started:
        yield started


@pytest.fixture
def service(server: Server) -> Iterator[Service]:
    credential = Credential(Kind.KEY, "a test", Secret("k3y"), "alice")
    signed = Wire(credential, endpoint=server.url, limits=Limits(pauses=(0.01,)))
    yield Service(signed, "alice")
    signed.close()


def test_a_push_sends_every_field_and_gives_what_was_accepted(server: Server, service: Service) -> None:
    answer = {"ref": "/code/alice/samerun-x", "url": "https://kaggle.com/code/alice/samerun-x", "versionNumber": 1}
    server.answer = in_turn(says({**answer, "kernelId": 77}))
    pushed = service.push(PUSH)
    assert (pushed.ref, pushed.version, pushed.id, pushed.invalid) == ("alice/samerun-x", 1, 77, {})
    assert server.requests[0].fields == {
        "slug": "alice/samerun-x",
        "newTitle": "samerun x",
        "text": "print('☃')",
        "language": "python",
        "kernelType": "script",
        "isPrivate": True,
        "enableGpu": True,
        "enableTpu": False,
        "enableInternet": False,
        "machineShape": "NvidiaTeslaT4",
        "sessionTimeoutSeconds": 41400,
        "datasetDataSources": ["alice/data/3"],
        "kernelDataSources": ["alice/former"],
        "competitionDataSources": ["reef"],
        "kernelExecutionType": "SAVE_AND_RUN_ALL",
    }


@pytest.mark.parametrize("text", ["Notebook not found", "Denied on alice/samerun-phone-1a2b", "verify your phone"])
def test_what_is_not_there_is_that_in_whatever_words(server: Server, service: Service, text: str) -> None:
    """A look-up that takes these for a refusal would end each run before its push."""
    server.answer = in_turn(says({"code": 404, "message": text}, 404), says({"code": 403, "message": text}, 403))
    with pytest.raises(NotThereError) as caught:
        service.kernel("alice", "x")
    assert caught.value.certain
    with pytest.raises(CredentialError if "verify" in text else NotThereError):
        service.kernel("alice", "x")


def test_names_are_lower_case_however_they_are_written(server: Server) -> None:
    assert slug_of("https://www.kaggle.com/code/Alice/samerun-x") == slug_of("Alice/samerun-x") == "alice/samerun-x"
    service, _ = sign_in(server.url, env={"HOME": "/nowhere", "KAGGLE_USERNAME": "Alice", "KAGGLE_KEY": "k3y"})
    assert service.user == "alice"


def test_the_log_is_held_once_however_many_pages_there_are(server: Server, service: Service) -> None:
    page = {"files": [{"url": "http://x/a", "fileName": "a"}], "log": "[]", "nextPageToken": "1"}
    server.answer = in_turn(says(page), says({**page, "log": "another", "nextPageToken": ""}))
    assert service.outputs("alice", "x").log == "[]"


def test_sources_that_kaggle_dropped_are_told(server: Server, service: Service) -> None:
    server.answer = in_turn(says({"ref": "alice/x", "invalidDatasetSources": ["a/b"], "invalidKernelSources": []}))
    assert service.push(PUSH).invalid == {"dataset": ("a/b",)}


def test_an_error_within_200_is_an_error_of_its_class_and_was_sent_once(server: Server, service: Service) -> None:
    server.answer = in_turn(says({"error": "Maximum batch GPU session count of 2 reached."}))
    with pytest.raises(CapacityError):
        service.push(PUSH)
    server.answer = in_turn(says({"error": "Notebook not found"}))
    with pytest.raises(SpecError):
        service.push(PUSH)
    server.answer = in_turn(says({"error": "Ouch"}))
    with pytest.raises(RefusedError, match="Ouch"):
        service.push(PUSH)
    assert len(server.requests) == 3


@pytest.mark.parametrize(("name", "state"), [(each.value, each) for each in KernelState if each != "unknown"])
def test_each_state_of_a_kernel_has_its_own(server: Server, service: Service, name: str, state: KernelState) -> None:
    server.answer = in_turn(says({"status": name, "failureMessage": "why"}))
    status = service.status("alice", "x", 3)
    assert (status.state, status.message) == (state, "why")
    assert server.requests[0].fields == {"userName": "alice", "kernelSlug": "x", "versionLabel": "v3"}


def test_a_new_state_is_unknown_and_one_that_is_left_out_is_queued(server: Server, service: Service) -> None:
    server.answer = in_turn(says({"status": "HIBERNATING"}), says({}))
    assert service.status("alice", "x").state is KernelState.UNKNOWN
    assert service.status("alice", "x").state is KernelState.QUEUED
    server.answer = in_turn(says({"status": "PONDERING"}))
    assert service.dataset_status("alice", "x") is DatasetState.UNKNOWN


def test_a_kernel_comes_with_source_and_sources(server: Server, service: Service) -> None:
    metadata = {"ref": "alice/x", "title": "x", "currentVersionNumber": 4, "datasetDataSources": ["alice/d"]}
    metadata |= {"isPrivate": True, "enableGpu": True, "machineShape": "NvidiaTeslaT4"}
    server.answer = in_turn(says({"metadata": metadata, "blob": {"source": "print(1)"}}))
    kernel = service.kernel("alice", "x")
    assert (kernel.source, kernel.version, kernel.datasets, kernel.private) == ("print(1)", 4, ("alice/d",), True)
    assert "print(1)" not in repr(kernel)


def paged(key: str, items: list[dict[str, Any]], size: int) -> Any:
    def answer(request: Request) -> Reply:
        at = int(request.fields.get("pageToken") or 0)
        more = {"nextPageToken": str(at + size)} if at + size < len(items) else {}
        return says({key: items[at : at + size], **more})

    return answer


def test_outputs_of_all_pages_come_with_addresses_and_sizes(server: Server, service: Service) -> None:
    files = [{"fileName": f"f{i}", "url": f"https://x/{i}?sig=5ecre7"} for i in range(450)]
    server.answer = paged("files", files, PAGE)
    outputs = service.outputs("alice", "x", 1)
    assert len(outputs.urls) == 450
    assert "5ecre7" not in repr(outputs)
    assert [request.fields.get("pageToken") for request in server.requests] == [None, "200", "400"]
    assert {request.fields["versionLabel"] for request in server.requests} == {"v1"}
    server.answer = paged("files", [{"name": f"f{i}", "size": i} for i in range(450)], PAGE)
    assert service.output_sizes("alice", "x") == {f"f{i}": i for i in range(450)}


def test_pages_that_never_end_are_an_error(server: Server, service: Service) -> None:
    server.answer = in_turn(says({"files": [], "nextPageToken": "again"}))
    with pytest.raises(UnansweredError, match="no end"):
        service.outputs("alice", "x")
    assert len(server.requests) == 2


def test_listings_by_number_go_on_until_nothing_is_new_whatever_the_page_size(server: Server, service: Service) -> None:
    kernels = [{"id": i, "ref": f"alice/k{i}", "lastRunTime": "2026-01-01T00:00:00.000Z"} for i in range(1, 46)]

    def answer(request: Request) -> Reply:
        at = 20 * (int(request.fields["page"]) - 1)
        return says({"kernels": kernels[at : at + 20]})

    server.answer = answer
    found = service.kernels("samerun")
    assert [kernel.ref for kernel in found] == [kernel["ref"] for kernel in kernels]
    assert found[0].last_run == datetime(2026, 1, 1, tzinfo=UTC)
    assert {**server.requests[0].fields, "page": 0} == {
        "group": "PROFILE",
        "user": "alice",
        "search": "samerun",
        "sortBy": "DATE_RUN",
        "pageSize": 100,
        "page": 0,
    }
    server.answer = lambda request: says({"kernels": kernels[:2]})  # a server that knows no pages
    assert len(service.kernels()) == 2
    server.answer = lambda request: says({"datasets": [{"ref": "alice/d", "title": "d", "currentVersionNumber": 2}]})
    assert [(each.ref, each.version) for each in service.datasets()] == [("alice/d", 2)]


def test_quota_counts_days_and_may_be_missing(server: Server, service: Service) -> None:
    gpu = {"timeUsed": "3600s", "timeReserved": "60s", "totalTimeAllowed": "108000s"}
    server.answer = in_turn(says({"quotaRefreshTime": "2026-11-28T00:00:00Z", "gpuQuota": gpu}), says({}))
    refresh = datetime(2026, 11, 28, tzinfo=UTC)
    assert service.quota() == Quota(timedelta(hours=1), timedelta(minutes=1), timedelta(hours=30), refresh)
    assert service.quota() is None


def test_deleting_says_whether_it_was_there_and_what_kaggle_says(server: Server, service: Service) -> None:
    server.answer = in_turn(says({}))
    service.delete_kernel("alice", "x")
    service.delete_dataset("alice", "d")
    assert server.rpcs() == ["DeleteKernel", "DeleteDataset"]
    server.answer = in_turn(says({"errorMessage": "in use", "error": "in use"}))
    for delete in (service.delete_kernel, service.delete_dataset):
        with pytest.raises(RefusedError, match="in use"):
            delete("alice", "x")
    server.answer = in_turn(says({"code": 403, "message": "denied"}, 403))
    with pytest.raises(NotThereError) as caught:
        service.delete_kernel("alice", "x")
    assert not caught.value.certain


def test_a_dataset_is_made_private_of_tokens_and_gets_versions(server: Server, service: Service) -> None:
    server.answer = in_turn(says({"ref": "alice/data", "url": "u", "status": "Ok"}))
    assert service.create_dataset("data", "samerun data", ["t1", "t2"]) == "alice/data"
    assert service.create_version("data", "sha256 abc", ["t3"]) == "alice/data"
    made, versioned = (request.fields for request in server.requests)
    assert (made["isPrivate"], made["ownerSlug"], made["files"]) == (True, "alice", [{"token": "t1"}, {"token": "t2"}])
    assert versioned["body"] == {"versionNotes": "sha256 abc", "files": [{"token": "t3"}]}
    server.answer = in_turn(says({"error": 'The requested title "x" is already in use by a dataset.'}))
    with pytest.raises(SpecError, match="in use"):
        service.create_dataset("data", "samerun data", ["t1"])
    server.answer = in_turn(says({"status": "Pending review"}))
    with pytest.raises(RefusedError, match="Pending"):
        service.create_dataset("data", "samerun data", ["t1"])


def test_a_datasets_files_are_those_of_the_version(server: Server, service: Service) -> None:
    files = [{"name": f"s{i}.tar", "totalBytes": i} for i in range(250)]
    server.answer = paged("datasetFiles", files, PAGE)
    assert len(service.dataset_files("alice", "d", 3)) == 250
    assert server.requests[0].fields["datasetVersionNumber"] == 3
    server.answer = in_turn(says({"errorMessage": "no such version"}))
    with pytest.raises(RefusedError, match="no such version"):
        service.dataset_files("alice", "d", 9)


@pytest.mark.parametrize("value", ["many", None, {}, []])
def test_a_size_that_is_no_number_is_an_error_of_ours(server: Server, service: Service, value: Any) -> None:
    from launcher.errors import RemoteError

    server.answer = in_turn(says({"files": [{"name": "a", "size": value}]}))
    with pytest.raises(RemoteError):
        service.output_sizes("alice", "x")


@pytest.mark.parametrize(
    "ref",
    [
        "alice/x",
        "/alice/x",
        "/code/alice/x",
        "https://www.kaggle.com/code/alice/x?scriptVersionId=1",
        "datasets/alice/x/",
    ],
)
def test_every_form_of_a_ref_is_read(ref: str) -> None:
    assert slug_of(ref) == "alice/x"


def test_a_thread_that_has_ended_leaves_no_connection_open(server: Server, service: Service) -> None:
    for _ in range(3):
        thread = threading.Thread(target=service.quota)
        thread.start()
        thread.join()
    gc.collect()
    assert len(server.requests) == 3
    assert len(service.wire._clients) == 0
    service.quota()
    assert len(service.wire._clients) == 1
