"""How long a report takes of 20 runs of 1,000 epochs, and how large its page is, against the least that it could be.

The least: polars reads the 20 tables, and Plotly writes one bare chart of them as a page (`write_html`). The runs
have the pictures of Ultralytics in their usual sizes; the page carries those of the first two.
"""

from __future__ import annotations

import math
import random
from pathlib import Path

from PIL import Image, ImageDraw

from benchmarks.harness import Options, Table, Target, environment, launch, middle, python, ratio, round_robin

RUNS, EPOCHS = 20, 1000
ROUNDS = 5
LIMIT_S = 3.0
PAGE_MB = 5.0
"""What was asked for: a report of that many runs and epochs in less than 3 s, on a page of less than 5 MB."""
PLOTS = {
    "BoxPR_curve.png": (2250, 1500),
    "BoxF1_curve.png": (2250, 1500),
    "BoxP_curve.png": (2250, 1500),
    "BoxR_curve.png": (2250, 1500),
    "confusion_matrix.png": (3000, 2250),
    "confusion_matrix_normalized.png": (3000, 2250),
    "labels.jpg": (1600, 1600),
    **{f"val_batch{batch}_{kind}.jpg": (1920, 1088) for batch in range(3) for kind in ("labels", "pred")},
}
"""Pixels as Ultralytics 8.4.190 draws them; mosaics of 16 images of 640 pixels."""
LOSSES = [f"{split}/{loss}_loss" for split in ("train", "val") for loss in ("box", "cls", "dfl")]
METRICS = [f"metrics/{name}(B)" for name in ("precision", "recall", "mAP50", "mAP50-95")]
HEADER = ["epoch", "time", *LOSSES[:3], *METRICS, *LOSSES[3:], "lr/pg0", "lr/pg1", "lr/pg2"]
BARE = """
import sys, polars, plotly.graph_objects as go
figure = go.Figure()
for file in sys.argv[2:]:
    table = polars.read_csv(file)
    figure.add_scatter(x=table["epoch"].to_numpy(), y=table["metrics/mAP50(B)"].to_numpy(), name=file)
figure.write_html(sys.argv[1])
"""
READ = "import sys, polars\nfor file in sys.argv[1:]:\n    polars.read_csv(file)"
FLOOR, ONE, MANY = "polars and one bare chart", "launch report RUN", f"launch report RUN against {RUNS - 1}"


def measure(options: Options) -> list[Table]:
    """One table."""
    home = options.home
    runs = [_run(home / f"run{number}", number) for number in range(RUNS)]
    tables = [str(run / "results.csv") for run in runs]
    (home / "bare.py").write_text(BARE)
    (home / "read.py").write_text(READ)
    first, *others = map(str, runs)
    against = [word for other in others for word in ("--against", other)]
    commands = {
        f"polars reads {RUNS} tables": [python(), str(home / "read.py"), *tables],
        FLOOR: [python(), str(home / "bare.py"), str(home / "bare.html"), *tables],
        ONE: [launch(), "report", first, "--out", str(home / "one")],
        MANY: [launch(), "report", first, *against, "--out", str(home / "many")],
        f"launch compare {RUNS} runs --html": [launch(), "compare", first, *others, "--html", str(home / "c.html")],
    }
    pages = dict(zip(list(commands)[1:], ("bare.html", "one/report.html", "many/report.html", "c.html"), strict=True))
    found = round_robin(commands, environment(home), home, options.rounds or ROUNDS)
    unit = found[FLOOR].wall()
    rows = []
    for name, series in found.items():
        size = f"{(home / pages[name]).stat().st_size / 1e6:.2f}" if name in pages else "-"
        times = (middle(series.wall()), middle(series.cpu()), f"{ratio(series.wall(), unit):.2f}")
        rows.append((name, *times, size))
    columns = ("command", "wall ms: median (min)", "CPU ms: median (min)", "wall x bare chart", "page MB")
    seconds = sorted(found[MANY].wall())[len(found[MANY].wall()) // 2] / 1000
    targets = (
        Target(MANY, seconds, LIMIT_S, "s"),
        Target("its page", (home / pages[MANY]).stat().st_size / 1e6, PAGE_MB, "MB"),
    )
    return [Table(f"report: {RUNS} runs of {EPOCHS} epochs", columns, tuple(rows), targets)]


def _run(folder: Path, seed: int) -> Path:
    """A run as Ultralytics leaves it, all of one configuration but for the seed; pictures for the first two."""
    draw = random.Random(seed)
    folder.mkdir()
    lines = [",".join(HEADER)]
    for epoch in range(1, EPOCHS + 1):
        rise = 1 - math.exp(-3 * epoch / EPOCHS)
        losses = [(2 - rise) * draw.uniform(0.9, 1.1) for _ in LOSSES]
        values = [epoch * 60.5, *losses[:3], *(rise * draw.uniform(0.5, 0.6) for _ in METRICS), *losses[3:]]
        lines.append(",".join([str(epoch), *(f"{one:.6g}" for one in [*values, *[0.01 * (1 - epoch / 1001)] * 3])]))
    (folder / "results.csv").write_text("\n".join(lines) + "\n")
    (folder / "args.yaml").write_text(f"task: detect\nmodel: yolo11n.pt\nepochs: {EPOCHS}\nseed: {seed}\nbox: 7.5\n")
    for name, size in PLOTS.items() if seed < 2 else ():
        _picture(name, size, draw).save(folder / name)
    return folder


def _picture(name: str, size: tuple[int, int], draw: random.Random) -> Image.Image:
    """A plot is white with lines, and has transparency; a mosaic is soft colours with boxes."""
    if name.endswith("jpg"):
        image = (
            Image.effect_noise((size[0] // 12, size[1] // 12), 90).convert("RGB").resize(size, Image.Resampling.BICUBIC)
        )
    else:
        image = Image.new("RGBA", size, "white")
    pen = ImageDraw.Draw(image)
    for _ in range(60):
        ends = [draw.randrange(side) for side in (*size, *size)]
        pen.line(ends, fill="blue", width=4)
    return image
