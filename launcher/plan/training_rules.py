"""Hazards of train arguments: those that mean something else than they seem to, and those that are ignored."""

from __future__ import annotations

import math
import re

from launcher.finding import Severity
from launcher.plan.case import AUTO_STEPS, MUSGD_LR, Case, count, size
from launcher.plan.rule import CODE, ISSUES, PULLS, Rule, Said

MIXING = ("mosaic", "mixup", "cutmix", "copy_paste")
"""What goes when mosaic is closed: data/dataset.py, close_mosaic."""
FEW_STEPS = 10  # an assumption: the smoke run's first epoch has as many, and learns next to nothing in it
BOX_LOWEST = 1.0  # the least gain that Ultralytics' own tuner tries (engine/tuner.py: 1.0 to 20.0)
BOX_YOLOV5 = 0.05  # hyp.scratch-low.yaml of YOLOv5, which says so for the same loss on another scale
IGNORED_BY_AUTO = ("lr0", "momentum", "warmup_bias_lr")
STRIDE, STRIDE_P6 = 32, 64  # of the detection models; the greatest of those with a P6 head
_P6 = re.compile(r"-p6(-|\Z)|yolov[58][nsmlx]6u?\Z")
CACHE_MARGIN = {"ram": 2.0, "disk": 1.1}  # free space that Ultralytics asks for, times the images: data/base.py


def _mixing(case: Case) -> str:
    """The mixing augmentations that are on, for a sentence; empty with `rect`, which switches them off itself."""
    return "" if case.value("rect") else ", ".join(name for name in MIXING if case.value(name) > 0)


def close_mosaic_covers_run(case: Case) -> Said | None:
    """H09: epoch >= epochs - close_mosaic holds from epoch 0."""
    close, mixing = int(case.value("close_mosaic")), _mixing(case)
    if not mixing or not close or close < case.epochs:
        return None
    return Said(
        f"mosaic is off for the whole run: close_mosaic covers the last {close} epochs, and there are {case.epochs}",
        f"{case.said('epochs')}, {case.said('close_mosaic')}: off from epoch 1 on: {mixing}. Versions from before "
        "18 September 2026 differ below 10 epochs",
        "--set train.close_mosaic=0 keeps mosaic on; --set train.mosaic=0 says that it is meant to be off",
    )


def close_mosaic_shortens(case: Case) -> Said | None:
    """H09: the share of the run that has mosaic, where the user has not chosen it."""
    close, mixing = int(case.value("close_mosaic")), _mixing(case)
    if not mixing or not 0 < close < case.epochs or case.given("close_mosaic") or case.given("time"):
        return None
    last = case.epochs - close
    return Said(
        f"mosaic is on for epochs 1 to {last} of {case.epochs} only",
        f"{case.said('epochs')}, {case.said('close_mosaic')}: off after epoch {last}: {mixing}",
        "--set train.close_mosaic=0 keeps it on to the end",
    )


def few_steps(case: Case) -> Said | None:
    """Gradients of max(round(nbs / batch), 1) batches are gathered for one step of the optimizer."""
    images, batch = case.train_images, case.batch
    if not images or batch is None or case.given("time"):
        return None
    batches, gathered = math.ceil(images / batch) * case.epochs, max(round(float(case.value("nbs")) / batch), 1)
    steps = batches // gathered
    if steps >= FEW_STEPS:
        return None
    return Said(
        f"the weights will hardly move: {steps} step{'s' * (steps != 1)} of the optimizer in the whole run",
        f"{batches} batches in all, and a step for each {gathered} of them ({case.said('nbs')}, batch {batch})",
        f"--set train.nbs={batch} steps after each batch; or more epochs",
    )


def box_gain(case: Case) -> Said | None:
    """H10: a gain on YOLOv5's scale."""
    box, default = float(case.value("box")), float(case.arguments.default("box"))
    if box >= BOX_LOWEST:
        return None
    share = f"1/{default / box:.1f} of" if box else "nothing beside"
    return Said(
        f"box {box:g} looks like a gain on YOLOv5's scale; here it leaves the box loss almost without weight",
        f"{case.said('box')} is {share} the default {default:g} of v8 and later, and {box / BOX_YOLOV5:g} times "
        f"YOLOv5's {BOX_YOLOV5:g}; Ultralytics' own tuner tries nothing below {BOX_LOWEST:g}",
        f"--set train.box={default:g} if the default was meant; leave it if a weak box loss is what is tested",
    )


