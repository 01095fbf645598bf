"""Whose things are whose, what a push may ask for, and what it is told instead."""

from __future__ import annotations

import importlib
import io
import zipfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.emulators.clients import Bare, outputs, push, request, sdk, status
from tests.emulators.kaggle import KaggleEmulator

SLEEP = "import time\ntime.sleep(60)"


def refused(work: Any) -> int:
    """The HTTP status with which the SDK raises."""
    with pytest.raises(Exception) as caught:
        work()
    response = getattr(caught.value, "response", None)
    assert response is not None, caught.value
    return int(response.status_code)


def kernel_of(client: Any, slug: str, label: str | None = None) -> Any:
    asked = request("GetKernel", user_name="alice", kernel_slug=slug)
    asked.version_label = label
    return client.kernels.kernels_api_client.get_kernel(asked)


def test_a_push_is_a_new_version_whose_source_can_be_read_back(kaggle: KaggleEmulator, client: Any) -> None:
    first = push(client, "my kernel", "print(1)")
    kaggle.kernels.wait("alice/my-kernel")
    second = push(client, "my kernel", "print(2)", machine_shape="NvidiaTeslaT4", enable_internet=True)
    kaggle.kernels.wait("alice/my-kernel")
    assert (first.version_number, second.version_number) == (1, 2)
    assert (first.ref, first.kernel_id) == (second.ref, second.kernel_id)
    assert kernel_of(client, "my-kernel").blob.source == "print(2)"
    assert kernel_of(client, "my-kernel", "v1").blob.source == "print(1)"
    told = kernel_of(client, "my-kernel").metadata
    assert (told.machine_shape, told.enable_gpu, told.enable_internet) == ("NvidiaTeslaT4", True, True)
    assert told.current_version_number == 2
    assert refused(lambda: kernel_of(client, "my-kernel", "1")) == 404
    assert refused(lambda: kernel_of(client, "my-kernel", "v3")) == 404


def test_a_kernel_lands_at_the_slug_of_its_title(client: Any) -> None:
    save = request("SaveKernel", slug="alice/asked-for", new_title="YOLO full_aug v1.2", text="1", language="python")
    assert client.kernels.kernels_api_client.save_kernel(save).ref == "alice/yolo-full-aug-v1-2"
    assert refused(lambda: status(client, "asked-for")) == 403
    assert status(client, "yolo-full-aug-v1-2")


def test_a_second_push_starts_a_second_session_while_the_first_goes_on(kaggle: KaggleEmulator, client: Any) -> None:
    push(client, "my kernel", SLEEP)
    push(client, "my kernel", "print(2)")
    kaggle.kernels.wait("alice/my-kernel")
    assert status(client, "my-kernel", "v2") == "COMPLETE"
    assert status(client, "my-kernel", "v1") == "RUNNING"


def test_sources_that_are_not_there_are_named_and_the_run_goes_on_without_them(
    kaggle: KaggleEmulator, client: Any
) -> None:
    kaggle.datasets.add("alice/reef-set", {"a": b"1"})
    kaggle.accounts.add("bob")
    kaggle.datasets.add("bob/hidden-set", {"a": b"1"})
    wrong = [
        "alice/no-such",
        "reef-set",
        "alice/reef-set/1/2",
        "alice/reef-set/2",
        "datasets/alice/reef-set",
        "bob/hidden-set",
    ]
    told = push(
        client,
        "my kernel",
        "print(1)",
        dataset_data_sources=["alice/reef-set/1", *wrong],
        kernel_data_sources=["alice/no-such"],
        competition_data_sources=["no-such"],
        model_data_sources=["a/b/c/d/1"],
    )
    assert told.invalid_dataset_sources == wrong
    assert told.invalid_kernel_sources == ["alice/no-such"]
    assert told.invalid_competition_sources == ["no-such"]
    assert told.invalid_model_sources == ["a/b/c/d/1"]
    assert kaggle.kernels.wait("alice/my-kernel") == "COMPLETE"
    assert kernel_of(client, "my-kernel").metadata.dataset_data_sources == ["alice/reef-set/1"]


def test_a_third_gpu_session_is_refused_in_words_until_one_has_ended(kaggle: KaggleEmulator, client: Any) -> None:
    for number in (1, 2):
        assert not push(client, f"gpu run {number}", SLEEP, machine_shape="NvidiaTeslaT4").error
    told = push(client, "gpu run 3", SLEEP, machine_shape="NvidiaTeslaT4")
    assert told.error == "Maximum batch GPU session count of 2 reached."
    assert "alice/gpu-run-3" not in kaggle.kernels
    assert not push(client, "cpu run", "print(1)").error
    kaggle.kernels.lose("alice/gpu-run-1")
    assert not push(client, "gpu run 3", SLEEP, machine_shape="NvidiaTeslaT4").error


