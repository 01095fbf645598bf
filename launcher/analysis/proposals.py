"""Lessons, by fixed rules from findings; and runs to try next, each a spec with one thing changed.

A lesson is said only where a finding gives it its evidence. A next run starts from the run's own spec (of a folder of
Ultralytics: from its args.yaml), or from its reference's where the two are confounded; what `launch` refuses to set,
or what is the default anyway, is left out.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from launcher.analysis.changes import IGNORED, VERSION, causes, show
from launcher.analysis.model import RECALL, Difference, Kind, NextRun, RunView
from launcher.errors import SpecError
from launcher.finding import Finding, Severity
from launcher.spec.arguments import Arguments
from launcher.spec.tree import Place, plain, read_yaml

LESSONS = (
    ("confounded", "change one thing at a time, or nothing can be learnt of any of them"),
    ("one-seed", "repeat with other seeds before a difference is called an effect"),
    ("within-seeds", "a difference that another seed can make is no result"),
    ("time-gap", "the time column is cumulative: look at its differences, and at what the machine did in the gap"),
    ("fell-after-best", "use best.pt, and say of each figure which epoch it is from"),
    ("optimizer-auto", "pin optimizer, lr0 and momentum: auto chooses others when epochs or images change"),
    ("mosaic-never", "with epochs up to close_mosaic (10) there is no mosaic at all: set close_mosaic with epochs"),
    ("mosaic-phases", "set close_mosaic with epochs, so that runs have mosaic in the same share of them"),
    ("validation-differs", "validate with the same settings, or compare nothing"),
    ("box-gain-yolov5-scale", "gains of YOLOv5 mean something else here: its default for box is 0.05, here it is 7.5"),
    ("loss-zero", "a loss of exactly 0 is no success: look at the machine"),
    ("memory-grew", "watch memory: what grows each epoch ends in swap or a kill"),
    (
        "status.crashed",
        "a run that was cut short has no result yet: let it end before comparing, from last.pt if that can be read",
    ),
    ("mps-metrics", "metrics of Apple's GPU are no result until best.pt is validated elsewhere"),
    ("unfinished", "compare runs that ended"),
    ("restarts", "a resumed run is not the uninterrupted one: compare it by its curve, not to the digit"),
)
"""Codes of findings (or what they begin with), and what to do otherwise the next time."""
NAME_LENGTH = 40  # characters of a spec's name: launcher.spec.model, which is not imported for it
MOST_SINGLE = 3  # runs that each take one of several changes; the rest is listed as confounded anyway
LARGER = 2  # times imgsz
LOW_RECALL = 0.3  # assumption: below it, small things are likely missed for lack of pixels
IMGSZ_LIMIT = 1280
_CUDA = re.compile(r"(cuda:?)?\d*")


def lessons(findings: Sequence[Finding]) -> list[Finding]:
    """What to do otherwise, each with the findings that it follows from."""
    told = []
    if any(finding.code.startswith("loss.") and "per unit of gain" in finding.message for finding in findings):
        reason = next(finding for finding in findings if "per unit of gain" in finding.message)
        message = "divide losses by their gains before comparing them"
        told.append(Finding("lesson.loss-gain", Severity.INFO, message, reason.message))
    for code, message in LESSONS:
        because = [finding for finding in findings if finding.code == code or finding.code.startswith(f"{code}.")]
        if because:
            told.append(Finding(f"lesson.{code}", Severity.INFO, message, because[0].message))
    return told


@dataclass(frozen=True)
class _Change:
    """One thing: an argument, and others that are no thing of their own (lr0 of a pinned optimizer)."""

    name: str
    value: Any
    because: str
    along: Mapping[str, Any] = field(default_factory=dict)


def next_runs(
    run: RunView, reference: RunView | None, found: Sequence[Difference], findings: Sequence[Finding]
) -> tuple[NextRun, ...]:
    """Specs to try, each with one changed thing; none where the configuration is not known."""
    codes = {finding.code for finding in findings}
    told: list[NextRun | None] = []
    base = _base(reference) if reference is not None else None
    if base is not None and reference is not None and "confounded" in codes:
        told += [_next(base, reference, change) for change in _single(found)]
    base = _base(run)
    if base is not None:
        told += [_next(base, run, change) for change in _changes(run, base, codes)]
    return tuple({one.name: one for one in told if one is not None}.values())


def _single(found: Sequence[Difference]) -> list[_Change]:
    """Of several changes those to look at first: optimizer and gains, then the rest as listed.

    Not those of the schedule where mosaic's epochs move with them: these are two things.
    """
    groups = {"training"} if any(one.name == "epochs with mosaic" for one in found) else {"training", "schedule"}
    usable = [one for one in causes(found) if one.group in groups and VERSION not in one.name]
    first = ("optimizer", "box", "cls", "dfl")
    usable.sort(key=lambda one: first.index(one.name) if one.name in first else len(first))
    along = {one.name: one.values[0] for one in found if one.note == IGNORED}
    return [
        _Change(one.name, one.values[0], "confounded", along if one.name == "optimizer" else {})
        for one in usable[:MOST_SINGLE]
    ]


def _changes(run: RunView, base: Mapping[str, Any], codes: set[str]) -> Iterable[_Change]:
    config, results = run.config, run.results
    train = base["train"]
    seed = config.number("seed")
    yield _Change("seed", int(seed or 0) + 1, "one-seed" if "one-seed" in codes else "seed-spread")
    if "box-gain-yolov5-scale" in codes:
        yield _Change("box", 7.5, "box-gain-yolov5-scale")
    epochs, close = config.number("epochs"), config.number("close_mosaic")
    if ("mosaic-never" in codes or "mosaic-part" in codes) and close and epochs and 2 * close >= epochs:
        yield _Change("close_mosaic", 0, "mosaic-never" if "mosaic-never" in codes else "mosaic-part")
    pinned = str(train.get("optimizer", "auto")).lower() != "auto"
    if "still-rising" in codes and epochs and pinned:
        yield _Change("epochs", int(2 * epochs), "still-rising")
    imgsz, recall = config.number("imgsz"), results.last(RECALL)
    if recall is not None and recall < LOW_RECALL and imgsz and LARGER * imgsz <= IMGSZ_LIMIT:
        yield _Change("imgsz", int(LARGER * imgsz), "low-recall")
    if "overfit-cls" in codes and config.number("hsv_s") == 0:
        yield _Change("hsv_s", config.defaults.get("hsv_s"), "overfit-cls")


def _base(run: RunView) -> dict[str, Any] | None:
    """The run's spec as plain values, with a train section; None where its model or data is not known."""
    if run.kind is Kind.RUN:
        item, _ = read_yaml(run.spec_text, Place("spec.yaml"), run.where)
        spec = plain(item) if item is not None else None
        if not isinstance(spec, dict) or not spec.get("model") or not spec.get("data"):
            return None
        train = spec.get("train")
        return {**spec, "train": dict(train) if isinstance(train, dict) else {}}
    values = run.config.values
    model, data = run.model, values.get("data")  # not args.yaml's, which of a resumed run is last.pt
    arguments = _arguments()
    if not (isinstance(data, str) and model and data) or arguments is None:
        return None
    train = {
        name: arguments.coerce(name, values[name])
        for name in arguments.names
        if name in values and values[name] != arguments.default(name) and arguments.check(name, values[name]) is None
    }
    device = str(values.get("device") or "")
    known = device if device in ("cpu", "mps") else "cuda" if device and _CUDA.fullmatch(device) else None
    spec = {"model": model, "data": data, "train": train}
    return {**spec, "resources": {"device": known}} if known else spec


