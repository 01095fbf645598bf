"""Datasets on Kaggle: sent once, whole or not used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backends.kaggle import datasets as module
from backends.kaggle import uploads
from backends.kaggle.datasets import Datasets, Wanted, wrong_with
from launcher.backend import DataSource, InputFile, Stored
from tests.backends.kaggle.datasets.bench import (
    Told,
    at,
    is_whole,
    ref_of,
)
from tests.emulators.kaggle import KaggleEmulator

# Sending


@pytest.mark.parametrize("unpack", ["stem", "root", "off"])
def test_it_is_sent_and_read_back_however_kaggle_unpacks(
    kaggle: KaggleEmulator, datasets: Datasets, wanted: Wanted, files: list[InputFile], tmp_path: Path, unpack: Any
) -> None:
    kaggle.settings.unpack = unpack
    told = Told()
    assert datasets.find(wanted) is None
    pinned = datasets.ensure(wanted, told)
    assert str(pinned) == f"alice/{wanted.slug}/1"
    assert datasets.find(wanted) == pinned
    assert datasets.pinned(wanted) == str(pinned)
    assert is_whole(kaggle, wanted, pinned, files, tmp_path)
    sent = [done for what, done, _ in told.steps if what == uploads.SENDING]
    assert sent == sorted(sent)
    assert {of for what, _, of in told.steps if what == uploads.SENDING} == {max(sent)}
    assert max(sent) == wanted.shards.size + len(wanted.shards.index)


def test_it_is_private_with_a_title_a_subtitle_and_a_licence_that_kaggle_takes(
    kaggle: KaggleEmulator, datasets: Datasets, wanted: Wanted
) -> None:
    from slugify import slugify

    datasets.ensure(wanted, Told())
    made = kaggle.datasets[ref_of(wanted)]
    assert made.private
    assert made.licence
    assert slugify(made.title) == made.slug == wanted.slug
    for kind, subtitle in module.KINDS.items():
        assert 6 <= len(f"samerun-{kind}-" + "0" * 20) <= 50
        assert 20 <= len(subtitle) <= 80
    assert made.subtitle == module.KINDS["data"]


def test_a_second_launch_sends_two_small_calls(
    kaggle: KaggleEmulator, datasets: Datasets, wanted: Wanted, tmp_path: Path
) -> None:
    first = datasets.ensure(wanted, Told())
    kaggle.counters.calls.clear()
    kaggle.counters.bytes_in = 0
    assert at(kaggle.endpoint, tmp_path / "cache").ensure(wanted, Told()) == first
    assert dict(kaggle.counters.calls) == {"GetDatasetStatus": 1, "GetDataset": 1}
    assert kaggle.counters.bytes_in < 500


def test_another_machine_lists_it_once_and_sends_nothing(
    kaggle: KaggleEmulator, datasets: Datasets, wanted: Wanted, tmp_path: Path
) -> None:
    first = datasets.ensure(wanted, Told())
    kaggle.counters.calls.clear()
    other = at(kaggle.endpoint, tmp_path / "another cache")
    assert other.ensure(wanted, Told()) == first
    assert kaggle.counters.calls["ListDatasetFiles"] == 1
    assert kaggle.counters.calls["StartBlobUpload"] == kaggle.counters.calls["upload"] == 0
    assert other.ensure(wanted, Told()) == first
    assert kaggle.counters.calls["ListDatasetFiles"] == 1


def test_a_version_that_someone_adds_is_looked_at_before_it_is_used(
    kaggle: KaggleEmulator, datasets: Datasets, wanted: Wanted
) -> None:
    datasets.ensure(wanted, Told())
    kaggle.datasets.add(ref_of(wanted), {"README.md": b"mine now"})
    assert datasets.find(wanted) is None
    assert str(datasets.ensure(wanted, Told())) == f"alice/{wanted.slug}/3"


def test_find_writes_nothing(datasets: Datasets, wanted: Wanted, tmp_path: Path) -> None:
    datasets.find(wanted)
    assert not (tmp_path / "cache").exists()


def test_wanted_is_made_of_data_json_and_of_input_files(files: list[InputFile], tmp_path: Path) -> None:
    listing = tmp_path / "data.json"
    entries = [{"path": file.source.name, "sha256": file.sha256, "size": file.size} for file in files]
    listing.write_text(json.dumps({"files": entries * 2}))
    data = Wanted.of_data(DataSource(tmp_path / "data", "fingerprint"), listing)
    carried = Wanted.of_files(files, temporary=True)
    assert data is not None
    assert data.key == carried.key
    assert data.slug == f"samerun-data-{data.key[:20]}"
    assert carried.slug == f"samerun-files-{data.key[:20]}"
    assert b"".join(data.shards.shards[0].stream()) == b"".join(carried.shards.shards[0].stream())
    assert carried.as_carried()["files"][1] == {"path": "images/1.jpg", "sha256": files[1].sha256, "size": 3000}
    listing.write_text('{"files":[]}')
    assert Wanted.of_data(DataSource(tmp_path, "fingerprint"), listing) is None


# What a listing must have

FORMS = ("packed", "stem", "archive's name", "in place")


def listed(wanted: Wanted, forms: list[str]) -> dict[str, int]:
    listing = {wanted.shards.index_name: len(wanted.shards.index)}
    for shard, form in zip(wanted.shards.shards, forms, strict=True):
        if form == "packed":
            listing[shard.name] = shard.size
        folder = {"stem": f"{shard.stem}/", "archive's name": f"{shard.name}/", "in place": ""}.get(form)
        if folder is not None:
            listing |= {folder + member.name: member.size for member in shard.members}
    return listing


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_every_form_is_whole_and_nothing_may_be_missing_or_cut(wanted: Wanted, data: st.DataObject) -> None:
    listing = listed(wanted, data.draw(st.lists(st.sampled_from(FORMS), min_size=5, max_size=5)))
    assert wrong_with(wanted.shards, {**listing, "README.md": 5}) == ""
    victim = data.draw(st.sampled_from(sorted(listing)))
    cut = {**listing, victim: listing[victim] - 1}
    gone = {name: size for name, size in listing.items() if name != victim}
    for broken in (cut, gone):
        assert wrong_with(wanted.shards, broken)


# Ours, and deleting them


def test_mine_are_ours_alone_and_are_deleted_and_looked_up(
    kaggle: KaggleEmulator, datasets: Datasets, wanted: Wanted, files: list[InputFile]
) -> None:
    kaggle.accounts.add("bob")
    for ref in ("alice/holiday-pictures", "alice/samerun-data-mine", f"bob/{wanted.slug}", "alice/my-samerun-data"):
        kaggle.datasets.add(ref, {"a": b"a"}, private=False)
    other = Wanted.of_files(files, temporary=True)
    datasets.ensure(wanted, Told())
    datasets.ensure(other, Told())
    mine = {stored.key: stored for stored in datasets.mine()}
    assert set(mine) == {ref_of(wanted), ref_of(other)}
    assert all(stored.size for stored in mine.values())
    assert datasets.delete(mine[ref_of(wanted)]) == []
    assert datasets.delete(mine[ref_of(wanted)]) == []
    assert datasets.remove(other.slug) == []
    assert ref_of(wanted) not in kaggle.datasets
    assert ref_of(other) not in kaggle.datasets
    assert len(kaggle.datasets) == 4
    assert datasets.mine() == []
    assert datasets.find(wanted) is None
    assert datasets.ensure(wanted, Told()).version == 1


@pytest.mark.parametrize(
    "key", ["alice/holiday-pictures", "bob/samerun-data-" + "0" * 20, "alice/samerun-data-mine", ""]
)
def test_what_is_not_ours_is_left_alone(kaggle: KaggleEmulator, datasets: Datasets, key: str) -> None:
    assert "left alone" in datasets.delete(Stored(key, ""))[0]
    assert not kaggle.counters.calls


@pytest.mark.parametrize("fault", ["lose-reply", "500-after"])
def test_a_deletion_whose_reply_is_lost_is_looked_up(
    kaggle: KaggleEmulator, datasets: Datasets, wanted: Wanted, fault: str
) -> None:
    datasets.ensure(wanted, Told())
    kaggle.faults.add(fault, on="DeleteDataset")
    assert datasets.remove(wanted.slug) == []
    assert ref_of(wanted) not in kaggle.datasets


@pytest.mark.parametrize("fault", ["500", "403-html"])
def test_what_kaggle_still_has_is_said(kaggle: KaggleEmulator, datasets: Datasets, wanted: Wanted, fault: str) -> None:
    datasets.ensure(wanted, Told())
    kaggle.faults.add(fault, on="DeleteDataset")
    (left,) = datasets.remove(wanted.slug)
    assert f"kaggle.com/datasets/{ref_of(wanted)}" in left
    assert ref_of(wanted) in kaggle.datasets
