"""Attempts for tests: real bundles whose training is the stub payload, and what became of them on this machine.

What the stub is told lies in the bundle's job.json, so that a backend has nothing special to carry.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.backend import Attempt, DataSource, InputFile, Need
from launcher.bundle.pack import pack
from launcher.testing import payload

RESUMED = ("train/weights/last.pt", "train/weights/best.pt", "train/results.csv")


@dataclass(frozen=True)
class Start:
    """One start of the stub payload: which restart it was, its process and its parent (the worker's supervisor)."""

    restart: int
    process: int
    parent: int


class AttemptMaker:
    """Call it for an attempt. `made` are all attempts so far. Keeps its files below `folder`."""

    def __init__(self, folder: Path, cache_dir: Path, *, same_machine: bool = True, device: str = "auto") -> None:
        self.made: list[Attempt] = []
        self._folder = folder
        self._cache = cache_dir
        self._same_machine = same_machine
        self._device = device
        self._marks = folder / "marks"
        self._gates = folder / "gates"
        for path in (self._marks, self._gates):
            path.mkdir(parents=True)

    def __call__(
        self,
        *,
        epochs: int = 2,
        hold: int = 0,
        restarts: int = 0,
        max_hours: float | None = None,
        stub: Mapping[str, Any] | None = None,
        variables: Mapping[str, str] | None = None,
        model: str = "",
        resume: int = 0,
        data: Mapping[str, bytes] | None = None,
        need: Need | None = None,
    ) -> Attempt:
        """An attempt that no backend has seen.

        `hold`: stop after this epoch until `let_go`; `stub`: options of the payload; `model`: the name of a file to
        carry; `resume`: carry a checkpoint of this epoch; `data`: a dataset of these files.
        """
        attempt = f"suite-{uuid.uuid4().hex[:10]}-a1"
        options = {"epoch_s": 0.01, **(stub or {})}
        if self._same_machine:
            options["marks"] = str(self._marks)
        if hold:
            options.update({"gate": str(self._gates / attempt), "gate_epoch": hold})
            if not self._same_machine:
                options["epoch_s"] = 2.0
        job = {"version": 1, "name": "suite", "model": model or "none", "train": {"epochs": epochs}, "stub": options}
        job.update(restarts=restarts, max_hours=max_hours, pins={})
        carried = {"payload.py": Path(payload.__file__)}
        if model:
            carried[f"model/{model}"] = self._file(attempt, "model", b"a model\n" * 10)
        source = self._data(attempt, data or {})
        listing = _listing(source, data or {})
        bundle = pack(self._cache, job, {"data.json": listing}, carried, source.fingerprint)
        checkpoint, inputs = self._checkpoint(attempt, resume)
        files = {file.path: file.sha256 for file in bundle.files}
        describe = {"version": 1, "attempt": attempt, "run": attempt[:-3], "number": 1, "bundle": bundle.digest}
        describe.update(device=self._device, variables=sorted(variables or {}), resume=checkpoint, files=files)
        wanted = need or Need(self._device, max_hours)
        all_files = (*bundle.files, *inputs)
        made = Attempt(attempt, attempt[:-3], 1, wanted, all_files, source, describe, dict(variables or {}))
        self.made.append(made)
        return made

    def let_go(self, attempt: Attempt) -> None:
        """Let an attempt made with `hold` go on."""
        (self._gates / attempt.id).touch()

    def starts(self, attempt: Attempt) -> list[Start]:
        """Every start of this attempt's payload so far, on whatever machine of this computer."""
        return [mark for mark in self._read(attempt) if mark.restart >= 0]

    def alive(self, attempt: Attempt) -> list[int]:
        """Process numbers of this attempt's payloads, and of their children, that still run."""
        return [mark.process for mark in self._read(attempt) if _is_payload(mark.process)]

    def end_all(self) -> None:
        """Let every attempt go, and kill what is left of their processes: for the end of a test."""
        import psutil

        for attempt in self.made:
            self.let_go(attempt)
            for process in self.alive(attempt):
                with contextlib.suppress(psutil.Error):
                    psutil.Process(process).resume()
                    psutil.Process(process).kill()

    def _read(self, attempt: Attempt) -> list[Start]:
        names = [path.name for path in self._marks.glob(f"{attempt.id}.*")]
        numbers = [[int(part) for part in name.split(".")[-3:]] for name in names]
        return sorted((Start(*three) for three in numbers), key=lambda mark: mark.restart)

    def _file(self, attempt: str, name: str, data: bytes) -> Path:
        file = self._folder / "files" / attempt / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        return file

    def _data(self, attempt: str, files: Mapping[str, bytes]) -> DataSource:
        root = self._folder / "data" / attempt
        root.mkdir(parents=True)
        for name, data in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
        return DataSource(root, hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest())

    def _checkpoint(self, attempt: str, epoch: int) -> tuple[dict[str, Any] | None, list[InputFile]]:
        """What launcher.runs.driving.attempts sends along with a resumed attempt."""
        if not epoch:
            return None, []
        rows = "".join(f"{number},{number * 0.1},0.5\n" for number in range(1, epoch + 1))
        weights = f"weights of epoch {epoch}\n".encode() * 100
        contents = (weights, weights, f"epoch,time,metrics/mAP50(B)\n{rows}".encode())
        files, inputs = [], []
        for path, data in zip(RESUMED, contents, strict=True):
            name, digest = Path(path).name, hashlib.sha256(data).hexdigest()
            files.append({"path": path, "sha256": digest, "size": len(data)})
            inputs.append(InputFile(f"resume/{name}", self._file(attempt, name, data), digest, len(data)))
        return {"epoch": epoch, "stop": False, "files": files}, inputs


def _listing(source: DataSource, files: Mapping[str, bytes]) -> bytes:
    """data.json, as launcher.runs.create writes it."""
    entries = [
        {"path": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in sorted(files.items())
    ]
    return json.dumps({"fingerprint": source.fingerprint, "names": {}, "splits": {}, "files": entries}).encode()


def _is_payload(process: int) -> bool:
    """Whether this process number is (still) a stub payload: numbers are given out again."""
    import psutil

    try:
        found = psutil.Process(process)
        return found.status() != psutil.STATUS_ZOMBIE and any("payload.py" in part for part in found.cmdline())
    except psutil.Error:
        return False
