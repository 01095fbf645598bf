"""What goes wrong between here and Kaggle, each row a test: the run is verified all the same, with one kernel."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from backends.kaggle import KaggleBackend, account, watching
from backends.kaggle.client.wire import Limits
from launcher.backend import State
from launcher.runs.events import read as read_events
from launcher.runs.state import RunState
from launcher.settings import Settings
from launcher.testing import watched
from launcher.testing.attempts import AttemptMaker
from tests.backends.kaggle.world import Launch, meanwhile, only_kernel, slow
from tests.emulators.kaggle import KaggleEmulator
from tests.emulators.kaggle.machine.session import Session

READS = ("Get*", "List*", "file", "logs")
EFFECTS = ("SaveKernel", "DeleteKernel", "StartBlobUpload", "CreateDataset", "upload")


@dataclass(frozen=True)
class Short(Limits):
    """So short that a test can wait for silence to be noticed."""

    connect: float = 2.0
    silence: float = 0.4
    answer: float = 0.6
    total: float = 10.0
    log_silence: float = 0.6


def verified_once(launch: Launch, kaggle: KaggleEmulator, epochs: int = 4) -> None:
    """The newest run is verified, each epoch once, by one session; nothing is left at Kaggle but the dataset."""
    assert launch.record.state is RunState.VERIFIED, launch.record
    assert launch.epochs() == list(range(1, epochs + 1))
    assert kaggle.counters.sessions_started == 1
    assert len(kaggle.kernels) == 0
    assert kaggle.processes_alive == 0


@pytest.mark.parametrize(
    "kind", ["429-html", *slow("429", "503", "html-200", "cut-before", "cut-middle", "short-body")]
)
def test_every_question_is_answered_badly_three_times(launch: Launch, kaggle: KaggleEmulator, kind: str) -> None:
    faults = [kaggle.faults.add(kind, on=each, times=3) for each in READS]
    assert launch.run() == 0
    verified_once(launch, kaggle)
    assert all(fault.hits for fault in faults)


@pytest.mark.parametrize("kind", ["lose-reply", *slow("429", "429-html", "503", "cut-before", "500-after")])
def test_every_call_with_an_effect_fails_once_before_or_after_it_was_done(
    launch: Launch, kaggle: KaggleEmulator, kind: str
) -> None:
    faults = [kaggle.faults.add(kind, on=each) for each in EFFECTS]
    assert launch.run() == 0
    verified_once(launch, kaggle)
    assert [fault.hits for fault in faults] == [1, 1, 1, 1, 1]


@pytest.mark.slow
def test_retry_after_is_waited_for(launch: Launch, kaggle: KaggleEmulator) -> None:
    kaggle.faults.add("429", on="GetDatasetStatus", retry_after=1)
    begun = time.monotonic()
    assert launch.run() == 0
    assert time.monotonic() - begun > 1
    verified_once(launch, kaggle)


@pytest.mark.parametrize("on", ["SaveKernel", *slow("GetKernel*", "logs", "file")])
def test_an_answer_that_never_comes_is_given_up_in_time(
    launch: Launch, kaggle: KaggleEmulator, monkeypatch: pytest.MonkeyPatch, on: str
) -> None:
    from backends.kaggle.client import download

    @dataclass(frozen=True)
    class Brief(download.Patience):
        silence: float = 0.4

    monkeypatch.setattr(account, "Limits", Short)
    monkeypatch.setattr(download, "Patience", Brief)
    hang = kaggle.faults.add("hang-after" if on == "SaveKernel" else "hang", on=on)
    assert launch.run() == 0
    verified_once(launch, kaggle)
    assert hang.hits == 1


@pytest.mark.parametrize("kind", ["cut-log", *slow("replay-log", "idle-log")])
@pytest.mark.parametrize("at", [300, *slow(1, 1500)])
def test_the_log_is_cut_anywhere_and_every_event_is_there_once(
    launch: Launch, kaggle: KaggleEmulator, kind: str, at: int
) -> None:
    kaggle.settings.log_idle_seconds = 0.3
    launch.slow(0.05)
    kaggle.faults.add(kind, on="logs", at=at)
    assert launch.run() == 0
    verified_once(launch, kaggle)
    (session,) = kaggle.kernels.sessions
    printed = "".join(record["data"] for record in session.log if record["stream_name"] == "stdout").splitlines()
    lines = [line for line in printed if not line.startswith(("@samerun ", "--- samerun "))]
    assert (launch.folder / "log.txt").read_text().splitlines() == lines
    assert lines
    events = read_events(launch.folder)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert [event.fields["epoch"] for event in events if event.name == "epoch"] == [1, 2, 3, 4]


def test_an_upload_that_is_cut_goes_on_where_it_was(launch: Launch, kaggle: KaggleEmulator) -> None:
    kaggle.faults.add("cut-upload", on="upload", at=100)
    assert launch.run() == 0
    verified_once(launch, kaggle)


def test_files_that_come_wrongly_are_asked_for_again(launch: Launch, kaggle: KaggleEmulator) -> None:
    kinds = ("short-body", "403-html", "html-200", "wrong-content")
    faults = [kaggle.faults.add(kind, on="best.pt") for kind in kinds]
    strangers = [kaggle.faults.add("extra-file", on="List*", times=5), kaggle.faults.add("evil-name", times=5)]
    kaggle.faults.add("404", on="results.csv")
    assert launch.run() == 0
    verified_once(launch, kaggle)
    assert [fault.hits for fault in faults] == [1, 1, 1, 1]
    assert sum(fault.hits for fault in strangers) > 0
    assert list(launch.folder.parent.parent.rglob("evil.txt")) == []
    assert not list(launch.folder.rglob("extra.bin"))


def test_a_file_that_never_comes_whole_is_exit_5_and_stays_at_kaggle_until_it_does(
    launch: Launch, kaggle: KaggleEmulator, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = kaggle.faults.add("wrong-content", on="best.pt", times=None)
    assert launch.run() == 5
    assert launch.record.state is RunState.COLLECTING
    assert "launch fetch" in capsys.readouterr().err
    assert not (launch.folder / "train/weights/best.pt").exists()
    broken.times = 0
    assert launch(launch.record.id, command="fetch") == 0
    verified_once(launch, kaggle)


def test_a_state_that_is_new_is_no_failure(launch: Launch, kaggle: KaggleEmulator) -> None:
    launch.slow(0.1)
    new = kaggle.faults.add("unknown-enum", on="GetKernelSessionStatus", times=4)
    assert launch.run() == 0
    verified_once(launch, kaggle)
    assert new.hits == 4


@pytest.mark.parametrize("names", [(), ("exit.json", "manifest.json"), *slow(("exit.json",), ("manifest.json",))])
def test_an_attempt_has_ended_when_all_that_it_left_is_listed(
    backend: KaggleBackend,
    make_attempt: AttemptMaker,
    kaggle: KaggleEmulator,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    names: tuple[str, ...],
) -> None:
    """The last epochs would be lost if the run went on without them."""
    shown, late = Session.outputs, [0.0]

    def outputs(session: Session) -> list[tuple[str, int, float]]:
        files = shown(session)
        late[0] = late[0] or (time.monotonic() + 0.06 if files else 0.0)
        return [file for file in files if time.monotonic() > late[0] or file[0] in names]

    monkeypatch.setattr(Session, "outputs", outputs)
    handle = watched.submitted(backend, make_attempt())
    assert watched.ended(backend, handle, 30).state is State.SUCCEEDED
    manifest, _ = watched.manifest_of(backend, handle, tmp_path / "to")
    backend.fetch(handle, [entry.at for entry in manifest.files], tmp_path / "to")
    assert all((tmp_path / "to" / entry.at).is_file() for entry in manifest.files)


@pytest.mark.slow
def test_a_manifest_that_the_worker_wrote_and_kaggle_does_not_show_is_waited_for(
    launch: Launch, kaggle: KaggleEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = Session.outputs
    monkeypatch.setattr(Session, "outputs", lambda self: [f for f in shown(self) if f[0] != "manifest.json"])
    launch.slow(0.3)
    hours = f"resources.max_hours={0.45 / 3600}"
    assert launch.run(hours, "resume.attempts=10", "sync.patience_minutes=0.005") == 7, (
        "and nothing begins from the first epoch meanwhile"
    )
    assert len(launch.record.attempts) == 1
    monkeypatch.setattr(Session, "outputs", shown)
    assert launch(launch.record.id, command="attach") == 0
    assert launch.epochs() == [1, 2, 3, 4]
    done = [event.fields["epoch"] for event in read_events(launch.folder) if event.name == "epoch"]
    assert done == [1, 2, 3, 4]


@pytest.mark.parametrize("keep", [True, False])
def test_another_process_does_not_take_a_lost_kernel_for_one_to_stop(
    settings: Settings, make_attempt: AttemptMaker, kaggle: KaggleEmulator, keep: bool
) -> None:
    """To stop is to delete: what it had made would be gone."""
    backend = KaggleBackend(settings)
    handle = watched.submitted(backend, make_attempt(hold=1))
    watched.wait_for_line(backend, handle, lambda line: watched.is_event(line, "checkpoint"), 30)
    kaggle.kernels.lose(only_kernel(kaggle), keep=keep)
    assert KaggleBackend(settings).cancel(handle).state is State.LOST
    assert len(kaggle.kernels) == 1
    assert KaggleBackend(settings).release(handle) == []
    assert len(kaggle.kernels) == 0


def test_lines_that_are_there_come_at_once_from_wherever_they_are_asked_for(
    settings: Settings, make_attempt: AttemptMaker, kaggle: KaggleEmulator
) -> None:
    """As `launch ps` looks, which waits for nothing: in a process of its own, and from the start again."""
    backend = KaggleBackend(settings)
    handle = watched.submitted(backend, make_attempt(hold=1))
    read = watched.wait_for_line(backend, handle, lambda line: watched.is_event(line, "checkpoint"), 30)
    assert KaggleBackend(settings).lines(handle, "", 0.0).lines
    for _ in range(3):
        assert watched.all_lines(backend, handle) == read
    cursor = backend.lines(handle, str(len(read) - 1), 0.0).cursor
    assert watched.all_lines(backend, handle) == read
    assert backend.lines(handle, cursor, 0.0).lines == ()


def test_what_may_still_run_is_not_released(
    backend: KaggleBackend, make_attempt: AttemptMaker, kaggle: KaggleEmulator
) -> None:
    handle = watched.submitted(backend, make_attempt(hold=1))
    watched.until(backend, handle, watched.running, 30)
    for kind in ("unknown-enum", "503"):
        new = kaggle.faults.add(kind, on="GetKernelSessionStatus", times=None)
        assert "cancel it first" in backend.release(handle)[0]
        new.times = 0
    assert len(kaggle.kernels) == 1
    assert kaggle.processes_alive > 0


def test_a_kernel_that_stays_running_after_its_end_is_unknown_and_not_waited_for_for_ever(
    launch: Launch, kaggle: KaggleEmulator, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:

    monkeypatch.setattr(watching, "STUCK", 2.0)
    kaggle.faults.add("ghost", on="alice/samerun-*")
    assert launch.run("sync.patience_minutes=0.01") == 7
    assert launch.record.state == "unknown"
    assert "still shows its kernel as running" in capsys.readouterr().err
    assert launch(launch.record.id, "--yes", command="cancel") == 0
    assert launch.record.state is RunState.CANCELLED
    assert len(kaggle.kernels) == 0


def test_a_session_that_should_be_over_for_hours_is_unknown_until_it_ends(
    backend: KaggleBackend, settings: Settings, make_attempt: AttemptMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = make_attempt(hold=1)
    handle = watched.submitted(backend, attempt)
    watched.until(backend, handle, watched.running, 20.0)
    monkeypatch.setattr(watching, "GHOST_S", -1e6)
    late = KaggleBackend(settings).poll([handle])[attempt.id]
    assert late.state is State.UNKNOWN
    assert "after the limit of its session" in late.reason
    make_attempt.let_go(attempt)
    assert watched.ended(backend, handle, 30.0).state is State.SUCCEEDED


def test_an_output_that_is_too_large_for_kaggle_is_not_made_again(launch: Launch, kaggle: KaggleEmulator) -> None:
    kaggle.settings.output_limit = 1000
    assert launch.run() == 1
    record = launch.record
    assert (record.state, len(record.attempts)) == (RunState.FAILED, 1)
    assert "larger than the allowed 1000 bytes" in record.reason
    assert kaggle.counters.sessions_started == 1


def test_somebody_deletes_the_kernel(launch: Launch, kaggle: KaggleEmulator) -> None:
    launch.slow(0.5)

    def delete() -> None:
        kaggle.kernels.delete(kaggle.accounts["alice"], *only_kernel(kaggle).split("/"))

    with meanwhile(lambda: launch.logged('"epoch": 2'), delete):
        assert launch.run() == 1
    record = launch.record
    assert record.state is RunState.CANCELLED
    assert "somebody deleted it" in record.reason
    assert len(record.attempts) == 1, "who deletes it does not want another"
    assert kaggle.counters.sessions_started == 1


@pytest.mark.parametrize("keep", [True, *slow(False)])
def test_somebody_stops_it_at_kaggle(launch: Launch, kaggle: KaggleEmulator, keep: bool) -> None:
    launch.slow(0.3)

    def stop() -> None:
        kaggle.kernels.cancel_on_website(only_kernel(kaggle), keep=keep)

    with meanwhile(lambda: launch.logged('"epoch": 2'), stop):
        assert launch.run() == 1
    record = launch.record
    assert record.state is RunState.CANCELLED
    assert "stopped at kaggle.com" in record.reason
    assert len(record.attempts) == 1
    assert kaggle.counters.sessions_started == 1
    if keep:
        assert launch.epochs()[:2] == [1, 2], "what it had made is here"
