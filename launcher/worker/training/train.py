"""The training process: one call of Ultralytics, with everything it would do silently made explicit or recorded.

Promises: only what the user set is passed on; nothing is written outside the box (but for temporary files, where its
path is too long for sockets); each finished epoch leaves a copy of its checkpoint, a manifest and an event, in this
order; a resume is what it claims to be, or it fails.
"""

from __future__ import annotations

import atexit
import csv
import math
import os
import shutil
import tempfile
import time
import traceback
from typing import Any

from .. import manifest, scratch
from ..box import EXIT_EXPIRED, Box, read_json
from ..data import listing, view
from ..events import Emitter, hold_lifeline
from . import checkpoint, validation
from .effective import effective
from .effective import versions as versions
from .guard import Guard, GuardError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..box import Json

LEAVE_MARGIN = 1.2  # epochs of time that must be left before the deadline to begin another one
ERROR_LIMIT = 2000  # characters of an error's text that an event carries


class ExpiredError(Exception):
    """The attempt's time is up. An exception, because `trainer.stop` would strip the checkpoint of its optimizer."""


def train(root: str) -> int:
    """Train the box's job. Returns 0 when done, EXIT_EXPIRED when it left for lack of time, 1 when it failed."""
    emit = Emitter()
    emit("preparing", what="importing torch and Ultralytics")
    box = Box(root)
    hold_lifeline(lambda: scratch.remove(box))
    try:
        training = Training(box, emit)
        training.check_versions()
        environment(box)
        training.run()
    except ExpiredError:
        return EXIT_EXPIRED
    except Exception as error:  # noqa: BLE001  the last place that can say why
        traceback.print_exc()
        emit("error", **_explain(error))
        return 1
    return 0


def _explain(error: Exception) -> Json:
    """What went wrong, and what to do, for the failed event."""
    text = f"{type(error).__name__}: {error}"[:ERROR_LIMIT]
    found = {"type": type(error).__name__, "reason": text}
    if isinstance(error, GuardError):
        return {**found, "code": error.code, "remedy": error.remedy}
    if "out of memory" in text.lower():
        found["remedy"] = "lower train.batch or train.imgsz, or take a machine with more memory"
    elif isinstance(error, OSError) and error.errno == 28:
        found["remedy"] = "free disk space on the machine that trains, then `launch resume`"
    return found


