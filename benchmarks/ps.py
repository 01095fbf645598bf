"""`launch ps` in a runs folder with 10,000 runs: from the index, and when the index is made anew from the folders.

No peer lists local runs of the past (torchx forgets them with its process), so the measure is the same question asked
of a bare SQLite file, and a walk over the folders.
"""

from __future__ import annotations

import time

from benchmarks.harness import Options, Table, Target, environment, launch, middle, python, ratio, round_robin
from benchmarks.stores import fill, finished

RUNS = 10_000
ROUNDS = 5
QUERY = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
rows = db.execute("SELECT * FROM runs ORDER BY created DESC, id LIMIT ?", (int(sys.argv[2]),)).fetchall()
for row in rows:
    print(*row)
"""
WALK = "import json, os, sys\nfor e in os.scandir(sys.argv[1]):\n  if e.is_dir(): json.load(open(e.path + '/run.json'))"
BARE, NONE, NEWEST = "bare sqlite3, newest 20", "launch ps, no runs", "launch ps"
GROWTH = 1.25
"""Our own number: the newest runs of 10,000 are listed in at most this many times the time that no runs take."""


def measure(options: Options) -> list[Table]:
    """One table."""
    home = options.home
    runs = home / "runs"
    begun = time.perf_counter()
    fill(runs, RUNS)
    made = time.perf_counter() - begun
    (home / "query.py").write_text(QUERY)
    (home / "walk.py").write_text(WALK)
    index = str(runs / "index.sqlite")
    commands = {
        BARE: [python(), str(home / "query.py"), index, "20"],
        "bare sqlite3, all": [python(), str(home / "query.py"), index, "-1"],
        "reading all run.json, nothing else": [python(), str(home / "walk.py"), str(runs)],
        NONE: ["/usr/bin/env", f"SAMERUN_RUNS_DIR={home / 'none'}", launch(), "ps"],
        NEWEST: [launch(), "ps"],
        "launch ps --json": [launch(), "ps", "--json"],
        "launch ps --all": [launch(), "ps", "--all"],
        "launch ps --all --json": [launch(), "ps", "--all", "--json"],
        "launch show RUN": [launch(), "show", finished(RUNS - 1).id],
        "launch ps --rebuild": [launch(), "ps", "--rebuild"],
    }
    found = round_robin(commands, environment(home), home, options.rounds or ROUNDS)
    unit = found[BARE].wall()
    rows = [
        (name, middle(series.wall()), middle(series.cpu()), f"{ratio(series.wall(), unit):.1f}")
        for name, series in found.items()
    ]
    columns = ("command", "wall ms: median (min)", "CPU ms: median (min)", "wall x bare")
    growth = ratio(found[NEWEST].wall(), found[NONE].wall())
    target = Target(f"launch ps, {RUNS} runs against none", growth, GROWTH, "x")
    note = f"making the {RUNS} folders and their index took {made:.1f} s"
    return [Table(f"ps: {RUNS} runs", columns, tuple(rows), (target,), (note,))]