def test_a_session_that_ended_may_count_a_little_longer(kaggle: KaggleEmulator, client: Any) -> None:
    kaggle.settings.max_gpu_sessions, kaggle.settings.linger_seconds = 1, 60
    push(client, "gpu run 1", "print(1)", enable_gpu=True)
    kaggle.kernels.wait("alice/gpu-run-1")
    assert push(client, "gpu run 2", "print(1)", enable_gpu=True).error
    kaggle.settings.linger_seconds = 0
    assert not push(client, "gpu run 2", "print(1)", enable_gpu=True).error


def test_the_weeks_gpu_time_runs_down_and_then_ends_what_runs(kaggle: KaggleEmulator, client: Any) -> None:
    def used() -> Any:
        asked = request("GetAcceleratorQuotaStatistics")
        return client.kernels.kernels_api_client.get_accelerator_quota_statistics(asked).gpu_quota

    assert used().time_used == timedelta(0)
    assert used().total_time_allowed == timedelta(hours=30)
    kaggle.settings.quota_scale = 300_000
    push(client, "gpu run", SLEEP, machine_shape="NvidiaTeslaT4")
    assert kaggle.kernels.wait("alice/gpu-run") == "ERROR"
    assert used().time_used >= timedelta(hours=30)
    assert "quota" in push(client, "gpu run", SLEEP, machine_shape="NvidiaTeslaT4").error
    assert not push(client, "cpu run", "print(1)").error


def test_without_a_verified_phone_there_is_no_gpu_and_no_internet(kaggle: KaggleEmulator) -> None:
    kaggle.accounts.add("bob", phone_verified=False)
    client = sdk(kaggle, "bob")
    push(client, "my kernel", "print(1)", user="bob", enable_gpu=True, enable_internet=True)
    asked = request("GetKernel", user_name="bob", kernel_slug="my-kernel")
    told = client.kernels.kernels_api_client.get_kernel(asked).metadata
    assert (told.enable_gpu, told.enable_internet, told.machine_shape) == (False, False, "")


def test_another_user_can_neither_read_nor_push_nor_delete(kaggle: KaggleEmulator, client: Any) -> None:
    push(client, "my kernel", "print(1)")
    kaggle.kernels.wait("alice/my-kernel")
    kaggle.accounts.add("bob")
    bob = sdk(kaggle, "bob")
    delete = request("DeleteKernel", user_name="alice", kernel_slug="my-kernel")
    assert refused(lambda: status(bob, "my-kernel")) == 403
    assert refused(lambda: outputs(bob, "my-kernel")) == 403
    assert refused(lambda: push(bob, "my kernel", "print(2)", user="alice")) == 403
    assert refused(lambda: bob.kernels.kernels_api_client.delete_kernel(delete)) == 403
    assert "alice/my-kernel" in kaggle.kernels


@pytest.mark.parametrize("errors_as_200", [False, True])
def test_wrong_credentials_are_refused(kaggle: KaggleEmulator, errors_as_200: bool) -> None:
    kaggle.settings.errors_as_200 = errors_as_200
    expected = 200 if errors_as_200 else 401
    assert refused(lambda: status(sdk(kaggle, username="alice", password="wrong"), "my-kernel")) == expected
    assert refused(lambda: status(sdk(kaggle, api_token="wrong"), "my-kernel")) == expected


def test_a_token_says_whose_it_is_and_a_refresh_token_gives_another(kaggle: KaggleEmulator) -> None:
    account = kaggle.accounts["alice"]
    anyone = sdk(kaggle, api_token="wrong")
    introspect = anyone.security.oauth_client.introspect_token
    assert introspect(request("IntrospectToken", token=account.token)).username == "alice"
    assert not introspect(request("IntrospectToken", token="wrong")).active
    asked = request("GenerateAccessToken", refresh_token=account.refresh, expiration_duration=timedelta(seconds=60))
    given = anyone.users.account_client.generate_access_token(asked)
    assert (given.user_name, given.expires_in) == ("alice", 60)
    for token in (account.token, given.token):
        assert push(sdk(kaggle, api_token=token), "my kernel", "print(1)").version_number


