"""Runs the benchmarks: `python -m benchmarks [NAME...]`; without names all that take less than a minute each."""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.harness import Options, Table, install_torchx, machine, versions

BENCHES = {
    "coldstart": "commands that do next to nothing, against torchx, argparse and the bare interpreter",
    "ps": "`launch ps` with 10,000 runs, from the index and rebuilt",
    "submit": "submit to first line, latency of a line, end to exit, memory of the supervisor, against torchx",
    "jobs": "100 trivial jobs, two at a time, against torchx and bare Popen",
    "fingerprint": "the fingerprint of 23,501 images and their labels, cold and warm, against sha256sum and git",
    "report": "a report of 20 runs of 1,000 epochs, against polars and one bare chart of Plotly",
    "ssh_transfer": "2,000 files and 500 MB to an SSH host on loopback and back, against rsync -a",
    "gcs_store": "a dataset to the storage emulator and back, against the plain transfer manager (minutes)",
    "parity_roc": "what parity finds of some 70 planted differences and 30 benign pairs, made anew (10 to 25 minutes)",
    "overhead": "a training through `launch` against the same training by Ultralytics alone (minutes)",
}
DEFAULT = ("coldstart", "ps", "submit", "jobs", "fingerprint", "report")
PEERS = Path(tempfile.gettempdir()) / "samerun-bench-peers"


def main(argv: list[str]) -> int:
    """Run what is asked for; 1 when `--check` and a target is missed."""
    listed = "\n".join(f"  {name:<13} {text}" for name, text in BENCHES.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=f"{__doc__}\n\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: {', '.join(DEFAULT)}")
    parser.add_argument("--torchx", type=Path, default=os.environ.get("TORCHX"), help="a torchx to compare with")
    parser.add_argument("--install-peers", action="store_true", help=f"install torchx into {PEERS} with uv, and use it")
    parser.add_argument("--rounds", type=int, help="rounds that count, for each bench")
    parser.add_argument("--epochs", type=int, default=2, help="epochs of a training in `overhead`")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a target is missed")
    args = parser.parse_args(argv)
    if unknown := [name for name in args.names if name not in BENCHES]:
        parser.error(f"there is no bench {', '.join(unknown)}; there are {', '.join(BENCHES)}")
    try:
        torchx = install_torchx(PEERS) if args.install_peers else args.torchx
    except (OSError, subprocess.CalledProcessError) as error:
        parser.error(f"torchx could not be installed: {error}")
    if torchx is not None and not torchx.is_file():
        parser.error(f"{torchx} is no file")
    for line in (machine(), versions(torchx), "times with bytecode caches filled; median (minimum) of the rounds"):
        print(line)
    missed = 0
    for name in args.names or DEFAULT:
        begun = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="samerun-bench-") as home:
            tables = run(name, Options(Path(home).resolve(), torchx, args.rounds, args.epochs))
        for table in tables:
            print(f"\n{table.text()}", flush=True)
        print(f"  ({name} took {time.perf_counter() - begun:.0f} s)", flush=True)
        missed += sum(target.met is False for table in tables for target in table.targets)
    return 1 if args.check and missed else 0


def run(name: str, options: Options) -> list[Table]:
    """One bench. `fingerprint` measures in its own way and prints for itself."""
    if name == "fingerprint":
        from benchmarks import fingerprint

        print("\nfingerprint: a dataset of the competition's size")
        fingerprint.main([])
        return []
    module = importlib.import_module(f"benchmarks.{name}")
    tables: list[Table] = module.measure(options)
    return tables


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