def iou_is_nms(case: Case) -> Said | None:
    """H11: not the anchor matching threshold of YOLOv5."""
    if not case.given("iou") or case.value("iou") == case.arguments.default("iou"):
        return None
    return Said(
        "iou does not change the training: it is the overlap at which validation drops boxes (NMS)",
        f"{case.said('iou')}, default {case.arguments.default('iou')}: the metrics move, the weights only through the "
        "choice of best.pt; measured, mAP50-95 -0.014 at iou 0.3. YOLOv5's iou_t (anchor matching) has no equivalent",
        "remove train.iou, or compare only runs that have the same",
    )


def _auto(case: Case) -> bool:
    return str(case.value("optimizer")).lower() == "auto"


def auto_ignores(case: Case) -> Said | None:
    """H12: lr0 and its like beside `optimizer: auto`."""
    ignored = [name for name in IGNORED_BY_AUTO if case.given(name)]
    if not _auto(case) or not ignored:
        return None
    auto = case.auto
    instead = f"{auto.optimizer} with lr0 {auto.lr0:g} and momentum 0.9" if auto else "its own choice"
    values = ", ".join(f"{name} {case.value(name)}" for name in ignored)
    chosen = auto.optimizer if auto else "AdamW"
    return Said(
        f"{values} ignored: optimizer auto takes {instead}",
        f"{case.said('optimizer')}" + (f"; {_steps(case)}" if auto else "; which one depends on the dataset's size"),
        f"--set train.optimizer={chosen} makes them count",
    )


def _steps(case: Case) -> str:
    auto = case.auto
    if auto is None:
        return ""
    flip = f"AdamW up to {auto.last_adamw} epochs, MuSGD from {auto.last_adamw + 1} on"
    steps = f"{count(auto.steps_per_epoch)} steps an epoch x {case.epochs} = {count(auto.steps)}"
    return f"{steps} (MuSGD above {count(AUTO_STEPS)}): {flip}"


def auto_choice(case: Case) -> Said | None:
    """H12: what `auto` is here, and where it changes."""
    auto = case.auto
    if not _auto(case) or auto is None:
        return None
    return Said(
        f"optimizer auto is {auto.optimizer} with lr0 {auto.lr0:g} here; more epochs or images may change it",
        f"{_steps(case)}; lr0 {auto.adamw_lr0:g} for AdamW, {MUSGD_LR:g} for MuSGD",
        f"--set train.optimizer={auto.optimizer} --set train.lr0={auto.lr0:g} --set train.momentum=0.9 pins it",
    )


def cache_ram(case: Case) -> Said | None:
    """H18."""
    if case.cache != "ram":
        return None
    need = case.cached("ram")
    amount = f"{size(need)} of images, {size(need * 2)} asked for" if need else "size not known without the dataset"
    return Said(
        "cache ram makes the run another one each time, and takes memory that a container may not have",
        f"{case.said('cache')}: {amount}; Ultralytics asks the machine's memory, not the container's limit",
        "--set train.cache=false, or --set train.cache=disk, which is deterministic",
    )


def cache_disk(case: Case) -> Said | None:
    """H17: how much, in the run's scratch folder (the worker's view of the data), not beside the dataset."""
    if case.cache != "disk":
        return None
    need = case.cached("disk")
    amount = size(need) if need else "an amount not known without the dataset"
    return Said(
        "cache disk writes every image, uncompressed and at its full size, into the run's scratch folder",
        f"{case.said('cache')}: {amount} ({_pictures(case)})",
        "--set train.cache=false needs none",
    )


def _pictures(case: Case) -> str:
    facts = case.facts
    if facts is None:
        return "images not counted yet"
    images = (case.train_images or 0) + (case.val_images or 0)
    return f"{count(images)} images of {facts.width} x {facts.height}"


def _does_not_fit(case: Case, where: str, free: int | None) -> Said | None:
    need = case.cached(where) if case.cache == where else None
    if need is None or free is None or need * CACHE_MARGIN[where] <= free:
        return None
    return Said(
        f"cache {where} does not fit: Ultralytics says so in one line of log, and trains without it or with a part",
        f"{size(need)} ({_pictures(case)}), {size(need * CACHE_MARGIN[where])} with its margin; {size(free)} are free",
        "--set train.cache=false, or a machine with more",
    )


def cache_ram_fits(case: Case) -> Said | None:
    """H18, where the machine's free memory is known."""
    return _does_not_fit(case, "ram", case.room.memory)


def cache_disk_fits(case: Case) -> Said | None:
    """H17, where the machine's free disk is known."""
    return _does_not_fit(case, "disk", case.room.disk)


