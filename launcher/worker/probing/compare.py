"""Two records of one probe side by side: identical, within noise, different, not comparable, and what decided it.

Standard library alone: it runs on the machine, right after the probe, and where the run is compared later. The
quantities of a step are looked at in the order in which they are computed, so that the first that is further from the
reference than two sound machines are (`tolerances`) names the part at fault: the assigner, when its choice differs
while the head's output still agrees.
"""

from __future__ import annotations

import math

from .streams import compare_streams
from .tolerances import MINIMUM_ASSIGNED, REDUCED, tolerance

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..box import Json

VERSION = 1
"""Of the record: counted up when the steps are computed in another way. Records of two versions are not comparable."""
IDENTICAL, WITHIN_NOISE, DIFFERENT, NOT_COMPARABLE = "identical", "within-noise", "different", "not-comparable"
FIELDS = ("first_values", "head_values", "gradient_values", "weights_values")
"""Quantities kept as a sample of values: compared by the length of the difference over the reference's length."""
ORDER = (
    "first_values", "head_values", "assigned", "assigned_score", "losses", "gradient_values", "gradient",
    "weights_values",
)  # fmt: skip
"""As computed. Norms of the first layer and of the weights are recorded and say less than the values beside them."""
STREAM_ALONE = "order"
"""Kind of a loader's difference that is as another seed: said, and nothing is stopped for it."""
SAME_RATIO = 1e-3  # relative; a loss gain is one factor at all steps while the predictions agree
FAR = 0.05
"""Relative difference from which on the first layer's output is something else: bfloat16 gives 4e-3."""
NOT_CHECKED = (
    "the run's optimizer and its learning rate (the probe steps with plain SGD)",
    "mixed precision (the probe computes in float32)",
    "loader workers (the probe loads without)",
)


def compare(run: Json, reference: Json) -> Json:
    """What the two records say of each other, as plain JSON.

    verdict: of IDENTICAL, WITHIN_NOISE, DIFFERENT, NOT_COMPARABLE; kind: what is at fault, guessed; reason: a sentence
    with the numbers; decided: part, quantity, step, both values, difference and tolerance (None unless something is
    DIFFERENT); stops: whether a training is not to be begun; noise: how far the first layer's output at step 0 is from
    the reference's, relative; kernel, loader: each by itself; not_checked: what no probe sees. Records with parts
    missing or of other types are not comparable; nothing is raised.
    """
    kernel, loader = _safely(_kernel, run, reference), _safely(_loader, run, reference)
    leading = _leading(kernel, loader)
    stream = leading is loader and loader["kind"] == STREAM_ALONE
    return {
        "verdict": leading["verdict"],
        "kind": leading["kind"],
        "reason": leading["reason"],
        "decided": leading.get("decided"),
        "stops": leading["verdict"] == DIFFERENT and not stream,
        "noise": kernel.get("noise"),
        "kernel": kernel,
        "loader": loader,
        "not_checked": _not_checked(kernel, loader),
    }


def _safely(part: Callable[[Json, Json], Json], run: Json, reference: Json) -> Json:
    """A part's comparison; of records that it cannot make sense of, that they are not comparable."""
    try:
        return part(run, reference)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        return _none(f"one of the records cannot be read: {type(error).__name__}: {error}")


def _leading(kernel: Json, loader: Json) -> Json:
    """The part that decides: what is different, then what could not be compared, then noise; kernels first.

    So nothing is claimed of both for lack of one of them.
    """
    for verdict in (DIFFERENT, NOT_COMPARABLE, WITHIN_NOISE):
        for part in (kernel, loader):
            if part["verdict"] == verdict:
                return part
    return kernel


def _not_checked(kernel: Json, loader: Json) -> list[str]:
    missing = [f"{name}: {part['reason']}" for name, part in (("kernels", kernel), ("loader", loader))
               if part["verdict"] == NOT_COMPARABLE]  # fmt: skip
    return [*missing, *NOT_CHECKED]


def _none(reason: str) -> Json:
    return {"verdict": NOT_COMPARABLE, "kind": "", "reason": reason}


