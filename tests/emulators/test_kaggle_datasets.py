"""Datasets: uploads whole and resumed, processing, versions, archives."""

from __future__ import annotations

import io
import json
import tarfile
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.emulators.clients import Bare, make, outputs, printed, push, request, sdk
from tests.emulators.kaggle import KaggleEmulator
from tests.emulators.test_kaggle_rules import refused


def started(client: Any, name: str, size: int) -> Any:
    """The SDK's answer to StartBlobUpload."""
    asked = request("StartBlobUpload", name=name, content_length=size, last_modified_epoch_seconds=1)
    asked.type = type(asked.type).DATASET
    return client.blobs.blob_api_client.start_blob_upload(asked)


def uploaded(client: Any, bare: Bare, name: str, data: bytes) -> Any:
    """A file of a dataset whose upload is complete."""
    upload = started(client, name, len(data))
    assert bare("PUT", upload.create_url, data).status == 200
    return make("ApiDatasetNewFile", token=upload.token)


def create(client: Any, bare: Bare, files: Mapping[str, bytes], slug: str = "reef-set", **fields: Any) -> Any:
    held = [uploaded(client, bare, name, data) for name, data in files.items()]
    asked = request("CreateDataset", owner_slug="alice", slug=slug, title=slug, license_name="CC0-1.0", **fields)
    asked.files, asked.is_private = held, True
    return client.datasets.dataset_api_client.create_dataset(asked)


def version(client: Any, bare: Bare, files: Mapping[str, bytes], **fields: Any) -> Any:
    body = make("ApiCreateDatasetVersionRequestBody", version_notes="more", **fields)
    body.files = [uploaded(client, bare, name, data) for name, data in files.items()]
    asked = request("CreateDatasetVersion", owner_slug="alice", dataset_slug="reef-set", body=body)
    return client.datasets.dataset_api_client.create_dataset_version(asked)


def state(client: Any) -> str:
    asked = request("GetDatasetStatus", owner_slug="alice", dataset_slug="reef-set")
    return str(client.datasets.dataset_api_client.get_dataset_status(asked).status.name)


def ready(client: Any, wanted: str = "READY") -> None:
    end = time.monotonic() + 5
    while state(client) != wanted:
        assert time.monotonic() < end, state(client)
        time.sleep(0.01)


def listed(client: Any, number: int | None = None) -> dict[str, int]:
    asked = request("ListDatasetFiles", owner_slug="alice", dataset_slug="reef-set", page_size=200)
    asked.dataset_version_number = number
    found = client.datasets.dataset_api_client.list_dataset_files(asked).dataset_files
    return {file.name: file.total_bytes for file in found}


def zipped(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def tarred(files: Mapping[str, bytes], kind: int, when: float = 1) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=kind) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), when
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def test_a_dataset_is_processed_before_it_is_ready(kaggle: KaggleEmulator, client: Any, bare: Bare) -> None:
    kaggle.settings.dataset_seconds = 60
    assert refused(lambda: state(client)) == 404
    told = create(client, bare, {"a.txt": b"12345"})
    assert (told.status, told.error) == ("Ok", "")
    assert state(client).startswith("BLOBS_")
    assert push(client, "my kernel", "1", dataset_data_sources=["alice/reef-set"]).invalid_dataset_sources
    assert refused(lambda: version(client, bare, {"b.txt": b"1"})) == 403
    kaggle.datasets["alice/reef-set"].newest.seconds = 0
    ready(client)
    assert listed(client) == {"a.txt": 5}


def test_a_version_holds_only_what_it_was_given(kaggle: KaggleEmulator, client: Any, bare: Bare) -> None:
    create(client, bare, {"a.txt": b"1", "b.txt": b"2"})
    ready(client)
    version(client, bare, {"b.txt": b"33"})
    ready(client)
    assert listed(client) == {"b.txt": 2}
    assert listed(client, 1) == {"a.txt": 1, "b.txt": 1}
    asked = request("GetDataset", owner_slug="alice", dataset_slug="reef-set")
    assert client.datasets.dataset_api_client.get_dataset(asked).current_version_number == 2
    script = (
        "import os\nfor f, _, n in os.walk(os.environ.get('KAGGLE_INPUT_ROOT', '/kaggle/input')):\n print(sorted(n))"
    )
    push(client, "my kernel", script, dataset_data_sources=["alice/reef-set/1"])
    kaggle.kernels.wait("alice/my-kernel")
    assert printed(outputs(client, "my-kernel").log).splitlines()[-1] == "['a.txt', 'b.txt']"
    version(client, bare, {"c.txt": b"1"}, delete_old_versions=True)
    ready(client)
    assert refused(lambda: listed(client, 1)) == 404


