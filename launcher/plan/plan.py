"""The plan of a run: what it is, on which machine, what is odd about it and what it will take.

Promises: `make_plan` is a pure function and prints nothing; a plan with errors is not to be submitted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from launcher.backend import Offer
from launcher.data.check import DatasetFacts
from launcher.finding import Finding, Severity
from launcher.plan.case import Case, Room, count, size
from launcher.plan.estimate import HOUR_S, Estimate, Past, of
from launcher.plan.hazards import find
from launcher.spec.arguments import Arguments
from launcher.spec.attached import AttachedData
from launcher.spec.model import DataSource, JobSpec

PICTURES_BYTES = 50 << 20  # plots and batches of a run with 1280-pixel images; an assumption, on the safe side


@dataclass(frozen=True)
class Plan:
    """All that can be said before a run starts. `rows` are (word, value) pairs that sum the spec up, in order."""

    name: str
    rows: tuple[tuple[str, str], ...]
    offer: Offer
    facts: DatasetFacts | None
    findings: tuple[Finding, ...]
    """The backend's, the dataset's and ours; errors first, each said once."""
    estimate: Estimate

    @property
    def errors(self) -> tuple[Finding, ...]:
        """What stops the run here."""
        return tuple(finding for finding in self.findings if finding.severity is Severity.ERROR)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        offer = {**asdict(self.offer), "installs": list(self.offer.installs)}
        del offer["findings"]
        return {
            "name": self.name,
            "spec": dict(self.rows),
            "offer": offer,
            "data": None if self.facts is None else self.facts.as_json(),
            "findings": [finding.as_json() for finding in self.findings],
            "estimate": self.estimate.as_json(),
        }


def make_plan(
    spec: JobSpec,
    offer: Offer,
    facts: DatasetFacts | None,
    versions: Mapping[str, str],
    arguments: Arguments,
    *,
    history: Sequence[Past] = (),
    findings: Sequence[Finding] = (),
    room: Room | None = None,
) -> Plan:
    """Put the plan together. `findings` are others' (`backend.check`, the dataset's); the offer's own are added."""
    case = Case(spec, offer, facts, versions, arguments, room or Room.of(offer))
    expected = of(case, history)
    found = dict.fromkeys((*offer.findings, *findings, *find(case), *_output(case, expected), *_disk(case, expected)))
    found |= dict.fromkeys((*_limits(case, expected), *_money(case, expected)))
    order = (Severity.ERROR, Severity.WARNING, Severity.INFO)
    ordered = tuple(sorted(found, key=lambda finding: order.index(finding.severity)))
    return Plan(spec.name, tuple(_rows(case)), offer, facts, ordered, expected)


def _rows(case: Case) -> list[tuple[str, str]]:
    spec = case.spec
    rows = [("name", spec.name), ("model", spec.model), ("data", _data(spec))]
    if case.facts is not None:
        counts = f"{count(case.train_images or 0)} to train on, {count(case.val_images or 0)} to validate on"
        classes, boxes, without = case.facts.classes, case.facts.boxes, case.facts.background
        counts += f", {classes} class{'es' * (classes != 1)}, {count(boxes)} box{'es' * (boxes != 1)}"
        counts += f", {count(without)} image{'s' * (without != 1)} without one" if without else ""
        rows.append(("images", counts))
    rows.extend((name, case.said(name).removeprefix(f"{name} ")) for name in ("epochs", "imgsz"))
    batch = "chosen by AutoBatch" if case.batch is None else str(case.batch)
    rows.append(("batch", batch))
    rows.append(("optimizer", _optimizer(case)))
    others = [name for name in sorted(spec.train) if name not in ("epochs", "imgsz", "batch", "optimizer")]
    rows.extend((f"train.{name}", str(spec.train[name])) for name in others)
    rows.append(("device", f"{case.device} ({case.offer.machine})"))
    return rows


def _data(spec: JobSpec) -> str:
    if isinstance(spec.data, AttachedData):
        return f"{spec.data}, made by {Path(spec.data.prepare).name}" if spec.data.prepare else str(spec.data)
    return "reef, drawn from a seed" if isinstance(spec.data, DataSource) else spec.data