def _loader(run: Json, reference: Json) -> Json:
    """The first images as the machine's own loader gave them; of one experiment only."""
    if not run["key"] or run["key"] != reference["key"]:
        return _none("the two specs ask for other batches")
    found = compare_streams(run["loader"], reference["loader"])
    if found["verdict"] == DIFFERENT:
        evidence = found["evidence"]
        values = {"run": evidence["run"], "reference": evidence["reference"], "difference": evidence["levels"]}
        found["decided"] = {"part": "loader", "quantity": found["kind"], "step": 0, **values, "tolerance": None}
    return found


def _kernel(run: Json, reference: Json) -> Json:
    """The steps. `steps`: the differences of each, by quantity."""
    if reason := _cannot(run, reference):
        return _none(reason)
    ours, theirs = run["kernel"]["steps"], reference["kernel"]["steps"]
    pair = _pair(run, reference)
    steps = [differences(mine, other) for mine, other in zip(ours, theirs, strict=True)]
    noise = steps[0]["first_values"]
    shown = [{name: _finite(value) for name, value in step.items()} for step in steps]
    found = {"steps": shown, "pair": pair, "noise": _finite(noise), "gains": run["gains"]}
    for step, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        if decided := _first_wrong(mine, other, step, pair):
            kind, why = _guess(decided, ours, theirs, run, reference)
            text = _sentence(decided, why)
            return {**found, "verdict": DIFFERENT, "kind": kind, "reason": text, "decided": decided}
    same = all(value == 0 for step in steps for value in step.values())
    if same and run["kernel"]["weights_digest"] == reference["kernel"]["weights_digest"]:
        text = f"{len(steps)} steps give the same numbers, and the same weights to the bit"
        return {**found, "verdict": IDENTICAL, "kind": "", "reason": text}
    worst = max(value for step in steps for name, value in step.items() if name.endswith("_loss"))
    how = f"losses to {worst:.1e}, first layer to {noise:.1e}"
    text = f"{len(steps)} steps agree as two sound machines do ({how})"
    return {**found, "verdict": WITHIN_NOISE, "kind": "kernel-noise", "reason": text}


def _cannot(run: Json, reference: Json) -> str:
    """Why the steps cannot be compared; empty when they can."""
    if run["version"] != reference["version"] or run["version"] != VERSION:
        return f"the probes are of versions {run['version']} and {reference['version']}; this one is {VERSION}"
    if run["batches"]["digest"] != reference["batches"]["digest"]:
        return "the probes had other batches"
    if run["weights"]["digest"] != reference["weights"]["digest"]:
        sent = "" if run["weights"].get("taken") == "sent" else ", and were built on each machine"
        return f"the probes began with other weights{sent}"
    if not run["kernel"]["steps"] or len(run["kernel"]["steps"]) != len(reference["kernel"]["steps"]):
        return "the probes have other numbers of steps"
    if any(_no_number(step) for step in reference["kernel"]["steps"]):
        return "the reference's own probe has values that are no finite numbers"
    return ""


def _pair(run: Json, reference: Json) -> str:
    """Which row of the table: the two devices."""
    kinds = sorted({str(record["machine"]["device"]) for record in (run, reference)})
    return "-".join(kinds)


def differences(run: Json, reference: Json) -> dict[str, float]:
    """Relative differences of one step's quantities, each loss by its own name; infinite where one is no number."""
    found: dict[str, float] = {}
    for name, theirs in reference.items():
        if name == "losses":
            if set(run[name]) != set(theirs):
                raise ValueError(f"other losses: {sorted(run[name])} and {sorted(theirs)}")
            found.update({loss: relative([run[name][loss]], [theirs[loss]]) for loss in theirs})
        else:
            pair = (run[name], theirs) if isinstance(theirs, list) else ([run[name]], [theirs])
            found[name] = relative(*pair)
    return found


def relative(ours: list[float | None], theirs: list[float | None]) -> float:
    """Length of the difference over the reference's length; 0 for the same, infinite where one alone is no number."""
    if ours == theirs:
        return 0.0
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} and {len(theirs)} values")
    apart = size = 0.0
    for mine, other in zip(ours, theirs, strict=True):
        if mine is None and other is None:
            continue
        if mine is None or other is None:
            return math.inf
        apart += (mine - other) ** 2
        size += other**2
    return math.sqrt(apart / size) if size else (math.inf if apart else 0.0)


def _finite(value: float) -> float | None:
    """JSON has no infinity."""
    return value if math.isfinite(value) else None


