"""The lower half as a whole, on the emulator: sign in, upload, push, follow, download, delete."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from backends.kaggle.client import blobs, download
from backends.kaggle.client.answers import DatasetState, KernelState, Push
from backends.kaggle.client.logs import LogReader
from backends.kaggle.client.refusals import NotThereError, UnansweredError
from backends.kaggle.client.service import Service, sign_in
from backends.kaggle.client.wire import Limits, Wire
from tests.emulators.kaggle import KaggleEmulator

LIMITS = Limits(connect=2, silence=5, answer=5, total=10, pauses=(0.05, 0.1))
SCRIPT = """
import pathlib, sys, time
found = sorted(pathlib.Path('/kaggle/input').rglob('*.txt')) if pathlib.Path('/kaggle/input').is_dir() else []
for epoch in range(3):
    print('epoch', epoch, '\\u2603', flush=True)
    time.sleep(0.1)
print('a warning', file=sys.stderr, flush=True)
pathlib.Path('train/weights').mkdir(parents=True)
pathlib.Path('train/weights/best.pt').write_bytes(bytes(range(256)) * 100)
pathlib.Path('train/results.csv').write_text('epoch\\n')
"""


@pytest.fixture
def kaggle(tmp_path: Path) -> Iterator[KaggleEmulator]:
    with KaggleEmulator(tmp_path / "kaggle") as started:
        yield started


@pytest.fixture
def service(kaggle: KaggleEmulator) -> Iterator[Service]:
    signed, _ = sign_in(kaggle.endpoint, LIMITS, {"HOME": "/nowhere", **kaggle.env})
    yield signed
    signed.wire.close()


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.05)


def follow(reader: LogReader, lines: list[str], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not (reader.ended and not reader.lines(len(lines), 0)):
        lines += reader.lines(len(lines), 0.5)
        assert time.monotonic() < end, f"the log did not end: {reader.problem}"
    reader.close()


def push(service: Service, slug: str = "samerun-lower-half", **fields: object) -> Push:
    given: dict[str, object] = {"gpu": False, "internet": False, "timeout_s": 600, "text": SCRIPT, **fields}
    return Push(owner=service.user, slug=slug, title=slug.replace("-", " "), **given)  # type: ignore[arg-type]


def test_a_kernel_is_pushed_followed_downloaded_and_deleted(
    kaggle: KaggleEmulator, service: Service, tmp_path: Path
) -> None:
    pushed = service.push(push(service))
    assert pushed.ref == "alice/samerun-lower-half"
    assert not pushed.invalid
    owner, slug = pushed.ref.split("/")
    reader = LogReader(lambda: service.wire.open_log(owner, slug, pushed.version), pauses=(0.05,))
    lines: list[str] = []
    follow(reader, lines)
    assert lines == ["epoch 0 ☃", "epoch 1 ☃", "epoch 2 ☃"]
    until(lambda: service.status(owner, slug, pushed.version).state is KernelState.COMPLETE)
    assert service.kernel(owner, slug).source == SCRIPT
    assert [kernel.ref for kernel in service.kernels("samerun")] == [pushed.ref]
    sizes = service.output_sizes(owner, slug, pushed.version)
    left = download.fetch(
        ["train/weights/best.pt", "train/results.csv", "missing"],
        tmp_path / "out",
        lambda: service.outputs(owner, slug, pushed.version).urls,
        sizes,
    )
    assert set(left) == {"missing"}
    assert (tmp_path / "out/train/weights/best.pt").read_bytes() == bytes(range(256)) * 100
    service.delete_kernel(owner, slug)
    assert service.kernels("samerun") == []
    with pytest.raises(NotThereError):
        service.kernel(owner, slug)


def test_a_dataset_is_uploaded_made_listed_and_attached(kaggle: KaggleEmulator, service: Service) -> None:
    data = b"hello\n" * 100_000
    blob = blobs.start(service.wire, "shard.txt", len(data), 1_700_000_000)
    blobs.upload(blob, lambda offset, n: data[offset : offset + n], fresh=True)
    assert service.create_dataset("samerun-data", "samerun data", [blob.token]) == "alice/samerun-data"
    until(lambda: service.dataset_status("alice", "samerun-data") is DatasetState.READY)
    assert service.dataset("alice", "samerun-data").version == 1
    assert service.dataset_files("alice", "samerun-data", 1) == {"shard.txt": len(data)}
    assert [each.ref for each in service.datasets()] == ["alice/samerun-data"]
    pushed = service.push(push(service, datasets=("alice/samerun-data/1",)))
    assert not pushed.invalid
    service.delete_kernel("alice", "samerun-lower-half")
    service.delete_dataset("alice", "samerun-data")
    assert service.datasets() == []


@pytest.mark.parametrize("fault", ["lose-reply", "hang-after", "500-after", "cut-middle"])
def test_a_lost_reply_to_a_push_leaves_one_kernel_that_is_found(
    kaggle: KaggleEmulator, service: Service, fault: str
) -> None:
    kaggle.faults.add(fault, on="SaveKernel")
    quick = Service(
        Wire(service.wire._credential, endpoint=kaggle.endpoint, limits=replace(LIMITS, silence=0.5)), "alice"
    )
    with pytest.raises(UnansweredError) as caught:
        quick.push(push(service))
    assert caught.value.maybe_done
    assert kaggle.counters.calls["SaveKernel"] == 1
    assert service.kernel("alice", "samerun-lower-half").source == SCRIPT


@pytest.mark.parametrize("fault", ["cut-log", "idle-log", "replay-log"])
def test_a_log_that_breaks_brings_each_line_once(kaggle: KaggleEmulator, service: Service, fault: str) -> None:
    for at in (20, 90, 150):
        kaggle.faults.add(fault, on="alice/samerun-lower-half", at=at)
    service.push(push(service))
    lines: list[str] = []
    patient = replace(LIMITS, log_silence=0.5)
    signed = Wire(service.wire._credential, endpoint=kaggle.endpoint, limits=patient)
    follow(LogReader(lambda: signed.open_log("alice", "samerun-lower-half"), pauses=(0.05,)), lines)
    assert lines == ["epoch 0 ☃", "epoch 1 ☃", "epoch 2 ☃"]


def test_names_of_files_that_lead_out_are_listed_and_never_written(
    kaggle: KaggleEmulator, service: Service, tmp_path: Path
) -> None:
    kaggle.faults.add("evil-name", on="alice/samerun-lower-half", times=None)
    service.push(push(service))
    kaggle.kernels.wait("alice/samerun-lower-half")
    urls = service.outputs("alice", "samerun-lower-half").urls
    left = download.fetch(list(urls), tmp_path / "out", lambda: urls)
    assert list(left) == ["../evil.txt"]
    assert not (tmp_path / "evil.txt").exists()
