"""The training process without Ultralytics: its callbacks fed by a trainer of straw, and what is watched."""

from __future__ import annotations

import json
import time
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from launcher.sync.manifest import parse
from launcher.worker.box import Box
from launcher.worker.training import checkpoint
from launcher.worker.training.guard import Guard, GuardError
from launcher.worker.training.train import Training, _variables, train

NAN = float("nan")


class Told(list[dict[str, Any]]):
    """Takes events in the place of the pipe."""

    def __call__(self, event: str, **fields: Any) -> None:
        self.append({"event": event, **fields})

    def named(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self if event["event"] == name]


def training(root: Path, told: Told, job: Any = None, attempt: Any = None) -> Training:
    box = Box(str(root))
    box.make()
    Path(box.inbox).mkdir(exist_ok=True)
    Path(box.inbox, "job.json").write_text(json.dumps({"train": {"epochs": 9}, **(job or {})}))
    Path(box.inbox, "attempt.json").write_text(json.dumps(attempt or {}))
    found = Training(box, told)  # type: ignore[arg-type]
    found.resume = None
    return found


class Straw(SimpleNamespace):
    """What the callbacks look at of a trainer."""

    def __init__(self, **more: Any) -> None:
        base: dict[str, Any] = {
            "epoch": 0, "epochs": 9, "start_epoch": 0, "tloss": {"box_loss": 1.0, "cls_loss": 1.0, "dfl_loss": 1.0},
            "loss": 1.0, "fitness": 0.5, "best_fitness": 0.5, "stop": False, "metrics": {}, "lr": {}, "epoch_time": 1.0,
            "batch_size": 4, "device": SimpleNamespace(type="cpu"), "args": SimpleNamespace(box=7.5),
        }  # fmt: skip
        super().__init__(**{**base, **more})

    def label_loss_items(self, items: Any, prefix: str) -> Any:
        return {f"{prefix}/{key}": round(value, 5) for key, value in items.items()}


def wrote(root: Path, epoch: int, seconds: float = 1.0) -> None:
    """What Ultralytics leaves after an epoch."""
    (root / "out/train/weights").mkdir(parents=True, exist_ok=True)
    for name in ("weights/last.pt", "weights/best.pt", "args.yaml"):
        (root / "out/train" / name).write_text(f"{name} of {epoch}")
    rows = "".join(f"{n},{n * seconds}\n" for n in range(1, epoch + 1))
    (root / "out/train/results.csv").write_text("epoch,time\n" + rows)


def epoch(one: Training, trainer: Straw) -> None:
    """The callbacks of an epoch."""
    one.on_train_batch_end(trainer)
    one.on_train_epoch_end(trainer)
    one.on_model_save(trainer)
    one.on_fit_epoch_end(trainer)


@pytest.mark.parametrize(
    "spoilt", [{"fitness": NAN}, {"loss": float("inf")}, {"tloss": {"box_loss": NAN}}], ids=["fitness", "loss", "tloss"]
)
def test_an_epoch_that_is_spoilt_is_not_set_aside(tmp_path: Path, spoilt: Any) -> None:
    told = Told()
    one = training(tmp_path, told)
    for number in (1, 2):
        wrote(tmp_path, number)
        trainer = Straw(epoch=number - 1)
        epoch(one, trainer)
    wrote(tmp_path, 3)
    epoch(one, Straw(epoch=2, **spoilt))
    newest = checkpoint.newest(one.box)
    assert newest is not None
    assert newest.epoch == 2
    assert parse(Path(one.box.manifest).read_bytes()).epoch == 2
    assert [event["code"] for event in told.named("warning")] == ["checkpoint-not-finite"]
    assert [event["epoch"] for event in told.named("checkpoint")] == [1, 2]


def test_a_loss_that_is_no_number_in_the_first_epoch_of_a_resumed_process(tmp_path: Path) -> None:
    one = training(tmp_path, Told())
    one.start_epoch = 4
    with pytest.raises(GuardError, match="box_loss is nan"):
        one.on_train_batch_end(Straw(epoch=4, tloss={"box_loss": NAN}))
    one.on_train_batch_end(Straw(epoch=5, tloss={"box_loss": NAN}))  # Ultralytics goes back by itself


def test_an_end_that_is_decided_after_the_copy_is_in_the_copy(tmp_path: Path) -> None:
    one = training(tmp_path, Told())
    wrote(tmp_path, 1)
    trainer = Straw()
    one.on_train_epoch_end(trainer)
    one.on_model_save(trainer)
    trainer.stop = True
    one.on_fit_epoch_end(trainer)
    newest = checkpoint.newest(one.box)
    assert newest is not None
    assert newest.stop
    assert parse(Path(one.box.manifest).read_bytes()).stop


@pytest.mark.parametrize(("hours", "over"), [(6.1 / 3600, False), (6.0 / 3600, True), (0.0, False)])
def test_train_time_counts_what_earlier_processes_used(tmp_path: Path, hours: float, over: bool) -> None:
    one = training(tmp_path, Told(), {"train": {"time": hours}})
    wrote(tmp_path, 3, seconds=2.0)
    kept = checkpoint.set_aside(one.box, 3, False, True)
    assert one._time_is_used_up(kept) is over
    assert one.used == (6.0 if hours else 0.0)


