"""What the benchmarks share: a clean environment, round-robin rounds, medians with minima, and tables.

How it is measured: commands take turns, round by round, so that a busy moment hits all of them; a ratio is the median
of the rounds' own ratios, which moves less than the times on a machine that others use. CPU time is the child's own
(rusage). Bytecode caching is on for every command, whatever the caller's environment says, and the first round, which
fills the caches, does not count.
"""

from __future__ import annotations

import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

VENV_BIN = Path(sys.prefix) / "bin"
TORCHX = "0.7.0"
"""The peer: the leanest launcher that was found (facts/peers.md)."""


@dataclass(frozen=True)
class Options:
    """What the command line says. `home` is an empty folder for everything that a bench writes."""

    home: Path
    torchx: Path | None = None
    rounds: int | None = None
    epochs: int = 2


@dataclass(frozen=True)
class Target:
    """A number that has to hold, and what was measured; `None` when it could not be measured."""

    what: str
    value: float | None
    limit: float
    unit: str

    @property
    def met(self) -> bool | None:
        """Whether it holds; None when it was not measured."""
        return None if self.value is None else self.value <= self.limit

    def line(self) -> str:
        """For the table's foot."""
        word = {True: "met", False: "MISSED", None: "not measured"}[self.met]
        value = "-" if self.value is None else f"{self.value:.3g}"
        return f"target {word:<12} {self.what}: {value} {self.unit}, at most {self.limit:.3g} {self.unit}"


@dataclass(frozen=True)
class Table:
    """One bench's outcome. `rows` hold text; the first column is the name."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    targets: tuple[Target, ...] = ()
    notes: tuple[str, ...] = ()

    def text(self) -> str:
        """The table as it is printed."""
        lines = [self.columns, *self.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.columns))]
        shown = [
            "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
            for line in lines
        ]
        foot = [*(target.line() for target in self.targets), *self.notes]
        return "\n".join([self.title, *(f"  {line.rstrip()}" for line in shown), *(f"  {line}" for line in foot)])


@dataclass(frozen=True)
class Run:
    """One execution of a command: seconds of wall clock and of CPU, and how it ended."""

    wall: float
    cpu: float
    code: int


@dataclass
class Series:
    """The rounds of one row."""

    name: str
    runs: list[Run] = field(default_factory=list)

    def wall(self) -> list[float]:
        """Milliseconds of wall clock, a round each."""
        return [run.wall * 1000 for run in self.runs]

    def cpu(self) -> list[float]:
        """Milliseconds of CPU, a round each."""
        return [run.cpu * 1000 for run in self.runs]


def environment(home: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of every measured command: bytecode caches on, and nothing of the user's read or written."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "SAMERUN_", "YOLO_", "XDG_")) and name != "VIRTUAL_ENV"
    }
    ours = {
        "HOME": str(home),
        "SAMERUN_RUNS_DIR": str(home / "runs"),
        "SAMERUN_CACHE_DIR": str(home / "cache"),
    }
    return {**kept, **ours, **(more or {})}


def execute(argv: Sequence[str], env: Mapping[str, str], folder: Path) -> Run:
    """Run a command without a terminal, its output thrown away."""
    here = Path.cwd()
    null = os.open(os.devnull, os.O_RDWR)
    actions = [(os.POSIX_SPAWN_DUP2, null, fd) for fd in (0, 1, 2)]
    os.chdir(folder)
    try:
        begun = time.perf_counter()
        child = os.posix_spawn(argv[0], list(argv), dict(env), file_actions=actions)
        _, status, usage = os.wait4(child, 0)
        wall = time.perf_counter() - begun
    finally:
        os.chdir(here)
        os.close(null)
    return Run(wall, usage.ru_utime + usage.ru_stime, os.waitstatus_to_exitcode(status))


def round_robin(
    commands: Mapping[str, Sequence[str]], env: Mapping[str, str], folder: Path, rounds: int, *, may_fail: bool = False
) -> dict[str, Series]:
    """Each command once a round, in turn, after a round that does not count. Raises RuntimeError when one fails."""
    found = {name: Series(name) for name in commands}
    for number in range(rounds + 1):
        for name, argv in commands.items():
            run = execute(argv, env, folder)
            if run.code and not may_fail:
                raise RuntimeError(f"{' '.join(argv)} ended with {run.code}: {failure(argv, env, folder)}")
            if number:
                found[name].runs.append(run)
    return found


def failure(argv: Sequence[str], env: Mapping[str, str], folder: Path) -> str:
    """The last lines that a failing command prints, by running it again."""
    done = subprocess.run(argv, env=dict(env), cwd=folder, capture_output=True, text=True, check=False)
    return (done.stderr or done.stdout).strip()[-600:]


def ratio(series: Iterable[float], unit: Iterable[float]) -> float:
    """The median of the rounds' own ratios."""
    return statistics.median(value / one for value, one in zip(series, unit, strict=True))


def middle(values: Sequence[float], digits: int = 0) -> str:
    """Median and minimum, as `median (min)`."""
    if not values:
        return "-"
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f})"


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of the values does not pass."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def launch() -> str:
    """The installed console script. Raises FileNotFoundError."""
    script = VENV_BIN / "launch"
    if not script.is_file():
        raise FileNotFoundError(f"{script}: install the project first (`uv sync`)")
    return str(script)


def python() -> str:
    """The interpreter that the console script uses."""
    return str(VENV_BIN / "python")


def peer_python(torchx: Path) -> str:
    """The interpreter of the peer's own environment."""
    return str(torchx.parent / "python")


def machine() -> str:
    """One line on where this ran."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.partition(":")[2] for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].strip() if names else model
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    system = platform.platform(terse=True)
    return f"{os.cpu_count()} x {model}, {system}, Python {platform.python_version()}, load {load}"


def versions(torchx: Path | None) -> str:
    """What was compared."""
    from launcher import __version__

    peer = "torchx is absent (--torchx PATH, TORCHX=PATH or --install-peers)"
    if torchx is not None:
        done = subprocess.run([torchx, "--version"], capture_output=True, text=True, check=False)
        peer = (done.stdout + done.stderr).strip().splitlines()[-1]
    return f"samerun {__version__}, {peer}"


def install_torchx(folder: Path) -> Path:
    """Make an environment with the peer, by uv, and compile it; returns the command. Raises CalledProcessError."""
    uv = shutil.which("uv")
    if uv is None:
        raise FileNotFoundError("uv is needed to install the peer")
    command = folder / "bin" / "torchx"
    if not command.is_file():
        calls: list[list[Any]] = [
            [uv, "venv", "-q", "--clear", "--python", sys.executable, folder],
            [uv, "pip", "install", "-q", "--python", folder / "bin" / "python", f"torchx=={TORCHX}"],
        ]
        for call in calls:
            subprocess.run(call, check=True, cwd=folder.parent)  # not here: our pins are not the peer's
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    subprocess.run([folder / "bin" / "python", "-m", "compileall", "-q", folder / "lib"], check=False, env=env)
    return command
