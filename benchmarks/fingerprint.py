"""How quick a dataset's fingerprint is, against sha256sum and git over the same files.

Prints a table: seconds, files a second, and the ratio to `sha256sum` on all cores. The files have just been written,
so they come from the page cache: this measures the work, not the disk. Run it on a quiet machine:

    python -m benchmarks.fingerprint --files 23501 --bytes 4096
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from launcher.data.check import examine
from launcher.data.dataset import read_dataset
from launcher.data.fingerprint import RACY_NS, fingerprint
from launcher.data.reef import png

COTS_FRAMES = 23_501
"""Frames of the Great Barrier Reef competition, the dataset that samerun was made for."""
WIDTH = 32
"""Pixels of a benchmark picture; its height follows from the size wanted."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    seconds: float
    files: int

    def line(self, unit: float) -> str:
        """The row as text; `unit` is the seconds that count as 1."""
        return f"{self.what:<46} {self.seconds:8.3f} s {self.files / self.seconds:10.0f}/s {self.seconds / unit:8.2f} x"


def make(root: Path, count: int, size: int) -> Path:
    """Write `count` different PNG files of about `size` bytes, with a label each, in 20 folders; return data.yaml."""
    height = max(size // (WIDTH * 3), 10)
    for number in range(count):
        split = "val" if number % 4 == 0 else "train"
        images = root / "images" / split / f"video_{number % 20}"
        labels = root / "labels" / split / f"video_{number % 20}"
        if number < 80:
            images.mkdir(parents=True, exist_ok=True)
            labels.mkdir(parents=True, exist_ok=True)
        pixels = number.to_bytes(4, "little") * (WIDTH * height * 3 // 4 + 1)
        (images / f"{number:06d}.png").write_bytes(png(pixels[: WIDTH * height * 3], WIDTH, height))
        (labels / f"{number:06d}.txt").write_text("0 0.5 0.5 0.1 0.1\n" if number % 5 == 0 else "")
    file = root / "data.yaml"
    file.write_text("train: images/train\nval: images/val\nnames: [starfish]\n")
    return file


def timed(what: str, files: int, work: Callable[[], object]) -> Row:
    """Run `work` once."""
    start = time.perf_counter()
    work()
    return Row(what, time.perf_counter() - start, files)


def shell(command: str, folder: Path) -> None:
    """Run a command line in a folder; its output is not looked at. Raises CalledProcessError."""
    subprocess.run(["bash", "-o", "pipefail", "-c", command], cwd=folder, check=True, stdout=subprocess.DEVNULL)


def measure(home: Path, count: int, size: int) -> list[Row]:
    """All rows, over `count` images and their labels. Leaves its files in `home`."""
    file = make(home / "data", count, size)
    time.sleep(RACY_NS / 1e9 + 0.5)  # younger files are never trusted to the cache
    files, cores = 2 * count, os.cpu_count() or 1
    dataset = read_dataset(file)
    find = "find images labels -type f"
    sums = f"{find} -print0 | xargs -0 -n 512 -P {cores} sha256sum"
    rows = [timed(f"sha256sum, xargs -P {cores}", files, lambda: shell(sums, file.parent))]
    one = f"{find} -print0 | xargs -0 -n 512 sha256sum"
    rows.append(timed("sha256sum, one process", files, lambda: shell(one, file.parent)))
    if shutil.which("git"):
        rows.append(
            timed(
                "git hash-object (SHA-1)", files, lambda: shell(f"{find} | git hash-object --stdin-paths", file.parent)
            )
        )
        rows.append(timed("git add (writes objects)", files, lambda: shell("git init -q . && git add -A", file.parent)))
        rows.append(timed("git status, nothing changed", files, lambda: shell("git status --porcelain", file.parent)))
    rows.append(timed("read_dataset", files, lambda: read_dataset(file)))
    rows.append(timed("fingerprint, no cache", files, lambda: fingerprint(dataset)))
    cache = home / "cache.sqlite"
    rows.append(timed("fingerprint, cold, fills the cache", files, lambda: fingerprint(dataset, cache)))
    rows.append(timed("fingerprint, warm", files, lambda: fingerprint(dataset, cache)))
    rows.append(timed("fingerprint and check, cold, fills the cache", files, lambda: examine(dataset, cache)))
    rows.append(timed("fingerprint and check, warm", files, lambda: examine(dataset, cache)))
    return rows


def main(arguments: list[str] | None = None) -> list[Row]:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--files", type=int, default=COTS_FRAMES, help="images; each has a label as well")
    parser.add_argument("--bytes", type=int, default=4096, help="bytes of an image, about")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="samerun-bench-") as home:
        rows = measure(Path(home), options.files, options.bytes)
    print(
        f"{options.files} images of about {options.bytes} bytes, as many labels; {os.cpu_count()} cores; {sys.platform}"
    )
    print("\n".join(row.line(rows[0].seconds) for row in rows))
    return rows


if __name__ == "__main__":
    main()