def test_a_listing_has_pages_and_can_be_searched(kaggle: KaggleEmulator, client: Any) -> None:
    for number in range(3):
        push(client, f"my kernel {number}", "print(1)", kernel_execution_type=quick_save())
    list_kernels = client.kernels.kernels_api_client.list_kernels

    def refs(**fields: Any) -> list[str]:
        kind = type(request("ListKernels").group)
        return [kernel.ref for kernel in list_kernels(request("ListKernels", group=kind.PROFILE, **fields)).kernels]

    assert refs() == [f"alice/my-kernel-{number}" for number in (2, 1, 0)]
    assert refs(page=2, page_size=2) == ["alice/my-kernel-0"]
    assert refs(search="kernel 1") == ["alice/my-kernel-1"]
    kaggle.accounts.add("bob")
    kind = type(request("ListKernels").group)
    assert sdk(kaggle, "bob").kernels.kernels_api_client.list_kernels(request("ListKernels", group=kind.PROFILE))
    assert kaggle.counters.sessions_started == 0


def test_many_outputs_come_in_pages(kaggle: KaggleEmulator, client: Any) -> None:
    push(client, "many files", "for number in range(450): open(f'{number:03}.txt', 'w').write('1')")
    kaggle.kernels.wait("alice/many-files")
    names: list[str] = []
    token: str | None = ""
    while token is not None:
        page = outputs(client, "many-files", page_size=500, page_token=token)
        assert len(page.files) <= 200
        names += [file.file_name for file in page.files]
        token = page.next_page_token or None
    assert names == [f"{number:03}.txt" for number in range(450)]


def test_a_service_is_known_by_its_name(bare: Bare) -> None:
    assert bare("POST", "/v1/datasets.DatasetApiService/GetKernelSessionStatus", b"{}").status == 404
    assert bare("POST", "/v1/kernels.KernelsApiService/NoSuchThing", b"{}").status == 404
    assert bare("POST", "/api/v1/kernels.KernelsApiService/ListKernels", b"{}").json == {
        "kernels": [],
        "nextPageToken": "",
    }
    assert bare("POST", "/v1/kernels.KernelsApiService/ListKernels", b"no json").status == 400
    assert bare.rpc("SaveKernel", {"slug": "alice/my-kernel", "text": "1", "language": "r"}).status == 400


def test_a_defect_of_the_emulator_is_called_so(
    kaggle: KaggleEmulator, bare: Bare, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kaggle, "call", lambda *_: 1 / 0)
    answer = bare.rpc("ListKernels")
    assert (answer.status, "emulator is broken" in answer.json["message"]) == (500, True)


def quick_save() -> Any:
    return importlib.import_module("kagglesdk.kernels.types.kernels_enums").KernelExecutionType.QUICK_SAVE


def test_files_of_a_competition_and_of_a_run_can_be_downloaded(
    kaggle: KaggleEmulator, client: Any, tmp_path: Path
) -> None:
    (tmp_path / "reef").mkdir()
    (tmp_path / "reef" / "train.csv").write_text("x")
    kaggle.competitions.add("reef-2026", tmp_path / "reef")
    download = client.competitions.competition_api_client
    one = request("DownloadDataFile", competition_name="reef-2026", file_name="train.csv")
    assert download.download_data_file(one).content == b"x"
    every = download.download_data_files(request("DownloadDataFiles", competition_name="reef-2026"))
    assert zipfile.ZipFile(io.BytesIO(every.content)).namelist() == ["train.csv"]
    outside = request("DownloadDataFile", competition_name="reef-2026", file_name="../reef-all.zip")
    assert refused(lambda: download.download_data_file(outside)) == 404
    push(client, "my kernel", "open('a.txt', 'w').write('1')")
    kaggle.kernels.wait("alice/my-kernel")
    asked = request("DownloadKernelOutput", owner_slug="alice", kernel_slug="my-kernel", file_path="a.txt")
    assert client.kernels.kernels_api_client.download_kernel_output(asked).content == b"1"


def test_a_session_can_be_cancelled_only_by_its_id_which_nobody_is_told(kaggle: KaggleEmulator, client: Any) -> None:
    told = push(client, "my kernel", SLEEP)
    session = kaggle.kernels["alice/my-kernel"].latest.session
    assert session is not None
    cancel = client.kernels.kernels_api_client.cancel_kernel_session
    for number in (told.version_number, told.kernel_id):
        assert refused(lambda number=number: cancel(request("CancelKernelSession", kernel_session_id=number))) == 404
    cancel(request("CancelKernelSession", kernel_session_id=session.id))
    assert status(client, "my-kernel") == "CANCEL_ACKNOWLEDGED"
