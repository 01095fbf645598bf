"""100 trivial jobs on this machine, two at a time, each with its log, its folder and its row in the store.

samerun has no call for "many runs, so many at a time" yet (sweeps are an issue of their own), so the loop is here: two
processes on one runs folder, as two `launch` would be, each driving its share to `verified`, one at a time. The job is
/bin/true in one row (the backend's request names it in the place of Python: what samerun itself costs) and `python -c
pass` in the other (what a payload must at least cost).
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from backends.local import LocalBackend, LocalRequest
from benchmarks.coldstart import SPEC
from benchmarks.harness import (
    Options,
    Table,
    Target,
    environment,
    execute,
    failure,
    middle,
    peer_python,
    python,
    ratio,
)
from launcher.backend import Attempt
from launcher.bundle.pack import Bundle
from launcher.runs import create
from launcher.runs.driving.drive import Driver
from launcher.runs.store import Store
from launcher.settings import Settings
from launcher.spec.load import LoadedSpec, load_spec

JOBS, AT_ONCE, ROUNDS = 100, 2, 3
LIMIT_S = 1.5
TRUE = "/bin/true"
POPEN = """
import subprocess, sys
count, at_once, argv = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
running = []
for number in range(count):
    if len(running) == at_once:
        running.pop(0).wait()
    running.append(subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL))
for process in running:
    process.wait()
"""
TORCHX = """
import sys, tempfile
from torchx.runner import get_runner
from torchx.specs import AppDef, AppState, Role
count, argv = int(sys.argv[1]), sys.argv[3:]
with get_runner() as runner, tempfile.TemporaryDirectory() as logs:
    role = Role(name="r", image=logs, entrypoint=argv[0], args=argv[1:])
    apps = [runner.run(AppDef(name=f"j{n}", roles=[role]), "local_cwd", {"log_dir": logs}) for n in range(count)]
    done = [runner.wait(app, wait_interval=0.05) for app in apps]
    assert all(status.state == AppState.SUCCEEDED for status in done), done
"""


class Trivial(LocalBackend):
    """The local backend, whose trainings run by another program than Python."""

    program = sys.executable

    def prepare(self, attempt: Attempt) -> LocalRequest:
        """As the local backend does, but for the program."""
        request = super().prepare(attempt)
        return replace(request, attempt_json={**request.attempt_json, "python": self.program})


class True_(Trivial):  # noqa: N801
    """Jobs that are /bin/true."""

    program = TRUE


class Ours:
    """The runs folder and the prepared input of the jobs."""

    def __init__(self, home: Path) -> None:
        (home / "nothing.py").write_text("pass\n")
        (home / "tiny.yaml").write_text(SPEC)
        self.home = home
        settings = Settings(home / "runs", home / "cache", home / "nothing.py")
        self.loaded: LoadedSpec = load_spec(home / "tiny.yaml", [])
        data = create.look_at_data(settings, self.loaded.spec, lambda *_: None, make=True)
        assert data is not None
        self.data = data
        self.bundle: Bundle = create.pack_bundle(settings, self.loaded, data)

    def go(self, kind: type[Trivial], runs: str, count: int = JOBS) -> float:
        """Seconds for `count` jobs, `AT_ONCE` at a time, from nothing written to all of them verified."""
        settings = Settings(self.home / runs, self.home / "cache", self.home / "nothing.py")

        def work(jobs: int) -> None:
            store, backend = Store(settings.runs_dir), kind(settings)
            for _ in range(jobs):
                record = create.new_run(settings, store, self.loaded, self.data, self.bundle, backend)
                with store.driving(record.id) as free:
                    assert free
                    Driver(store, settings, backend, record).drive()

        # Two launchers on one store, each with one job at a time: threads would wait for each other's interpreter.
        fork = multiprocessing.get_context("fork")
        launchers = [fork.Process(target=work, args=(count // AT_ONCE,)) for _ in range(AT_ONCE)]
        begun = time.perf_counter()
        for launcher in launchers:
            launcher.start()
        for launcher in launchers:
            launcher.join()
        took = time.perf_counter() - begun
        rows = Store(settings.runs_dir).rows()
        if {row.state for row in rows} != {"verified"} or len(rows) != count:
            raise RuntimeError(f"{len(rows)} rows: {[row.state for row in rows]}")
        return took


def measure(options: Options) -> list[Table]:
    """One table, in rounds."""
    home = options.home
    ours = Ours(home)
    (home / "popen.py").write_text(POPEN)
    (home / "torchx_jobs.py").write_text(TORCHX)
    true, nothing = [TRUE], [python(), "-c", "pass"]
    floor = "bare Popen, /bin/true"
    ways: dict[str, Callable[[int], float]] = {
        floor: lambda _: _script(home, python(), "popen.py", true),
        "bare Popen, python -c pass": lambda _: _script(home, python(), "popen.py", nothing),
        "samerun, /bin/true": lambda number: ours.go(True_, f"true{number}"),
        "samerun, python payload": lambda number: ours.go(Trivial, f"python{number}"),
    }
    if options.torchx is not None:
        peer = peer_python(options.torchx)
        ways["torchx Runner, /bin/true, all at once"] = lambda _: _script(home, peer, "torchx_jobs.py", true)
    found: dict[str, list[float]] = {name: [] for name in ways}
    ours.go(True_, "warm", 2)
    for number in range(options.rounds or ROUNDS):
        for name, way in ways.items():
            found[name].append(way(number))
    rows = [
        (name, middle(times, 2), f"{statistics.median(times) * 1000 / JOBS:.1f}", f"{ratio(times, found[floor]):.1f}")
        for name, times in found.items()
    ]
    columns = ("way", "seconds: median (min)", "ms a job", "x bare Popen")
    total = statistics.median(found["samerun, /bin/true"])
    target = Target(f"{JOBS} jobs, {AT_ONCE} at a time, each with log and row", total, LIMIT_S, "s")
    notes = ("bare Popen and torchx: a whole process, its own start counted; torchx has no limit and keeps no rows",)
    return [Table(f"jobs: {JOBS} trivial jobs, {AT_ONCE} at a time", columns, tuple(rows), (target,), notes)]


def _script(home: Path, interpreter: str, name: str, job: list[str]) -> float:
    argv = [interpreter, str(home / name), str(JOBS), str(AT_ONCE), *job]
    env = {**environment(home), "PATH": os.environ.get("PATH", os.defpath)}
    run = execute(argv, env, home)
    if run.code:
        raise RuntimeError(f"{name} ended with {run.code}: {failure(argv, env, home)}")
    return run.wall