def environment(box: Box) -> None:
    """Everything Ultralytics reads from its surroundings, set before it is imported.

    Its settings file and fonts are private to the box; network look-ups, telemetry, installs at run time and the
    upload of weights to its platform are off; checkpoints are unpickled with its safe loader.
    """
    os.makedirs(box.work, exist_ok=True)
    os.chdir(box.work)
    os.environ.update(_variables(box))
    os.environ.pop("ULTRALYTICS_API_KEY", None)
    temporary(box)
    fonts = os.path.join(os.environ["YOLO_CONFIG_DIR"], "Ultralytics")
    os.makedirs(fonts, exist_ok=True)
    import matplotlib

    font = os.path.join(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    for name in ("Arial.ttf", "Arial.Unicode.ttf"):  # any TrueType font stops the download of these
        if not os.path.exists(os.path.join(fonts, name)):
            shutil.copyfile(font, os.path.join(fonts, name))
    from ultralytics import settings

    off = ("sync", "clearml", "comet", "dvc", "hub", "mlflow", "neptune", "raytune", "tensorboard", "wandb")
    settings.update(
        {
            **{key: False for key in off if key in settings},
            **({"api_key": ""} if "api_key" in settings else {}),
            "datasets_dir": os.path.join(box.work, "datasets"),
            "weights_dir": os.path.join(box.work, "weights"),
            "runs_dir": os.path.join(box.work, "runs"),
        }
    )


def _variables(box: Box) -> dict[str, str]:
    """What is read from the environment: no network, and every folder that would be in the home folder in the box."""
    folders = {
        "YOLO_CONFIG_DIR": "cfg",
        "MPLCONFIGDIR": "mpl",
        "XDG_CACHE_HOME": "cache",
        "TORCH_HOME": "torch",
        "CUDA_CACHE_PATH": "cuda",
        "TRITON_CACHE_DIR": "triton",
        "TORCHINDUCTOR_CACHE_DIR": "inductor",
    }
    flags = {"YOLO_OFFLINE": "1", "YOLO_AUTOINSTALL": "0", "ULTRALYTICS_SAFE_LOAD": "1"}
    return {**flags, **{name: os.path.join(box.work, folder) for name, folder in folders.items()}}


def temporary(box: Box) -> None:
    """Give this process and its children their folder for temporary files, until it ends."""
    atexit.register(scratch.remove, box)  # runs last: what tidies up in there is registered later, by imports
    os.environ["TMPDIR"] = scratch.make(box)
    tempfile.tempdir = None  # read the variable again


class Training:
    """One process's share of an attempt: from the start, or from a checkpoint."""

    def __init__(self, box: Box, emit: Emitter) -> None:
        self.box = box
        self.emit = emit
        self.job = box.job()
        self.attempt = box.attempt()
        self.guard = Guard(lambda code, **evidence: emit("warning", code=code, **evidence))
        self.numbers = validation.Numbers()
        self.epoch_open = False  # on_train_epoch_end fired since the last on_fit_epoch_end
        self.saved: checkpoint.Checkpoint | None = None
        self.hours = box.max_hours()
        begun = os.path.getmtime(box.started) if os.path.exists(box.started) else time.time()
        self.deadline = begun + self.hours * 3600 if self.hours else float("inf")
        self.used = 0.0  # seconds of train.time that processes before this one have used
        self.start_epoch = 0  # as this process began; counts from 0

    def check_versions(self) -> None:
        """Before anything is imported or read: is this the environment that the run was packed for?"""
        self.guard.versions(self.job.get("pins") or {}, strict=bool(self.attempt.get("check_pins")))

    def run(self) -> None:
        """Check what came, load, train."""
        self.check_inputs()
        listing.ensure(self.box, self.emit)
        data = view.make(self.box)
        resume = checkpoint.newest(self.box) or checkpoint.adopt(self.box)
        if resume is None and os.path.isdir(self.box.train):
            shutil.rmtree(self.box.train)  # an epoch begun and never finished: nothing in it can be gone on from
        device = self.device()
        from ultralytics import YOLO

        if resume is None:
            model = YOLO(self.model())
            arguments = {**self.job["train"], "exist_ok": True}
        else:
            last = self._restore(resume)
            model = YOLO(last)
            arguments = {"resume": True}
        for name in ("on_train_start", "on_train_batch_end", "on_train_epoch_end", "on_model_save", "on_fit_epoch_end"):
            model.add_callback(name, getattr(self, name))
        model.add_callback("on_val_start", self.numbers.watch)
        self.resume = resume
        self.finishing = resume is not None and (resume.stop or self._time_is_used_up(resume))
        trainer = _finishing(model._smart_load("trainer")) if self.finishing else None
        model.train(trainer=trainer, **arguments, data=data, save_dir=self.box.train, device=device)

    def check_inputs(self) -> None:
        """Every file of the bundle has the bytes that were sent. Raises ValueError."""
        for path, digest in self.attempt.get("files", {}).items():
            if manifest.entry(self.box.inbox, path)["sha256"] != digest:
                raise ValueError(f"in/{path} is not what was sent: its sha256 differs")

    def device(self) -> str:
        """Ultralytics' word for the device asked for. `auto` is CUDA, else Apple's GPU, else the CPU."""
        import torch

        asked = str(self.attempt.get("device") or "auto")
        if asked == "auto":
            asked = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return "0" if asked == "cuda" else asked

    def model(self) -> str:
        """A name Ultralytics knows, or the file that came with the job."""
        file = self.job.get("model_file")
        return os.path.join(self.box.inbox, file) if file else str(self.job["model"])

    def _restore(self, resume: checkpoint.Checkpoint) -> str:
        """Lay the checkpoint out and look into it before anything is claimed. Returns the path of last.pt."""
        from ultralytics.nn.tasks import torch_safe_load

        loaded, _ = torch_safe_load(resume.path("last.pt"))
        epoch, optimizer = loaded.get("epoch", -1), loaded.get("optimizer")
        if epoch != resume.epoch - 1 or optimizer is None:
            state = f"epoch {epoch}, optimizer {'present' if optimizer else 'missing'}"
            raise ValueError(f"the checkpoint of epoch {resume.epoch} cannot be resumed: it holds {state}")
        checkpoint.restore(self.box, resume)
        return os.path.join(self.box.train, "weights", "last.pt")

    def _time_is_used_up(self, resume: checkpoint.Checkpoint) -> bool:
        """Whether nothing is left of train.time, which Ultralytics counts anew in each process."""
        asked = self.job["train"].get("time")
        self.used = _seconds(resume.path("results.csv")) if asked else 0.0
        return bool(asked) and self.used >= float(asked) * 3600

    # Callbacks of Ultralytics, in the order in which they fire.

    def on_train_start(self, trainer: Any) -> None:
        """Record what the trainer really does: args.yaml is the request, not the evidence."""
        self.guard.device(str(self.attempt.get("device") or "auto"), trainer.device.type)
        if self.resume is not None and not self.finishing and trainer.start_epoch != self.resume.epoch:
            raise RuntimeError(f"resumed at epoch {trainer.start_epoch + 1}, not after {self.resume.epoch}")
        if self.resume is not None:
            digest = next(file["sha256"] for file in self.resume.entries if file["path"].endswith("last.pt"))
            self.start_epoch = trainer.start_epoch
            if self.used and not self.finishing:
                trainer.train_time_start -= self.used  # results.csv has the sum of all processes then
            self.emit("resumed", epoch=self.resume.epoch, checkpoint=digest, finishing=self.finishing)
        had = effective(trainer)
        self.emit("started", **had, restart=int(os.environ.get("SAMERUN_RESTART", "0")))
        if had and had["arguments"].get("fraction") == 1.0:
            self.guard.images(read_json(listing.file(self.box))["splits"], had["images"])

    def on_train_batch_end(self, trainer: Any) -> None:
        """Guard the losses of each batch."""
        first = trainer.epoch == self.start_epoch
        self.guard.batch(first, _losses(trainer) if first else {}, trainer.batch_size)

    def on_train_epoch_end(self, trainer: Any) -> None:
        """The epoch's batches are done; validation, CSV row and checkpoint follow."""
        raw = {key: float(value) for key, value in trainer.tloss.items()}  # label_loss_items rounds them
        self.guard.epoch(trainer.device.type, raw, float(trainer.args.box))
        self.epoch_open = True

    def on_model_save(self, trainer: Any) -> None:
        """Copy the checkpoint aside and publish it, unless the epoch that it holds is spoilt."""
        if self.used:
            trainer.start_epoch = 0  # for Ultralytics' estimate of epochs by train.time, now that the clock has the sum
        if bad := _not_finite(trainer):
            self.guard.warn("checkpoint-not-finite", epoch=trainer.epoch + 1, values=bad)
            return
        best_is_last = trainer.best_fitness == trainer.fitness
        self.saved = checkpoint.set_aside(self.box, trainer.epoch + 1, bool(trainer.stop), best_is_last)
        checkpoint.announce(self.box, self.saved)

    def on_fit_epoch_end(self, trainer: Any) -> None:
        """One event for an epoch; this fires once more for the final evaluation of best.pt."""
        if not self.epoch_open:
            self.emit("final_eval", metrics=dict(trainer.metrics), speed=dict(trainer.validator.speed))
            self._keep_numbers(trainer)
            return
        self.epoch_open = False
        trainer.start_epoch = self.start_epoch
        saved = self.saved if self.saved is not None and self.saved.epoch == trainer.epoch + 1 else None
        if saved is not None and trainer.stop and not saved.stop:  # train.time is looked at again after the copy
            checkpoint.ends(self.box, saved)
        self.emit("epoch", **_epoch(trainer))
        if saved is not None:
            files = [{key: file[key] for key in ("path", "size", "sha256")} for file in saved.files()]
            self.emit("checkpoint", epoch=saved.epoch, files=files)
        if time.time() + LEAVE_MARGIN * (trainer.epoch_time or 0.0) > self.deadline and not trainer.stop:
            self.emit("error", reason=f"max_hours ({self.hours}) would be over within the next epoch")
            raise ExpiredError

    def _keep_numbers(self, trainer: Any) -> None:
        """What the final evaluation found, for the report; a training does not fail for lack of it."""
        try:
            self.numbers.write(trainer.validator, self.box.train)
        except Exception as error:  # noqa: BLE001  another version of Ultralytics may keep its numbers elsewhere
            self.guard.warn("validation-numbers", reason=f"{type(error).__name__}: {error}"[:ERROR_LIMIT])


def _finishing(base: Any) -> Any:
    """A trainer for a checkpoint after which only the final evaluation was missing."""

    class Finishing(base):  # type: ignore[misc]
        def resume_training(self, ckpt: Json) -> None:
            self._load_checkpoint_state(ckpt)
            self.start_epoch = ckpt["epoch"]

        def _do_train(self) -> None:
            self._setup_train()
            self.epoch = self.start_epoch
            self.run_callbacks("on_train_start")
            self.final_eval()
            if self.args.plots:
                self.plot_metrics()
            self.run_callbacks("on_train_end")

    return Finishing


def _losses(trainer: Any) -> Json:
    """The epoch's mean training losses so far, by Ultralytics' names (box_loss, cls_loss, dfl_loss)."""
    items = trainer.label_loss_items(trainer.tloss, prefix="train")
    return {key.split("/", 1)[-1]: float(value) for key, value in items.items()}


def _not_finite(trainer: Any) -> Json:
    """What of an epoch's losses and its fitness is no number: Ultralytics would go on from such a checkpoint."""
    found = {**trainer.tloss, "loss": trainer.loss, "fitness": trainer.fitness}
    values = {key: _number(value) for key, value in found.items() if value is not None}
    return {key: str(value) for key, value in values.items() if not math.isfinite(value)}


def _number(value: Any) -> float:
    """A number, or a tensor that may still hold its graph."""
    return float(value.detach() if hasattr(value, "detach") else value)


def _seconds(results: str) -> float:
    """The time column in the last row of a results.csv; 0 where there is none."""
    if not os.path.exists(results):
        return 0.0
    with open(results, encoding="utf-8", newline="") as stream:
        rows = [{key.strip(): value for key, value in row.items()} for row in csv.DictReader(stream)]
    return float(rows[-1].get("time") or 0.0) if rows else 0.0


def _epoch(trainer: Any) -> Json:
    """What an epoch event says. `epoch` counts from 1, times are seconds, memory is GB (the device's, else RSS)."""
    import psutil

    memory = trainer._get_memory() if trainer.device.type != "cpu" else psutil.Process().memory_info().rss / 1e9
    return {
        "epoch": trainer.epoch + 1,
        "epochs": trainer.epochs,
        "losses": _losses(trainer),
        "metrics": dict(trainer.metrics),
        "fitness": trainer.fitness,
        "best_fitness": trainer.best_fitness,
        "lr": dict(trainer.lr),
        "seconds": round(trainer.epoch_time or 0.0, 3),
        "memory_gb": round(memory, 3),
        "batch": trainer.batch_size,
    }
