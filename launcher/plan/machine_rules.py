"""Hazards of a machine: what the spec asks for and this device, this GPU, these versions or this worker do not do."""

from __future__ import annotations

import re

from launcher.finding import Severity
from launcher.plan.case import Case, numbers
from launcher.plan.rule import CODE, ISSUES, PULLS, Rule, Said

PINNED = ("ultralytics", "torch")
SAME_STREAM_VERSION = (8, 4, 190)
"""The version of Ultralytics whose assigner was read and has not the pattern that fails on MPS."""
_NO_BF16 = re.compile(r"(?<![A-Z0-9])(T4|P100|V100|P4|P40|K80|K40|M60|RTX 20\d0|GTX 1[06]\d0)(?![0-9])")
"""GPUs older than Ampere (compute capability below 8.0), by the names that machines are offered under."""
_NO_KERNELS = re.compile(r"(?<![A-Z0-9])(P100|V100|P4|P40|K80|K40|M60|GTX 10\d0)(?![0-9])")
"""GPUs below compute capability 7.5, which the wheel of torch 2.15.0 leaves out (its `_cuda_getArchFlags`)."""
FIXED_BY_WORKER = (
    "YOLO_CONFIG_DIR",
    "YOLO_OFFLINE",
    "YOLO_AUTOINSTALL",
    "ULTRALYTICS_SAFE_LOAD",
    "MPLCONFIGDIR",
    "XDG_CACHE_HOME",
    "TORCH_HOME",
    "CUDA_CACHE_PATH",
    "TRITON_CACHE_DIR",
    "TORCHINDUCTOR_CACHE_DIR",
    "TMPDIR",
    "ULTRALYTICS_API_KEY",
)
"""Variables that launcher/worker/training/train.py sets or removes, whatever the spec says."""
OTHER_TASKS = ("seg", "pose", "cls", "obb", "sem", "depth")
PINS_SOURCE = "samerun: the run is what its spec says, or it is not started"
_CPU_OR_GPU = "resources.device: cpu, or a machine with CUDA"


def pin_differs(name: str, case: Case) -> Said | None:
    """A pinned version that this backend cannot give: it would train with another one."""
    pin = getattr(case.spec.environment, name)
    if pin is None or name in case.offer.installs or _same(pin, case.versions.get(name)):
        return None
    have = case.versions.get(name)
    there = f"{name} {have} is installed" if have else f"{name} is not installed, as far as is known"
    accept = f"--set environment.{name}={have}, or " if have else ""
    return Said(
        f"the spec pins {name} {pin}, and this backend trains in an environment that has another",
        f"environment.{name} {pin}; {there}",
        f"{accept}pip install {name}=={pin}, or choose a backend that installs",
    )


def pins_install(case: Case) -> Said | None:
    """The pins that differ from what is here, where they can be had."""
    wanted = [name for name in PINNED if name in case.offer.installs]
    pins = {name: pin for name in wanted if (pin := getattr(case.spec.environment, name)) is not None}
    other = [f"{name} {pin}" for name, pin in pins.items() if not _same(pin, case.versions.get(name))]
    if not other:
        return None
    return Said(
        f"{' and '.join(other)} will be installed there; these findings are read from ultralytics 8.4.190",
        "; ".join(f"{name} {case.versions.get(name, 'not')} installed here" for name in pins),
    )


def _same(pin: str, have: str | None) -> bool:
    """Whether a version is the pinned one; `+cu132` counts only where the pin has such a part."""
    return have is not None and (pin == have or ("+" not in pin and pin == have.split("+")[0]))


def variable_overridden(case: Case) -> Said | None:
    """H19, H22: variables that the worker sets for the training, so that nothing leaves the machine unasked."""
    names = [name for name in case.spec.environment.variables if name in FIXED_BY_WORKER]
    if not names:
        return None
    return Said(
        f"{', '.join(names)} will not reach the training: samerun sets or removes it",
        "environment.variables; with an API key Ultralytics would upload weights and metrics to its platform",
        "remove it from environment.variables",
    )


def device_differs(case: Case) -> Said | None:
    """H08: Ultralytics would train on another device and write the one asked for into args.yaml."""
    asked = case.spec.resources.device
    if asked in ("auto", case.device):
        return None
    return Said(
        f"the spec asks for {asked}, and this machine is offered with {case.device}",
        f"resources.device {asked}; {case.offer.machine}: {case.device}",
        f"--set resources.device={case.device}, or choose another backend",
    )


def needs_network(case: Case) -> Said | None:
    """Weights by name are downloaded by Ultralytics, on the machine, when the training starts."""
    model = case.spec.model
    if "/" in model or "$" in model or not (model.endswith(".pt") or "." not in model):
        return None
    file = model if model.endswith(".pt") else f"{model}.pt"
    return Said(
        f"the machine must reach github.com: Ultralytics downloads {file} there, and no digest says what it gets",
        f"model {model} is a name, no file here; YOLO_OFFLINE does not stop this download",
        f"download it once, put it beside the spec and write `model: ./{file}`: it travels with the run",
    )


