"""A run goes on where it was cut short: in the next kernel, from and to another backend; each epoch once."""

from __future__ import annotations

from pathlib import Path

import pytest

from backends.kaggle.kernel import source
from launcher.runs.events import read as read_events
from launcher.runs.record import RunRecord
from launcher.runs.state import RunState
from tests.backends.kaggle.world import Launch, meanwhile, only_kernel, slow
from tests.emulators.kaggle import KaggleEmulator


@pytest.fixture(autouse=True)
def large_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stub's checkpoint is small; nothing is small enough for a script here."""
    monkeypatch.setattr(source, "INLINE_BYTES", 0)


def whole(launch: Launch, kaggle: KaggleEmulator, attempts: int, epochs: int = 4) -> RunRecord:
    """The run is verified after so many attempts, each epoch once, and nothing but data is left at Kaggle."""
    record = launch.record
    assert record.state is RunState.VERIFIED, record
    assert len(record.attempts) == attempts
    assert all(attempt.released for attempt in record.attempts if attempt.handle is not None)
    assert launch.epochs() == list(range(1, epochs + 1))
    done = [event.fields["epoch"] for event in read_events(launch.folder) if event.name == "epoch"]
    assert sorted(set(done)) == list(range(1, epochs + 1))
    assert "left_over" not in record.checked
    assert len(kaggle.kernels) == 0
    assert kaggle.processes_alive == 0
    return record


def resumed(launch: Launch) -> list[int]:
    return [event.fields["epoch"] for event in read_events(launch.folder) if event.name == "resumed"]


