"""A tree of 2,000 files and 500 MB to an SSH host on loopback and back: ours against `rsync -a -e ssh`, in turn.

Both talk to the same sshd, whose sessions write to the same disk; every round sends to a new folder. Ours hashes every
file on arrival and knows afterwards what is there; rsync compares sizes and times.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from backends.ssh.link import Link, Where
from backends.ssh.link.tree import Entry, fetch, send
from benchmarks.harness import Options, Table, Target, middle, ratio
from tests.emulators.ssh import Sshd

FILES, BYTES = 2_000, 500_000_000
ROUNDS = 5
SEED = 20_261_122
_CODE = "import sys; sys.path.insert(0, sys.argv.pop(1)); from agent.tree import main; sys.exit(main(sys.argv[1:]))"
_SSH = Path(__file__).parents[1] / "backends" / "ssh"
AGENT = (sys.executable, "-c", _CODE, str(_SSH))


def measure(options: Options) -> list[Table]:
    """One table: seconds of each way, and its ratio to rsync's of the same round."""
    if shutil.which("rsync") is None:
        return [Table("a tree to an SSH host", ("way",), (), (Target("not above rsync -a", None, 1.0, "x"),))]
    root = options.home / "tree"
    entries = make(root)
    with Sshd(options.home / "machine") as sshd:
        taken = rounds(options, sshd, root, entries)
    ratios = {name: ratio(times, taken[name.replace("ours", "rsync -a")]) for name, times in taken.items()}
    rows = []
    for name, times in taken.items():
        speed = f"{BYTES / 1e6 / statistics.median(times):.0f}" if "again" not in name else ""
        rows.append((name, middle(times, 2), speed, f"{ratios[name]:.2f}"))
    targets = (
        Target("a new tree, ours / rsync -a", ratios["ours, new"], 1.0, "x"),
        Target("the tree again, unchanged", statistics.median(taken["ours, again"]), 1.0, "s"),
    )
    title = f"a tree of {FILES:,} files, {BYTES / 1e6:.0f} MB, to an SSH host on loopback"
    return [Table(title, ("way", "s", "MB/s", "ratio"), tuple(rows), targets)]


def make(root: Path) -> list[Entry]:
    """The tree: sizes around the mean, as of photographs; contents that do not shrink."""
    chance = random.Random(SEED)
    weights = [chance.lognormvariate(0, 0.5) for _ in range(FILES)]
    sizes = [int(BYTES * weight / sum(weights)) for weight in weights]
    entries = []
    for number, size in enumerate(sizes):
        data, path = os.urandom(size), f"images/{number // 100:02}/{number:05}.jpg"
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
        entries.append(Entry(path, size, hashlib.sha256(data).hexdigest()))
    return entries


def rounds(options: Options, sshd: Sshd, root: Path, entries: list[Entry]) -> dict[str, list[float]]:
    """Seconds by way; the first round, which warms caches up, does not count."""
    known, base = options.home / "known_hosts", options.home / "rounds"
    known.write_text(sshd.known_hosts)
    shell = f"ssh -F none -o UserKnownHostsFile={known} -i {sshd.identity} -p {sshd.port}"
    where = Where(sshd.address, sshd.user, sshd.port, (str(sshd.identity),), host_keys=(sshd.host_key,))
    paths, there = [entry.path for entry in entries], f"{sshd.user}@{sshd.address}"

    def rsync(*words: str) -> None:
        subprocess.run(["rsync", "-a", "-e", shell, *words], check=True)

    def once() -> dict[str, float]:
        to, back = str(base / "ours"), base / "back"
        with Link(where, seconds=30) as link:
            ways: dict[str, Callable[[], object]] = {
                "rsync -a, new": lambda: rsync(f"{root}/", f"{there}:{base}/rsync/"),
                "ours, new": lambda: send(link, AGENT, root, entries, to),
                "rsync -a, again": lambda: rsync(f"{root}/", f"{there}:{base}/rsync/"),
                "ours, again": lambda: send(link, AGENT, root, entries, to),
                "rsync -a, back": lambda: rsync(f"{there}:{base}/rsync/", f"{base}/rback/"),
                "ours, back": lambda: fetch(link, AGENT, to, paths, back, expected=BYTES),
            }
            base.mkdir()
            taken = {name: _timed(work) for name, work in ways.items()}
        if any(hashlib.sha256((back / one.path).read_bytes()).hexdigest() != one.sha256 for one in entries[::50]):
            raise RuntimeError("what came back is not what went there")
        shutil.rmtree(base)
        os.sync()  # what one round wrote is not on its way to the disk in the next
        return taken

    found = [once() for _ in range((options.rounds or ROUNDS) + 1)][1:]
    return {name: [one[name] for one in found] for name in found[0]}


def _timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