def _first_wrong(mine: Json, other: Json, step: int, pair: str) -> Json | None:
    """The first quantity of a step, in the order of their computing, that is not within its tolerance.

    The values of a quantity that is kept as a sample are its norms.
    """
    found = differences(mine, other)
    losses = list(other["losses"])
    for name in (one for quantity in ORDER for one in (losses if quantity == "losses" else [quantity])):
        allowed = tolerance("losses" if name in losses else name, pair, step)
        if name == "assigned":
            allowed = max(allowed, MINIMUM_ASSIGNED / max(1, other[name]))
        if found[name] <= allowed:
            continue
        norm = name.removesuffix("_values")
        ours, theirs = (record["losses"][name] if name in losses else record[norm] for record in (mine, other))
        return {
            "part": "kernel",
            "quantity": name,
            "step": step,
            "run": ours,
            "reference": theirs,
            "difference": _finite(found[name]),
            "tolerance": allowed,
        }
    return None


_PARTS = {
    "first_values": ("first-layer", "the first layer's output differs: its kernel, or the precision it computes in"),
    "head_values": ("kernels", "the head's output differs while the first layer's agrees: a kernel in between"),
    "assigned": ("assigner", "the assigner chose other targets while the head's output agrees"),
    "assigned_score": ("assigner", "the assigner scored its targets otherwise while the head's output agrees"),
    "gradient": ("gradient", "the gradient differs while the losses agree: a kernel of the backward pass"),
    "gradient_values": ("gradient", "the gradient differs while the losses agree: a kernel of the backward pass"),
    "weights_values": ("update", "the weights differ after the step while the gradient agrees"),
}


def _guess(decided: Json, ours: list[Json], theirs: list[Json], run: Json, reference: Json) -> tuple[str, str]:
    """What is at fault, in a word and in a clause."""
    name, step = decided["quantity"], decided["step"]
    if _no_number(ours[step]) and not _no_number(theirs[step]):
        return "not-finite", "a value is no finite number"
    if name.endswith("_loss"):
        if ours[step]["losses"][name] == 0:
            return "loss-zero", "the loss is exactly 0: a broken kernel, as was seen on mps"
        factor = ours[step]["losses"][name] / theirs[step]["losses"][name]
        gain = name.removesuffix("_loss")
        if run["gains"].get(gain) != reference["gains"].get(gain):
            return (
                "loss-gain",
                f"the gain is {run['gains'].get(gain)}, and {reference['gains'].get(gain)} in the reference",
            )
        if _is_one_factor(name, factor, ours, theirs):
            return "loss-gain", f"the loss is {factor:.4g} times the reference's at every step"
        return "loss", "the loss differs while what it is computed from agrees"
    noise = relative(ours[step]["first_values"], theirs[step]["first_values"])
    if name in ("first_values", "head_values") and REDUCED <= noise < FAR:
        return (
            "precision",
            f"{_PARTS[name][1]}; of this size it is float16, bfloat16 or TF32 where float32 was asked for",
        )
    if name in ("first_values", "head_values") and 0 < noise < REDUCED:
        return "kernel-noise", f"{_PARTS[name][1]}; it rounds worse than sound float32 was seen to"
    return _PARTS[name]


def _is_one_factor(name: str, factor: float, ours: list[Json], theirs: list[Json]) -> bool:
    """Whether a loss is the same multiple of the reference's at the first two steps."""
    pairs = [(mine["losses"][name], other["losses"][name]) for mine, other in zip(ours, theirs, strict=True)][:2]
    return all(other and abs(mine / other / factor - 1) < SAME_RATIO for mine, other in pairs)


def _no_number(step: Json) -> bool:
    values = [*step["losses"].values(), *(value for name, value in step.items() if name != "losses")]
    return any(None in value if isinstance(value, list) else value is None for value in values)


def _sentence(decided: Json, why: str) -> str:
    """The quantity, the step, both values, and the guess."""
    name, ours, theirs = decided["quantity"], _short(decided["run"]), _short(decided["reference"])
    what = f"the norm of {name.removesuffix('_values')}" if name in FIELDS else name
    apart = "no number" if decided["difference"] is None else f"{decided['difference']:.1e} apart"
    values = f"step {decided['step']}: {what} is {ours} here, {theirs} in the reference"
    return f"{values} ({apart}, {decided['tolerance']:.0e} is allowed): {why}"


def _short(value: object) -> str:
    return f"{value:.7g}" if isinstance(value, (int, float)) else str(value)