def test_the_clock_and_the_estimate_of_epochs_have_the_sum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launcher.worker.training.train.effective", lambda trainer: {})
    one = training(tmp_path, Told(), {"train": {"time": 1.0}})
    wrote(tmp_path, 3, seconds=2.0)
    one.resume = checkpoint.set_aside(one.box, 3, False, True)
    one.finishing = one._time_is_used_up(one.resume)
    begun = time.time()
    trainer = Straw(start_epoch=3, epoch=3, train_time_start=begun)
    one.on_train_start(trainer)
    assert trainer.train_time_start == begun - 6.0
    one.on_train_epoch_end(trainer)
    one.on_model_save(trainer)
    assert trainer.start_epoch == 0, "(t - train_time_start) / (epoch - start_epoch + 1) is the mean of all epochs"
    one.on_fit_epoch_end(trainer)
    assert trainer.start_epoch == 3, "how Ultralytics knows its first epoch, from which it does not go back"


def test_everything_that_would_be_written_at_home_is_written_below_work(tmp_path: Path) -> None:
    found = _variables(Box(str(tmp_path)))
    assert {"CUDA_CACHE_PATH", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "YOLO_CONFIG_DIR"} <= found.keys()
    assert all(value in "01" or value.startswith(f"{tmp_path}/work/") for value in found.values())


@pytest.mark.parametrize(("fraction", "told"), [(1.0, 1), (0.5, 0)])
def test_images_that_ultralytics_drops_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fraction: float, told: int
) -> None:
    found = {"arguments": {"fraction": fraction}, "images": {"train": 3, "val": 2}}
    monkeypatch.setattr("launcher.worker.training.train.effective", lambda trainer: found)
    events = Told()
    one = training(tmp_path, events)
    Path(one.box.inbox, "data.json").write_text(json.dumps({"splits": {"train": [{}] * 4, "val": [{}] * 2}}))
    one.on_train_start(Straw())
    warning = {"event": "warning", "code": "images-dropped", "split": "train", "listed": 4, "used": 3}
    assert events.named("warning") == [warning] * told


PINS = {"ultralytics": metadata.version("ultralytics"), "torch": metadata.version("torch").split("+")[0]}


def test_the_versions_it_was_packed_with(tmp_path: Path) -> None:
    told = Told()
    training(
        tmp_path, told, {"pins": {**PINS, "torch": PINS["torch"] + "+cu132"}}, {"check_pins": True}
    ).check_versions()
    training(tmp_path, told, {}, {"check_pins": True}).check_versions()
    assert told == []
    training(tmp_path, told, {"pins": {**PINS, "torch": "1.0.0"}}).check_versions()
    installed = metadata.version("torch")
    assert told == [
        {"event": "warning", "code": "wrong-version", "name": "torch", "pinned": "1.0.0", "installed": installed}
    ]


def test_other_versions_fail_before_anything_is_read(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    training(tmp_path, Told(), {"pins": {"ultralytics": "7.0.1"}}, {"check_pins": True})
    assert train(str(tmp_path)) == 1
    said = [json.loads(line) for line in capfd.readouterr().out.splitlines() if line.startswith("{")]
    assert [event["event"] for event in said] == ["preparing", "error"]
    assert said[0]["what"] == "importing torch and Ultralytics"
    assert said[1]["code"] == "wrong-version"
    assert "7.0.1" in said[1]["reason"]
    assert not list((tmp_path / "work").iterdir())


@pytest.mark.parametrize(
    ("losses", "gain", "warned"),
    [
        ({"box_loss": 0.0, "dfl_loss": 0.5}, 7.5, 3),
        ({"box_loss": 0.0, "dfl_loss": 0.0}, 0.0, 0),
        ({"box_loss": 1e-6, "dfl_loss": 0.0}, 7.5, 0),
        ({"box_loss": 0.0, "l1_loss": 0.1}, 7.5, 3),
        ({"cls_loss": 0.1}, 7.5, 0),
    ],
)
def test_no_box_loss_is_a_warning_where_it_may_be_right(losses: Any, gain: float, warned: int) -> None:
    told: list[str] = []
    guard = Guard(lambda code, **_: told.append(code))
    for _ in range(3):
        guard.epoch("mps", losses, gain)
    assert told == ["box-loss-zero"] * warned


def test_two_epochs_in_a_row_without_box_and_dfl_loss_end_it_on_mps_alone() -> None:
    told: list[str] = []
    dead = {"box_loss": 0.0, "dfl_loss": 0.0}
    guard = Guard(lambda code, **_: told.append(code))
    guard.epoch("mps", dead, 7.5)
    guard.epoch("mps", {"box_loss": 1.0, "dfl_loss": 1.0}, 7.5)
    guard.epoch("mps", dead, 7.5)
    with pytest.raises(GuardError, match="2 epochs"):
        guard.epoch("mps", dead, 7.5)
    other = Guard(lambda code, **_: told.append(code))
    for _ in range(5):
        other.epoch("cpu", dead, 7.5)
    assert len(told) == 7
