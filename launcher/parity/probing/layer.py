"""What the probes of two runs say of each other, as a layer of the verdict."""

from __future__ import annotations

from typing import Any

from launcher.analysis.reading.view import RunView
from launcher.errors import IntegrityError
from launcher.parity.model import Difference, Kind, Layer, LayerResult, Verdict
from launcher.parity.probing.record import read
from launcher.runs import record as records
from launcher.worker.probing.compare import DIFFERENT, IDENTICAL, NOT_COMPARABLE, WITHIN_NOISE, compare
from launcher.worker.probing.tolerances import SOURCE

VERDICTS = {
    IDENTICAL: Verdict.IDENTICAL,
    WITHIN_NOISE: Verdict.EQUIVALENT,
    DIFFERENT: Verdict.DIFFERENT,
    NOT_COMPARABLE: Verdict.INCONCLUSIVE,
}
STREAMS = ("order",)
"""Differences of the loader that are as another seed."""
EXPECTED = "result"
"""What the machine itself found when it compared with what was sent: made here, or the reference's."""


def probe_layer(run: RunView, reference: RunView) -> LayerResult:
    """Compare the two probe.json: what was computed on each machine.

    Not reached (verdict None) when either run has none. A machine that had found itself `different` from the values
    that were sent is different here too, whatever the reference run has.
    """
    try:
        ours, theirs = read(run.where), read(reference.where)
    except IntegrityError as error:
        return LayerResult(
            Layer.PROBE, Verdict.INCONCLUSIVE, error.message, not_checked=("a probe.json cannot be read",)
        )
    before = _before(ours)
    if ours is None or (theirs is None and not before):
        return _missing(run, reference, ours, theirs)
    found = compare(ours, theirs or {})
    if before and found["verdict"] != DIFFERENT:
        found = {**found, **before}
    differences = _differences(found) if found["verdict"] in (DIFFERENT, WITHIN_NOISE) else ()
    evidence = {name: found[name] for name in ("kind", "decided", "noise", "kernel", "loader")}
    verdict, not_checked = VERDICTS[found["verdict"]], tuple(found["not_checked"])
    if found["verdict"] == DIFFERENT and found["kind"] in STREAMS:
        verdict = Verdict.INCONCLUSIVE  # the kernels agree; what the stream changes is for the curves to say
    return LayerResult(Layer.PROBE, verdict, str(found["reason"]), differences, evidence, not_checked)


def probe_planned(run: RunView) -> bool:
    """Whether the run was to be probed before it began: what it then lacks was lost, or never came."""
    try:
        if read(run.where) is not None:
            return True
    except IntegrityError:
        return True  # there is one, and it cannot be read
    try:
        return records.read(run.where).probe is not None
    except IntegrityError:
        return False  # a folder that samerun did not make


def _before(record: dict[str, Any] | None) -> dict[str, Any]:
    """What the machine found, where that was `different`; written there, so of any type: what is odd is left out."""
    found = (record or {}).get(EXPECTED)
    if not isinstance(found, dict) or found.get("verdict") != DIFFERENT:
        return {}
    told = {name: found[name] if isinstance(found.get(name), str) else "" for name in ("kind", "reason")}
    decided = found.get("decided")
    whole = isinstance(decided, dict) and {"step", "quantity"} <= decided.keys()
    reason = told["reason"] or "the machine found itself different from what it was sent"
    return {"verdict": DIFFERENT, **told, "reason": reason, "decided": decided if whole else None}


def _missing(run: RunView, reference: RunView, ours: Any, theirs: Any) -> LayerResult:
    lacking = [view.id for view, record in ((run, ours), (reference, theirs)) if record is None]
    both = "neither run has" if len(lacking) == 2 else f"{lacking[0]} has no"
    text = f"{both} probe.json; a run with parity.probe: require has one, and `launch probe SPEC` makes one"
    return LayerResult(Layer.PROBE, None, text, not_checked=("what the two machines compute from the same batches",))


def _differences(found: dict[str, Any]) -> tuple[Difference, ...]:
    decided = found.get("decided") or {}
    kind = Kind.NUMERIC_NOISE
    if found["verdict"] == DIFFERENT:
        kind = Kind.CHANGES_STREAM if found["kind"] in STREAMS else Kind.MUST_EQUAL
    what = f"probe, step {decided['step']}: {decided['quantity']}" if decided else "probe: rounding"
    ours, theirs = decided.get("run", found.get("noise")), decided.get("reference", 0.0)
    return (Difference(what, ours, theirs, kind, str(found["reason"]), SOURCE, 90 if decided else 10),)