def _next(base: Mapping[str, Any], run: RunView, change: _Change) -> NextRun | None:
    """The spec with that one change; None where Ultralytics would not take it, or it changes nothing."""
    from launcher.spec.load import to_yaml  # pydantic is behind it: half a second that `compare` does not need

    arguments = _arguments()
    if arguments is None or change.name not in arguments.names or arguments.check(change.name, change.value):
        return None
    before = base["train"].get(change.name, arguments.default(change.name))
    value = arguments.coerce(change.name, change.value)
    along = {name: arguments.coerce(name, one) for name, one in change.along.items() if not arguments.check(name, one)}
    if before == value:
        return None
    train = {**base["train"], change.name: value, **along}
    name = _name(run.name, change.name, show(value))
    rest = {key: one for key, one in base.items() if key not in ("name", "train", "notes")}
    order = ("model", "data", "train")
    spec: dict[str, Any] = {"name": name, **{key: rest[key] for key in order if key in rest}}
    spec["train"] = dict(sorted(train.items()))
    spec |= {key: one for key, one in rest.items() if key not in spec}
    more = f" with {', '.join(f'{key} {show(one)}' for key, one in along.items())}" if along else ""
    words = f"{change.name}: {show(before)} → {show(value)}{more}, the rest as in {run.name}"
    return NextRun(name, words, (change.because,), f"{_where(run, spec)}{to_yaml(spec)}")


def _where(run: RunView, spec: Mapping[str, Any]) -> str:
    """A comment where paths of a folder's args.yaml start at the folder in which that training was started."""
    paths = [str(spec["data"]), *([str(spec["model"])] if "/" in str(spec["model"]) else [])]
    relative = run.kind is not Kind.RUN and any(not path.startswith("/") and path[1:2] != ":" for path in paths)
    return "# paths are those of args.yaml: put this file where that training was started\n" if relative else ""


def _name(run: str, argument: str, value: str) -> str:
    """A spec's name: the run's, cut short so that the change is in it."""
    tail = re.sub(r"[^a-z0-9]+", "-", f"{argument}-{value}".lower()).strip("-")[: NAME_LENGTH - 2]
    head = re.sub(r"[^a-z0-9]+", "-", run.lower()).strip("-")[: NAME_LENGTH - len(tail) - 1].strip("-")
    return f"{head}-{tail}" if head else tail


@functools.cache
def _arguments() -> Arguments | None:
    try:
        return Arguments()
    except SpecError:
        return None
