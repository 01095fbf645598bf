"""Each hazard is seen where it is, and not where it is not; the jobspecs say what they are known for."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.backend import Offer
from launcher.finding import Finding, Severity
from launcher.plan import machine_rules
from launcher.plan.case import Room
from launcher.plan.hazards import RULES, find, hazards
from launcher.spec.arguments import Arguments
from launcher.spec.load import load_spec
from tests.plan.conftest import COTS, HERE, MakeCase

ROOT = Path(__file__).parents[2]
GB = 10**9

# code, what makes it fire, what is the nearest that does not
CASES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("train.close-mosaic-covers-run", {"epochs": 10}, {"epochs": 11}),
    ("train.close-mosaic-covers-run", {"epochs": 10, "time": 1.0}, {"epochs": 10, "close_mosaic": 9}),
    ("train.close-mosaic-covers-run", {"epochs": 3, "mosaic": 0.0, "mixup": 0.1}, {"epochs": 3, "mosaic": 0.0}),
    ("train.close-mosaic-covers-run", {"epochs": 5, "close_mosaic": 7}, {"epochs": 5, "close_mosaic": 0}),
    ("train.close-mosaic-covers-run", {"epochs": 5}, {"epochs": 5, "rect": True}),
    ("train.close-mosaic-shortens", {"epochs": 15}, {"epochs": 15, "close_mosaic": 5}),
    ("train.close-mosaic-shortens", {"epochs": 11}, {"epochs": 10}),
    ("train.box-gain-yolov5-scale", {"box": 0.2}, {"box": 1.0}),
    ("train.box-gain-yolov5-scale", {"box": 0.0}, {}),
    ("train.few-steps", {"fraction": 0.001, "epochs": 2}, {"fraction": 0.001, "epochs": 40}),
    ("train.few-steps", {"fraction": 0.001, "epochs": 10}, {"fraction": 0.001, "epochs": 10, "nbs": 16}),
    ("train.iou-is-nms", {"iou": 0.3}, {"iou": 0.7}),
    ("train.optimizer-auto-ignores-lr", {"lr0": 0.002}, {"lr0": 0.002, "optimizer": "AdamW"}),
    ("train.optimizer-auto-ignores-lr", {"momentum": 0.8, "optimizer": "Auto"}, {}),
    ("train.optimizer-auto-ignores-lr", {"warmup_bias_lr": 0.1, "facts": None}, {"facts": None}),
    ("train.optimizer-auto", {}, {"optimizer": "SGD"}),
    ("train.optimizer-auto", {"optimizer": "auto"}, {"facts": None}),
    ("train.cache-ram", {"cache": True}, {"cache": False}),
    ("train.cache-ram", {"cache": "RAM"}, {"cache": "disk"}),
    ("train.cache-disk", {"cache": "disk"}, {"cache": True}),
    ("train.cache-ram-does-not-fit", {"cache": "ram", "room": Room(memory=32 * GB)}, {"cache": "ram"}),
    ("train.cache-ram-does-not-fit", {"cache": "ram", "room": Room(memory=32 * GB)},
     {"cache": "ram", "room": Room(memory=33 * GB)}),
    ("train.cache-disk-does-not-fit", {"cache": "disk", "room": Room(disk=20 * GB)},
     {"cache": "disk", "room": Room(disk=80 * GB)}),
    ("train.cache-disk-does-not-fit", {"cache": "disk", "room": Room(disk=20 * GB)},
     {"cache": "ram", "room": Room(disk=20 * GB)}),
    ("train.imgsz-rounded", {"imgsz": 100}, {"imgsz": 96}),
    ("train.imgsz-rounded", {"imgsz": 96, "model": "yolov8n-p6.yaml"}, {"imgsz": 96, "model": "yolov8n-p2.yaml"}),
    ("train.imgsz-rounded", {"imgsz": 96, "model": "yolov5n6u.pt"}, {"imgsz": 128, "model": "/w/yolov5n6u.pt"}),
    ("train.val-off", {"val": False}, {"val": True}),
    ("train.time-replans", {"time": 2.0}, {"time": None}),
    ("train.not-deterministic", {"deterministic": False}, {}),
    ("environment.ultralytics-differs", {"pins": {"ultralytics": "8.4.100"}}, {"pins": {"ultralytics": "8.4.190"}}),
    ("environment.ultralytics-differs", {"pins": {"ultralytics": "8.4.190"}, "versions": {}}, {"versions": {}}),
    ("environment.ultralytics-differs", {"pins": {"ultralytics": "8.4.100"}},
     {"pins": {"ultralytics": "8.4.100"}, "installs": ("ultralytics",)}),
    ("environment.torch-differs", {"pins": {"torch": "2.14.0"}, "installs": ("ultralytics",)},
     {"pins": {"torch": "2.14.0"}, "installs": ("torch",)}),
    ("train.cache-disk-no-room", {"cache": "disk", "limit": 20 * GB}, {"cache": "disk"}),
    ("train.cache-disk-no-room", {"cache": "disk", "limit": 20 * GB}, {"cache": "ram", "limit": 20 * GB}),
    ("environment.torch-differs", {"pins": {"torch": "2.15.0+cpu"}}, {"pins": {"torch": "2.15.0"}}),
    ("environment.torch-differs", {"pins": {"torch": "2.14.0"}}, {"pins": {"torch": "2.15.0+cu132"}}),
    ("environment.pins-install", {"pins": {"torch": "2.14.0"}, "installs": ("torch",)}, {"pins": {"torch": "2.14.0"}}),
    ("environment.pins-install", {"pins": {"torch": "2.14.0"}, "installs": ("torch",)},
     {"pins": {"torch": "2.15.0"}, "installs": ("torch",)}),
    ("environment.variable-overridden", {"pins": {"variables": {"ULTRALYTICS_API_KEY": "${env:K}"}}},
     {"pins": {"variables": {"OMP_NUM_THREADS": "2"}}}),
    ("resources.device-differs", {"asked": "cuda"}, {"asked": "cpu"}),
    ("resources.device-differs", {"asked": "mps", "device": "cuda"}, {"asked": "auto", "device": "cuda"}),
    ("model.needs-network", {"model": "yolo11n.pt"}, {"model": "/weights/yolo11n.pt"}),
    ("model.needs-network", {"model": "yolo11n"}, {"model": "yolo11n.yaml"}),
    ("model.needs-network", {"model": "yolo11n.pt"}, {"model": "${env:WEIGHTS}"}),
    ("model.other-task", {"model": "yolo11n-seg.pt"}, {"model": "yolo11n.pt"}),
    ("mps.pose", {"device": "mps", "model": "yolo11n-pose.yaml"}, {"model": "yolo11n-pose.yaml"}),
    ("mps.pose", {"device": "mps", "model": "yolo11n-pose.yaml"}, {"device": "mps", "model": "yolo11n.yaml"}),
    ("mps.old-ultralytics", {"device": "mps", "versions": {"ultralytics": "8.4.31"}}, {"device": "mps"}),
    ("mps.old-ultralytics", {"device": "mps", "pins": {"ultralytics": "8.4.9"}}, {"pins": {"ultralytics": "8.4.9"}}),
    ("mps.memory-grows", {"device": "mps"}, {"device": "cuda"}),
    ("mps.validation-differs", {"device": "mps"}, {"device": "cpu"}),
    ("mps.zero-loss", {"device": "mps"}, {"device": "cpu"}),
    ("train.bf16-needs-cuda", {"device": "mps", "amp": "bf16"}, {"device": "cuda", "amp": "bf16"}),
    ("train.bf16-needs-cuda", {"amp": "bf16"}, {"amp": "fp16"}),
    ("train.bf16-needs-newer-gpu", {"device": "cuda", "machine": "Kaggle, NvidiaTeslaT4", "amp": "bf16"},
     {"device": "cuda", "machine": "Kaggle, NvidiaTeslaT4", "amp": "fp16"}),
    ("train.bf16-needs-newer-gpu", {"device": "cuda", "machine": "1 x P100 16 GB", "amp": "bf16"},
     {"device": "cuda", "machine": "NVIDIA L4", "amp": "bf16"}),
    ("cuda.no-kernels", {"device": "cuda", "machine": "Tesla P100"}, {"device": "cuda", "machine": "2 x T4"}),
    ("cuda.no-kernels", {"device": "cuda", "machine": "Tesla V100"}, {"device": "cpu", "machine": "Tesla V100"}),
    ("train.workers-ignored", {"workers": 4}, {"workers": 0}),
    ("train.workers-ignored", {"workers": 4, "device": "mps"}, {"workers": 4, "device": "cuda"}),
    ("train.workers-by-machine", {"device": "cuda"}, {"device": "cuda", "workers": 2}),
    ("train.autobatch-needs-cuda", {"batch": -1}, {"batch": 1}),
    ("train.autobatch-needs-cuda", {"batch": 0.7, "device": "mps"}, {"batch": 0.7, "device": "cuda"}),
    ("train.autobatch-by-machine", {"batch": -1, "device": "cuda"}, {"batch": 8, "device": "cuda"}),
    ("train.amp-ignored", {"amp": True}, {}),
    ("train.amp-ignored", {"amp": "fp16", "device": "mps"}, {"amp": "fp16", "device": "cuda"}),
    ("train.amp-check-offline", {"device": "cuda"}, {"device": "cuda", "amp": "fp32"}),
    ("train.amp-check-offline", {"device": "cuda"}, {"device": "cuda", "amp": "bf16"}),
    ("train.channels-last-ignored", {"channels_last": True}, {"channels_last": True, "device": "cuda"}),
]  # fmt: skip


def codes(found: list[Finding]) -> set[str]:
    return {finding.code for finding in found}


@pytest.mark.parametrize(("code", "fires", "silent"), CASES)
def test_a_rule_fires_where_the_hazard_is_and_only_there(
    make: MakeCase, code: str, fires: dict[str, Any], silent: dict[str, Any]
) -> None:
    assert code in codes(find(make(**fires)))
    assert code not in codes(find(make(**silent)))


def test_every_rule_is_tried() -> None:
    assert {rule.code for rule in RULES} == {code for code, _, _ in CASES}


def test_codes_are_words_and_unique() -> None:
    all_codes = [rule.code for rule in RULES]
    assert len(set(all_codes)) == len(all_codes)
    assert all(re.fullmatch(r"[a-z0-9]+\.[a-z0-9]+(-[a-z0-9]+)*", code) for code in all_codes)


@pytest.mark.parametrize(("code", "fires", "silent"), CASES)
def test_a_finding_says_what_it_saw_and_a_warning_what_to_do(
    make: MakeCase, code: str, fires: dict[str, Any], silent: dict[str, Any]
) -> None:
    finding = next(one for one in find(make(**fires)) if one.code == code)
    assert all((finding.message, finding.evidence, finding.source))
    assert finding.remedy or finding.severity is Severity.INFO
    assert "None" not in finding.message + finding.evidence + finding.remedy


def test_what_the_remedies_set_is_accepted(make: MakeCase, arguments: Arguments) -> None:
    """A `--set train.x=y` that is told must be one that a spec may have."""
    typed = 0
    for _, fires, _ in CASES:
        for finding in find(make(**fires)):
            for name, value in re.findall(r"--set train\.(\w+)=([\w.-]*\w)", finding.remedy):
                typed += 1
                plain = {"true": True, "false": False}.get(value, value)
                if isinstance(plain, str) and re.fullmatch(r"[\d.]+", plain):
                    plain = float(plain) if "." in plain else int(plain)
                assert arguments.check(name, plain) is None, finding.remedy
    assert typed > 50


def test_the_remedy_takes_the_hazard_away(make: MakeCase) -> None:
    assert "train.close-mosaic-covers-run" not in codes(find(make(epochs=10, close_mosaic=0)))
    assert "train.box-gain-yolov5-scale" not in codes(find(make(box=7.5)))
    assert not codes(find(make(optimizer="AdamW", lr0=0.002, momentum=0.9))) & {
        "train.optimizer-auto", "train.optimizer-auto-ignores-lr"
    }  # fmt: skip


def test_errors_come_first(make: MakeCase) -> None:
    found = find(make(amp="bf16", epochs=10, asked="cuda", model="yolo11n.pt", workers=4))
    order = [Severity.ERROR, Severity.WARNING, Severity.INFO]
    ranks = [order.index(finding.severity) for finding in found]
    assert ranks == sorted(ranks)
    assert set(ranks) == {0, 1, 2}


@pytest.mark.parametrize(("epochs", "steps", "name"), [(38, "9,994", "AdamW"), (39, "10,257", "MuSGD")])
def test_auto_flips_at_39_epochs_of_cots(make: MakeCase, epochs: int, steps: str, name: str) -> None:
    finding = next(one for one in find(make(epochs=epochs)) if one.code == "train.optimizer-auto")
    assert f"263 steps an epoch x {epochs} = {steps}" in finding.evidence
    assert "AdamW up to 38 epochs, MuSGD from 39 on" in finding.evidence
    assert f"optimizer auto is {name} with lr0 {0.002 if name == 'AdamW' else 0.01}" in finding.message


@pytest.mark.parametrize(
    ("train", "steps", "lr0"),
    [
        ({"batch": 16}, 263, 0.002),
        ({"batch": 128}, 132, 0.002),  # beyond nbs the batch counts
        ({"batch": -1, "device": "cuda"}, 263, 0.002),
        ({"nbs": 32}, 525, 0.002),
        ({"fraction": 0.5}, 132, 0.002),
        ({"fraction": 640}, 10, 0.002),
        ({"fraction": [0.1, 0.5]}, 27, 0.002),
    ],
)
def test_auto_counts_steps_as_ultralytics_does(make: MakeCase, train: dict[str, Any], steps: int, lr0: float) -> None:
    auto = make(**train).auto
    assert auto is not None
    assert (auto.steps_per_epoch, auto.adamw_lr0) == (steps, lr0)


@pytest.mark.parametrize(
    ("train", "images"),
    [
        ({}, (1000, 100)),
        ({"fraction": 0.5}, (500, 100)),  # a single one is the training split's
        ({"fraction": 1}, (1000, 100)),
        ({"fraction": 5000}, (1000, 100)),
        ({"fraction": [300, 0.2]}, (300, 20)),
        ({"fraction": 0.5, "split": "test"}, (500, 50)),
        ({"fraction": [0.5, 0.5, 10], "split": "test"}, (500, 10)),
        ({"fraction": 0.5, "split": "train"}, (500, 500)),
    ],
)
def test_images_are_counted_as_ultralytics_takes_them(
    make: MakeCase, train: dict[str, Any], images: tuple[int, int]
) -> None:
    case = make(facts=replace(COTS, n_train=1000, n_val=100, n_test=50), **train)
    assert (case.train_images, case.val_images) == images


def test_single_cls_is_one_class(make: MakeCase) -> None:
    many = replace(COTS, classes=80)
    rates = [auto.adamw_lr0 for one in (False, True) if (auto := make(facts=many, single_cls=one).auto)]
    assert rates == [0.000119, 0.002]


def test_caches_have_the_size_that_ultralytics_writes(make: MakeCase) -> None:
    case = make(imgsz=640)
    assert case.cached("ram") == 23_501 * 640 * 360 * 3
    assert case.cached("disk") == 23_501 * 1280 * 720 * 3
    finding = next(one for one in find(make(cache="disk")) if one.code == "train.cache-disk")
    assert "65.0 GB (23,501 images of 1280 x 720)" in finding.evidence


def test_the_worker_fixes_the_variables_that_are_told() -> None:
    source = (ROOT / "launcher/worker/training/train.py").read_text(encoding="utf-8")
    environment = source[source.index("def environment") : source.index("class Training")]
    fixed = set(re.findall(r'"([A-Z][A-Z_]{5,})"', environment))
    assert fixed == set(machine_rules.FIXED_BY_WORKER)


# What the jobspecs are known for

EXPECTED: dict[str, tuple[set[str], set[str]]] = {
    "baseline": ({"train.close-mosaic-covers-run", "train.optimizer-auto", "model.needs-network"},
                 {"train.box-gain-yolov5-scale", "train.optimizer-auto-ignores-lr"}),
    "phase2": ({"train.close-mosaic-shortens"},
               {"train.close-mosaic-covers-run", "train.optimizer-auto", "train.box-gain-yolov5-scale"}),
    "full_aug": ({"train.box-gain-yolov5-scale", "train.close-mosaic-shortens", "train.optimizer-auto"},
                 {"train.close-mosaic-covers-run", "train.optimizer-auto-ignores-lr"}),
    "smoke": (set(), {rule.code for rule in RULES}),
}  # fmt: skip


@pytest.mark.parametrize("name", EXPECTED)
def test_jobspecs(name: str, arguments: Arguments, tmp_path: Path) -> None:
    data = tmp_path / "data.yaml"
    data.write_text("names: [cots]\n")
    spec = load_spec(ROOT / f"jobspecs/{name}.yaml", env={"COTS_DATA": str(data)}, arguments=arguments).spec
    found = hazards(spec, Offer("this laptop", "cpu"), COTS, HERE, arguments)
    said, not_said = EXPECTED[name]
    assert said <= codes(found)
    assert not codes(found) & not_said
    assert not [finding for finding in found if finding.severity is Severity.ERROR]  # every one of them runs


def test_the_image_size_that_is_trained_with_is_told(make: MakeCase) -> None:
    finding = next(one for one in find(make(imgsz=100)) if one.code == "train.imgsz-rounded")
    assert finding.message == "imgsz 100 is no multiple of 32: Ultralytics trains with 128"
    assert finding.remedy.startswith("--set train.imgsz=128")


def test_a_box_gain_of_yolov5_stays_runnable_and_is_told_in_numbers(make: MakeCase) -> None:
    finding = next(one for one in find(make(box=0.2)) if one.code == "train.box-gain-yolov5-scale")
    assert finding.severity is Severity.WARNING
    assert "1/37.5 of the default 7.5" in finding.evidence
    assert "4 times YOLOv5's 0.05" in finding.evidence
