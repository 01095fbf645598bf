"""A model and a dataset are there, or are names that Ultralytics knows: else it is told at their place in the spec."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.errors import SpecError
from launcher.spec.arguments import Arguments
from launcher.spec.load import load_spec
from launcher.spec.package import UltralyticsPackage
from tests.spec.conftest import Problems, Write

KNOWN = (
    "yolo11n.yaml", "yolo11.yaml", "yolov8x-worldv2.yaml", "yolov5n6.yaml", "yolov9c.yaml", "yolo26n-p6.yaml",
    "rtdetr-l.yaml", "yolo11n.pt", "yolo11n", "yolov5nu.pt", "yolov5n.pt", "rtdetr-l.pt", "yolo26n-distill.pt",
)  # fmt: skip


def model(name: str) -> str:
    return f"model: {name}\ndata: reef\n"


def data(name: str) -> str:
    return f"model: yolo11n.yaml\ndata: {name}\n"


@pytest.mark.parametrize("name", KNOWN)
def test_a_name_that_ultralytics_knows(write: Write, name: str) -> None:
    assert load_spec(write(model(name)), env={}).spec.model == name


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("yolo99x.pt", "and Ultralytics has no pretrained weights of that name (did you mean "),
        ("yol11n.pt", "and Ultralytics has no pretrained weights of that name (did you mean 'yolo11n.pt'?)"),
        ("yoolo11n.yaml", "and Ultralytics has no model configuration of that name (did you mean 'yolo11n.yaml'?)"),
        ("yolov9n.yaml", "and Ultralytics has no model configuration of that name"),
        ("yolo11n.yml", "and Ultralytics has no model configuration of that name (did you mean 'yolo11n.yaml'?)"),
        ("my.yaml", "there is no such file beside this file, and Ultralytics has no model configuration"),
        ("m", "and Ultralytics has no model of that name (write the path of a file, or a name as in yolo11n.pt"),
        ("best.onnx", "and Ultralytics has no model of that name"),
        ("/no/none.pt", "there is no such file (mend the path)"),
        ("~/none.pt", "there is no such file (mend the path)"),
        ("weights/best.pt", "(looked for weights/best.pt: a relative path starts at the folder of job.yaml)"),
        ("./yolo11n.pt", "there is no such file"),
        ("https://example.org/x.pt", "must be a path or a name, not an address"),
        ("./", "is a folder, not a file"),
    ],
)
def test_a_model_that_is_not_there(write: Write, problems: Problems, name: str, says: str) -> None:
    (told,) = problems(write(model(name)))
    assert told.startswith("job.yaml:1:8: model: ")
    assert says in told


@pytest.mark.parametrize("name", ["my.yaml", "m.pt", "sub/m.pt", "./yolo11n.pt"])
def test_a_model_file(write: Write, tmp_path: Path, name: str) -> None:
    write("", name)
    assert load_spec(write(model(name)), env={}).spec.model == str(tmp_path / name)


def test_a_model_in_a_variable_is_checked_and_not_shown(write: Write, problems: Problems, tmp_path: Path) -> None:
    path = write(model("${env:X}"))
    write("", "m.pt")
    for value in ("yolo11n.pt", str(tmp_path / "m.pt")):
        assert load_spec(path, env={"X": value}).spec.model == "${env:X}"
    filled = "once X is filled in"
    assert problems(path, env={"X": "/hidden/m.pt"}) == [
        f"job.yaml:1:8: model: there is no such file {filled} (export X as the absolute path of a file)"
    ]
    (told,) = problems(path, env={"X": "hidden.pt"})
    assert f"Ultralytics has no pretrained weights of that name {filled}" in told
    assert "hidden" not in told
    assert problems(path, env={"X": "m.pt"}) == [
        f"job.yaml:1:8: model: must be an absolute path or a name that Ultralytics knows {filled}"
    ]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("gone.yaml", "there is no such file (looked for gone.yaml: a relative path starts at the folder of job.yaml)"),
        ("/gone/data.yaml", "there is no such file (mend the path)"),
        ("with", "is a folder (name the file in it: with/data.yaml)"),
        ("without/", "is a folder (name the dataset's data.yaml)"),
        ("coco8.yaml", "built-in datasets of Ultralytics are not downloaded here (download it once"),
        ("coco128", "built-in datasets of Ultralytics are not downloaded here"),
    ],
)
def test_a_dataset_that_is_not_there(write: Write, problems: Problems, tmp_path: Path, name: str, says: str) -> None:
    write("", "with/data.yaml")
    (tmp_path / "without").mkdir()
    (told,) = problems(write(data(name)))
    assert told.startswith(f"job.yaml:2:7: data: {says}")


def test_a_dataset_in_a_variable_is_checked(write: Write, problems: Problems, tmp_path: Path) -> None:
    path = write(data("${env:D}"))
    file = write("", "hidden/data.yaml")
    assert load_spec(path, env={"D": str(file)}).spec.data == "${env:D}"
    assert problems(path, env={"D": str(file.parent)}) == [
        "job.yaml:2:7: data: is a folder once D is filled in (name the file in it: ${env:D}/data.yaml)"
    ]
    assert problems(path, env={"D": str(tmp_path / "none")}) == [
        "job.yaml:2:7: data: there is no such file once D is filled in (export D as the absolute path of a file)"
    ]


def test_set_starts_at_the_current_folder(write: Write, problems: Problems) -> None:
    (told,) = problems(write(model("yolo11n.pt")), "model=w/x.pt")
    assert told.startswith("--set: model: there is no such file (looked for ")
    assert told.endswith("a relative path starts at the current folder)")


@pytest.mark.parametrize("text", ["path: .\ntrain: a\nval: b\n", "names: [a]\n", "train: [a]\nval: b\nnc: 1\n"])
def test_a_data_yaml_is_no_spec(write: Write, problems: Problems, text: str) -> None:
    told = problems(write(text, "data.yaml"))
    assert told == ["data.yaml:1:1: this is a dataset, not a spec: write `data: data.yaml` in a spec"]


def test_the_lists_are_those_that_ultralytics_has() -> None:
    # In a process of its own: importing Ultralytics changes Pillow, which other tests use.
    code = "from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES as names; print(*names)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert UltralyticsPackage.find().assets == {name for name in done.stdout.split() if name.endswith(".pt")}


@pytest.mark.parametrize(
    "source",
    [
        "",
        "GITHUB_ASSETS_NAMES = frozenset(\n    __import__('os').listdir('/')\n)\n",
        "GITHUB_ASSETS_NAMES = frozenset(\n    [''.__class__]\n)\n",
        "GITHUB_ASSETS_NAMES = frozenset(\n    [x for x in other]\n)\n",
        "GITHUB_ASSETS_NAMES = sorted(\n    ['a.pt']\n)\n",
        "GITHUB_ASSETS_NAMES = frozenset(\n    [1\n)\n",
    ],
)
def test_where_its_list_cannot_be_read_every_name_will_do(write: Write, tmp_path: Path, source: str) -> None:
    folder = tmp_path / "ultralytics"
    for name in ("cfg/default.yaml", "cfg/__init__.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(UltralyticsPackage.find().folder / name, folder / name)
    (folder / "utils").mkdir()
    (folder / "utils/downloads.py").write_text(source)
    installed = UltralyticsPackage(folder)
    assert installed.assets == installed.models == frozenset()
    for name in ("any.pt", "any.yaml", "any"):
        assert load_spec(write(model(name)), env={}, arguments=Arguments(installed)).spec.model == name
    with pytest.raises(SpecError):
        load_spec(write(model("any/any.pt")), env={}, arguments=Arguments(installed))


def test_a_tab(write: Write, problems: Problems) -> None:
    for text, place in (("train:\n\tepochs: 3\n", "2:1"), ("model: x\n  \tdata: y\n", "2:3")):
        assert problems(write(text)) == [f"job.yaml:{place}: is not YAML: a tab; YAML wants spaces"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("lr", "lr0"), ("learning_rate", "lr0"), ("batch_size", "batch"), ("img_size", "imgsz"),
        ("image_size", "imgsz"), ("iterations", "epochs"), ("max_epochs", "epochs"), ("LR", "lr0"),
    ],
)  # fmt: skip
def test_what_other_trainers_call_it(write: Write, problems: Problems, name: str, meant: str) -> None:
    (told,) = problems(write(model("yolo11n.pt") + f"train: {{{name}: 3}}\n"))
    assert f"Ultralytics has no argument {name!r} (did you mean {meant!r}?)" in told


def test_two_image_sizes_are_told_once(write: Write, problems: Problems) -> None:
    told = problems(write(model("yolo11n.pt") + "train: {imgsz: [640, 480]}\n"))
    assert told == ["job.yaml:3:16: train.imgsz: training takes one number, the longer side of the image"]
