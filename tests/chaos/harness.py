"""One run under fire: a launcher in a process of its own, and SIGKILL for it, the supervisor or the trainer."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil

from launcher.runs.record import RunRecord
from launcher.runs.state import RunState
from launcher.runs.store import Store
from tests.worker.laid import ROOT, processes_of, until

STUB = ROOT / "launcher/testing/payload.py"
PAYLOAD = """
import json, os, runpy, sys
with open(os.path.join(sys.argv[1], "in", "attempt.json"), encoding="utf-8") as stream:
    attempt = json.load(stream)["attempt"]
with open(os.environ["CHAOS_STARTS"], "a") as stream:
    stream.write("%s restart %s\\n" % (attempt, os.environ["SAMERUN_RESTART"]))
runpy.run_path(os.environ["CHAOS_STUB"], run_name="__main__")
"""
TRIES = 40  # launches after the last kill; each may say that it does not know yet


class Arena:
    """A runs folder, a spec, and what is needed to shoot at what runs there."""

    def __init__(self, root: Path, spec: str, seed: int, **env: str) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        self.spec = root / "chaos.yaml"
        self.spec.write_text(spec)
        self.random = random.Random(seed)
        self.store = Store(root / "runs")
        self.kills: Counter[str] = Counter()
        self.env = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "SAMERUN_RUNS_DIR": str(root / "runs"),
            "SAMERUN_CACHE_DIR": str(root / "cache"),
            "CHAOS_STARTS": str(root / "starts"),
            "CHAOS_STUB": str(STUB),
            **env,
        }

    def stub(self) -> None:
        """Run the stub in the place of the training; it notes each start."""
        payload = self.root / "noting.py"
        payload.write_text(PAYLOAD)
        self.env["SAMERUN_PAYLOAD"] = str(payload)

    @property
    def record(self) -> RunRecord | None:
        """The newest run, if one has been written down."""
        rows = self.store.rows()
        return self.store.read(rows[0].id) if rows else None

    def launch(self, attach: bool | None = None) -> subprocess.Popen[bytes]:
        """`launch attach`, or the spec again, which must find the run that is going on; None is either by chance."""
        record = self.record
        again = record is not None and not record.state.ended and self.random.random() < 0.5
        again = again if attach is None else attach
        argv = ["attach", record.id] if again and record is not None else [str(self.spec)]
        with (self.root / "launches.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "launcher", *argv, "--json"],
                cwd=self.root,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def supervisors(self) -> list[psutil.Process]:
        """Supervisors of this arena: they were started with `-I -S worker.pyz BOX`."""
        found = []
        for process in processes_of(self.root / "runs/.local"):
            with contextlib.suppress(psutil.Error):
                if "-S" in process.cmdline() and "train" not in process.cmdline():
                    found.append(process)
        return found

    def trainers(self) -> list[psutil.Process]:
        """Their children."""
        found = []
        for supervisor in self.supervisors():
            with contextlib.suppress(psutil.Error):
                found += supervisor.children()
        return found

    def shoot(self, launcher: subprocess.Popen[bytes], at: str | None = None) -> bool:
        """SIGKILL one of the three; false when there is none of its kind."""
        kind = at or self.random.choice(["launcher", "supervisor", "trainer"])
        if kind == "launcher":
            pids = [launcher.pid] if launcher.poll() is None else []
        else:
            pids = [process.pid for process in (self.supervisors() if kind == "supervisor" else self.trainers())]
        for pid in pids[:1]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.kills[kind] += 1
                return True
        return False

    def under_fire(self, kills: int, longest_s: float) -> None:
        """Shoot that often, at random moments; launch again whenever nobody follows; then let it come to its end."""
        launcher = self.launch()
        try:
            fired = 0
            while fired < kills and not self.ended():
                time.sleep(self.random.uniform(0.0, longest_s))
                fired += self.shoot(launcher)
                if launcher.poll() is not None and not self.ended():
                    launcher = self.launch()
            for _ in range(TRIES):
                launcher.wait(120)
                if self.ended():
                    return
                launcher = self.launch()
        finally:
            launcher.kill()
            launcher.wait()
        raise AssertionError(f"the run did not end: {self.record}")

    def ended(self) -> bool:
        """Whether the run has ended."""
        record = self.record
        return record is not None and record.state.ended

    def sound(self, epochs: int) -> None:
        """The run is verified, and nothing was done, kept or left over twice."""
        record = self.record
        log = (self.root / "launches.log").read_text()
        assert record is not None, log
        assert record.state is RunState.VERIFIED, (record, log[-3000:])
        assert "Traceback" not in log, log
        folder = self.store.folder(record.id)
        rows = (folder / "train/results.csv").read_text().splitlines()[1:]
        assert [int(row.split(",")[0]) for row in rows] == list(range(1, epochs + 1))
        lines = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
        assert max(Counter((line["attempt"], line["seq"]) for line in lines).values()) == 1
        assert lines[-1]["event"] == "done"
        assert record.epoch == epochs
        assert [attempt.number for attempt in record.attempts] == list(range(1, len(record.attempts) + 1))
        assert len(self.store.rows()) == 1, "the spec again went on with the run instead of starting another"
        starts = self.root / "starts"
        if starts.exists():
            assert max(Counter(starts.read_text().splitlines()).values()) == 1, "an attempt was started twice"
        until(lambda: not processes_of(self.root), 5.0)
