"""How commands speak: words for humans on stderr, JSON lines on stdout, and nothing of one on the other."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

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


def say(text: str = "") -> None:
    """A line for a human."""
    print(text, file=sys.stderr, flush=True)


def emit(value: Mapping[str, Any]) -> None:
    """A JSON line for a script."""
    print(json.dumps(value, default=str), flush=True)


def paint(text: str, code: str) -> str:
    """Colour, where a human looks."""
    return f"\033[{code}m{text}\033[0m" if sys.stderr.isatty() else text


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


def print_findings(findings: Iterable[Finding]) -> None:
    """Each finding: mark, code, message, and what to do."""
    for finding in findings:
        mark = paint(MARKS[finding.severity], COLOURS[finding.severity])
        say(f"  {mark} {finding.code}: {finding.message}")
        for name in ("evidence", "remedy", "source"):
            if text := getattr(finding, name):
                say(paint(f"      {name}: {text}", "2"))


def result(record: RunRecord, folder: Any) -> dict[str, Any]:
    """The result object of a run (README, "For scripts")."""
    return {
        "run": record.id,
        "state": str(record.state),
        "reason": record.reason,
        "dir": str(folder),
        "backend": record.backend,
        "attempts": [
            {"id": a.id, "backend": a.backend, "state": a.state, "reason": a.reason, "resumed_epoch": a.resumed_epoch}
            for a in record.attempts
        ],
        "epoch": record.epoch,
        "metrics": dict(record.metrics),
        "parity": None,
        "checked": dict(record.checked),
        "findings": list(record.findings),
    }


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


def ago(when: float) -> str:
    """How long ago."""
    return f"{duration(max(0.0, time.time() - when))} ago"
