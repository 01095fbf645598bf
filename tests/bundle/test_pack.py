"""Bundles: the digest is of contents, the cache is written once, and nobody ever sees half of one."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from launcher.bundle import pack as module
from launcher.bundle.pack import Bundle, pack, unpack, worker_bytes
from launcher.errors import IntegrityError, NotFoundError, StorageError
from launcher.files import sha256_file

JOB = {"version": 1, "train": {"epochs": 3, "lr0": 0.01}}
TEXTS = {"spec.yaml": b"model: a\n", "data.json": b"{}"}
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def model(tmp_path: Path) -> Path:
    file = tmp_path / "a model's weights.pt"
    file.write_bytes(b"weights" * 1000)
    return file


def made(cache: Path, model: Path, **more: Any) -> Bundle:
    given: dict[str, Any] = {"job": JOB, "texts": TEXTS, "carried": {f"model/{model.name}": model}, "fingerprint": "f"}
    return pack(cache, **{**given, **more})


def sound(bundle: Bundle) -> bool:
    return all(sha256_file(file.source) == file.sha256 for file in bundle.files)


def test_the_second_pack_writes_nothing(tmp_path: Path, model: Path) -> None:
    first = made(tmp_path / "cache", model)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*")}
    second = made(tmp_path / "cache", model)
    assert (first.packed, second.packed) == (True, False)
    assert first.files == second.files
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*")} == before
    assert sound(first)


def test_the_digest_does_not_depend_on_order_time_or_place(tmp_path: Path, model: Path) -> None:
    other = tmp_path / "elsewhere" / model.name
    other.parent.mkdir()
    shutil.copyfile(model, other)
    os.utime(other, (1, 1))
    turned: Mapping[str, Any] = {"train": {"lr0": 0.01, "epochs": 3}, "version": 1}
    one = made(tmp_path / "cache", model)
    two = made(tmp_path / "cache2", other, job=turned, texts=dict(reversed(TEXTS.items())))
    assert one.digest == two.digest
    assert [(file.path, file.sha256, file.size) for file in one.files] == [
        (file.path, file.sha256, file.size) for file in two.files
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"job": {**JOB, "version": 2}},
        {"job": {**JOB, "train": {"epochs": 3, "lr0": "0.01"}}},
        {"texts": {**TEXTS, "spec.yaml": b"model: b\n"}},
        {"texts": {**TEXTS, "spec2.yaml": TEXTS["spec.yaml"]}},
        {"fingerprint": "g"},
        {"carried": {}},
    ],
)
def test_each_content_is_in_the_digest(tmp_path: Path, model: Path, change: dict[str, Any]) -> None:
    assert made(tmp_path / "cache", model).digest != made(tmp_path / "cache", model, **change).digest


def test_a_changed_model_is_another_bundle(tmp_path: Path, model: Path) -> None:
    one = made(tmp_path / "cache", model)
    stamp = model.stat().st_mtime_ns
    model.write_bytes(b"Weights" * 1000)
    os.utime(model, ns=(stamp, stamp))
    assert made(tmp_path / "cache", model).digest != one.digest


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.text(min_size=1), st.integers() | st.text() | st.booleans() | st.none(), max_size=4))
def test_the_same_job_has_the_same_bytes(job: dict[str, Any]) -> None:
    try:
        first = module._json(job)
    except UnicodeEncodeError:
        return  # half of a surrogate pair: no spec can hold it
    assert first == module._json(dict(reversed(job.items())))
    assert json.loads(first) == job


def test_a_model_that_changes_while_it_is_packed_is_refused(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copyfile

    def changed(source: Path, target: Path) -> None:
        copy(source, target)
        Path(target).write_bytes(b"half")

    monkeypatch.setattr(shutil, "copyfile", changed)
    with pytest.raises(IntegrityError):
        made(tmp_path / "cache", model)
    assert list((tmp_path / "cache/bundles").iterdir()) == []


def test_a_bundle_with_a_file_gone_is_made_again(tmp_path: Path, model: Path) -> None:
    first = made(tmp_path / "cache", model)
    (first.folder / "job.json").write_bytes(b"{")
    with pytest.raises(NotFoundError):
        unpack(tmp_path / "cache", first.digest)
    second = made(tmp_path / "cache", model)
    assert second.packed
    assert second.digest == first.digest
    assert sound(second)
    assert unpack(tmp_path / "cache", first.digest).files == second.files


def test_a_bundle_without_index_is_made_again(tmp_path: Path, model: Path) -> None:
    first = made(tmp_path / "cache", model)
    (first.folder / module.INDEX).unlink()
    assert sound(made(tmp_path / "cache", model))
    assert [path.name for path in (tmp_path / "cache/bundles").iterdir()] == [first.digest]


def test_a_bundle_that_is_not_there_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as caught:
        unpack(tmp_path, "0" * 64)
    assert caught.value.remedy


def test_a_cache_that_is_a_file_is_a_storage_error(tmp_path: Path, model: Path) -> None:
    (tmp_path / "cache").write_text("")
    with pytest.raises(StorageError) as caught:
        made(tmp_path / "cache", model)
    assert "SAMERUN_CACHE_DIR" in (caught.value.remedy or "")


PACK = """
import sys
from pathlib import Path
from launcher.bundle.pack import pack
cache, model = Path(sys.argv[1]), Path(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
bundle = pack(cache, {"version": 1}, {"a.txt": b"a"}, {"model.pt": model}, "f")
print(bundle.digest, bundle.packed, flush=True)
"""


def packer(cache: Path, model: Path) -> subprocess.Popen[str]:
    started = subprocess.Popen(
        [sys.executable, "-c", PACK, str(cache), str(model)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert started.stdout is not None
    assert started.stdout.readline() == "ready\n"
    return started


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_packed_by_several_at_once_it_is_one_whole_bundle(tmp_path: Path, model: Path) -> None:
    packers = [packer(tmp_path / "cache", model) for _ in range(3)]
    for process in packers:
        go(process)
    told = [process.communicate()[0].split()[0] for process in packers]
    assert [process.returncode for process in packers] == [0, 0, 0]
    assert len(set(told)) == 1
    assert sound(unpack(tmp_path / "cache", told[0]))
    assert [path.name for path in (tmp_path / "cache/bundles").iterdir()] == [told[0]]


def test_a_killed_pack_leaves_nothing_that_counts(tmp_path: Path) -> None:
    model = tmp_path / "large.pt"
    model.write_bytes(os.urandom(16 << 20))
    for delay in (0.0, 0.005, 0.01, 0.02, 0.03, 0.05):
        cache = tmp_path / f"cache{delay}"
        process = packer(cache, model)
        go(process)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        for folder in cache.glob("bundles/*"):
            assert folder.name.startswith(".part-") or sound(unpack(cache, folder.name))
        bundle = pack(cache, {"version": 1}, {"a.txt": b"a"}, {"model.pt": model}, "f")
        assert sound(bundle)
        assert len(bundle.files) == 4


def test_the_worker_is_the_same_file_every_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = worker_bytes()
    long_ago = time.struct_time((1999, 1, 1, 0, 0, 0, 4, 1, 0))
    monkeypatch.setattr(time, "time", lambda: 0.0)
    monkeypatch.setattr(time, "localtime", lambda *_: long_ago)
    copy = tmp_path / "launcher"
    shutil.copytree(ROOT / "launcher/worker", copy / "worker")
    for path in copy.rglob("*.py"):
        os.utime(path, (1, 1))
        path.chmod(0o600)
    monkeypatch.setattr(module, "__file__", str(copy / "bundle/pack.py"))
    assert worker_bytes() == first


def test_the_worker_holds_its_modules_and_nothing_else() -> None:
    with zipfile.ZipFile(io.BytesIO(worker_bytes())) as archive:
        names = archive.namelist()
        assert archive.testzip() is None
    worker = ROOT / "launcher/worker"
    expected = {f"samerun_worker/{path.relative_to(worker)}" for path in worker.rglob("*.py")}
    assert set(names) == {*expected, "__main__.py"}
    assert names == sorted(names)
