"""What a difference in each input does, with the source that it is known from.

`must_know`: no claim is made about runs of which this is not known, because a difference in it could be another
experiment (or could hide one: the seed tells which initial weights to expect). `weight` sorts: 0 to 100, an order by
judgement, from the measurements named. MEASURED: Ultralytics 8.4.190, torch 2.15, a small reef, 10 epochs, 8 seeds,
two CPU cores (relative difference of the loss at the first step, and what became of it).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from launcher.analysis.changes import EFFECTS, GROUPS, QUIET
from launcher.errors import SpecError
from launcher.parity.inputs import evidence as e
from launcher.parity.model import Kind
from launcher.spec.arguments import Arguments

MEASURED = "measured with 8.4.190 on two CPU cores, 8 seeds"
TRAINER = "ultralytics 8.4.190, engine/trainer.py"
RANDOMNESS = "https://docs.pytorch.org/docs/stable/notes/randomness.html"
ONE_BIT = "https://arxiv.org/abs/2103.04514"
MPS = "https://github.com/ultralytics/ultralytics/issues/24399"
CACHE = "https://github.com/ultralytics/ultralytics/issues/21783"
CLOSE_MOSAIC = "https://github.com/ultralytics/ultralytics/pull/26226"
AUTO = "ultralytics 8.4.190, engine/trainer.py, build_optimizer"


@dataclass(frozen=True)
class Rule:
    """What a difference in one field does. `group`: the word by which a user vouches for it (`--assume`)."""

    kind: Kind
    why: str
    source: str = ""
    weight: int = 50
    must_know: bool = False
    group: str = ""


def _must(why: str, source: str = TRAINER, weight: int = 50, group: str = "") -> Rule:
    return Rule(Kind.MUST_EQUAL, why, source, weight, True, group)


def _stream(why: str, source: str = MEASURED, weight: int = 50) -> Rule:
    return Rule(Kind.CHANGES_STREAM, why, source, weight)


def _noise(why: str, source: str = MEASURED, weight: int = 50) -> Rule:
    return Rule(Kind.NUMERIC_NOISE, why, source, weight)


def _harmless(why: str, source: str = "") -> Rule:
    return Rule(Kind.HARMLESS, why, source, 0)


RULES: dict[str, Rule] = {
    "data.labels": _must("other labels: another task", "by definition", 100, "data"),
    "data.images": _must("other images: another task", "by definition", 100, "data"),
    "data.splits": _must(
        "another split, or other class names: the metrics are of other images", "by definition", 99, "data"
    ),
    e.INITIAL: _must("training starts elsewhere: another pretrained file or model", ONE_BIT, 90, "initial-weights"),
    e.MODEL: _must("another model", "by definition", 97, "initial-weights"),
    "had.optimizer": _must("another optimizer; `auto` chooses by the number of steps", AUTO, 90, "trainer"),
    "had.lr0": _must("another learning rate", AUTO, 90, "trainer"),
    "had.momentum": _must("another momentum", AUTO, 80, "trainer"),
    "had.images": _must("the loader had another number of images", "by definition", 95, "trainer"),
    "version.ultralytics": _must("other code: losses, augmentation and schedule differ", CLOSE_MOSAIC, 85, "versions"),
    **{
        f"{e.FILE}{name}": _must("the file is not the one that came back", "sha256 of the manifest", 100, "files")
        for name in e.FILES
    },
    "train.seed": Rule(
        Kind.CHANGES_STREAM, "another draw of weights, order and augmentation (first loss 7e-3 off)", MEASURED, 90, True
    ),
    "version.torch": Rule(
        Kind.NUMERIC_NOISE, "results are not reproducible across releases of PyTorch", RANDOMNESS, 60, True, "versions"
    ),
    e.RESTARTS: _stream(
        "a resumed run replays the first epoch's order and goes on from rounded weights: comparable by curves only",
        weight=85,
    ),
    e.ENDED: _stream("it ended elsewhere: comparable by curves only", weight=80),
    e.BATCHES: _stream("the batch changed on the way (out of memory): comparable by curves only", TRAINER, 95),
    "had.batch": _stream("the trainer halved the batch (out of memory): comparable by curves only", TRAINER, 95),
    "had.accumulate": _stream("follows from the batch: steps are taken over as many batches", TRAINER, 70),
    "had.workers": _stream("another order of random numbers from the first batch on (first loss 2e-2 off)", weight=80),
    "had.world_size": _stream("the batch is split over processes, each with a seed of its own", TRAINER, 85),
    "train.cache": _stream("choosing a cache draws random numbers, and ram changes the order", CACHE, 60),
    "train.deterministic": _noise("kernels that add in another order are allowed", RANDOMNESS, 30),
    "train.compile": _noise("other kernels", RANDOMNESS, 40),
    "train.channels_last": _harmless("what was asked for; what the trainer had is compared by itself"),
    "had.channels_last": _noise("other kernels", TRAINER, 40),
    "had.device": _noise("other kernels; on Apple's GPU the metrics themselves were wrong by 2.6 times", MPS, 80),
    "had.device_name": _noise("other kernels", RANDOMNESS, 40),
    "had.kernels": _noise("other kernels (first loss 3e-7 off, another seed's after 15 steps)", weight=50),
    "had.amp": _noise("half precision: rounding of 1e-3", TRAINER, 70),
    "had.threads": _noise("sums in another order (equal at first, 3e-3 off after 8 steps)", weight=50),
    "had.platform": _noise("another system: other mathematical libraries", RANDOMNESS, 10),
    "version.torchvision": _noise("other kernels of NMS", RANDOMNESS, 20),
    "version.numpy": _noise("other random numbers or rounding in augmentation", "assumption", 30),
    "version.opencv-python": _noise("decoding and scaling differ by single grey levels", "assumption", 40),
    "version.pillow": _noise("decoding may differ by single grey levels", "assumption", 10),
    "version.python": _harmless("no arithmetic of the training is Python's"),
    "train.device": _harmless("what was asked for; what the trainer had is compared by itself"),
    "worker": _harmless("the worker passes arguments on; those that arrived are compared by themselves"),
    "bundle": _harmless("what is in it is compared by itself"),
}
AS_ASKED = {"train.workers": "had.workers", "train.amp": "had.amp"} | {
    f"train.{name}": f"had.{name}" for name in ("optimizer", "lr0", "momentum")
}
"""Arguments that are a wish: where the trainer had the same, other wishes are harmless."""
ASKED_ONLY = {
    "train.workers": _stream("another order of random numbers, if the trainer followed it", weight=60),
    "train.amp": _noise("half precision, if the trainer followed it", TRAINER, 50),
}
WEIGHTS = {
    "training": 75,
    "model": 95,
    "schedule": 70,
    "validation": 85,
    "data": 95,
}
_GROUP = {f"{e.ARGUMENT}{name}": group for group, names in GROUPS.items() for name in names}
SAME_CHOICE = _harmless("the trainer had the same in the end")
UNTOLD = _stream("drawn from the seed, or by another PyTorch: not told apart from another start", ONE_BIT, 70)
NO_TRAINING = _harmless("acts on prediction and export only", "ultralytics, cfg/default.yaml")
UNKNOWN = _harmless("not known to act on the training")


def rule(name: str, run: e.Evidence, reference: e.Evidence) -> Rule:
    """What a difference in this field does between these two runs."""
    had = AS_ASKED.get(name)
    if had is not None:
        both = had in run and had in reference
        if both and same(run[had], reference[had]):
            return SAME_CHOICE
        if name in ASKED_ONLY:
            return ASKED_ONLY[name]
    if name == e.INITIAL and _drawn_otherwise(run, reference):
        return UNTOLD
    if name in RULES:
        return RULES[name]
    if not name.startswith(e.ARGUMENT):
        return UNKNOWN
    if name in elsewhere():
        return NO_TRAINING
    group = _GROUP.get(name, "training")
    if group not in EFFECTS:
        return _noise("a setting of the machine", "assumption", 20)
    return _must("another experiment: it acts on " + group.replace("training", "the training"), TRAINER, WEIGHTS[group])


def same(one: object, other: object) -> bool:
    """Whether they are one value: 5 and 5.0 are, true and 1 are not."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def expected(run: e.Evidence, reference: e.Evidence) -> tuple[str, ...]:
    """Fields that have to be known of both: what must be equal, and the arguments that either has or both should have.

    They should have those of the Ultralytics that is installed here, unless both are known to be of another version.
    """
    names = {name for name, one in RULES.items() if one.must_know}
    either = {name for one in (run, reference) for name in one.fields if name.startswith(e.ARGUMENT)}
    version, (training, _, installed) = "version.ultralytics", _arguments()
    others = all(version in one and one[version] != installed for one in (run, reference))
    wanted = names | either | (frozenset() if others else training)
    return tuple(sorted(name for name in wanted if rule(name, run, reference).must_know))


def elsewhere() -> frozenset[str]:
    """Arguments that the installed Ultralytics has, and that act on no training."""
    return _arguments()[1]


@functools.cache
def _arguments() -> tuple[frozenset[str], frozenset[str], str]:
    """Fields of arguments that act on a training, those that do not, and the version that has them: as installed."""
    try:
        arguments = Arguments()
        every = {f"{e.ARGUMENT}{name}" for name in arguments.package.facts if name not in QUIET}
    except SpecError:
        return frozenset(), frozenset(), ""
    training = {f"{e.ARGUMENT}{name}" for name in arguments.names if name not in QUIET} | (every & set(_GROUP))
    return frozenset(training), frozenset(every - training), arguments.package.version


def _drawn_otherwise(run: e.Evidence, reference: e.Evidence) -> bool:
    """Whether other initial weights are to be expected: another seed, or another PyTorch that draws them."""
    names = ("train.seed", "version.torch")
    return any(name in run and name in reference and not same(run[name], reference[name]) for name in names)