def _optimizer(case: Case) -> str:
    name = str(case.value("optimizer"))
    if name.lower() != "auto":
        return name
    return f"auto: {case.auto.optimizer}, lr0 {case.auto.lr0:g}" if case.auto is not None else "auto"


def _output(case: Case, expected: Estimate) -> list[Finding]:
    """Whether what comes back is within what the machine may leave."""
    need, limit = expected.weights_bytes, case.offer.output_limit
    if need is None or limit is None or need.low + PICTURES_BYTES <= limit:
        return []
    evidence = f"{size(need.low)} to {size(need.high)}, {size(limit)} may be left. Basis: {need.basis}"
    message, remedy = "the run leaves more than this machine hands over", "remove train.save_period, or raise it"
    return [Finding("plan.output-too-large", Severity.ERROR, message, evidence, remedy, "the estimate of this plan")]


def _disk(case: Case, expected: Estimate) -> list[Finding]:
    """Whether the checkpoints fit. A disk cache that does not is a hazard of its own: Ultralytics leaves it out."""
    need, free = expected.scratch_bytes, case.room.disk
    if need is None or free is None or case.cache == "disk" or need.low <= free:
        return []
    evidence = f"{size(need.low)} to {size(need.high)}, {size(free)} are free. Basis: {need.basis}"
    remedy = "free some space there, or remove train.save_period"
    source = "the estimate of this plan"
    return [Finding("plan.disk-too-small", Severity.WARNING, "the checkpoints may not fit", evidence, remedy, source)]


def _money(case: Case, expected: Estimate) -> list[Finding]:
    """Whether the run costs no more than the spec allows."""
    limit, price, cost = case.spec.resources.max_cost, case.offer.price_per_hour, expected.cost_dollars
    if limit is None or price == 0:
        return []
    source = "the estimate of this plan"
    if price is None:
        message, remedy = "resources.max_cost has no effect here: nobody knows this machine's price", "set max_hours"
        return [Finding("plan.no-price", Severity.WARNING, message, f"max_cost ${limit:g}", remedy, source)]
    if cost is None or cost.high <= limit:
        return []
    evidence = f"${cost.low:.2f} to ${cost.high:.2f}, resources.max_cost ${limit:g}. Basis: {cost.basis}"
    remedy = "raise resources.max_cost, lower train.epochs, or take a cheaper machine"
    if cost.low > limit:
        message = "the run costs more than resources.max_cost"
        return [Finding("plan.too-expensive", Severity.ERROR, message, evidence, remedy, source)]
    message = "the run may cost more than resources.max_cost: it is stopped then, with what it has"
    return [Finding("plan.may-be-too-expensive", Severity.WARNING, message, evidence, remedy, source)]


def _limits(case: Case, expected: Estimate) -> list[Finding]:
    """Whether the run ends within the time that it has: the spec's limit or the machine's, an attempt at a time."""
    limits = [hours for hours in (case.spec.resources.max_hours, case.offer.max_hours) if hours is not None]
    if not limits or expected.total_seconds is None:
        return []
    hours, attempts, total = min(limits), case.spec.resume.attempts, expected.total_seconds
    evidence = (
        f"{total.low / HOUR_S:.1f} to {total.high / HOUR_S:.1f} hours, {hours:g} in an attempt, "
        f"resume.attempts {attempts}. Basis: {total.basis}"
    )
    source = "the estimate of this plan"
    if total.low / HOUR_S > hours * attempts:
        message = "the run will not end within its attempts"
        remedy = "raise resume.attempts or resources.max_hours, lower train.epochs, or take a faster machine"
        return [Finding("plan.too-long", Severity.WARNING, message, evidence, remedy, source)]
    if total.high / HOUR_S > hours:
        message = "the run may need more than one attempt; it goes on from its last epoch, on another random stream"
        remedy = "raise resources.max_hours, if the machine allows it, to have it in one"
        return [Finding("plan.several-attempts", Severity.INFO, message, evidence, remedy, source)]
    return []
