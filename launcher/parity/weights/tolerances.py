"""How far the metrics of the same weights may be apart, validated there and here.

MEASURED 2026-11-22, ultralytics 8.4.190, CPU, float32, 47 small trainings (`benchmarks/parity_roc.py`; 271 boxes to
find): a validation of best.pt gave the final evaluation's metrics to all digits (8e-9 once). The row of results.csv is
another evaluation, of weights that are not rounded to float16 and not fused yet: it was up to 9.1e-4 off in mAP50-95
and 6.3e-3 in mAP50 (facts 2.1: 1.5e-4). A row is allowed twice that, and one step of the metric where boxes are few.
For a final evaluation 1e-3 is allowed, in half precision 5e-3 (facts 2.3, T2): an ASSUMPTION, no GPU was measured.
"""

from __future__ import annotations

from launcher.analysis.model import MAP50, MAP5095

SOURCE = "float32 measured 2026-11-22 on the CPU, half precision and GPUs an assumption"
COMPARED = (MAP5095, MAP50)
"""Precision and recall are taken where F1 is highest, which a flat curve moves far by rounding alone."""
FLOAT32, HALF = 1e-3, 5e-3
ROW = {MAP5095: 2e-3, MAP50: 1.3e-2}
STEP = {MAP5095: 0.1, MAP50: 1.0}
"""Of one box among all: it crosses one of the ten thresholds of IoU that mAP50-95 is a mean over, or the only one."""


def allowed(column: str, *, half: bool, row: bool, same: bool, boxes: int | None) -> float:
    """The largest difference of a metric.

    `half`: the machine evaluated in half precision; `row`: it is compared with a row of results.csv; `same`: the
    machine's device is of the kind that validates here; `boxes`: how many there are to find.
    """
    table = max(HALF if half else FLOAT32, ROW[column] if row else 0.0)
    return table if (same and not row) or not boxes else max(table, STEP[column] / boxes)
