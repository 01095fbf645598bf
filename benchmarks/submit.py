"""From `launch SPEC` to the job's first line, from a line written to a line read, from the end to the exit.

The job is the same for all: `stamp.py`, 15 lines with their own times. It runs in the place of the training, so what
is measured is what samerun adds: spec, dataset check (warm), bundle (packed already), supervisor, log, events,
collection and verification of what came back. Against `torchx run -s local_cwd --log` and against no launcher at all.
All on a pseudo-terminal, all in one folder, in turns. Linux only: it asks /proc for memory.
"""

from __future__ import annotations

import contextlib
import shlex
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import stamp
from benchmarks.coldstart import SPEC
from benchmarks.harness import Options, Table, Target, environment, execute, failure, launch, middle, percentile, python
from benchmarks.terminal import Watched, pss_mb, watch

ROUNDS = 5
FIRST_MS, LINE_MS, END_MS, SUPERVISOR_MB = 299.0, 2.0, 30.0, 15.0
"""The issue's targets. 299 ms is torchx on such a machine; where torchx is here, its own time counts instead."""
ALONE, OURS, PEER = "no launcher: python stamp.py", "launch SPEC --logs", "torchx run -s local_cwd --log"


class Bench:
    """The rounds of the three, and the memory of what stays beside the job."""

    def __init__(self, options: Options) -> None:
        self.home = options.home
        self.spec = self.home / "tiny.yaml"
        self.spec.write_text(SPEC)
        job = Path(stamp.__file__).resolve()
        self.env = environment(self.home, {"SAMERUN_PAYLOAD": str(job)})
        self.commands = {ALONE: [python(), str(job)], OURS: [launch(), str(self.spec), "--logs"]}
        if options.torchx is not None:
            run = f"{options.torchx} run -s local_cwd --log utils.sh {python()} {job}"
            self.commands[PEER] = shlex.split(run)
        self.memory: dict[str, list[float]] = {name: [] for name in (*self.commands, "supervisor")}
        self.found: dict[str, list[Watched]] = {name: [] for name in self.commands}

    def go(self, rounds: int) -> None:
        """All rounds. Raises RuntimeError when a command fails."""
        warm = execute([*self.commands[OURS], "--dry-run"], self.env, self.home)
        if warm.code:
            told = failure([*self.commands[OURS], "--dry-run"], self.env, self.home)
            raise RuntimeError(f"launch SPEC ended with {warm.code}: {told}")
        for number in range(rounds):
            for name, argv in self.commands.items():
                seen = watch(argv, self.env, self.home, lambda pid, name=name: self._look(name, pid))  # type: ignore[misc]
                if seen.code:
                    raise RuntimeError(f"{name} ended with {seen.code}: {seen.output[-600:]}")
                if number or rounds == 1:
                    self.found[name].append(seen)

    def _look(self, name: str, pid: int) -> None:
        with contextlib.suppress(OSError):
            self.memory[name].append(pss_mb(pid))
        if name == OURS:
            for started in (self.home / "runs" / ".local").glob("*/state/started"):
                with contextlib.suppress(OSError, ValueError):
                    self.memory["supervisor"].append(pss_mb(int(started.read_text())))


def measure(options: Options) -> list[Table]:
    """One table. The first round warms up and does not count."""
    bench = Bench(options)
    bench.go((options.rounds or ROUNDS) + 1)
    rows = [_row(name, seen, bench.memory[name]) for name, seen in bench.found.items()]
    beside = bench.memory["supervisor"]
    rows.append(("  its supervisor", "", "", "", "", middle(beside, 1)))
    columns = ("command", "first ms (min)", "line ms (min)", "line p95", "end ms (min)", "PSS MB (min)")
    ours, peer = bench.found[OURS], bench.found.get(PEER)
    limit = statistics.median(seen.first for seen in peer) if peer else FIRST_MS
    targets = (
        Target(f"submit to first line, {'torchx' if peer else 'torchx elsewhere'}", _first(ours), limit, "ms"),
        Target("a line, median", statistics.median(_lines(ours)), LINE_MS, "ms"),
        Target("end to exit, run verified", statistics.median(seen.end for seen in ours), END_MS, "ms"),
        Target("supervisor, PSS", statistics.median(beside) if beside else None, SUPERVISOR_MB, "MB"),
    )
    note = f"{len(ours)} rounds of {stamp.LINES} lines; the command's own PSS, without the job's process"
    notes = (note, *_ratios(bench.found))
    return [Table("submit: a job that prints its own times", columns, tuple(rows), targets, notes)]


def _row(name: str, seen: Sequence[Watched], memory: Sequence[float]) -> tuple[str, ...]:
    lines = _lines(seen)
    return (
        name,
        middle([one.first for one in seen]),
        middle(lines, 1),
        f"{percentile(lines, 0.95):.1f}",
        middle([one.end for one in seen]),
        middle(memory, 1),
    )


def _ratios(found: Mapping[str, Sequence[Watched]]) -> list[str]:
    if PEER not in found:
        return []
    ours, peer = found[OURS], found[PEER]
    first = statistics.median(a.first / b.first for a, b in zip(ours, peer, strict=True))
    line = statistics.median(_lines(ours)) / statistics.median(_lines(peer))
    end = statistics.median(a.end / b.end for a, b in zip(ours, peer, strict=True))
    return [f"launch / torchx: first {first:.2f}, line {line:.3f}, end {end:.2f}"]


def _first(seen: Sequence[Watched]) -> float:
    return statistics.median(one.first for one in seen)


def _lines(seen: Sequence[Watched]) -> list[float]:
    return [line for one in seen for line in one.lines]