def other_task(case: Case) -> Said | None:
    """samerun trains detection; the model's name says something else."""
    task = _task(case)
    if task is None:
        return None
    return Said(
        f"model {case.spec.model} is one for {task}: samerun trains and checks detection only",
        f"the name ends in -{task}; Ultralytics takes the task from the model and wants labels of that kind",
        f"--set model={case.spec.model.replace(f'-{task}', '')}",
    )


def _task(case: Case) -> str | None:
    stem = case.spec.model.rsplit("/", 1)[-1].removesuffix(".pt").removesuffix(".yaml")
    return next((task for task in OTHER_TASKS if stem.endswith(f"-{task}")), None)


def mps_pose(case: Case) -> Said | None:
    """H06."""
    if case.device != "mps" or _task(case) != "pose":
        return None
    evidence = f"model {case.spec.model} on mps; reported for every version, and 8.4.190 does not warn of it any more"
    return Said("pose training on Apple's GPU gives wrong keypoints", evidence, _CPU_OR_GPU)


def mps_old(case: Case) -> Said | None:
    """H01, H02: the assigner's shape mismatch, and memory that is not given back."""
    version = case.ultralytics
    if case.device != "mps" or version is None or numbers(version) >= SAME_STREAM_VERSION:
        return None
    return Said(
        "on Apple's GPU this version can stop with a shape mismatch in tal.py, or slow down as memory fills up",
        f"ultralytics {version}; the mismatch was seen from 8.3 to 8.4.2x (#22971, #23853, #24200), the memory before "
        "27 March 2026 (#22621, #24038); 8.4.190 has neither pattern",
        "--set environment.ultralytics=8.4.190, or " + _CPU_OR_GPU,
    )


def mps_graph_cache(case: Case) -> Said | None:
    """H03."""
    if case.device != "mps":
        return None
    return Said(
        "memory can grow through the run on Apple's GPU, until the Mac swaps or kills the training",
        "a compiled graph is kept for each new shape; 8.4.190 rounds the number of boxes up to bound them (#26742). "
        "Not measured here: no Mac was at hand. A killed training goes on from its last epoch "
        f"(resume.restarts {case.spec.resume.restarts})",
        "set PYTORCH_MPS_HIGH_WATERMARK_RATIO 1.0 and PYTORCH_MPS_LOW_WATERMARK_RATIO 0.8 in environment.variables: "
        "out of memory then is an error, not a stall",
    )


def mps_validation(case: Case) -> Said | None:
    """H04."""
    if case.device != "mps":
        return None
    return Said(
        "metrics written while training on Apple's GPU can be far off; the weights may be good",
        "reported: mAP50 0.297 in training, 0.780 for the same best.pt validated again",
        "validate best.pt on a CPU or with CUDA before believing results.csv",
    )


def mps_zero_loss(case: Case) -> Said | None:
    """H05: the worker watches for it."""
    if case.device != "mps":
        return None
    evidence = f"torch {case.versions.get('torch', 'of unknown version')}; reported with torch 2.6 and later on an M4"
    return Said("box loss can be 0 from the first epoch on; samerun stops the run when it is", evidence, _CPU_OR_GPU)


def bf16_no_cuda(case: Case) -> Said | None:
    """H07: autocast raises at the first batch."""
    if case.value("amp") != "bf16" or case.cuda:
        return None
    evidence = f"{case.said('amp')} on {case.device}: RuntimeError, bfloat16 autocast requires CUDA"
    return Said("amp bf16 needs CUDA: the training would stop at its first batch", evidence, "--set train.amp=false")


def bf16_old_gpu(case: Case) -> Said | None:
    """H13: the same on a GPU without native bfloat16."""
    found = _NO_BF16.search(case.offer.machine) if case.device == "cuda" else None
    if case.value("amp") != "bf16" or found is None:
        return None
    evidence = f"{case.said('amp')}; {case.offer.machine}: a {found[1]} has no native bfloat16, autocast raises"
    message = "amp bf16 needs a newer GPU: the training would stop at its first batch"
    return Said(message, evidence, "--set train.amp=fp16")


def no_kernels(case: Case) -> Said | None:
    """H14, H15: CUDA is there, and the first kernel fails."""
    found = _NO_KERNELS.search(case.offer.machine) if case.device == "cuda" else None
    if found is None:
        return None
    return Said(
        f"torch may have no kernels for a {found[1]}: CUDA looks fine until the first one runs",
        f"{case.offer.machine}; the wheel of torch 2.15.0 has sm_75 (T4), 80, 86, 90, 100 and 120; Kaggle's image of "
        "July 2026 has no sm_60 (P100) either",
        "take another GPU (T4 or newer), or pin a torch built for CUDA 12.6",
    )


def workers_ignored(case: Case) -> Said | None:
    """H07: another number of loader workers is another random stream."""
    if case.cuda or not case.given("workers") or not case.value("workers"):
        return None
    return Said(
        f"workers are 0 on {case.device}, whatever the spec says; the same spec with CUDA sees other augmentations",
        f"{case.said('workers')}; measured: 0 against 2 workers differ from the first batch on (loss by 2 %)",
        "--set train.workers=0 gives every machine the same stream",
    )


