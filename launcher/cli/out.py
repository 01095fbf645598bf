"""How commands speak: JSON lines and what was asked for on stdout, every other word for humans on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TextIO

from launcher.errors import ProblemsError, SamerunError

if TYPE_CHECKING:
    from launcher.finding import Finding
    from launcher.runs.record import RunRecord

MARKS = {"error": "✗", "warning": "!", "info": "·"}
COLOURS = {"error": "31", "warning": "33", "info": "2"}
METRICS = {
    "P": "metrics/precision(B)",
    "R": "metrics/recall(B)",
    "mAP50": "metrics/mAP50(B)",
    "mAP50-95": "metrics/mAP50-95(B)",
}


def say(text: str = "", to: TextIO | None = None) -> None:
    """A line for a human: on stderr, unless it is what was asked for."""
    print(text, file=to or sys.stderr, flush=True)


def emit(value: Mapping[str, Any]) -> None:
    """A JSON line for a script."""
    print(json.dumps(value, default=str), flush=True)


def paint(text: str, code: str, to: TextIO | None = None) -> str:
    """Colour, where a human looks."""
    return f"\033[{code}m{text}\033[0m" if (to or sys.stderr).isatty() else text


def print_error(error: SamerunError, *, as_json: bool) -> int:
    """Say what is wrong and what to do; returns the exit code."""
    if isinstance(error, ProblemsError):
        for problem in error.problems:
            say(f"{paint(MARKS['error'], COLOURS['error'])} {problem}")
        count = len(error.problems)
        say(f"launch: {count} problem{'s' if count > 1 else ''}; nothing was started")
    else:
        say(f"{paint(MARKS['error'], COLOURS['error'])} {error.message}")
        if error.remedy:
            say(f"  {error.remedy}")
    if as_json:
        problems = [vars(problem) for problem in error.problems] if isinstance(error, ProblemsError) else []
        emit({"error": type(error).__name__, "message": error.message, "remedy": error.remedy, "problems": problems})
    return int(error.exit_code)


def print_findings(findings: Iterable[Finding], *, full: bool = True, to: TextIO | None = None) -> None:
    """Each finding: mark, code, message, and what to do; in full also what it rests on."""
    for finding in findings:
        mark = paint(MARKS[finding.severity], COLOURS[finding.severity], to)
        say(f"  {mark} {finding.code}: {finding.message}", to)
        for name in ("evidence", "remedy", "source") if full else ("remedy",):
            if text := getattr(finding, name):
                say(paint(f"      {name}: {text}", "2", to), to)


def result(record: RunRecord, folder: Any) -> dict[str, Any]:
    """The result object of a run (README, "For scripts")."""
    return {
        "run": record.id,
        "state": str(record.state),
        "reason": record.reason,
        "dir": str(folder),
        "backend": record.backend,
        "attempts": [
            {
                "id": a.id,
                "backend": a.backend,
                "state": a.state,
                "reason": a.reason,
                "resumed_epoch": a.resumed_epoch,
                "cost": None if a.cost is None else dict(a.cost),
            }
            for a in record.attempts
        ],
        "epoch": record.epoch,
        "metrics": dict(record.metrics),
        "parity": None,
        "probe": _probe(folder),
        "checked": dict(record.checked),
        "findings": list(record.findings),
    }


def _probe(folder: Any) -> Any:
    """What the machine found when it was probed: verdict, reason, the steps; None where it was not."""
    if not (folder / "probe.json").is_file():
        return None
    from launcher.parity.probing import read

    return (read(folder) or {}).get("result")


def size(count: float) -> str:
    """Bytes, readable."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def duration(seconds: float) -> str:
    """Seconds, readable."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def about(low: float, high: float) -> str:
    """A range of seconds as a human would say it: no digit that the range does not bear."""
    if high < 1:
        return "under 1 s"
    (least, unit), (most, other) = _rounded(low), _rounded(high)
    if (least, unit) == (most, other):
        return f"about {least} {unit}"
    return f"about {least}{'' if unit == other else f' {unit}'} to {most} {other}"


def _rounded(seconds: float) -> tuple[str, str]:
    """A number and its unit: seconds, in steps of 5 from 10 on; minutes; hours."""
    if seconds < 57.5:
        return str(max(1, round(seconds)) if seconds < 10 else 5 * round(seconds / 5)), "s"
    if seconds < 3570:
        return str(max(1, round(seconds / 60))), "min"
    hours = seconds / 3600
    return f"{hours:.0f}" if hours >= 10 else f"{hours:.1f}".removesuffix(".0"), "h"


def short(text: str, limit: int = 100) -> str:
    """The beginning of a long text, cut between words."""
    if len(text) <= limit:
        return text
    kept = text[: limit - 1]
    at = max(kept.rfind(", "), kept.rfind("; "))
    return kept[: at if at > limit // 2 else kept.rfind(" ")].rstrip(" ,;:") + "…"


def ago(when: float) -> str:
    """How long ago."""
    return f"{duration(max(0.0, time.time() - when))} ago"
