"""What a folder holds, and how far its training came: crashed, stopped, finished or not told apart."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.analysis import analyse, load_run
from launcher.analysis.model import Kind, Phase, RunView, Status
from launcher.analysis.reading.files import checkpoint_epoch
from launcher.errors import NotFoundError
from launcher.runs.record import AttemptRecord, RunRecord
from launcher.runs.state import RunState
from launcher.runs.store import Store
from launcher.settings import Settings
from tests.analysis.published import baseline_rows, checkpoint, csv_text, published, write_run

ROWS = baseline_rows()
ARGUMENTS: dict[str, Any] = {"model": "yolo11n.pt", "data": "/data/data.yaml", "epochs": 10}


def codes(run: RunView) -> set[str]:
    return {one.code for one in analyse(run).findings}


def missing(run: RunView) -> list[str]:
    return [row.path for row in run.files if row.expected and not row.present]


def test_a_finished_folder_has_its_files_each_with_when_it_was_written(tmp_path: Path) -> None:
    run = load_run(write_run(tmp_path / "train7", ROWS, ARGUMENTS))
    assert (run.kind, run.name, run.status, missing(run)) == (Kind.FOLDER, "train7", Status.FINISHED, [])
    row = {row.path: row for row in run.files}
    assert row["results.png"].phase is Phase.END
    times = [row[name].written for name in ("args.yaml", "results.csv", "confusion_matrix.png", "results.png")]
    assert None not in times
    assert times == sorted(times)  # type: ignore[type-var]
    assert {path.name for path in run.pictures} >= {"results.png", "val_batch0_pred.jpg", "BoxPR_curve.png"}
    assert all(path.is_file() for path in run.pictures)


def test_a_killed_training_is_cut_short_and_can_be_gone_on_from(tmp_path: Path) -> None:
    run = load_run(write_run(tmp_path / "run", ROWS[:6], ARGUMENTS, finished=False))
    assert run.status is Status.CRASHED
    assert "6 of 10 epochs" in run.status_text
    assert "last.pt holds epoch 6" in run.status_text
    assert {"status.crashed", "files-missing", "lesson.status.crashed"} <= codes(run)
    assert "results.png" in missing(run)


def test_a_folder_that_was_written_to_just_now_may_still_be_at_work(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", ROWS[:6], ARGUMENTS, finished=False)
    end = (folder / "weights" / "last.pt").stat().st_mtime
    run = load_run(folder, now=end + 600)  # one epoch takes 560 s
    assert run.status is Status.RUNNING
    assert "10.0 min ago" in run.status_text
    assert load_run(folder, now=end + 2000).status is Status.CRASHED
    assert load_run(folder, now=end - 2000).status is Status.CRASHED  # a clock that was set back


def test_one_killed_after_its_last_epoch_had_finished_training_without_a_final_evaluation(tmp_path: Path) -> None:
    run = load_run(write_run(tmp_path / "run", ROWS, ARGUMENTS, finished=False))
    assert run.status is Status.NO_FINAL
    assert "status.no_final" in codes(run)


def test_curves_without_results_png_show_no_final_evaluation(tmp_path: Path) -> None:
    """The last epoch draws them, too."""
    run = load_run(write_run(tmp_path / "run", ROWS, ARGUMENTS, plots_to_the_end=False))
    assert run.status is Status.NO_FINAL
    assert missing(run) == ["results.png"]


def test_patience_ends_a_training_early_and_that_is_no_crash(tmp_path: Path) -> None:
    run = load_run(write_run(tmp_path / "run", ROWS, {**ARGUMENTS, "epochs": 100, "patience": 1}))
    assert run.status is Status.STOPPED
    assert "no better epoch in 1, patience is 1" in run.status_text


def test_a_stripped_checkpoint_shows_that_a_short_training_ended_by_itself(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", ROWS, {**ARGUMENTS, "epochs": 100}, plots_to_the_end=False)
    run = load_run(folder)
    assert run.status is Status.STOPPED
    assert "a time limit or a wish" in run.status_text


def test_without_plots_only_four_files_are_expected(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", ROWS, {**ARGUMENTS, "plots": False})
    for picture in (*folder.glob("*.png"), *folder.glob("*.jpg")):
        picture.unlink()
    run = load_run(folder)
    assert (run.status, missing(run)) == (Status.FINISHED, [])
    assert "plots were off" in run.status_text
    (folder / "weights" / "last.pt").write_bytes(checkpoint(9))
    assert load_run(folder).status is Status.NO_FINAL


def test_a_table_beside_its_arguments_alone_shows_no_end(tmp_path: Path) -> None:
    """What many keep of a run: it may have finished, or not."""
    for count in (6, 10):
        folder = write_run(tmp_path / f"run{count}", ROWS[:count], ARGUMENTS, finished=False)
        for file in [*folder.rglob("*.pt"), *folder.rglob("*.jpg")]:
            file.unlink()
        assert load_run(folder).status is Status.UNKNOWN


def test_a_copy_of_a_run_may_be_of_one_that_went_on(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", ROWS[:6], ARGUMENTS, finished=False)
    shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copyfile)
    assert "a copy that was made while it trained" in load_run(tmp_path / "copy").status_text


def test_last_pt_is_not_the_model_that_a_resumed_run_began_from(tmp_path: Path) -> None:
    last = str(tmp_path / "run" / "weights" / "last.pt")
    run = load_run(write_run(tmp_path / "run", ROWS, {**ARGUMENTS, "model": last, "resume": last}))
    told = analyse(run, load_run(write_run(tmp_path / "base", ROWS, ARGUMENTS)))
    assert run.model == ""
    assert "resumed-arguments" in {one.code for one in told.findings}
    assert "model" not in {one.name for one in told.differences}
    assert not [one for one in told.next_runs if "last.pt" in one.spec]


def test_a_classifier_has_no_curves_of_boxes(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", ROWS, {**ARGUMENTS, "task": "classify"})
    for file in (*folder.glob("Box*"), folder / "labels.jpg"):
        file.unlink()
    assert missing(load_run(folder)) == []


def test_a_folder_without_a_table_died_in_set_up(tmp_path: Path) -> None:
    run = load_run(write_run(tmp_path / "run", [], ARGUMENTS))
    assert run.status is Status.NOT_STARTED
    assert run.results.epochs == ()


def test_times_of_a_copy_are_not_believed(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", ROWS, ARGUMENTS)
    shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copyfile)
    assert all(row.written is None for row in load_run(tmp_path / "copy").files)
    assert "files-copied" in codes(load_run(tmp_path / "copy"))
    assert "files-copied" not in codes(load_run(folder))
    os.utime(folder / "args.yaml")  # later than all that it came before
    assert all(row.written is None for row in load_run(folder).files)


def test_curves_by_their_older_names_are_the_same_files(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", ROWS, ARGUMENTS)
    for curve in ("F1", "PR", "P", "R"):
        (folder / f"Box{curve}_curve.png").rename(folder / f"{curve}_curve.png")
    assert missing(load_run(folder)) == []


def test_a_table_alone_says_nothing_of_its_end_nor_of_gains(tmp_path: Path) -> None:
    file = tmp_path / "other.csv"
    file.write_text(csv_text(ROWS))
    run = load_run(file)
    assert (run.kind, run.status, run.name, run.files) == (Kind.TABLE, Status.UNKNOWN, "other", ())
    assert run.config.values == {}
    told = analyse(run, load_run(published(tmp_path).phase2))
    found = {one.code: one.message for one in told.findings}
    assert "config-unknown" in found
    assert "not comparable" in found["loss.train.box"]
    assert told.differences == ()
    assert told.next_runs == ()


def test_a_table_in_a_runs_folder_means_that_run(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", ROWS, ARGUMENTS)
    assert load_run(folder / "results.csv").kind is Kind.FOLDER


@pytest.mark.parametrize("text", ["a: [", "- 1", "\x00\x01", "!!python/object:os.system {}", "a: " * 9000])
def test_arguments_that_cannot_be_read_are_not_made_up(tmp_path: Path, text: str) -> None:
    folder = write_run(tmp_path / "run", ROWS, ARGUMENTS)
    (folder / "args.yaml").write_text(text)
    run = load_run(folder)
    assert run.config.values == {}
    assert "args.yaml" in run.config.source
    assert run.status is Status.FINISHED


def test_aliases_without_end_are_not_followed(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", ROWS, ARGUMENTS)
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    (folder / "args.yaml").write_text("\n".join(lines))
    assert len(json.dumps(analyse(load_run(folder)).as_json())) < 1_000_000


def test_a_checkpoints_epoch_is_read_without_unpickling_it(tmp_path: Path) -> None:
    file = tmp_path / "last.pt"
    for epoch in (-1, 0, 9, 255, 256, 70_000):
        file.write_bytes(checkpoint(epoch))
        assert checkpoint_epoch(file) == epoch
    for data in (b"", b"<html>", checkpoint(3)[:100], b"PK\x03\x04" + bytes(50)):
        file.write_bytes(data)
        assert checkpoint_epoch(file) is None


def test_what_is_not_there_is_told_with_the_way_out(tmp_path: Path) -> None:
    settings = Settings(tmp_path / "runs", tmp_path / "cache")
    with pytest.raises(NotFoundError, match="no run 'baseline'"):
        load_run("baseline", settings)
    with pytest.raises(NotFoundError, match="a folder without a run"):
        load_run(tmp_path, settings)


# Runs of our own


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


def record(state: RunState = RunState.VERIFIED) -> RunRecord:
    """A run of ours as its record tells it."""
    started = {
        "arguments": {**ARGUMENTS, "workers": 0, "amp": True},
        "device": "cpu",
        "amp": False,
        "batch": 8,
        "versions": {"ultralytics": "8.4.190"},
    }
    attempt = AttemptRecord("base-abc-a1", 1, "local", 1000.0, started=started, ended=9000.0)
    facts = {"n_test": 0, "classes": 1, "boxes": 1000, "train_boxes": 800}
    return RunRecord(
        id="base-abc",
        name="base",
        backend="local",
        state=state,
        key="k",
        bundle="b",
        created=1000.0,
        updated=9000.0,
        model="yolo11n.yaml",
        data={"root": "/data/reef", "fingerprint": "f" * 64, "facts": facts},
        attempts=(attempt,),
        checked={"complete": True},
        notes="a <b>note</b>",
    )


def event(seq: int, name: str, **fields: Any) -> str:
    return json.dumps({"attempt": "base-abc-a1", "seq": seq, "time": 1000.0 + seq, "event": name, **fields})


def ours(store: Store, *events: str, state: RunState = RunState.VERIFIED) -> Path:
    """A run of ours in the store, with its train folder and events."""
    folder = store.folder(store.create(record(state), {"spec.yaml": b"model: yolo11n.yaml\ndata: {reef: {}}\n"}).id)
    write_run(folder / "train", ROWS, {**ARGUMENTS, "batch": 16})
    (folder / "events.jsonl").write_text("".join(f"{line}\n" for line in events))
    files = [{"path": f"train/{file.name}", "size": file.stat().st_size} for file in (folder / "train").glob("*.*")]
    (folder / "manifest.json").write_text(json.dumps({"files": files}))
    return folder


def test_a_run_of_ours_is_found_by_id_prefix_name_and_folder(store: Store, tmp_path: Path) -> None:
    folder = ours(store)
    settings = Settings(store.root, tmp_path / "cache")
    for what in ("base-abc", "base-a", "base", str(folder), str(folder / "train"), str(folder / "run.json")):
        run = load_run(what, settings)
        assert (run.id, run.kind, run.where) == ("base-abc", Kind.RUN, folder)
    assert load_run(folder / "train" / "results.csv", settings).kind is Kind.RUN


def test_a_run_of_ours_knows_what_the_trainer_really_had(store: Store) -> None:
    run = load_run(ours(store))
    assert (run.config.values["batch"], run.config.get("batch")) == (16, 8)
    assert run.positives == 200
    assert run.versions == {"ultralytics": "8.4.190"}
    assert run.hardware["device"] == "cpu"
    assert "batch 16 → 8" in next(one for one in analyse(run).findings if one.code == "asked-not-had").evidence


def test_metrics_that_are_means_over_classes_rest_on_no_count(store: Store) -> None:
    folder = ours(store)
    data = {**(record().data or {}), "facts": {"n_test": 0, "classes": 2, "boxes": 1000, "train_boxes": 800}}
    store.save(replace(record(), data=data))
    assert load_run(folder).positives is None
    assert load_run(folder, positives=50).positives == 50


def test_files_of_ours_are_checked_against_the_manifest_and_not_dated_by_their_arrival(store: Store) -> None:
    files = [{"path": "train/results.csv"}]
    folder = ours(store, event(1, "epoch", epoch=1, epochs=10), event(2, "checkpoint", epoch=1, files=files))
    (folder / "train" / "labels.jpg").write_bytes(b"another")
    rows = {row.path: row for row in load_run(folder).files}
    assert rows["train/results.csv"].verified is True
    assert rows["train/results.csv"].written == 1002.0
    assert rows["train/results.png"].written is None
    assert rows["train/labels.jpg"].verified is False
    assert rows["train/weights/last.pt"].verified is None
    assert "files-changed" in codes(load_run(folder))


def test_what_the_guard_said_is_told_with_its_epoch(store: Store) -> None:
    folder = ours(
        store,
        event(1, "epoch", epoch=4, epochs=10, memory_gb=2.0),
        event(2, "warning", code="machine-slept", seconds=600.0),
        event(7, "warning", code="machine-slept", seconds=601.0),
        event(3, "resumed", epoch=4),
        event(4, "failed", reason="RuntimeError: <b>", remedy="look"),
    )
    run = load_run(folder)
    found = {one.code: one for one in analyse(run).findings}
    assert found["guard.machine-slept"].message == "the guard warned in epoch 5: machine-slept, 2 times"
    assert found["guard.machine-slept"].evidence == "seconds 600.0"
    assert found["worker.failed"].remedy == "look"
    assert run.results.restarts == (5,)
    assert "epoch 5" in found["restarts"].message
    assert run.memory_gb[3] == 2.0


def test_a_restart_that_only_the_worker_saw_begins_its_time_again(store: Store) -> None:
    folder = ours(store, event(1, "epoch", epoch=1, epochs=10), event(2, "resumed", epoch=1))
    lines = ["epoch,time", "1,20", "2,30", "3,60", ""]
    (folder / "train" / "results.csv").write_text("\n".join(lines))
    assert load_run(folder).results.seconds == (20.0, 30.0, 30.0)


def test_a_run_without_a_table_is_told_by_its_events(store: Store) -> None:
    folder = ours(
        store,
        event(1, "epoch", epoch=1, epochs=10, losses={"box_loss": 2.5}, metrics={"metrics/mAP50(B)": 0.25}, seconds=7),
        state=RunState.RUNNING,
    )
    (folder / "train" / "results.csv").unlink()
    run = load_run(folder)
    assert run.results.columns == {"train/box_loss": (2.5,), "metrics/mAP50(B)": (0.25,)}
    assert run.results.seconds == (7.0,)
    assert run.status is Status.RUNNING
    assert run.results.repairs[0].code == "from-events"


def test_files_have_the_time_of_their_writing_there_and_not_of_their_arrival(store: Store) -> None:
    folder = ours(store, event(1, "checkpoint", epoch=1, files=[{"path": "train/weights/last.pt"}]))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"] += [{"path": "train/results.png", "size": 3, "written": 1234.5}]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    when = {row.path: row.written for row in load_run(folder).files}
    assert when["train/results.png"] == 1234.5
    assert when["train/weights/last.pt"] == 1001.0
    assert when["train/confusion_matrix.png"] is None


def test_a_failed_run_says_why(store: Store) -> None:
    folder = ours(store)
    broken = replace(record(), state=RunState.FAILED, reason="out of memory")
    store.save(broken)
    assert load_run(folder).status_text.endswith("The record says failed: out of memory")


@pytest.mark.parametrize(("state", "status"), [(RunState.CANCELLED, Status.CANCELLED), (RunState.LOST, Status.CRASHED)])
def test_who_ended_it_is_told_apart(store: Store, state: RunState, status: Status) -> None:
    folder = ours(store, state=state)
    rows = (folder / "train" / "results.csv").read_text().splitlines(keepends=True)
    (folder / "train" / "results.csv").write_text("".join(rows[:3]))
    for name in ("results.png", "weights/last.pt", "weights/best.pt"):
        (folder / "train" / name).unlink(missing_ok=True)
    assert load_run(folder).status is status


def test_the_final_evaluation_is_kept_beside_the_epochs_row(store: Store) -> None:
    metrics = {"metrics/mAP50-95(B)": 0.0912}
    run = load_run(ours(store, event(1, "epoch", epoch=10, epochs=10), event(2, "final_eval", metrics=metrics)))
    assert run.final_eval == metrics
    assert "final-eval-differs" in codes(run)
    assert run.moments[-1].epoch is None
