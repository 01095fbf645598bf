"""The table: what was planted, or is benign, in which pair, and which layers can see it in principle.

`DIFFERENT`: the layer has to say different. `NAMED`: it has to list what differs; that alone is no other experiment, or
the layer cannot tell whether it is. A layer that is not named cannot see it: `blind` says why, where no layer can.
A planted kind that is as another seed (`quiet`) must not be called different by any layer, though it must be named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from launcher.parity.model import Layer
from tests.parity.planted import edits
from tests.parity.planted.edits import Edit
from tests.parity.planted.making.lab import slug
from tests.parity.planted.making.recipes import OTHERS, REFERENCE, SEEDS

DIFFERENT, NAMED = "different", "named"
RESTING = "machine updates doubled"
"""A run whose best epoch is not its last."""
RUNS = "all-runs"
"""A link beside each judged folder to the folder of all runs, for edits that take something of another one."""
SOUND = "again"
"""The probe's record of a sound machine."""


@dataclass(frozen=True)
class Pair:
    """One run held against another one. `run` and `reference` are names of recipes, `edit` is done to the run's folder
    (`also` to the reference's), `probe` is the record that the run's machine has (empty: none), `foreign`: both are
    folders of Ultralytics alone. `seeds`: those that are the reference's spread."""

    name: str
    run: str
    edit: Edit | None = None
    also: Edit | None = None
    reference: str = REFERENCE
    probe: str = SOUND
    foreign: bool = False
    seeds: tuple[str, ...] = SEEDS
    sees: Mapping[Layer, str] = field(default_factory=dict)
    blind: str = ""
    quiet: bool = False


def _planted(
    name: str, run: str, edit: Edit | None = None, *, probe_by: str = SOUND, foreign: bool = False, blind: str = "",
    quiet: bool = False,
    reference: str = REFERENCE, inputs: str = "", probe: str = "", weights: str = "", curves: str = "",
) -> Pair:  # fmt: skip
    """One planted kind, with what each layer can see of it."""
    of = {layer: grade for layer, grade in zip(Layer, (inputs, probe, weights, curves), strict=True) if grade}
    return Pair(
        name, run, edit, reference=reference, probe=probe_by, foreign=foreign, sees=of, blind=blind, quiet=quiet
    )


def planted() -> tuple[Pair, ...]:
    """Pairs in which something differs."""
    return (*_specs(), *_data(), *_machines(), *_courses(), *_files(), *_records())


def _specs() -> list[Pair]:
    d, n = DIFFERENT, NAMED
    return [
        _planted("another seed", OTHERS[0], probe_by="other seed", quiet=True, inputs=n, probe=n),
        _planted("box gain", "spec box gain", probe_by="box gain", inputs=d, probe=d),
        _planted("learning rate doubled", "spec lr twice", inputs=d, curves=n),
        _planted("another optimizer", "spec optimizer", inputs=d),
        _planted("imgsz", "spec imgsz", inputs=d, curves=d),
        _planted("never flipped", "spec never flipped", probe_by="never flipped", inputs=d),
        _planted("colours not shifted", "spec colours not shifted", probe_by="colours not shifted", inputs=d),
        _planted("mosaic on", "spec mosaic", inputs=d),
        _planted("NMS IoU asked for", "spec nms iou", inputs=d),
        _planted("batch asked for", "spec two images fewer a batch", inputs=d),
        _planted("other initial weights", "spec other weights", inputs=d),
        _planted("automatic mixed precision", "machine bfloat16", inputs=n, quiet=True),
    ]  # fmt: skip


def _data() -> list[Pair]:
    d = DIFFERENT
    named = {
        "one label file changed": "one label",
        "1 % of the labels dropped": "labels dropped",
        "split swapped": "swapped",
        "train and val overlap": "overlap",
        "other class order": "class order",
        "BGR for RGB in the files": "colours",
        "pictures encoded anew": "jpeg",
        "one pixel by one level": "one pixel",
        "one image fewer": "fewer",
    }
    return [_planted(name, f"data {of}", inputs=d) for name, of in named.items()]


