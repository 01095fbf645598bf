"""Train arguments against the installed Ultralytics: its names, types and limits, without importing it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launcher.errors import SpecError
from launcher.spec.arguments import MANAGED, Arguments
from launcher.spec.package import UltralyticsPackage


def test_names_and_defaults_are_those_of_the_package(arguments: Arguments) -> None:
    assert {"epochs", "lr0", "mosaic", "iou", "time", "val", "classes", "close_mosaic"} <= set(arguments.names)
    assert not {"source", "show", "format", "opset", "tracker", "cfg", "device", "data"} & set(arguments.names)
    assert (arguments.default("epochs"), arguments.default("lr0"), arguments.default("time")) == (100, 0.01, None)
    assert arguments.package.version.startswith("8.")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 1),
        ("epochs", 100.0),
        ("batch", -1),
        ("batch", 0.5),
        ("batch", 8),
        ("imgsz", 32),
        ("optimizer", "adamw"),
        ("optimizer", "MuSGD"),
        ("optimizer", "auto"),
        ("lr0", 1),
        ("scale", [0.5, 2.0]),
        ("fraction", 1),
        ("fraction", 500),
        ("fraction", [0.5, 100, 0]),
        ("cache", "RAM"),
        ("cache", False),
        ("amp", "bf16"),
        ("freeze", ["23.cv2", 1]),
        ("freeze", None),
        ("time", 0.5),
        ("val", False),
        ("classes", [0, 2]),
        ("auto_augment", None),
        ("close_mosaic", 0),
        ("save_period", -1),
        ("iou", 0.3),
        ("pretrained", "best.pt"),
        ("seed", 2**32 - 1),
    ],
)
def test_accepted(arguments: Arguments, name: str, value: Any) -> None:
    assert arguments.check(name, value) is None


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("epoch", 1, "Ultralytics has no argument 'epoch' (did you mean 'epochs'?)"),
        ("batch_size", 1, "Ultralytics has no argument 'batch_size' (did you mean 'batch'?)"),
        ("zzz", 1, "Ultralytics has no argument 'zzz'"),
        ("epochs", 0, "must be 1 or more, is 0"),
        ("epochs", 1.5, "must be a whole number, not 1.5"),
        ("epochs", True, "must be a whole number, not true"),
        ("epochs", "3", "must be a whole number, not the text '3' (write it without quotes)"),
        ("epochs", None, "must not be null (leave it out for Ultralytics' default, 100)"),
        ("seed", "010", "must be a whole number, not the text '010' (some YAML readers take a leading zero"),
        ("time", "1:30", "must be a number, not the text '1:30' (some YAML readers count a:b in sixties"),
        ("time", 0, "must be more than 0 hours"),
        ("val", "off", "must be true or false, not the text 'off' (YAML 1.2 knows true and false only: write false)"),
        ("val", 1, "must be true or false, not 1"),
        ("lr0", 1.5, "must be 0 to 1, is 1.5"),
        ("mosaic", -0.1, "must be 0 to 1, is -0.1"),
        ("box", float("inf"), "must be 0 or more, is inf"),
        ("pose", float("nan"), "must be a finite number, is nan"),
        ("box", -1, "must be 0 or more, is -1"),
        ("seed", 2**32, "must be 0 to 4294967295, is 4294967296"),
        ("degrees", 181, "must be 0 to 180, is 181"),
        ("batch", 0, "must be a whole number of images, -1 for AutoBatch"),
        ("batch", -2, "must be a whole number of images"),
        ("batch", 2.5, "must be a whole number of images"),
        ("imgsz", 16, "must be 32 or more, is 16"),
        ("imgsz", [640, 480], "training takes one number"),
        ("optimizer", "Adan", "must be one of Ultralytics' own, not the text 'Adan' (did you mean 'Adam'?)"),
        ("cache", "tape", "must be one of Ultralytics' own, not the text 'tape' (known: ram, disk)"),
        ("scale", [1], "as a list must be two numbers"),
        ("scale", [2, 1], "as a list must be two numbers"),
        ("fraction", 0, "must be a share above 0"),
        ("fraction", 1.5, "must be a share above 0"),
        ("fraction", [0, 1], "as a list must be [train, val]"),
        ("freeze", "x", "must be a whole number or a list, not the text 'x'"),
        ("box", {"a": 1}, "must be a number, not a mapping"),
        ("save", False, "without checkpoints there is nothing to resume from"),
        ("quantize", 7, "must be one of Ultralytics' own, not 7 (known: "),
        ("source", "x", "is not a training argument (Ultralytics reads it in: predict)"),
        ("format", "onnx", "is not a training argument (Ultralytics reads it in: export)"),
        ("show", True, "is not a training argument (Ultralytics reads it in: visualize)"),
        ("tracker", "x", "is not a training argument (Ultralytics reads it in: tracker)"),
    ],
)
def test_refused(arguments: Arguments, name: str, value: Any, message: str) -> None:
    told = arguments.check(name, value)
    assert told is not None
    assert told.startswith(message)


@pytest.mark.parametrize("name", sorted(MANAGED))
def test_what_belongs_to_samerun_says_where_it_goes(arguments: Arguments, name: str) -> None:
    told = arguments.check(name, "x")
    assert told is not None
    assert told.startswith("is not set under train (")


def test_canonical_forms(arguments: Arguments) -> None:
    given = {"epochs": 1e2, "box": 5, "batch": 16, "batch ": 0.5, "fraction": 1, "optimizer": "adamw", "amp": "BF16"}
    canonical = {name: arguments.coerce(name.strip(), value) for name, value in given.items()}
    assert canonical == {**given, "epochs": 100, "box": 5.0, "optimizer": "AdamW", "amp": "bf16"}
    assert [type(canonical[name]) for name in ("epochs", "box", "batch", "fraction")] == [int, float, int, float]
    assert arguments.coerce("val", True) is True
    assert arguments.coerce("cache", True) is True


def test_every_default_is_accepted_but_null_where_it_means_nothing(arguments: Arguments) -> None:
    for name in arguments.names:
        assert arguments.check(name, arguments.default(name)) is None, name


def test_types_and_ranges_agree_with_ultralytics_own_check(arguments: Arguments, tmp_path: Path) -> None:
    """What our check accepts, Ultralytics' check_cfg accepts: asked of the real one, in a process of its own."""
    values = [None, True, -2, -1, 0, 1, 2, 50, 0.5, 1.0, 1.5, -0.1, "x", "ram", "fp16", "3", [1, 2], [0.5, 1.5], [0, 1]]
    taken = [(name, value) for name in arguments.names for value in values if arguments.check(name, value) is None]
    assert len(taken) > 300
    code = (
        "import sys, json\n"
        "from ultralytics.cfg import check_cfg\n"
        "for name, value in json.load(sys.stdin):\n"
        "    try:\n"
        "        check_cfg({name: value})\n"
        "    except Exception as error:\n"
        "        print('REFUSED', name, value, error)\n"
        "print('ASKED')\n"
    )
    env = {**os.environ, "YOLO_CONFIG_DIR": str(tmp_path), "YOLO_VERBOSE": "false"}
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(taken), capture_output=True, text=True, check=True, env=env
    )
    assert [line for line in done.stdout.splitlines() if "REFUSED" in line] == []
    assert "ASKED" in done.stdout


