"""What `launch parity` finds: some seventy kinds of planted differences and thirty benign pairs, from real trainings.

`python -m benchmarks parity_roc` makes all of it anew (about 60 small trainings, each validated again, 22 probes: 10 to
25 minutes on two cores). `python -m benchmarks.parity_roc` judges what is recorded in tests/parity/planted, in seconds;
`--record FOLDER` makes all of it in FOLDER, records it there and writes parity_roc.md beside this file.

What the layers can see in principle is written down in tests/parity/planted/kinds.py. `named`: the layer lists what
differs; `different`: it also says that it is another experiment; `-`: it had nothing to compare.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness import Options, Table, Target, machine

ROOT = Path(__file__).parent.parent
TABLE = Path(__file__).with_suffix(".md")
PROCESSES = 2
TITLE = "What each layer of parity finds"


def measure(options: Options) -> list[Table]:
    """Everything anew."""
    make(options.home)
    return [table(options.home)]


def make(folder: Path) -> None:
    """Train, validate and probe below `folder`; what is there already is not made again."""
    module = "tests.parity.planted.making"
    _wait([_start(f"{module}.probes", str(folder))])  # first: it makes the weights that all runs begin from
    _wait([_start(f"{module}.lab", str(folder), f"{number}/{PROCESSES}") for number in range(PROCESSES)])


def table(folder: Path) -> Table:
    """Judge what `make` left."""
    from tests.parity.planted import evidence, roc
    from tests.parity.planted.judging import Judge

    recorded = folder / "evidence.json.xz"
    record(folder, recorded)
    with tempfile.TemporaryDirectory() as place:
        rows = roc.judged(Judge(Path(place), evidence.lay(Path(place, "runs"), recorded)))
    return _table(rows)


def record(folder: Path, to: Path) -> None:
    """What the layers read, in one file."""
    import json

    from tests.parity.planted import evidence

    runs = [one for one in (folder / "runs").iterdir() if (one / "run.json").is_file()]
    evidence.record(runs, json.loads((folder / "probes.json").read_text()), folder, to)


def _table(rows: Sequence[object]) -> Table:
    from tests.parity.planted import roc

    found: list[roc.Row] = [row for row in rows if isinstance(row, roc.Row)]
    planted = [row for row in found if row.planted]
    missed = sum(bool(row.missed) for row in planted)
    alarms = sum(bool(row.alarms) for row in found)
    targets = (
        Target("planted differences that a layer can see and does not find", missed, 0, "kinds"),
        Target("benign pairs that are called different", alarms, 0, "pairs"),
    )
    title = f"{TITLE}: {len(planted)} planted, {len(found) - len(planted)} benign"
    notes = tuple(f"not seen: {text}" for text in roc.not_seen(found))
    return Table(title, roc.COLUMNS, tuple(roc.by_layer(found)), targets, notes)


def _start(module: str, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", module, *arguments], cwd=ROOT, stdout=sys.stderr)


def _wait(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if process.wait():
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}")


def main(argv: list[str]) -> int:
    """Judge the recording; with `--record` make it first."""
    from tests.parity.planted import evidence, roc
    from tests.parity.planted.judging import Judge

    parser = argparse.ArgumentParser(prog="python -m benchmarks.parity_roc", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--record", type=Path, metavar="FOLDER", help="make everything there, and record it")
    asked = parser.parse_args(argv).record
    if asked is not None:
        make(asked.resolve())
        record(asked.resolve(), evidence.RECORDED)
    with tempfile.TemporaryDirectory() as place:
        rows = roc.judged(Judge(Path(place), evidence.lay(Path(place, "runs"))))
    print(_table(rows).text())
    if asked is not None:
        head = f"# {TITLE}\n\nMade by `python -m benchmarks.parity_roc --record`, {machine().rpartition(', load')[0]}."
        TABLE.write_text(roc.markdown(rows, head), encoding="utf-8")
    return int(any(row.missed or row.alarms for row in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
