"""An emulated Kaggle for the backend's tests, and what goes wrong there."""

from __future__ import annotations

import importlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from launcher.backend import Handle
from launcher.cli.out import print_error
from launcher.errors import SamerunError
from launcher.runs.record import RunRecord
from launcher.runs.store import Store
from launcher.settings import Settings
from launcher.testing import payload
from launcher.testing.faults import Faults
from tests.emulators.kaggle import KaggleEmulator

POLL_S = 0.05
SPEC = """
model: yolo11n.yaml
data: {reef: {seed: 1, train_videos: 1, val_videos: 1, frames: 2, width: 48, height: 48}}
train: {epochs: 4}
resources: {device: cpu}
sync: {patience_minutes: 0.5}
"""
CREDENTIALS = ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_CONFIG_DIR")


def sign_in(monkeypatch: pytest.MonkeyPatch, kaggle: KaggleEmulator) -> None:
    """The emulator's alice in the environment, and nobody else."""
    for name in CREDENTIALS:
        monkeypatch.delenv(name, raising=False)
    for name, value in kaggle.env.items():
        monkeypatch.setenv(name, value)


def settings_for(kaggle: KaggleEmulator, folder: Path, **more: Any) -> Settings:
    """Settings that point at the emulator."""
    values: dict[str, Any] = {"kaggle_endpoint": kaggle.endpoint, "kaggle_poll_seconds": POLL_S, **more}
    return Settings(runs_dir=folder / "runs", cache_dir=folder / "cache", **values)


def slow(*values: object) -> list[object]:
    """Values of a parameter whose tests are not for every day."""
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]


class Launch:
    """`launch` in this process: `launch("a.yaml", "--backend", "kaggle")` is an exit code; without words, the spec.

    The stub payload trains. A command that may be interrupted, or killed, needs a process of its own.
    """

    def __init__(self, folder: Path, kaggle: KaggleEmulator) -> None:
        self.kaggle = kaggle
        self.store = Store(folder / "runs")
        self.spec = folder / "tiny.yaml"
        self.spec.write_text(SPEC)
        self.env = {
            "SAMERUN_PAYLOAD": str(payload.__file__),
            "SAMERUN_KAGGLE_POLL_SECONDS": str(POLL_S),
            "SAMERUN_RUNS_DIR": str(folder / "runs"),
            "SAMERUN_CACHE_DIR": str(folder / "cache"),
        }

    def __call__(self, *words: str, command: str = "run") -> int:
        try:
            return int(importlib.import_module(f"launcher.cli.{command}").main([str(word) for word in words]))
        except SamerunError as error:
            return int(print_error(error, as_json=False))

    def run(self, *overrides: str, backend: str = "kaggle") -> int:
        """Launch the spec, with `field=value`."""
        words = [word for override in overrides for word in ("--set", override)]
        return self(str(self.spec), "--backend", backend, *words)

    @property
    def record(self) -> RunRecord:
        """The newest run."""
        return self.store.read(self.store.rows()[0].id)

    @property
    def folder(self) -> Path:
        """Of the newest run."""
        return self.store.folder(self.record.id)

    def epochs(self) -> list[int]:
        """Those in the newest run's results.csv, row by row."""
        rows = (self.folder / "train/results.csv").read_text().splitlines()[1:]
        return [int(row.split(",")[0]) for row in rows]

    def slow(self, epoch_s: float, **stub: object) -> None:
        """Let the stub of kernels to come take so long for an epoch; other options by their names."""
        options = {"epoch_s": epoch_s, **stub}
        self.kaggle.settings.kernel_env = {f"SAMERUN_STUB_{name.upper()}": str(options[name]) for name in options}

    def logged(self, text: str, number: int = 1) -> bool:
        """Whether so many sessions have printed this text."""
        logs = ["".join(record["data"] for record in session.log) for session in self.kaggle.kernels.sessions]
        return sum(text in log for log in logs) >= number


@contextmanager
def meanwhile(condition: Callable[[], bool], act: Callable[[], object], seconds: float = 30) -> Iterator[None]:
    """While the block runs: wait for the condition, then act, in a thread. Fails when it did not come to that."""
    done: list[bool] = []

    def work() -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if condition():
                act()
                done.append(True)
                return
            time.sleep(0.01)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield
    thread.join(5)
    assert done, "the moment to act has not come"


def only_kernel(kaggle: KaggleEmulator) -> str:
    """`owner/slug` of the one kernel that there is."""
    (kernel,) = kaggle.kernels
    return str(kernel.ref)


def session_of(kaggle: KaggleEmulator, handle: Handle) -> Any:
    """The emulator's session of an attempt."""
    return kaggle.kernels[f"{handle.data['owner']}/{handle.data['slug']}"].latest.session


def faults_of(kaggle: KaggleEmulator) -> Faults:
    """All that the suite may ask for and an emulator can do."""

    @contextmanager
    def fault(kind: str, on: str) -> Iterator[None]:
        added = kaggle.faults.add(kind, on=on, times=None)
        try:
            yield
        finally:
            added.times = 0

    @contextmanager
    def nobody() -> Iterator[None]:
        held = {name: os.environ.pop(name) for name in CREDENTIALS if name in os.environ}
        try:
            yield
        finally:
            os.environ.update(held)

    def lose(handle: Handle) -> None:
        kaggle.kernels.lose(f"{handle.data['owner']}/{handle.data['slug']}")

    def stop(handle: Handle) -> None:
        processes = session_of(kaggle, handle).processes()
        (script,) = (each for each in processes if any(part.endswith("src/script.py") for part in each.cmdline()))
        script.send_signal(signal.SIGTERM)

    def output(handle: Handle, path: str) -> Path:
        working: Path = session_of(kaggle, handle).machine.working
        return working / path

    def corrupt(handle: Handle, path: str) -> None:
        file = output(handle, path)
        file.write_bytes(b"*" + file.read_bytes()[1:])

    def truncate(handle: Handle, path: str) -> None:
        file = output(handle, path)
        file.write_bytes(file.read_bytes()[:100])

    return Faults(
        lose_reply=lambda: fault("lose-reply", "SaveKernel"),
        silence=lambda: fault("503", "*"),
        no_access=nobody,
        kill_worker=lose,
        stop_machine=stop,
        corrupt=corrupt,
        truncate=truncate,
        remove=lambda handle, path: output(handle, path).unlink(),
        reasons={"append": "a kernel's output and log are as they are when it has ended"},
    )