def cache_disk_no_room(case: Case) -> Said | None:
    """A machine that says how much it hands over, and not how much room there is beside that."""
    limit = case.offer.output_limit
    if case.cache != "disk" or limit is None or case.room.disk is not None:
        return None
    need = case.cached("disk")
    wanted = f"the images take {size(need)} uncompressed" if need is not None else "every image is written uncompressed"
    return Said(
        "a disk cache may fill this machine's disk, and how large that is nobody says",
        f"{case.said('cache')}: {wanted}; of what is kept {size(limit)} may be left",
        "--set train.cache=false, or --set train.cache=ram where the images fit",
    )


def val_off(case: Case) -> Said | None:
    """H23."""
    if case.value("val"):
        return None
    return Said(
        "without validation best.pt is not the best epoch but the last one, and results.csv has no metrics before it",
        f"{case.said('val')}: validated only once, after epoch {case.epochs}; patience cannot act either",
        "--set train.val=true",
    )


def time_replans(case: Case) -> Said | None:
    """H23: `time`."""
    if not case.given("time"):
        return None
    return Said(
        "time makes the number of epochs and the learning rate depend on how fast the machine is: no two are the same",
        f"{case.said('time')} hours, {case.said('epochs')} is re-planned after every epoch",
        "remove train.time and set resources.max_hours: it stops between epochs and leaves a checkpoint to go on from",
    )


def not_deterministic(case: Case) -> Said | None:
    """The one flag that makes repeats on one machine equal."""
    if case.value("deterministic"):
        return None
    return Said(
        "deterministic is off: the same spec on the same machine gives another result each time",
        case.said("deterministic"),
        "--set train.deterministic=true",
    )


def imgsz_rounded(case: Case) -> Said | None:
    """An image size that the model's stride does not divide."""
    stem = case.spec.model.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    stride = STRIDE_P6 if _P6.search(stem) else STRIDE
    imgsz = int(case.value("imgsz"))
    taken = math.ceil(imgsz / stride) * stride
    if imgsz == taken:
        return None
    return Said(
        f"imgsz {imgsz} is no multiple of {stride}: Ultralytics trains with {taken}",
        f"{case.said('imgsz')}; it is rounded up to the model's greatest stride, and one line of log says so",
        f"--set train.imgsz={taken} says what will be trained",
    )


_TRAINER = CODE + "engine/trainer.py, "
RULES = (
    Rule("train.close-mosaic-covers-run", Severity.WARNING, PULLS + "26226", close_mosaic_covers_run),
    Rule("train.close-mosaic-shortens", Severity.INFO, _TRAINER + "_do_train", close_mosaic_shortens),
    Rule(
        "train.box-gain-yolov5-scale",
        Severity.WARNING,
        "https://github.com/ultralytics/yolov5/blob/master/data/hyps/hyp.scratch-low.yaml",
        box_gain,
    ),
    Rule("train.few-steps", Severity.WARNING, _TRAINER + "_setup_train and _do_train", few_steps),
    Rule("train.iou-is-nms", Severity.WARNING, CODE + "models/yolo/detect/val.py, postprocess", iou_is_nms),
    Rule("train.optimizer-auto-ignores-lr", Severity.WARNING, _TRAINER + "build_optimizer", auto_ignores),
    Rule("train.optimizer-auto", Severity.INFO, _TRAINER + "build_optimizer", auto_choice),
    Rule("train.cache-ram", Severity.WARNING, ISSUES + "21783", cache_ram),
    Rule("train.cache-ram-does-not-fit", Severity.WARNING, CODE + "data/base.py, check_cache_ram", cache_ram_fits),
    Rule(
        "train.cache-disk-no-room",
        Severity.ERROR,
        "samerun: no room that is not known is counted on",
        cache_disk_no_room,
    ),
    Rule("train.cache-disk", Severity.INFO, ISSUES + "6553", cache_disk),
    Rule("train.cache-disk-does-not-fit", Severity.WARNING, ISSUES + "6553", cache_disk_fits),
    Rule("train.imgsz-rounded", Severity.WARNING, CODE + "utils/checks.py, check_imgsz", imgsz_rounded),
    Rule("train.val-off", Severity.WARNING, _TRAINER + "_do_train and save_model", val_off),
    Rule("train.time-replans", Severity.WARNING, _TRAINER + "_do_train", time_replans),
    Rule("train.not-deterministic", Severity.WARNING, CODE + "utils/torch_utils.py, init_seeds", not_deterministic),
)
