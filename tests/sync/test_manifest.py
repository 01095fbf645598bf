"""The manifest parser against what may come from another machine: it answers, or says IntegrityError, nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from launcher.errors import IntegrityError
from launcher.sync import manifest as manifests

calm = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
SHA = "0" * 64
PLAIN = {"path": "train/a", "at": "train/a", "size": 1, "sha256": SHA}
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
nearly = st.fixed_dictionaries(
    {},
    optional={
        "kind": values,
        "complete": values,
        "epoch": values,
        "stop": values,
        "files": values
        | st.lists(
            st.fixed_dictionaries(
                {},
                optional={
                    "path": values | st.just("train/a"),
                    "at": values | st.just("train/a"),
                    "size": values | st.integers(0),
                    "sha256": values | st.just(SHA),
                },
            ),
            max_size=3,
        ),
    },
)


def manifest(*files: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"kind": "final", "complete": True, "files": list(files), **more}).encode()


def refused(data: bytes) -> str:
    with pytest.raises(IntegrityError) as caught:
        manifests.parse(data)
    return caught.value.message


@calm
@given(st.binary())
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        manifests.parse(data)
    except IntegrityError:
        return


@calm
@given(nearly)
def test_any_json_is_read_or_refused(value: Any) -> None:
    try:
        found = manifests.parse(json.dumps(value).encode())
    except IntegrityError:
        return
    assert all(entry.path.startswith("train/") and entry.size >= 0 for entry in found.files)
    assert found.epoch is None or found.epoch >= 1


@calm
@given(st.text())
def test_no_text_gets_a_file_out_of_the_run(text: str) -> None:
    try:
        path = manifests.safe(text)
    except IntegrityError:
        return
    assert path == text
    assert not path.startswith("/")
    assert not {"..", ".", ""} & set(path.split("/"))
    path.encode()


@pytest.mark.parametrize(
    "path",
    [
        "",
        ".",
        "..",
        "/etc/passwd",
        "../a",
        "train/../../a",
        "train/../run.json",
        "train\\..\\a",
        "train//a",
        "train/./a",
        "train/a/",
        "train/a\0b",
        "train/\x1b[2J",
        "train/a\nb",
        "train/\ud800",
        "train/" + "a" * 256,
        "train/" + "a/" * 600 + "b",
        "run.json",
        ".lock",
        ".ready/manifest.json",
        "manifest.json",
        "train",
        "C:train/a",
        None,
        7,
        ["train/a"],
    ],
)
def test_a_path_that_is_not_an_output_is_refused(path: Any) -> None:
    refused(manifest({**PLAIN, "path": path}))


@pytest.mark.parametrize("at", ["../out", "/etc/shadow", "a\\b", "", None, "checkpoint/../../state/exit.json"])
def test_a_place_outside_the_outbox_is_refused(at: Any) -> None:
    refused(manifest({**PLAIN, "at": at}))


@pytest.mark.parametrize("size", [-1, 1.5, True, "1", None, float("nan")])
def test_a_size_is_a_whole_number(size: Any) -> None:
    refused(manifest({**PLAIN, "size": size}))


@pytest.mark.parametrize("digest", ["", "0" * 63, "0" * 64 + "\n", "G" * 64, "A" * 64, None, 1])
def test_a_digest_is_64_small_hexadecimal_digits(digest: Any) -> None:
    refused(manifest({**PLAIN, "sha256": digest}))


@pytest.mark.parametrize("epoch", [0, -1, True, "3", 1.0, 10**30, [1]])
def test_an_epoch_counts_from_one(epoch: Any) -> None:
    refused(manifest(PLAIN, epoch=epoch))


def test_a_path_that_comes_twice_is_refused() -> None:
    assert "twice" in refused(manifest(PLAIN, PLAIN))


def test_a_file_that_is_also_a_folder_is_refused() -> None:
    assert "folder" in refused(manifest(PLAIN, {**PLAIN, "path": "train/a/b"}))


def test_an_enormous_manifest_is_refused_unread() -> None:
    assert "bytes" in refused(b"{" * (manifests.MAX_BYTES + 1))


def test_too_many_files_are_refused() -> None:
    assert "files" in refused(manifest(*({**PLAIN, "path": f"train/{n}"} for n in range(manifests.MAX_FILES + 1))))


@pytest.mark.parametrize("data", [b"[" * 100_000, b'{"files":' * 50_000, b"9" * 100_000, b"\xff\xfe", b"null", b"[]"])
def test_hostile_json_is_refused(data: bytes) -> None:
    refused(data)


def test_a_long_hostile_path_makes_a_short_message() -> None:
    assert len(refused(manifest({**PLAIN, "path": "/" * 100_000}))) < 2000


def test_a_sound_manifest_is_read() -> None:
    found = manifests.parse(manifest(PLAIN, epoch=3, stop=True, complete=False))
    assert (found.epoch, found.stop, found.complete) == (3, True, False)
    assert found.entry("train/a") == manifests.Entry("train/a", "train/a", 1, SHA)
    assert found.entry("train/b") is None