def workers_by_machine(case: Case) -> Said | None:
    """The same with CUDA: the number of CPUs decides."""
    if not case.cuda or case.given("workers"):
        return None
    return Said(
        "the number of loader workers depends on the machine's CPUs, and with it the augmentations that are drawn",
        f"{case.said('workers')}, at most the CPUs and the batches",
        "--set train.workers=2 (or any number that every machine has CPUs for)",
    )


def autobatch_no_cuda(case: Case) -> Said | None:
    """H07: AutoBatch gives up and takes the default."""
    if case.cuda or case.value("batch") >= 1:
        return None
    default = case.arguments.default("batch")
    return Said(
        f"AutoBatch works with CUDA only: on {case.device} the batch is {default}",
        case.said("batch"),
        f"--set train.batch={default}, or any number of images",
    )


def autobatch_by_machine(case: Case) -> Said | None:
    """A batch chosen by free memory is another run on each machine."""
    if not case.cuda or case.value("batch") >= 1:
        return None
    return Said(
        "AutoBatch chooses the batch by the memory that is free at that moment: each machine trains another run",
        case.said("batch"),
        "--set train.batch=16, or any number of images",
    )


def amp_ignored(case: Case) -> Said | None:
    """H07."""
    if case.cuda or not case.given("amp") or case.value("amp") not in (True, "fp16"):
        return None
    evidence = f"{case.said('amp')}; Ultralytics' check turns it off on {case.device}"
    message = f"the training runs in float32 on {case.device}"
    return Said(message, evidence, "--set train.amp=false says the same everywhere")


def amp_check(case: Case) -> Said | None:
    """H24."""
    if case.device != "cuda" or case.value("amp") not in (True, "fp16"):
        return None
    return Said(
        "AMP is tested with yolo26n.pt, which Ultralytics downloads; without a network it stays on untested",
        f"{case.said('amp')} on cuda",
        "--set train.amp=false trains in float32 and needs no test",
    )


def channels_last_ignored(case: Case) -> Said | None:
    """H07."""
    if case.device == "cuda" or case.value("channels_last") is not True:
        return None
    evidence = f"{case.said('channels_last')} on {case.device}"
    return Said("channels_last works with CUDA only and is ignored here", evidence, "remove train.channels_last")


PLATFORM = CODE + "utils/callbacks/platform.py"
_TRAINER = CODE + "engine/trainer.py, "
RULES = (
    Rule("environment.ultralytics-differs", Severity.ERROR, PINS_SOURCE, lambda case: pin_differs("ultralytics", case)),
    Rule("environment.torch-differs", Severity.ERROR, PINS_SOURCE, lambda case: pin_differs("torch", case)),
    Rule("environment.pins-install", Severity.INFO, PINS_SOURCE, pins_install),
    Rule("environment.variable-overridden", Severity.WARNING, PLATFORM, variable_overridden),
    Rule("resources.device-differs", Severity.ERROR, CODE + "utils/torch_utils.py, select_device", device_differs),
    Rule("model.needs-network", Severity.WARNING, CODE + "utils/downloads.py, attempt_download_asset", needs_network),
    Rule("model.other-task", Severity.WARNING, CODE + "engine/model.py", other_task),
    Rule("mps.pose", Severity.ERROR, ISSUES + "4031", mps_pose),
    Rule("mps.old-ultralytics", Severity.WARNING, ISSUES + "22971", mps_old),
    Rule("mps.memory-grows", Severity.WARNING, PULLS + "24222", mps_graph_cache),
    Rule("mps.validation-differs", Severity.WARNING, ISSUES + "24399", mps_validation),
    Rule("mps.zero-loss", Severity.INFO, ISSUES + "7554", mps_zero_loss),
    Rule("train.bf16-needs-cuda", Severity.ERROR, CODE + "utils/torch_utils.py, autocast", bf16_no_cuda),
    Rule("train.bf16-needs-newer-gpu", Severity.ERROR, CODE + "utils/torch_utils.py, autocast", bf16_old_gpu),
    Rule("cuda.no-kernels", Severity.WARNING, "https://github.com/Kaggle/docker-python/issues/1546", no_kernels),
    Rule("train.workers-ignored", Severity.WARNING, _TRAINER + "__init__", workers_ignored),
    Rule("train.workers-by-machine", Severity.INFO, CODE + "data/build.py, build_dataloader", workers_by_machine),
    Rule("train.autobatch-needs-cuda", Severity.WARNING, CODE + "utils/autobatch.py, autobatch", autobatch_no_cuda),
    Rule("train.autobatch-by-machine", Severity.WARNING, CODE + "utils/autobatch.py, autobatch", autobatch_by_machine),
    Rule("train.amp-ignored", Severity.INFO, CODE + "utils/checks.py, check_amp", amp_ignored),
    Rule("train.amp-check-offline", Severity.INFO, CODE + "utils/checks.py, check_amp", amp_check),
    Rule("train.channels-last-ignored", Severity.INFO, _TRAINER + "setup_model", channels_last_ignored),
)
