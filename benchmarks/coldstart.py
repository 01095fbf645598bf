"""How long commands take that do next to nothing, against the interpreter, argparse alone and torchx.

The console script is what is started, as a user starts it.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from benchmarks.harness import (
    Options,
    Series,
    Table,
    Target,
    environment,
    execute,
    failure,
    launch,
    middle,
    python,
    ratio,
    round_robin,
)
from benchmarks.stores import fill, finished

ROUNDS = 11
RUNS = 100
HELLO = """
import argparse
parser = argparse.ArgumentParser(prog="hello", description="greets")
parser.add_argument("name", nargs="?")
parser.parse_args(["--help"])
"""
SPEC = """\
model: yolo11n.yaml
data:
  reef: {train_videos: 1, val_videos: 1, frames: 4, width: 64, height: 48}
train: {epochs: 2, imgsz: 64, batch: 2, optimizer: AdamW, lr0: 0.002, workers: 0, close_mosaic: 0}
"""
PASS, HELP, VERSION = "python -c pass", "launch --help", "launch --version"


def measure(options: Options) -> list[Table]:
    """One table of commands."""
    home = options.home
    spec, hello = home / "tiny.yaml", home / "hello.py"
    spec.write_text(SPEC)
    hello.write_text(HELLO)
    fill(home / "runs100", RUNS)
    env = environment(home)
    dry = [launch(), str(spec), "--dry-run"]
    if execute(dry, env, home).code:  # draws the dataset, so that `plan` finds it
        raise RuntimeError(f"launch SPEC --dry-run: {failure(dry, env, home)}")
    peer = {f"torchx {flag}": [str(options.torchx), flag] for flag in ("--help", "--version") if options.torchx}
    commands = {
        PASS: [python(), "-c", "pass"],
        "python hello.py --help (argparse)": [python(), str(hello)],
        HELP: [launch(), "--help"],
        VERSION: [launch(), "--version"],
        "launch ps, no runs": [launch(), "ps"],
        **{name: ["/usr/bin/env", f"SAMERUN_RUNS_DIR={home / 'runs100'}", launch(), *rest] for name, rest in _on_100()},
        "launch plan SPEC, data known": [launch(), "plan", str(spec)],
        **peer,
    }
    found = round_robin(commands, env, home, options.rounds or ROUNDS)
    return [_table(found)]


def _on_100() -> list[tuple[str, list[str]]]:
    run = finished(RUNS - 1).id
    return [
        (f"launch ps, {RUNS} runs", ["ps"]),
        (f"launch ps --json, {RUNS} runs", ["ps", "--json"]),
        (f"launch show RUN, {RUNS} runs", ["show", run]),
        (f"launch logs RUN, {RUNS} runs", ["logs", run]),
    ]


def _table(found: Mapping[str, Series]) -> Table:
    unit = found[PASS]
    torchx = found.get("torchx --help")
    rows = []
    for name, series in found.items():
        times = [ratio(series.cpu(), unit.cpu()), ratio(series.wall(), unit.wall())]
        against = f"{ratio(series.wall(), torchx.wall()):.2f}" if torchx else "-"
        rows.append((name, middle(series.wall()), middle(series.cpu()), *(f"{x:.1f}" for x in times), against))
    columns = ("command", "wall ms: median (min)", "CPU ms: median (min)", "CPU x pass", "wall x pass", "wall x torchx")
    limit = statistics.median(torchx.wall()) if torchx else float("nan")
    targets = [
        Target(f"{name} against torchx --help", ratio(found[name].wall(), torchx.wall()) if torchx else None, 1.0, "x")
        for name in (HELP, VERSION, "launch ps, no runs")
    ]
    notes = (f"torchx --help: {limit:.0f} ms",) if torchx else ()
    return Table("coldstart: commands that do next to nothing", columns, tuple(rows), tuple(targets), notes)