@pytest.mark.parametrize(
    ("layout", "unpack"),
    [
        ("new", "stem"),
        pytest.param("old", "root", marks=pytest.mark.slow),
        pytest.param("new", "off", marks=pytest.mark.slow),
    ],
)
def test_a_session_whose_time_is_up_hands_over_to_the_next_kernel_without_passing_through_here(
    launch: Launch, kaggle: KaggleEmulator, layout: str, unpack: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kaggle.settings.change({"layout": layout, "unpack": unpack})
    monkeypatch.setenv("SAMERUN_KAGGLE_SESSION_HOURS", str(0.45 / 3600))
    launch.slow(0.3)
    assert launch.run("resume.attempts=10", "train.epochs=2") == 0
    record = whole(launch, kaggle, attempts=kaggle.counters.sessions_started, epochs=2)
    assert len(record.attempts) >= 2
    assert len(resumed(launch)) == len(record.attempts) - 1
    done = [event.fields["epoch"] for event in read_events(launch.folder) if event.name == "epoch"]
    assert done == [1, 2], "nothing was trained twice"
    sources = [session.plan.mounts for session in kaggle.kernels.sessions]
    assert ["notebooks" in [mount.kind for mount in mounts] for mounts in sources][1:] == [True] * (len(sources) - 1)
    assert kaggle.counters.calls["CreateDataset"] == 2, "the data and, as nothing fits into a script here, its listing"


def test_the_checkpoint_of_a_former_kernel_is_not_sent(
    launch: Launch, kaggle: KaggleEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAMERUN_KAGGLE_SESSION_HOURS", str(0.45 / 3600))
    launch.slow(0.3)
    sent: list[int] = []

    def note() -> None:
        sent.append(kaggle.counters.bytes_in)

    with meanwhile(lambda: kaggle.counters.sessions_started == 1, note):
        assert launch.run("resume.attempts=10", "train.epochs=2") == 0
    pushes = kaggle.counters.calls["SaveKernel"] - 1
    script = max(len(session.plan.text) for session in kaggle.kernels.sessions)
    assert kaggle.counters.bytes_in - sent[0] < pushes * (script * 1.2 + 30_000), "nothing but scripts and questions"


@pytest.mark.slow
def test_as_often_as_the_spec_allows(launch: Launch, kaggle: KaggleEmulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMERUN_KAGGLE_SESSION_HOURS", str(0.1 / 3600))
    launch.slow(0.3)
    assert launch.run("resume.attempts=2", "train.epochs=50") == 1
    record = launch.record
    assert (record.state, len(record.attempts)) == (RunState.LOST, 2)
    assert kaggle.counters.sessions_started == 2
    assert launch.epochs() == [1, 2]
    assert len(kaggle.kernels) == 0
    monkeypatch.delenv("SAMERUN_KAGGLE_SESSION_HOURS")
    launch.slow(0.0)
    assert launch(record.id, command="resume") == 0
    assert launch.epochs() == list(range(1, 51))


@pytest.mark.slow
def test_a_limit_of_the_specs_own_is_kept(launch: Launch, kaggle: KaggleEmulator) -> None:
    launch.slow(0.3)
    assert launch.run(f"resources.max_hours={0.45 / 3600}", "resume.attempts=10") == 0
    assert len(launch.record.attempts) >= 2
    whole(launch, kaggle, attempts=len(launch.record.attempts))


@pytest.mark.parametrize("keep", [True, *slow(False)])
def test_a_session_that_is_killed_in_an_epoch_is_gone_on_from(
    launch: Launch, kaggle: KaggleEmulator, keep: bool
) -> None:
    """Kaggle may keep what it had made, or not: then there is nothing to go on from, and no epoch is there twice."""
    launch.slow(0.3)

    def kill() -> None:
        launch.slow(0.01)
        kaggle.kernels.lose(only_kernel(kaggle), keep=keep)

    with meanwhile(lambda: launch.logged('"epoch": 2'), kill):
        assert launch.run() == 0
    record = whole(launch, kaggle, attempts=2)
    assert kaggle.counters.sessions_started == 2
    assert "gone without a word" in record.attempts[0].reason
    assert len(resumed(launch)) == (1 if keep else 0)
    temporary = [dataset.ref for dataset in kaggle.datasets if "samerun-files" in dataset.ref]
    assert len(temporary) == 1, "the checkpoint's dataset is gone with its attempt; the listing's stays"


@pytest.mark.slow
def test_the_output_of_a_former_kernel_that_kaggle_does_not_attach_is_sent_from_here(
    launch: Launch, kaggle: KaggleEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAMERUN_KAGGLE_SESSION_HOURS", str(0.45 / 3600))
    launch.slow(0.3)
    kaggle.kernels._sources.kernel_outputs = lambda *_: None
    assert launch.run("resume.attempts=10", "train.epochs=2") == 0
    record = whole(launch, kaggle, attempts=len(launch.record.attempts), epochs=2)
    assert len(record.attempts) >= 2
    assert len(resumed(launch)) == len(record.attempts) - 1


@pytest.mark.slow
def test_kaggle_kills_it_at_its_own_limit(launch: Launch, kaggle: KaggleEmulator) -> None:
    """The worker did not leave in time; Kaggle calls the end an error, and keeps the output."""
    launch.slow(0.3)

    def expire() -> None:
        launch.slow(0.01)
        kaggle.kernels.expire(only_kernel(kaggle))

    with meanwhile(lambda: launch.logged('"epoch": 3'), expire):
        assert launch.run() == 0
    record = whole(launch, kaggle, attempts=2)
    assert "longer than the allowed time" in record.attempts[0].reason
    assert resumed(launch) in ([2], [3])
    assert kaggle.counters.calls["SaveKernel"] == 2, "the output of what ended in error is not even tried to attach"


def test_from_here_to_kaggle_and_the_checkpoint_is_deleted_afterwards(
    launch: Launch, kaggle: KaggleEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAMERUN_STUB_KILL_EPOCH", "3")
    assert launch.run("resume.attempts=1", "resume.restarts=0", backend="local") == 1
    monkeypatch.delenv("SAMERUN_STUB_KILL_EPOCH")
    assert launch.epochs() == [1, 2]
    assert launch(launch.record.id, "--backend", "kaggle", command="resume") == 0
    whole(launch, kaggle, attempts=2)
    assert resumed(launch) == [2]
    assert [dataset.ref for dataset in kaggle.datasets if "samerun-files" in dataset.ref] != []
    assert kaggle.counters.calls["DeleteDataset"] == 1


def test_from_kaggle_to_here(launch: Launch, kaggle: KaggleEmulator) -> None:
    launch.slow(0.3)
    assert launch.run(f"resources.max_hours={0.45 / 3600}", "resume.attempts=1") == 1
    before = len(launch.epochs())
    assert 0 < before < 4
    assert launch(launch.record.id, "--backend", "local", command="resume") in (0, 1)
    while launch.record.state is not RunState.VERIFIED:  # its own limit holds here, too
        assert len(launch.record.attempts) < 8
        launch(launch.record.id, command="resume")
    assert launch.epochs() == [1, 2, 3, 4]
    assert kaggle.counters.sessions_started == 1


@pytest.mark.slow
def test_a_training_that_fails_is_not_gone_on_with(launch: Launch, kaggle: KaggleEmulator) -> None:
    launch.slow(0.01, fail_epoch=3)
    assert launch.run() == 1
    record = launch.record
    assert (record.state, len(record.attempts)) == (RunState.FAILED, 1)
    assert "told to fail in epoch 3" in record.reason
    assert launch.epochs() == [1, 2]
    assert len(kaggle.kernels) == 0


@pytest.mark.parametrize(("layout", "unpack"), [("old", "root"), ("new", "off")])
def test_the_dataset_is_found_wherever_kaggle_puts_it(
    launch: Launch, kaggle: KaggleEmulator, layout: str, unpack: str, tmp_path: Path
) -> None:
    kaggle.settings.change({"layout": layout, "unpack": unpack})
    launch.slow(0.01, data=1)  # the stub compares each file with what was hashed here
    assert launch.run() == 0
    whole(launch, kaggle, attempts=1)
