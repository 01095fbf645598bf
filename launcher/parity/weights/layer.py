"""The weights layer: are the weights the same to the bit, and are they those that the run's own numbers are of?

Three things are looked at, the cheapest first; whatever contradicts a run makes it `different`:

    digest        best.pt and last.pt have the sha256 that the machine wrote down (runs of ours)
    own numbers   results.csv, the worker's events and the table inside both checkpoints are one table
    validation    best.pt, validated here, gives the metrics that the run wrote of it

Equal state dicts are then `identical`; two runs that were both validated are `equivalent`: each run's numbers are those
of its weights. That says nothing of how far the two runs are from each other, which is for the curves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from launcher.analysis.model import RunView
from launcher.parity.inputs.checkpoint import state_digest
from launcher.parity.model import Difference, Layer, LayerResult, Verdict
from launcher.parity.weights import own, validating
from launcher.parity.weights.validating import Validation
from launcher.settings import Settings

FILES = ("best.pt", "last.pt")
NOT_VALIDATED = "whether best.pt gives its metrics"


def state_layer(run: RunView, reference: RunView) -> LayerResult:
    """Whether best.pt and last.pt of both hold the same tensors, to the bit. Not so is no difference: seeds do that."""
    digests = {name: (_digest(run, name), _digest(reference, name)) for name in FILES}
    evidence = {name: {"run": one, "reference": other} for name, (one, other) in digests.items()}
    lacking = [name for name, pair in digests.items() if None in pair]
    if lacking:
        text = f"{lacking[0]} is not there, or cannot be read, on one side or both"
        return LayerResult(Layer.WEIGHTS, None, text, evidence=evidence, not_checked=("the weights of both",))
    if all(one == other for one, other in digests.values()):
        text = "best.pt and last.pt hold the same weights, to the bit"
        return LayerResult(Layer.WEIGHTS, Verdict.IDENTICAL, text, evidence=evidence)
    text = "the weights are others, and were not validated again"
    return LayerResult(Layer.WEIGHTS, None, text, evidence=evidence, not_checked=(NOT_VALIDATED,))


def weights_layer(run: RunView, reference: RunView, *, validate: bool, settings: Settings | None = None) -> LayerResult:
    """The layer. `validate` False takes earlier results of a validation only; True also validates, in a process of its
    own, what was not validated yet and whose dataset is here (about 15 s and the time of one validation each).

    Raises nothing: what cannot be read or validated is said in `not_checked`.
    """
    state = state_layer(run, reference)
    views = (run, reference)
    found = [one for view in views for one in own.contradictions(view)]
    validations = validating.of(views, start=validate and not found, settings=settings or Settings.load())
    evidence = {
        **state.evidence,
        "validated": {view.id: said.as_json() for view, said in zip(views, validations, strict=True)},
    }
    found += _contradicted(views, validations)
    not_checked = tuple(
        f"{NOT_VALIDATED}, of {view.id}: {said.why_not}"
        for view, said in zip(views, validations, strict=True)
        if said.why_not
    )
    if found:
        return LayerResult(Layer.WEIGHTS, Verdict.DIFFERENT, _said(found), tuple(found), evidence, not_checked)
    if state.verdict is Verdict.IDENTICAL:
        return LayerResult(Layer.WEIGHTS, state.verdict, state.decided, (), evidence, not_checked)
    if doubted := [said for said in validations if said.apart]:
        text = (
            f"{doubted[0].sentence()}; or the dataset at {doubted[0].data} is no longer the one that it was trained on"
        )
        return LayerResult(Layer.WEIGHTS, Verdict.INCONCLUSIVE, text, (), evidence, not_checked)
    if all(said.agrees for said in validations):
        greatest = max(said.greatest for said in validations)
        off = f"to {greatest:.1e}" if greatest else "exactly"
        text = f"each best.pt, validated here, gives the metrics that its own run wrote, {off}"
        return LayerResult(Layer.WEIGHTS, Verdict.EQUIVALENT, text, (), evidence, not_checked)
    return LayerResult(Layer.WEIGHTS, None, state.decided, (), evidence, not_checked or state.not_checked)


def _contradicted(views: Sequence[RunView], validations: Sequence[Validation]) -> list[Difference]:
    """Validations that deny a run's numbers.

    A folder that is not of ours says where its dataset lies, not what was in it. There another result is held against
    the run only where the same dataset gave the other run's numbers.
    """
    found = []
    for view, said, other in zip(views, validations, reversed(validations), strict=True):
        vouched = said.data_known or (other.agrees and other.fingerprint == said.fingerprint)
        if vouched:
            found += [said.difference(view.id, one) for one in said.apart]
    return found


def _digest(run: RunView, name: str) -> str | None:
    return state_digest(run.train / "weights" / name) if run.train is not None else None


def _said(found: Sequence[Difference]) -> str:
    first = found[0]
    more = f", and {len(found) - 1} more" if len(found) > 1 else ""
    return f"{first.what} is {_short(first.run)}, {_short(first.reference)} {first.why}{more}"


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)[:12]