def _machines() -> list[Pair]:
    """Machines that do otherwise than they say: the inputs are the same."""
    d, n = DIFFERENT, NAMED

    def machine(name: str, of: str, probe: str = "", weights: str = "", curves: str = "") -> Pair:
        probed = of if any(of.startswith(one) for one in PROBED) else SOUND
        return _planted(name, f"machine {of}", probe_by=probed, probe=probe, weights=weights, curves=curves)

    no_ema = "the weights give their numbers, no input names it, and the curves are inside the seeds' spread"
    return [
        machine("metrics divided by 2.6, as on MPS", "mps metrics", weights=d, curves=d),
        machine("NMS IoU other than recorded", "nms at 0.3", weights=d),
        machine("validated without rect", "no rect", weights=d),
        machine("letterbox off", "no letterbox", weights=d),
        machine("BGR for RGB on the machine", "channels swapped", probe=d, weights=d),
        machine("JPEG encoded anew on the machine", "jpeg re-encoded", probe=d, weights=d),
        machine("another image decoder", "other decoder", probe=n),
        machine("assigner drops a tenth of its targets", "assigner drops 10 %", probe=d),
        machine("box loss zero", "box loss zero", probe=d, curves=d),
        machine("box loss times 2/3", "box loss times 2/3", probe=d),
        machine("kernel noise of 1e-7", "noise 1e-07", probe=n),
        machine("kernel noise of 1e-5", "noise 1e-05", probe=d),
        machine("kernel noise of 1e-3", "noise 0.001", probe=d),
        machine("TF32 where float32 was asked for", "half precision", probe=d),
        machine("no oneDNN", "no onednn", probe=n),
        _planted("update steps doubled", "machine updates doubled", probe_by="update doubled", probe=d),
        _planted("EMA off", "machine no ema", blind=no_ema),
        _planted("validated on the train split", "read val is train", weights=d),
        _planted("stale label cache, val", "read stale val labels", weights=d),
        _planted(
            "stale label cache, train", "read stale train label",
            blind="the machine reads other labels than it hashed: one box more or less is inside the seeds' spread",
        ),
    ]  # fmt: skip


PROBED = (
    "channels", "jpeg", "other decoder", "assigner", "box loss", "noise", "half", "no onednn",
)  # fmt: skip


def _courses() -> list[Pair]:
    """The same inputs on another course."""
    n = NAMED
    return [
        _planted("batch halved silently", "machine out of memory", inputs=n),
        _planted(
            "other number of threads", "machine two threads", probe_by="two threads", quiet=True, inputs=n, probe=n
        ),
        _planted("other number of workers", "machine two workers", quiet=True, inputs=n),
        _planted("resumed", "resumed", quiet=True, inputs=n),
        _planted("ended early", "stopped early", quiet=True, inputs=n, curves=n),
        _planted("epochs truncated", "truncated", quiet=True, inputs=n, curves=n),
    ]