def test_a_slug_in_use_and_names_too_short_are_refused_in_words(client: Any, bare: Bare) -> None:
    create(client, bare, {"a.txt": b"1"})
    assert "already in use" in create(client, bare, {"a.txt": b"1"}).error
    assert "between 6 and 50" in create(client, bare, {"a.txt": b"1"}, slug="five5").error


FILES = {"images/a.jpg": b"a", "b.txt": b"bb"}


@pytest.mark.parametrize(
    ("name", "data"),
    [("reef.zip", zipped(FILES)), ("reef.tar.gz", tarred(FILES, tarfile.USTAR_FORMAT))],
)
@pytest.mark.parametrize(
    ("how", "below"),
    [("stem", {"reef/images/a.jpg": 1, "reef/b.txt": 2}), ("root", {"images/a.jpg": 1, "b.txt": 2}), ("off", None)],
)
def test_archives_are_unpacked(
    kaggle: KaggleEmulator, client: Any, bare: Bare, name: str, data: bytes, how: Any, below: dict[str, int] | None
) -> None:
    kaggle.settings.unpack = how
    create(client, bare, {name: data})
    ready(client)
    assert listed(client) == (below or {name: len(data)})


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("reef.tar.gz", tarred(FILES, tarfile.PAX_FORMAT, when=1.5)),  # a fraction of a second needs a PAX header
        ("reef.zip", zipped({"@PaxHeader": b""})),
        ("reef.zip", zipped({"../evil.txt": b""})),
        ("reef.zip", b"no archive"),
    ],
)
def test_an_archive_that_is_not_taken_makes_the_dataset_fail(client: Any, bare: Bare, name: str, data: bytes) -> None:
    create(client, bare, {name: data})
    ready(client, "FAILED")
    assert push(client, "my kernel", "1", dataset_data_sources=["alice/reef-set"]).invalid_dataset_sources


def test_folders_in_a_request_become_folders(client: Any, bare: Bare) -> None:
    file = uploaded(client, bare, "a.txt", b"1")
    inner = make("ApiUploadDirectoryInfo", name="train", files=[file])
    create(
        client, bare, {"b.txt": b"1"}, directories=[make("ApiUploadDirectoryInfo", name="images", directories=[inner])]
    )
    ready(client)
    assert listed(client) == {"b.txt": 1, "images/train/a.txt": 1}


def test_a_download_is_redirected_to_a_signed_file(client: Any, bare: Bare) -> None:
    create(client, bare, {"a.txt": b"12345", "b.txt": b"1"})
    ready(client)
    one = request("DownloadDataset", owner_slug="alice", dataset_slug="reef-set", file_name="a.txt")
    response = client.datasets.dataset_api_client.download_dataset(one)
    assert (response.content, response.url.split("?")[0].split("/")[-1]) == (b"12345", "a.txt")
    every = request("DownloadDataset", owner_slug="alice", dataset_slug="reef-set")
    archive = zipfile.ZipFile(io.BytesIO(client.datasets.dataset_api_client.download_dataset(every).content))
    assert sorted(archive.namelist()) == ["a.txt", "b.txt"]


def test_datasets_of_others_are_hidden_and_deleted_ones_gone(kaggle: KaggleEmulator, client: Any, bare: Bare) -> None:
    create(client, bare, {"a.txt": b"1"})
    kaggle.accounts.add("bob")
    kaggle.datasets.add("bob/open-set", {"a": b"1"}, private=False)
    bob = sdk(kaggle, "bob")
    delete = request("DeleteDataset", owner_slug="alice", dataset_slug="reef-set")
    assert refused(lambda: state(bob)) == 403
    assert refused(lambda: bob.datasets.dataset_api_client.delete_dataset(delete)) == 403
    mine = request("ListDatasets", search="reef")
    mine.group = type(mine.group).DATASET_SELECTION_GROUP_MY
    assert [found.ref for found in client.datasets.dataset_api_client.list_datasets(mine).datasets] == [
        "alice/reef-set"
    ]
    client.datasets.dataset_api_client.delete_dataset(delete)
    assert refused(lambda: state(client)) == 404


# Uploads.


