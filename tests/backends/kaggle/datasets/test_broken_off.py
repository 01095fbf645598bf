"""An upload that was cut, killed, given up or refused goes on where it stopped."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backends.kaggle import uploads
from backends.kaggle.client.refusals import UnansweredError
from backends.kaggle.datasets import Datasets, Pinned, Wanted
from launcher.backend import InputFile
from launcher.errors import IntegrityError, RemoteError, StorageError
from launcher.files import try_lock
from tests.backends.kaggle.datasets.bench import (
    QUICK,
    ROOT,
    Puts,
    Told,
    at,
    is_whole,
    large,
    ref_of,
    service_at,
    written,
)
from tests.emulators.kaggle import KaggleEmulator

# Broken off


@pytest.mark.parametrize("cut", [0, 1, 511, 30_000, 63_999])
def test_an_upload_cut_anywhere_goes_on_behind_what_was_accepted(
    kaggle: KaggleEmulator,
    datasets: Datasets,
    wanted: Wanted,
    files: list[InputFile],
    tmp_path: Path,
    puts: Puts,
    cut: int,
) -> None:
    kaggle.faults.add("cut-upload", on="*.tar", times=1, at=cut)
    kaggle.faults.add("cut-upload", on="*-001.tar", times=2, at=cut)
    kaggle.faults.add("cut-upload", on="*.json", times=1, at=10)
    pinned = datasets.ensure(wanted, Told())
    assert is_whole(kaggle, wanted, pinned, files, tmp_path)
    assert puts.resent == []
    assert kaggle.counters.calls["StartBlobUpload"] == len(wanted.shards.shards) + 1


@pytest.mark.parametrize("error", [RuntimeError("given up"), ConnectionError("no, ours"), KeyboardInterrupt()])
def test_who_raises_when_told_stops_it_at_once_and_it_is_gone_on_with(
    kaggle: KaggleEmulator,
    datasets: Datasets,
    wanted: Wanted,
    files: list[InputFile],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    puts: Puts,
    error: Any,
) -> None:
    monkeypatch.setattr(uploads, "TELL_S", 0.0)
    told = Told(lambda done: error if done > 150_000 else None)
    with pytest.raises(type(error)) as caught:
        datasets.ensure(wanted, told)
    assert caught.value is error
    assert [done > 150_000 for _, done, _ in told.steps].count(True) == 1
    assert ref_of(wanted) not in kaggle.datasets
    time.sleep(0.05)  # the server notices that the client went away
    begun = len(puts.seen)
    pinned = datasets.ensure(wanted, Told())
    assert is_whole(kaggle, wanted, pinned, files, tmp_path)
    assert puts.resent == []
    assert {name for name, _, _ in puts.seen[begun:]}.isdisjoint(shard.name for shard in wanted.shards.shards[:2])


KILLED = """
import sys, time
from pathlib import Path
from backends.kaggle import uploads
from launcher.backend import InputFile
from tests.backends.kaggle.datasets import bench
uploads.TELL_S = 0.0
folder, endpoint, cache = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
wanted = bench.large(folder)

def tell(what, done, of):
    print(done, flush=True)
    time.sleep(0.003)

