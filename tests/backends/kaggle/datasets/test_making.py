"""A dataset is made once, waited for, looked at, and used only when it is whole."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backends.kaggle import datasets as module
from backends.kaggle import uploads
from backends.kaggle.client.answers import DatasetState
from backends.kaggle.client.refusals import RefusedError, UnansweredError
from backends.kaggle.client.service import Service
from backends.kaggle.datasets import Datasets, Waits, Wanted
from launcher.backend import InputFile
from launcher.errors import DataError, IntegrityError, RemoteError
from tests.backends.kaggle.datasets.bench import (
    Puts,
    Told,
    at,
    is_whole,
    ref_of,
)
from tests.emulators.kaggle import KaggleEmulator

# Making the dataset


@pytest.mark.parametrize("fault", ["lose-reply", "500-after", "cut-middle"])
def test_a_create_whose_reply_is_lost_is_looked_up_and_not_sent_again(
    kaggle: KaggleEmulator, datasets: Datasets, wanted: Wanted, fault: str
) -> None:
    kaggle.faults.add(fault, on="CreateDataset")
    assert datasets.ensure(wanted, Told()).version == 1
    assert kaggle.counters.calls["CreateDataset"] == 1


@pytest.mark.parametrize("fault", ["cut-before", "500", "html-200"])
def test_a_create_that_did_not_get_in_is_an_error_and_the_next_launch_sends_no_byte_again(
    kaggle: KaggleEmulator, datasets: Datasets, wanted: Wanted, fault: str
) -> None:
    kaggle.faults.add(fault, on="CreateDataset")
    with pytest.raises(UnansweredError):
        datasets.ensure(wanted, Told())
    assert ref_of(wanted) not in kaggle.datasets
    asked = kaggle.counters.calls["upload"]
    assert datasets.ensure(wanted, Told()).version == 1
    assert kaggle.counters.calls["upload"] == asked
    assert kaggle.counters.calls["CreateDataset"] == 2


@pytest.mark.parametrize("call", ["CreateDataset", "CreateDatasetVersion"])
def test_a_launch_that_dies_between_asking_and_hearing_makes_no_second_version(
    kaggle: KaggleEmulator, datasets: Datasets, wanted: Wanted, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    if call == "CreateDatasetVersion":
        kaggle.datasets.add(ref_of(wanted), {"another": b"file"})

    class DeadError(BaseException):
        pass

    name = {"CreateDataset": "create_dataset", "CreateDatasetVersion": "create_version"}[call]
    asked = getattr(Service, name)

    def dies(self: Service, *args: Any, **kwargs: Any) -> str:
        asked(self, *args, **kwargs)
        raise DeadError

    with monkeypatch.context() as patch:
        patch.setattr(Service, name, dies)
        with pytest.raises(DeadError):
            datasets.ensure(wanted, Told())
    kaggle.counters.calls.clear()
    time.sleep(0.1)
    version = 1 if call == "CreateDataset" else 2
    assert datasets.ensure(wanted, Told()).version == version
    assert len(kaggle.datasets[ref_of(wanted)].versions) == version
    assert kaggle.counters.calls[call] == kaggle.counters.calls["upload"] == 0


def test_a_refusal_is_said_and_the_blobs_are_kept_while_they_are_fresh(
    kaggle: KaggleEmulator, datasets: Datasets, wanted: Wanted, puts: Puts, monkeypatch: pytest.MonkeyPatch
) -> None:
    kaggle.faults.add("error-200", on="CreateDataset", times=3)
    for _ in range(2):
        with pytest.raises(RefusedError):
            datasets.ensure(wanted, Told())
        assert len(puts.seen) == 6
    monkeypatch.setattr(module, "FRESH_S", -1.0)
    with pytest.raises(RefusedError):
        datasets.ensure(wanted, Told())
    assert datasets.ensure(wanted, Told()).version == 1
    assert len(puts.seen) == 12


def test_a_name_that_is_taken_by_something_else_gets_a_new_version(
    kaggle: KaggleEmulator, datasets: Datasets, wanted: Wanted, files: list[InputFile], tmp_path: Path
) -> None:
    kaggle.datasets.add(ref_of(wanted), {wanted.shards.index_name: wanted.shards.index})
    pinned = datasets.ensure(wanted, Told())
    assert pinned.version == 2
    assert is_whole(kaggle, wanted, pinned, files, tmp_path)
    assert kaggle.counters.calls["CreateDataset"] == 0


def test_made_by_another_machine_meanwhile_it_is_looked_at_and_used(
    kaggle: KaggleEmulator, datasets: Datasets, wanted: Wanted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = Service.create_dataset

    def late(self: Service, *args: Any, **kwargs: Any) -> str:
        monkeypatch.setattr(Service, "create_dataset", create)
        at(kaggle.endpoint, tmp_path / "another").ensure(wanted, Told())
        return create(self, *args, **kwargs)

    monkeypatch.setattr(Service, "create_dataset", late)
    assert datasets.ensure(wanted, Told()).version == 1
    assert kaggle.counters.calls["CreateDatasetVersion"] == 0


def test_a_version_refused_while_another_is_processed_is_asked_for_again(
    kaggle: KaggleEmulator, datasets: Datasets, wanted: Wanted
) -> None:
    kaggle.datasets.add(ref_of(wanted), {"another": b"file"})
    kaggle.faults.add("403-html", on="CreateDatasetVersion", times=2)
    assert datasets.ensure(wanted, Told()).version == 2
    assert kaggle.counters.calls["CreateDatasetVersion"] == 3


def test_a_state_that_nobody_knows_is_no_proof_that_a_version_was_taken(
    kaggle: KaggleEmulator, datasets: Datasets, wanted: Wanted, monkeypatch: pytest.MonkeyPatch
) -> None:
    kaggle.datasets.add(ref_of(wanted), {"another": b"file"})

    def unheard(self: Service, *args: Any) -> str:
        monkeypatch.setattr(Service, "dataset_status", lambda self, owner, slug: DatasetState.UNKNOWN)
        raise UnansweredError("cut off")

    with monkeypatch.context() as patch:
        patch.setattr(Service, "create_version", unheard)
        with pytest.raises(UnansweredError, match="cut off"):
            datasets.ensure(wanted, Told())


@pytest.mark.parametrize("late", ["status", "number"])
def test_an_answer_that_is_behind_makes_no_second_version(
    kaggle: KaggleEmulator, datasets: Datasets, wanted: Wanted, monkeypatch: pytest.MonkeyPatch, late: str
) -> None:
    """The launch dies after it asked, and Kaggle still tells of the former version when the next one looks."""
    former = kaggle.datasets.add(ref_of(wanted), {"another": b"file"})
    create, status, look = Service.create_version, Service.dataset_status, Service.dataset
    looks = iter(range(100))

    def dies(self: Service, *args: Any) -> str:
        monkeypatch.setattr(Service, "create_version", create)
        create(self, *args)
        time.sleep(0.2)
        assert former.newest.status == "READY"
        raise SystemExit

    monkeypatch.setattr(Service, "create_version", dies)
    with pytest.raises(SystemExit):
        datasets.ensure(wanted, Told())

    def stale(self: Service, owner: str, slug: str) -> Any:
        return replace(look(self, owner, slug), version=1 if next(looks) < 4 else 2)

    monkeypatch.setattr(Service, "dataset", stale)
    if late == "number":
        states = iter([DatasetState.READY, DatasetState.RECEIVED])
        monkeypatch.setattr(Service, "dataset_status", lambda *args: next(states, None) or status(*args))
    assert datasets.ensure(wanted, Told()).version == 2
    assert len(former.versions) == 2


# Becoming ready


def test_what_kaggle_cannot_process_is_an_error_that_says_what_to_do(
    kaggle: KaggleEmulator, datasets: Datasets, wanted: Wanted
) -> None:
    kaggle.faults.add("dataset-failed")
    for _ in range(2):
        with pytest.raises(DataError, match="FAILED") as caught:
            datasets.ensure(wanted, Told())
        assert "launch reap" in str(caught.value)
        assert datasets.find(wanted) is None
    assert len(kaggle.datasets[ref_of(wanted)].versions) == 1
    datasets.service.delete_dataset("alice", wanted.slug)  # on the website: the journal is not told
    assert datasets.ensure(wanted, Told()).version == 1
    assert kaggle.counters.calls["StartBlobUpload"] == 12  # what became a version cannot become another


def test_what_is_never_ready_ends_and_is_not_sent_again(
    kaggle: KaggleEmulator, wanted: Wanted, tmp_path: Path, puts: Puts
) -> None:
    kaggle.faults.add("dataset-never-ready")
    datasets = at(kaggle.endpoint, tmp_path / "cache", Waits(0.2, (0.01, 0.05), (0.01,), (0.01,)))
    told = Told()
    for _ in range(2):
        with pytest.raises(RemoteError, match="INDIVIDUAL_BLOBS_COMPRESSED after 0 minutes"):
            datasets.ensure(wanted, told)
    assert len(puts.seen) == 6
    assert kaggle.counters.calls["CreateDataset"] == 1
    assert [step for step in told.steps if step[0] != uploads.SENDING]


def test_who_gives_up_while_it_is_processed_is_heard(
    kaggle: KaggleEmulator, datasets: Datasets, wanted: Wanted
) -> None:
    kaggle.faults.add("dataset-never-ready")
    with pytest.raises(RuntimeError, match="enough"):
        datasets.ensure(
            wanted,
            Told(lambda done: RuntimeError("enough") if done == 0 and ref_of(wanted) in kaggle.datasets else None),
        )


def test_who_gave_up_before_is_heard_before_kaggle_is_asked(
    kaggle: KaggleEmulator, datasets: Datasets, wanted: Wanted
) -> None:
    with pytest.raises(RuntimeError, match="enough"):
        datasets.ensure(wanted, Told(lambda done: RuntimeError("enough")))
    assert not kaggle.counters.calls


def test_a_state_that_nobody_knows_is_waited_out(kaggle: KaggleEmulator, datasets: Datasets, wanted: Wanted) -> None:
    kaggle.faults.add("unknown-enum", on="GetDatasetStatus", times=2)
    assert datasets.ensure(wanted, Told()).version == 1


def test_a_version_without_one_file_is_never_used(
    kaggle: KaggleEmulator, datasets: Datasets, wanted: Wanted, files: list[InputFile], tmp_path: Path
) -> None:
    shard = wanted.shards.shards[3]
    kaggle.faults.add("dataset-missing-file", name=f"{shard.stem}/{shard.members[-1].name}")
    pinned = datasets.ensure(wanted, Told())
    assert pinned.version == 2
    assert is_whole(kaggle, wanted, pinned, files, tmp_path)


@pytest.mark.parametrize("folder", ["", "deep/er/", "samerun-data/samerun-data/"])
def test_contents_are_known_in_whatever_folder_they_are_listed(wanted: Wanted, folder: str) -> None:
    shards = wanted.shards
    index = {shards.index_name: len(shards.index)}
    members = [member for shard in shards.shards for member in shard.members]
    assert not module.wrong_with(shards, {**index, **{folder + member.name: member.size for member in members}})
    bare = {member.sha256[2:]: member.size for member in members}  # a listing that has no folders
    assert not module.wrong_with(shards, {**index, **bare})
    assert not module.wrong_with(shards, {**index, **dict.fromkeys(bare, 0)})  # nor sizes
    bare[members[3].sha256[2:]] -= 1
    assert members[3].name in module.wrong_with(shards, {**index, **bare})
    assert not module.wrong_with(shards, {**index, **bare}, sizes=False)
    assert members[3].name in module.wrong_with(shards, {**index, **bare, members[3].sha256[2:]: -1})
    assert shards.index_name in module.wrong_with(shards, bare)
    del bare[members[3].sha256[2:]]
    assert members[3].name in module.wrong_with(shards, {**index, **bare}, sizes=False)


def test_sizes_that_are_other_ones_each_time_are_kaggles_way_to_count(
    kaggle: KaggleEmulator, datasets: Datasets, wanted: Wanted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How `totalBytes` is counted no source says. The worker looks at each digest."""
    listed = Service.dataset_files
    monkeypatch.setattr(
        Service, "dataset_files", lambda *args: {name: size * 3 // 4 for name, size in listed(*args).items()}
    )
    assert datasets.ensure(wanted, Told()).version == module.ROUNDS
    asked = kaggle.counters.calls["upload"]
    assert datasets.ensure(wanted, Told()).version == module.ROUNDS
    assert datasets.pinned(wanted).endswith(f"/{module.ROUNDS}")
    assert kaggle.counters.calls["upload"] == asked


def test_one_that_was_deleted_is_no_proof_that_the_next_was_made(
    kaggle: KaggleEmulator, datasets: Datasets, wanted: Wanted, monkeypatch: pytest.MonkeyPatch
) -> None:
    del kaggle
    monkeypatch.setattr(Service, "dataset_status", lambda self, owner, slug: DatasetState.DELETED)

    def unheard(self: Service, *args: Any, **kwargs: Any) -> str:
        raise UnansweredError("cut off")

    monkeypatch.setattr(Service, "create_dataset", unheard)
    with pytest.raises(UnansweredError, match="cut off"):
        datasets.ensure(wanted, Told())


@pytest.mark.parametrize("unpack", ["stem", "off"])
def test_a_service_that_always_loses_a_file_is_an_error_that_names_it(
    kaggle: KaggleEmulator, datasets: Datasets, wanted: Wanted, unpack: Any
) -> None:
    kaggle.settings.unpack = unpack
    lost = wanted.shards.shards[1]
    member = f"{lost.stem}/{lost.members[0].name}"
    kaggle.faults.add("dataset-missing-file", times=None, name=member if unpack == "stem" else lost.name)
    with pytest.raises(IntegrityError, match=member):
        datasets.ensure(wanted, Told())
    assert datasets.find(wanted) is None
    assert len(kaggle.datasets[ref_of(wanted)].versions) == module.ROUNDS
    with pytest.raises(RemoteError):
        datasets.pinned(wanted)
