"""Data that is on Kaggle already: attached to the kernel, trained on there, and nothing of it is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.data.dataset import read_dataset
from launcher.data.fingerprint import fingerprint
from launcher.runs.state import RunState
from tests.backends.kaggle.world import Launch
from tests.data.trees import sound
from tests.emulators.kaggle import KaggleEmulator
from tests.worker.test_prepare import SPLIT

SPEC = "model: yolo11n.yaml\ndata: {data}\ntrain: {{epochs: 3}}\nresources: {{device: cpu}}\n"


@pytest.fixture
def reef(tmp_path: Path, kaggle: KaggleEmulator) -> Path:
    """What alice has uploaded by hand: version 1 of alice/coral-reef."""
    folder = tmp_path / "theirs"
    sound(folder)
    kaggle.datasets.add("alice/coral-reef", folder)
    return folder


def run_on(launch: Launch, data: str) -> int:
    launch.spec.write_text(SPEC.format(data=data))
    return launch.run()


@pytest.mark.parametrize(("name", "layout"), [("alice/coral-reef", "new"), ("alice/coral-reef/1", "old")])
def test_a_dataset_is_attached_and_nothing_is_sent(
    launch: Launch, kaggle: KaggleEmulator, reef: Path, name: str, layout: str
) -> None:
    kaggle.settings.change({"layout": layout})
    assert run_on(launch, f"kaggle-dataset:{name}") == 0
    record = launch.record
    assert record.state is RunState.VERIFIED
    assert record.data is not None
    assert record.data["fingerprint"] == fingerprint(read_dataset(reef / "data.yaml")).total
    assert kaggle.counters.calls["StartBlobUpload"] == 0
    (session,) = kaggle.kernels.sessions
    assert [(mount.kind, mount.slug) for mount in session.plan.mounts] == [("datasets", "coral-reef")]
    assert "alice/coral-reef" in [dataset.ref for dataset in kaggle.datasets], "what is the user's stays"


@pytest.mark.parametrize("layout", ["new", "old"])
def test_a_competition_is_made_a_dataset_there(
    launch: Launch, kaggle: KaggleEmulator, reef: Path, tmp_path: Path, layout: str
) -> None:
    kaggle.settings.change({"layout": layout})
    (tmp_path / "cots").mkdir()
    for number, picture in enumerate(sorted(reef.rglob("*.png"))):
        (tmp_path / f"cots/{number}.png").write_bytes(picture.read_bytes())
    kaggle.competitions.add("cots-2026", tmp_path / "cots")
    (tmp_path / "make.py").write_text(SPLIT)
    assert run_on(launch, "{kaggle-competition: cots-2026, prepare: make.py}") == 0
    assert launch.record.state is RunState.VERIFIED
    assert launch.logged("making")
    assert kaggle.counters.calls["StartBlobUpload"] == 0


@pytest.mark.slow
def test_a_script_that_fails_is_told(launch: Launch, kaggle: KaggleEmulator, reef: Path, tmp_path: Path) -> None:
    (tmp_path / "make.py").write_text("raise SystemExit(4)")
    assert run_on(launch, "{kaggle-dataset: alice/coral-reef, prepare: make.py}") == 1
    assert launch.record.state is RunState.FAILED
    assert launch.record.reason == "prepare.py: ended with exit code 4"


def test_a_dataset_that_is_not_there_is_known_before_anything_is_pushed(
    launch: Launch, kaggle: KaggleEmulator, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_on(launch, "kaggle-dataset:bob/no-such-thing") == 2
    assert "kaggle.no-dataset: dataset bob/no-such-thing" in capsys.readouterr().err
    assert kaggle.counters.calls["SaveKernel"] == 0


def test_a_competition_that_is_not_there_ends_it_and_leaves_no_kernel(
    launch: Launch, kaggle: KaggleEmulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "prepare.py").write_text("")
    data = f"{{kaggle-competition: no-such-thing, prepare: {tmp_path / 'prepare.py'}}}"
    assert run_on(launch, data) == 2
    assert "Kaggle left out no-such-thing" in capsys.readouterr().err
    assert len(kaggle.kernels) == 0


@pytest.mark.slow
def test_a_run_cut_short_is_held_to_the_dataset_that_it_began_with(
    launch: Launch, kaggle: KaggleEmulator, reef: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch.slow(0.3)
    monkeypatch.setenv("SAMERUN_KAGGLE_SESSION_HOURS", str(0.45 / 3600))
    launch.spec.write_text(SPEC.format(data="kaggle-dataset:alice/coral-reef") + "resume: {attempts: 1}\n")
    assert launch.run() == 1
    (reef / "labels/val/v2/d.txt").write_text("0 0.5 0.5 0.4 0.4\n")
    kaggle.datasets.add("alice/coral-reef", reef)
    monkeypatch.delenv("SAMERUN_KAGGLE_SESSION_HOURS")
    launch.slow(0.0)
    assert launch(launch.record.id, command="resume") == 1
    assert "the dataset has changed since the run began" in launch.record.reason
