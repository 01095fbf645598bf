"""`python -m tests.learned RUNS`: fail unless the newest smoke run there is verified and has learned something.

An untrained model scores about 0 on the reef; by the end the smoke run must be far above its first epoch. What was kept
of its final evaluation must add up to what Ultralytics says of it.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

from launcher.runs.store import Store

MAP50 = "metrics/mAP50(B)"
FIRST_AT_MOST = 0.05
LAST_AT_LEAST = 0.3
RECALL = "metrics/recall(B)"
COUNTED_WITHIN = 0.02  # one prediction may cover two objects there


def main(runs: str) -> int:
    """Look at results.csv of the newest run named smoke; returns the exit code."""
    store = Store(Path(runs))
    record = store.read(store.resolve("smoke"))
    with (store.folder(record.id) / "train" / "results.csv").open(newline="") as stream:
        scores = [float(row[MAP50]) for row in csv.DictReader(stream)]
    print(f"{record.id} is {record.state}; mAP50 by epoch: {' '.join(f'{score:.3f}' for score in scores)}")
    sizes = json.loads((store.folder(record.id) / "train" / "validation.json").read_text())["recall_by_size"].values()
    recall, counted = record.metrics[RECALL], sum(size["found"] for size in sizes) / sum(size["of"] for size in sizes)
    print(f"recall {recall:.3f}, counted by size {counted:.3f}")
    adds_up = abs((recall or 0.0) - counted) < COUNTED_WITHIN
    learned = adds_up and scores[0] <= FIRST_AT_MOST and scores[-1] >= LAST_AT_LEAST
    return 0 if record.state == "verified" and learned else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
