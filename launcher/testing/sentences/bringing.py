"""Sentence 7: files come back, or what is wrong with them is seen; nothing is written where it should not be."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

from launcher.backend import Backend, Feature, Handle, State
from launcher.errors import SamerunError
from launcher.sync import manifest as manifests
from launcher.sync.install import Synced, install
from launcher.testing import watched
from launcher.testing.attempts import AttemptMaker
from launcher.testing.faults import Faults
from launcher.testing.sentences.given import Given, can, needed

BEST = "train/weights/best.pt"
OUTSIDE = ("../outside", "../in/job.json", "/etc/passwd", "train/../../in/job.json", "", ".", "..", "train")
MANY_EPOCHS = 40


class Bringing(Given):
    """files and fetch."""

    def test_what_the_manifest_lists_comes_back_and_is_right(
        self, backend: Backend[Any], make_attempt: AttemptMaker, tmp_path: Path
    ) -> None:
        handle = self._done(backend, make_attempt)
        manifest, raw = watched.manifest_of(backend, handle, tmp_path / "first")
        assert manifest.complete
        assert {entry.path for entry in manifest.files} >= {"train/args.yaml", "train/results.csv", BEST}
        listed = {file.path: file.size for file in backend.files(handle) or ()}
        assert {entry.at: entry.size for entry in manifest.files}.items() <= listed.items()
        assert listed[manifests.NAME] == len(raw)
        synced = _install(backend, handle, manifest, raw, tmp_path / "run")
        assert synced.whole
        assert len(synced.installed) == len(manifest.files)
        assert _install(backend, handle, manifest, raw, tmp_path / "run").installed == ()

    def test_only_what_was_asked_for_is_written_and_may_be_asked_for_again(
        self, backend: Backend[Any], make_attempt: AttemptMaker, tmp_path: Path
    ) -> None:
        handle = self._done(backend, make_attempt)
        for _ in range(2):
            backend.fetch(handle, [BEST, "train/not-there.png", "not/there"], tmp_path / "to")
            assert {path for path, kind in watched.tree(tmp_path / "to").items() if kind != "folder"} == {BEST}
        backend.fetch(handle, [], tmp_path / "nothing")
        assert not (tmp_path / "nothing").exists() or watched.tree(tmp_path / "nothing") == {}

    def test_paths_stay_inside(self, backend: Backend[Any], make_attempt: AttemptMaker, tmp_path: Path) -> None:
        handle = self._done(backend, make_attempt)
        to = tmp_path / "deep/down/to"
        to.mkdir(parents=True)
        before = watched.tree(tmp_path)
        for path in OUTSIDE:
            with _refused():
                backend.fetch(handle, [path], to)
        after = watched.tree(tmp_path)
        changed = {path for path in after if before.get(path) != after[path]} | (before.keys() - after.keys())
        assert {path for path in changed if not path.startswith("deep/down/to/")} == set()
        assert [path for path, kind in watched.tree(to).items() if kind != "folder"] == []
        with _refused():
            backend.fetch(handle, ["../in/job.json", BEST], to)

    @pytest.mark.parametrize("fault", ["corrupt", "truncate", "remove"])
    def test_wrong_bytes_are_seen(
        self, backend: Backend[Any], make_attempt: AttemptMaker, faults: Faults, tmp_path: Path, fault: str
    ) -> None:
        harm = needed(faults, fault)
        handle = self._done(backend, make_attempt)
        manifest, raw = watched.manifest_of(backend, handle, tmp_path / "first")
        harm(handle, BEST)
        synced = _install(backend, handle, manifest, raw, tmp_path / "run")
        assert set(synced.wrong) == {BEST}
        assert not (tmp_path / "run" / BEST).exists()
        assert len(synced.installed) == len(manifest.files) - 1

    def test_checkpoints_come_back_while_the_worker_runs(
        self, backend: Backend[Any], make_attempt: AttemptMaker, faults: Faults, tmp_path: Path
    ) -> None:
        can(backend, Feature.LIVE_FILES)
        attempt, handle = self.at_gate(backend, make_attempt, faults)
        manifest, raw = watched.manifest_of(backend, handle, tmp_path / "first")
        assert (manifest.complete, manifest.epoch) == (False, 1)
        assert _install(backend, handle, manifest, raw, tmp_path / "run").whole
        assert (tmp_path / "run" / BEST).read_bytes().startswith(b"weights of epoch 1\n")
        assert backend.poll([handle])[handle.attempt].state is State.RUNNING
        make_attempt.let_go(attempt)

    def test_files_that_come_and_go_disturb_nothing(
        self, backend: Backend[Any], make_attempt: AttemptMaker, tmp_path: Path
    ) -> None:
        handle = self.started(backend, make_attempt(epochs=MANY_EPOCHS, stub={"epoch_s": 0.0}))
        state, listed = State.RUNNING, 0
        while not state.ended:
            files = backend.files(handle) or []
            listed += len(files)
            backend.fetch(handle, [file.path for file in files], tmp_path / "to")
            state = backend.poll([handle])[handle.attempt].state
        assert state is State.SUCCEEDED
        assert listed or Feature.LIVE_FILES in backend.lacks
        assert backend.files(handle)

    def test_asking_for_files_before_there_are_any_is_no_error(
        self, backend: Backend[Any], make_attempt: AttemptMaker, tmp_path: Path
    ) -> None:
        attempt = make_attempt(hold=1)
        handle = watched.submitted(backend, attempt)
        backend.files(handle)
        backend.fetch(handle, [manifests.NAME, BEST], tmp_path / "to")
        make_attempt.let_go(attempt)
        assert self.ended(backend, handle).state is State.SUCCEEDED

    def _done(self, backend: Backend[Any], maker: AttemptMaker) -> Handle:
        handle = watched.submitted(backend, maker())
        assert self.ended(backend, handle).state is State.SUCCEEDED
        return handle


def _refused() -> contextlib.suppress:
    """A call may refuse such a path, with an error of ours, or leave it out."""
    return contextlib.suppress(SamerunError)


def _install(backend: Backend[Any], handle: Handle, manifest: manifests.Manifest, raw: bytes, to: Path) -> Synced:
    """Bring home what the manifest lists, as a run does."""
    to.mkdir(exist_ok=True)
    return install(lambda paths, into: backend.fetch(handle, paths, into), manifest, raw, to)