def _files() -> list[Pair]:
    """Tables and weights that were changed or exchanged, on the machine (its digests bear them out) or later."""
    d, n = DIFFERENT, NAMED
    one, five = edits.times(1.01, 2), edits.times(1.05, 2)

    def another(weights: Path) -> None:
        """The checkpoints of another seed, in the place of these."""
        place = next(above for above in weights.parents if (above / RUNS).exists()) / RUNS
        for name in ("best.pt", "last.pt"):
            (weights / name).write_bytes((place / slug(OTHERS[2]) / "train" / "weights" / name).read_bytes())

    def on_folder(change: edits.Change) -> Edit:
        return lambda folder: edits.rewrite(folder / "results.csv", change)

    return [
        _planted("best and last swapped", RESTING, edits.weights(edits.swapped), reference=RESTING, weights=d),
        _planted(
            "best and last swapped later",
            RESTING,
            edits.weights(edits.swapped, on_machine=False),
            reference=RESTING,
            weights=d,
            inputs=d,
        ),
        _planted("weights of another run", "again", edits.weights(another), weights=d),
        _planted(
            "weights of another run later", "again", edits.weights(another, on_machine=False), weights=d, inputs=d
        ),
        _planted("metric edited by 1 %", "again", edits.table(one), weights=d),
        _planted("metric edited by 5 %", "again", edits.table(five), weights=d),
        _planted("metric edited by 1 % later", "again", edits.table(one, on_machine=False), weights=d, inputs=d),
        _planted("all metrics up by 5 %", OTHERS[1], edits.table(edits.times(1.05)), weights=d),
        _planted("row removed", "again", edits.table(lambda rows: [*rows[:1], *rows[2:]]), curves=n),
        _planted(
            "row removed later", "again", edits.table(lambda rows: rows[:-1], on_machine=False), inputs=d, curves=n
        ),
        _planted("row duplicated", "again", edits.table(lambda rows: [*rows[:2], *rows[1:]]), curves=n),
        _planted("NaN epoch", "again", edits.table(edits.put("train/box_loss", 3, "nan")), curves=n),
        _planted(
            "box loss 0 in one epoch", "again", edits.table(edits.put("train/box_loss", 3, "0")), curves=d, weights=d
        ),
        _planted("folder: metric edited by 1 %", "again", on_folder(one), foreign=True, weights=d),
        _planted("folder: weights of another run", "again", lambda f: another(f / "weights"), foreign=True, weights=d),
        _planted(
            "folder: best and last swapped",
            RESTING,
            lambda f: edits.swapped(f / "weights"),
            foreign=True,
            reference=RESTING,
            weights=d,
        ),
    ]


def _records() -> list[Pair]:
    """What the machine says of itself."""
    d, n = DIFFERENT, NAMED
    return [
        _planted("other torch recorded", "again", edits.had(versions={"torch": "2.14.0"}), inputs=n),
        _planted("other ultralytics recorded", "again", edits.had(versions={"ultralytics": "8.3.0"}), inputs=d),
        _planted("other device recorded", "again", edits.had(device="mps"), inputs=n),
        _planted("two processes recorded", "again", edits.had(world_size=2), inputs=n),
        _planted("lr0 chosen otherwise", "again", edits.had(lr0=0.002), inputs=d),
        _planted("fewer images loaded", "again", edits.had(images={"train": 55}), inputs=d),
    ]


def benign() -> tuple[Pair, ...]:
    """Pairs of one experiment: none may be called different."""
    every = (*SEEDS, *OTHERS)
    left_out = [
        Pair(f"{seed} against the others", seed, seeds=tuple(one for one in every if one != seed)) for seed in every
    ]
    again = ("the same run twice", "again"), ("dataset moved", "moved"), ("other harmless arguments", "quiet")
    return (
        *(Pair(name, of) for name, of in again),
        *left_out,
        Pair("resumed thrice", "resumed thrice"),
        Pair("resumed thrice, twice", "resumed thrice again", reference="resumed thrice"),
        Pair("resumed once against thrice", "resumed", reference="resumed thrice"),
        Pair("other number of threads", "machine two threads", probe="two threads"),
        Pair("other number of workers", "machine two workers"),
        Pair("without oneDNN", "machine no onednn", probe="no onednn"),
        Pair("kernel noise of 1e-7", "machine noise 1e-07", probe="noise 1e-07"),
        Pair("stopped early, twice", "stopped early", reference="stopped early"),
        Pair("NMS IoU of both", "spec nms iou", reference="spec nms iou"),
        Pair("another machine's name", "again", edits.had(device_name="other", platform="other")),
        Pair("another Python", "again", edits.had(versions={"python": "3.12.1"})),
        Pair("another torch, another seed", OTHERS[2], edits.had(versions={"torch": "2.14.0"})),
        Pair("no probe", "again", probe=""),
        Pair("folder: the same run twice", "again", foreign=True),
        Pair("folder: another seed", OTHERS[0], foreign=True),
        Pair("folder: padded headers", "again", edits.padded, foreign=True),
        Pair("folder: without weights", OTHERS[0], edits.without("weights/best.pt", "weights/last.pt"), foreign=True),
        Pair("best.pt did not come back", OTHERS[0], edits.without("train/weights/best.pt")),
        Pair("no results.csv, the events tell", OTHERS[0], edits.without("train/results.csv")),
    )