def test_an_upload_that_was_cut_goes_on_where_it_stopped(kaggle: KaggleEmulator, client: Any, bare: Bare) -> None:
    data = bytes(range(256)) * 4096
    kaggle.faults.add("cut-upload", on="a.bin", at=1000)
    upload = started(client, "a.bin", len(data))
    with pytest.raises(OSError):
        bare("PUT", upload.create_url, data)
    probe = bare("PUT", upload.create_url, b"", Content_Range=f"bytes */{len(data)}")
    assert (probe.status, probe.headers["Range"]) == (308, "bytes=0-999")
    kaggle.faults.add("cut-upload", on="a.bin", at=10)
    with pytest.raises(OSError):
        bare("PUT", upload.create_url, data[500:], Content_Range=f"bytes 500-{len(data) - 1}/{len(data)}")
    probe = bare("PUT", upload.create_url, b"", Content_Range=f"bytes */{len(data)}")
    assert (probe.status, probe.headers["Range"]) == (308, "bytes=0-509")
    part = {"Content_Range": f"bytes 510-{len(data) - 1}/{len(data)}"}
    assert bare("PUT", upload.create_url, data[510:], **part).status == 200
    assert bare("PUT", upload.create_url, b"", Content_Range=f"bytes */{len(data)}").status == 200
    asked = request("CreateDataset", owner_slug="alice", slug="reef-set", title="reef-set")
    asked.files = [make("ApiDatasetNewFile", token=upload.token)]
    client.datasets.dataset_api_client.create_dataset(asked)
    ready(client)
    assert (kaggle.datasets["alice/reef-set"].newest.folder / "a.bin").read_bytes() == data


def test_an_upload_without_its_beginning_is_refused(client: Any, bare: Bare) -> None:
    upload = started(client, "a.bin", 9)
    probe = bare("PUT", upload.create_url, b"", Content_Range="bytes */9")
    assert (probe.status, probe.headers.get("Range")) == (308, None)
    assert bare("PUT", upload.create_url, b"56789", Content_Range="bytes 4-8/9").status == 400
    assert bare("PUT", upload.create_url, b"1234", Content_Range="bytes 0-3/9").status == 308
    assert bare("PUT", upload.create_url, b"56789", Content_Range="bytes 4-8/9").status == 200


def test_a_dataset_cannot_be_made_of_an_upload_that_is_not_complete(client: Any) -> None:
    asked = request("CreateDataset", owner_slug="alice", slug="reef-set", title="reef-set")
    asked.files = [make("ApiDatasetNewFile", token=started(client, "a.bin", 9).token)]
    assert refused(lambda: client.datasets.dataset_api_client.create_dataset(asked)) == 400


def test_upload_urls_and_file_urls_expire(kaggle: KaggleEmulator, client: Any, bare: Bare) -> None:
    push(client, "my kernel", "open('a.txt', 'w').write('1')\nopen('b.txt', 'w').write('2')")
    kaggle.kernels.wait("alice/my-kernel")
    url = outputs(client, "my-kernel").files[0].url
    assert bare("GET", url).body == b"1"
    assert bare("GET", url.replace("a.txt", "b.txt")).status == 403
    kaggle.settings.url_seconds = -1
    assert bare("PUT", started(client, "a.bin", 1).create_url, b"1").status == 404
    assert bare("GET", outputs(client, "my-kernel").files[0].url).status == 403
    assert bare("GET", url).status == 200


def test_a_file_can_be_had_in_parts(kaggle: KaggleEmulator, client: Any, bare: Bare) -> None:
    push(client, "my kernel", "open('a.txt', 'w').write('0123456789')")
    kaggle.kernels.wait("alice/my-kernel")
    url = outputs(client, "my-kernel").files[0].url
    whole = bare("GET", url)
    assert whole.headers["Accept-Ranges"] == "bytes"
    assert whole.headers["Content-Length"] == "10"
    assert whole.headers["Last-Modified"].endswith("GMT")
    tag = whole.headers["ETag"]
    part = bare("GET", url, Range="bytes=4-", If_Range=tag)
    assert (part.status, part.body, part.headers["Content-Range"]) == (206, b"456789", "bytes 4-9/10")
    assert bare("GET", url, Range="bytes=4-", If_Range='"other"').status == 200
    assert bare("GET", url, Range="bytes=-2").body == b"89"
    assert bare("GET", url, Range="bytes=10-").status == 416
    assert bare("HEAD", url).headers["Content-Length"] == "10"


def test_files_of_a_dataset_are_read_only_on_disk(kaggle: KaggleEmulator, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a.json").write_text(json.dumps({}))
    folder = kaggle.datasets.add("alice/reef-set", tmp_path / "source").newest.folder
    assert (folder / "a.json").stat().st_mode & 0o222 == 0