def test_ultralytics_is_not_imported() -> None:
    code = (
        "import sys\n"
        "from launcher.spec.arguments import Arguments\n"
        "a = Arguments(); a.check('optimizer', 'x'); a.names; a.check('epoch', 1)\n"
        "import launcher.spec.load, launcher.spec.schema\n"
        "print([m for m in ('torch', 'ultralytics', 'numpy', 'jsonschema', 'cv2') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def installed(folder: Path, defaults: str, tables: str = "") -> Arguments:
    (folder / "cfg").mkdir()
    (folder / "cfg/default.yaml").write_text(defaults)
    (folder / "cfg/__init__.py").write_text(tables)
    return Arguments(UltralyticsPackage(folder))


def test_another_ultralytics_without_tables_still_has_names_and_types(tmp_path: Path) -> None:
    arguments = installed(
        tmp_path,
        "# Train settings ---\nepochs: 7 # (int) n\nwarp: 0.5 # (float) w\nplain: 3\n# Export settings ---\nx: 1\n",
    )
    assert arguments.names == ("epochs", "warp", "plain")
    assert arguments.check("warp", "x") == "must be a number, not the text 'x'"
    assert arguments.check("plain", "x") == "must be a whole number, not the text 'x'"
    assert arguments.check("epochs", 0) == "must be 1 or more, is 0"
    assert arguments.check("warp", 7) is None
    assert arguments.package.version == "unknown"
    assert arguments.choices("optimizer") == ()


def test_limits_come_from_the_tables(tmp_path: Path) -> None:
    tables = (
        'CFG_FRACTION_KEYS = frozenset({"warp"})  # x\nCFG_INT_MIN = {\n    "epochs": 3,  # why\n}\nimport nothing\n'
    )
    arguments = installed(tmp_path, "epochs: 7\nwarp: 0.5\n", tables)
    assert arguments.check("epochs", 2) == "must be 3 or more, is 2"
    assert arguments.check("warp", 2) == "must be 0 to 1, is 2"


def test_a_broken_or_missing_package_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SpecError, match="defaults cannot be read"):
        Arguments(UltralyticsPackage(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SpecError, match="Ultralytics is not installed here"):
        Arguments()
