"""What comes to the machine is what was sent, by the very program that travels."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from backends.gcp.store import Store, carrier_bytes, data_shards
from backends.gcp.store.carrier import inputs as inputs_module
from backends.gcp.store.carrier.__main__ import main
from backends.gcp.store.carrier.inputs import fetch_all, lay_out, unpack
from backends.gcp.store.carrier.names import dataset, shared
from backends.gcp.store.carrier.objects import DamagedError, RefusedError, SilentError
from launcher.backend import DataSource, InputFile
from launcher.bundle.pack import worker_bytes
from tests.backends.gcp.store.world import BUCKET, RUN, quiet
from tests.emulators.storage import StorageEmulator

FILES = {"images/a.jpg": b"a" * 5000, "images/ä b.jpg": b"b" * 70_000, "labels/a.txt": b"", "copy.jpg": b"a" * 5000}


class Staged:
    """A run whose inputs and dataset are in the store, and the program that brings them."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.box = folder / "boxes/one"
        self.box.parent.mkdir()
        self.program = folder / "carrier.pyz"
        self.program.write_bytes(carrier_bytes())
        data = folder / "data"
        for path, content in FILES.items():
            (data / path).parent.mkdir(parents=True, exist_ok=True)
            (data / path).write_bytes(content)
        listed = [
            {"path": path, "sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
            for path, content in FILES.items()
        ]
        texts = {"worker.pyz": worker_bytes(), "job.json": b"{}", "data.json": json.dumps({"files": listed}).encode()}
        self.inputs = []
        for name, content in texts.items():
            (folder / name).write_bytes(content)
            self.inputs.append(InputFile(name, folder / name, hashlib.sha256(content).hexdigest(), len(content)))
        self.shards = data_shards(DataSource(data, "x"), folder / "data.json")
        blobs = store.put_blobs(RUN, self.inputs, quiet)
        key = store.put_dataset(self.shards, quiet)
        self.config: dict[str, Any] = store.config(RUN, f"{RUN}-a1", 1, inputs=blobs, dataset=key)
        self.config["attempt_json"] = {"attempt": f"{RUN}-a1", "data_root": str(self.box / "work/source")}

    def __call__(self, *words: str, feed: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        argv = [sys.executable, str(self.program), *words]
        return subprocess.run(argv, input=feed, capture_output=True, env=dict(os.environ), cwd="/", check=False)


@pytest.fixture
def staged(store: Store, tmp_path: Path) -> Staged:
    return Staged(tmp_path, store)


def test_a_box_is_laid_out_and_its_dataset_brought(staged: Staged, storage: StorageEmulator) -> None:
    done = staged("blobs", str(staged.box), "-", feed=json.dumps(staged.config).encode())
    assert done.returncode == 0, done.stderr
    for file in staged.inputs:
        assert (staged.box / "in" / file.path).read_bytes() == file.source.read_bytes()
    assert json.loads((staged.box / "in/attempt.json").read_text())["attempt"] == f"{RUN}-a1"
    assert sorted(path.name for path in staged.box.iterdir()) == ["in", "out", "state", "work"]
    done = staged("data", str(staged.box))
    assert done.returncode == 0, done.stderr
    assert b"dataset: 0.1 of 0.1 MB" in done.stdout
    for path, content in FILES.items():
        assert (staged.box / "work/source" / path).read_bytes() == content
    storage.requests.clear()
    assert staged("blobs", str(staged.box), "-", feed=json.dumps(staged.config).encode()).returncode == 0
    assert len(storage.requests) == 0
    assert staged("data", str(staged.box)).returncode == 0
    assert len(storage.requests) == 1


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses that take no time."""
    monkeypatch.setattr(inputs_module, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(inputs_module, "LONGEST_PAUSE_S", 0.02)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("how", ["swap", "cut", "rot"])
def test_an_input_that_was_damaged_makes_no_box(how: str, staged: Staged, storage: StorageEmulator) -> None:
    first, second = (f"samerun/{shared(file.sha256)}" for file in staged.inputs[:2])
    if how == "swap":
        storage.swap(BUCKET, first, second)
    elif how == "cut":
        storage.put(BUCKET, first, storage.read(BUCKET, first)[:-1])
    else:
        storage.rot(BUCKET, first, 5)
    with pytest.raises(DamagedError):
        lay_out(str(staged.box), staged.config)
    assert not staged.box.exists()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("how", ["other", "rot"])
def test_a_shard_that_was_damaged_makes_no_dataset(
    how: str, staged: Staged, storage: StorageEmulator, capsys: pytest.CaptureFixture[str]
) -> None:
    lay_out(str(staged.box), staged.config)
    name = f"samerun/{dataset(staged.shards.key)}{staged.shards.shards[0].name}"
    if how == "rot":
        storage.rot(BUCKET, name, 700)
    else:
        storage.put(BUCKET, name, bytes(staged.shards.shards[0].size))
    assert main(["data", str(staged.box)]) == 1
    assert "carrier: data: DamagedError" in capsys.readouterr().err
    assert not list((staged.box / "work/source").rglob("*.jpg"))


def test_contents_are_checked_by_their_own_digest(staged: Staged, tmp_path: Path) -> None:
    """Also where the archive's own checksum fits: it was packed wrongly."""
    archive = bytearray(b"".join(staged.shards.shards[0].stream()))
    archive[600] ^= 1
    (tmp_path / "x.tar").write_bytes(archive)
    with pytest.raises(DamagedError, match="sha256"):
        unpack(str(tmp_path / "x.tar"), str(tmp_path / "x"))


def test_an_archive_whose_members_lead_elsewhere_is_refused(tmp_path: Path) -> None:
    import tarfile

    for name in ("../../evil", "/evil", "aa/" + "b" * 61 + "/.."):
        with tarfile.open(tmp_path / "x.tar", "w") as tar:
            info = tarfile.TarInfo(name)
            info.size = 1
            tar.addfile(info, io.BytesIO(b"x"))
        with pytest.raises(DamagedError):
            unpack(str(tmp_path / "x.tar"), str(tmp_path / "deep/x"))
    assert not (tmp_path / "evil").exists()


def test_a_path_that_leads_out_of_the_box_is_refused(staged: Staged) -> None:
    staged.config["inputs"][0]["path"] = "../../evil"
    with pytest.raises(ValueError, match="leads out"):
        lay_out(str(staged.box), staged.config)
    assert not staged.box.exists()


@pytest.mark.usefixtures("impatient")
def test_a_store_that_does_not_answer_is_asked_again(staged: Staged, storage: StorageEmulator) -> None:
    storage.faults.add("503", on="storage.objects.get*", times=5)
    storage.faults.add("corrupt", on="storage.objects.get:download", times=1)
    lay_out(str(staged.box), {**staged.config, "seconds": 0.2})
    assert (staged.box / "in/worker.pyz").read_bytes() == worker_bytes()


@pytest.mark.usefixtures("impatient")
def test_it_ends_when_nothing_moves_for_the_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs_module, "PATIENCE_S", 0.2)
    asked = []

    def silent() -> int:
        asked.append(1)
        raise SilentError("nothing")

    with pytest.raises(SilentError):
        fetch_all([silent])
    assert len(asked) > 3

    def refused() -> int:
        raise RefusedError("no")

    with pytest.raises(RefusedError):
        fetch_all([refused])


def test_a_killed_layout_leaves_no_box_and_is_gone_on_with(
    staged: Staged, storage: StorageEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "rename", die)
        with pytest.raises(KeyboardInterrupt):
            lay_out(str(staged.box), staged.config)
    assert not staged.box.exists()
    storage.requests.clear()
    lay_out(str(staged.box), staged.config)
    assert (staged.box / "in/job.json").read_bytes() == b"{}"
    assert len(storage.requests) == 0


def test_the_program_is_the_same_bytes_everywhere_and_names_no_place(staged: Staged) -> None:
    assert carrier_bytes() == carrier_bytes()
    with zipfile.ZipFile(io.BytesIO(carrier_bytes())) as archive:
        names = archive.namelist()
        text = b"".join(archive.read(name) for name in names)
        assert all(info.date_time == (1980, 1, 1, 0, 0, 0) for info in archive.infolist())
    assert "samerun_carrier/carry.py" in names
    for word in (str(Path(__file__).parents[4]), str(Path.home()), "127.0.0.1", BUCKET, "launcher.", "backends."):
        if word == "backends.":  # named in docstrings, imported nowhere
            assert b"import backends" not in text
            assert b"from backends" not in text
        elif word == "launcher.":
            assert b"from launcher" not in text
        else:
            assert word.encode() not in text


def test_words_that_are_no_command_are_a_usage_error(staged: Staged) -> None:
    assert staged("dance").returncode == 2
    assert b"usage" in staged("carry").stderr