print(bench.at(endpoint, cache).ensure(wanted, tell))
"""


def test_a_killed_launch_is_gone_on_with_and_nothing_that_came_is_sent_again(
    kaggle: KaggleEmulator, datasets: Datasets, tmp_path: Path, puts: Puts
) -> None:
    files = written(tmp_path / "large", [os.urandom(5 << 20), *(os.urandom(300_000) for _ in range(6))])
    wanted = large(tmp_path / "large")
    for until in (1 << 20, 6 << 20):
        command = [sys.executable, "-c", KILLED, str(tmp_path / "large"), kaggle.endpoint, str(tmp_path / "cache")]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert any(int(line) >= until for line in process.stdout)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        time.sleep(0.05)
    kept = sum(blob.received for blob in kaggle.uploads._by_url.values())
    assert kept >= 5 << 20
    assert ref_of(wanted) not in kaggle.datasets
    kaggle.counters.bytes_in = 0
    pinned = datasets.ensure(wanted, Told())
    assert puts.resent == []
    assert kaggle.counters.bytes_in < wanted.shards.size - kept + 20_000
    assert is_whole(kaggle, wanted, pinned, files, tmp_path)


def test_an_address_that_has_ended_starts_that_shard_again_and_no_other(
    kaggle: KaggleEmulator, datasets: Datasets, wanted: Wanted, files: list[InputFile], tmp_path: Path, puts: Puts
) -> None:
    kaggle.faults.add("cut-upload", on="*-002.tar", times=1, at=20_000)
    kaggle.faults.add("cut-upload", on="*-002.tar", times=None, at=0)
    with pytest.raises(RemoteError):
        datasets.ensure(wanted, Told())
    kaggle.faults.clear()
    assert ref_of(wanted) not in kaggle.datasets
    kaggle.faults.add("expired-upload", on="*-002.tar", times=1)
    puts.seen.clear()
    pinned = datasets.ensure(wanted, Told())
    assert is_whole(kaggle, wanted, pinned, files, tmp_path)
    assert [name for name, _, _ in puts.seen] == [
        *(shard.name for shard in wanted.shards.shards[2:]),
        wanted.shards.index_name,
    ]


def test_an_address_that_always_ends_is_an_error_in_bounded_time(
    kaggle: KaggleEmulator, datasets: Datasets, wanted: Wanted
) -> None:
    kaggle.faults.add("expired-upload", on="*-001.tar", times=None)
    with pytest.raises(RemoteError, match=r"-001\.tar"):
        datasets.ensure(wanted, Told())
    assert kaggle.counters.calls["StartBlobUpload"] == 1 + uploads.STARTS
    assert ref_of(wanted) not in kaggle.datasets


def test_too_many_requests_are_waited_for(kaggle: KaggleEmulator, datasets: Datasets, wanted: Wanted) -> None:
    kaggle.faults.add("429", on="StartBlobUpload", times=1, retry_after=1)
    kaggle.faults.add("429-html", on="CreateDataset", times=2)
    kaggle.faults.add("503", on="GetDatasetStatus", times=2)
    assert datasets.ensure(wanted, Told()).version == 1
    assert kaggle.counters.calls["CreateDataset"] == 3


# Files that change


def test_a_changed_file_is_named_and_no_dataset_is_made_of_it(
    kaggle: KaggleEmulator, datasets: Datasets, wanted: Wanted, files: list[InputFile], tmp_path: Path
) -> None:
    victim = wanted.shards.shards[2].members[0].source
    good = victim.read_bytes()
    victim.write_bytes(b"!" + good[1:])
    with pytest.raises(IntegrityError, match=str(victim)):
        datasets.ensure(wanted, Told())
    assert ref_of(wanted) not in kaggle.datasets
    victim.write_bytes(good)
    assert is_whole(kaggle, wanted, datasets.ensure(wanted, Told()), files, tmp_path)


def test_a_file_that_changed_after_a_part_of_it_was_sent_is_sent_whole_again(
    kaggle: KaggleEmulator, datasets: Datasets, tmp_path: Path
) -> None:
    """What the server has of it is of the changed file: going on behind it would mix two files."""
    files = written(tmp_path / "large", [os.urandom(3 << 20)])
    wanted, source = large(tmp_path / "large"), files[0].source
    good = source.read_bytes()
    source.write_bytes(b"!" + good[1:])
    with pytest.raises(IntegrityError):
        datasets.ensure(wanted, Told())
    source.write_bytes(good)
    assert is_whole(kaggle, wanted, datasets.ensure(wanted, Told()), files, tmp_path)


# Two at once


def test_two_launches_at_once_send_it_once(kaggle: KaggleEmulator, wanted: Wanted, tmp_path: Path, puts: Puts) -> None:
    found: list[Pinned] = []
    told = Told()

    def launch() -> None:
        found.append(at(kaggle.endpoint, tmp_path / "cache").ensure(wanted, told))

    threads = [threading.Thread(target=launch) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(found) == 3
    assert len(set(found)) == 1
    assert len(puts.seen) == 6
    assert kaggle.counters.calls["CreateDataset"] == 1
    assert any("another launch" in what for what, _, _ in told.steps)


def test_another_launch_that_does_not_get_on_is_not_waited_for_for_ever(
    kaggle: KaggleEmulator, wanted: Wanted, tmp_path: Path
) -> None:
    datasets = at(kaggle.endpoint, tmp_path / "cache", replace(QUICK, ready=0.05))
    folder = tmp_path / "cache/kaggle/uploads"
    folder.mkdir(parents=True)
    with try_lock(folder / f"{wanted.slug}.lock"), pytest.raises(RemoteError, match="does not get on"):
        datasets.ensure(wanted, Told())
    assert datasets.ensure(wanted, Told()).version == 1


def test_a_place_where_nothing_can_be_locked_is_a_storage_error(
    datasets: Datasets, wanted: Wanted, tmp_path: Path
) -> None:
    (tmp_path / f"cache/kaggle/uploads/{wanted.slug}.lock").mkdir(parents=True)
    with pytest.raises(StorageError, match="locking"):
        datasets.ensure(wanted, Told())


# The journal


def test_a_damaged_journal_costs_an_upload_and_nothing_else(
    kaggle: KaggleEmulator, datasets: Datasets, wanted: Wanted, tmp_path: Path
) -> None:
    path = tmp_path / f"cache/kaggle/uploads/{wanted.slug}.json"
    for text in ("", "[]", '{"account":1}', "{"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        assert datasets.find(wanted) is None
    assert datasets.ensure(wanted, Told()).version == 1


def test_uploads_of_another_account_or_service_or_too_long_ago_are_not_gone_on_with(
    kaggle: KaggleEmulator, datasets: Datasets, wanted: Wanted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kaggle.faults.add("500", on="CreateDataset")
    with pytest.raises(UnansweredError):
        datasets.ensure(wanted, Told())
    assert len(datasets.journal(wanted).uploads) == 6
    assert at("http://127.0.0.1:9", tmp_path / "cache").journal(wanted).uploads == {}
    bob = Datasets(service_at(kaggle.endpoint, "bob"), tmp_path / "cache")
    assert bob.journal(wanted).uploads == {}
    monkeypatch.setattr(uploads, "KEPT_S", 0.0)
    assert datasets.journal(wanted).uploads == {}


def test_the_journal_is_for_this_user_alone_and_holds_no_address_when_all_is_done(
    kaggle: KaggleEmulator, datasets: Datasets, wanted: Wanted, tmp_path: Path
) -> None:
    folder = tmp_path / "cache/kaggle/uploads"
    folder.mkdir(mode=0o755, parents=True)
    datasets.ensure(wanted, Told())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    text = (folder / f"{wanted.slug}.json").read_text()
    assert kaggle.endpoint + "/upload" not in text
    assert json.loads(text)["uploads"] == {}
