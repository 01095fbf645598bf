"""Loading: merge, --set, places, canonical form, all errors at once."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from launcher.data.reef import ReefOptions
from launcher.errors import Exit, SpecError
from launcher.spec.load import load_spec, parse_resolved, read_resolved
from launcher.spec.model import DataSource
from tests.spec.conftest import Problems, Write

MINIMAL = "model: yolo11n.yaml\ndata: reef\n"


def test_the_smallest_spec_has_defaults_and_the_name_of_its_file(write: Write) -> None:
    loaded = load_spec(write(MINIMAL, "My_first run.v2.yaml"), env={})
    assert loaded.spec.name == "my-first-run-v2"
    assert loaded.spec.data == DataSource(reef=ReefOptions())
    assert loaded.spec.train == {}
    assert (loaded.spec.resources.device, loaded.spec.resume.attempts, loaded.spec.sync.patience_minutes) == (
        "auto",
        3,
        60,
    )
    assert loaded.resolved == {"name": "my-first-run-v2", "model": "yolo11n.yaml", "data": {"reef": {}}}
    assert [path.name for path in loaded.files] == ["My_first run.v2.yaml"]


@pytest.mark.parametrize(("stem", "name"), [("_x_", "x"), ("---", "run"), ("é", "run"), ("A" * 60, "a" * 40)])
def test_any_file_name_gives_a_valid_name(write: Write, stem: str, name: str) -> None:
    assert load_spec(write(MINIMAL, f"{stem}.yaml"), env={}).spec.name == name


def test_only_what_was_set_is_passed_to_ultralytics(write: Write) -> None:
    spec = load_spec(write(MINIMAL + "train: {epochs: 3, time: null}\n"), env={}).spec
    assert spec.train == {"epochs": 3, "time": None}


def test_equal_specs_resolve_to_equal_bytes(write: Write) -> None:
    one = write(MINIMAL + "train: {lr0: 1e-3, box: 5, epochs: 1e2, optimizer: adamw, scale: 1}\nresume:\n", "one.yaml")
    two = write(
        "train:\n  scale: 1.0\n  optimizer: AdamW\n  epochs: 100\n  box: 5.0\n  lr0: 0.001\n"
        "data: {reef: }\nmodel: 'yolo11n.yaml'\nname: one\nnotes:\nresources: {max_hours: null}\n",
        "two.yaml",
    )
    text = load_spec(one, env={}).yaml_text()
    assert load_spec(two, env={}).yaml_text() == text
    assert "  lr0: 0.001\n" in text


def test_resolved_is_json_and_reads_back_to_the_same_spec(write: Write) -> None:
    spec = (
        MINIMAL + "train: {freeze: ['23.cv2', 1], amp: BF16}\n"
        "environment: {torch: 2.10, variables: {A: on, B: 007, C: '1e3', D: ~, E: 'x: #y'}}\n"
        "notes: |\n  1\n  two: ü\n"
    )
    loaded = load_spec(write(spec), env={})
    assert loaded.spec.environment.torch == "2.10"
    assert loaded.spec.environment.variables == {"A": "on", "B": "007", "C": "1e3", "E": "x: #y"}
    assert json.loads(json.dumps(loaded.resolved)) == loaded.resolved
    assert parse_resolved(loaded.resolved) == loaded.spec
    assert read_resolved(loaded.yaml_text()) == loaded.spec


def test_every_error_is_told_at_once_where_it_is(write: Write, problems: Problems) -> None:
    path = write(
        "modle: yolo11n.yaml\n"
        "data: reef\n"
        "sweep: {}\n"
        "train:\n"
        "  epoch: 3\n"
        "  val: no\n"
        "  box: {}\n"
        "resources: {device: gpu, max_hours: '3', devices: 2}\n"
        "resume: 3\n"
        "sync:\n"
        "  while_running: yes\n"
        "environment:\n"
        "  torch: '>=2'\n"
        "  variables: {A B: x}\n"
        "name: Bad Name\n"
    )
    only = "YAML 1.2 knows true and false only"
    variable = "the name of an environment variable: letters, digits and underscores"
    assert problems(path, "train.x=3", "train.epochs=0", "data.reef.sed=4", "data.reef.frames=many") == [
        "job.yaml:1:1: model: is missing",
        "job.yaml:1:1: modle: there is no field 'modle' (did you mean 'model'?)",
        "job.yaml:3:1: sweep: is not built yet, so it would have no effect (take it out)",
        "job.yaml:5:3: train.epoch: Ultralytics has no argument 'epoch' (did you mean 'epochs'?)",
        f"job.yaml:6:8: train.val: must be true or false, not the text 'no' ({only}: write false)",
        "job.yaml:7:8: train.box: must be a number, not a mapping",
        "job.yaml:8:21: resources.device: must be 'auto', 'cpu', 'cuda' or 'mps'",
        "job.yaml:8:37: resources.max_hours: must be a number (write it without quotes)",
        "job.yaml:8:42: resources.devices: there is no field 'devices' (did you mean 'device'?)",
        "job.yaml:9:9: resume: must be a mapping of fields",
        f"job.yaml:11:18: sync.while_running: must be true or false ({only}: write true)",
        "job.yaml:13:10: environment.torch: must be one exact version, as in 8.4.190",
        f"job.yaml:14:20: environment.variables.A B: must be {variable}",
        "job.yaml:15:7: name: must be lower-case letters, digits and hyphens, and start with a letter or digit",
        "--set: train.x: Ultralytics has no argument 'x'",
        "--set: train.epochs: must be 1 or more, is 0",
        "--set: data.reef.sed: there is no field 'sed' (did you mean 'seed'?)",
        "--set: data.reef.frames: must be a whole number, is 'many'",
    ]


def test_the_error_exits_with_usage(write: Write) -> None:
    with pytest.raises(SpecError) as caught:
        load_spec(write("a: 1\n"), env={})
    assert caught.value.exit_code == Exit.USAGE


@pytest.mark.parametrize("name", ["sweep", "evaluate"])
def test_a_field_without_effect_is_not_accepted(write: Write, problems: Problems, name: str) -> None:
    told = problems(write(MINIMAL + f"{name}: 1\n"))
    assert told == [f"job.yaml:3:1: {name}: is not built yet, so it would have no effect (take it out)"]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("resume: {attempts: 0}", "resume.attempts: must be greater than or equal to 1"),
        ("resume: {attempts: 101}", "resume.attempts: must be less than or equal to 100"),
        ("resume: {restarts: -1}", "resume.restarts: must be greater than or equal to 0"),
        ("resume: {restarts: 1.5}", "resume.restarts: must be a whole number"),
        ("resume: {restarts: 010}", "resume.restarts: must be a whole number (some YAML readers take a leading"),
        ("resume: {attempts: true}", "resume.attempts: must be a whole number"),
        ("resources: {max_hours: 0}", "resources.max_hours: must be greater than 0"),
        ("resources: {max_hours: 1:30}", "resources.max_hours: must be a number (some YAML readers count a:b"),
        ("resources: {max_hours: .inf}", "resources.max_hours: must be a number (only a finite number will do)"),
        ("notes: [1]", "notes: must be text"),
        ("name: " + "a" * 41, "name: String should have at most 40"),
        ("train: [1]", "train: must be a mapping of fields"),
        ("environment: {variables: {A: [1]}}", "environment.variables.A: must be text"),
    ],
)
def test_values_out_of_range_or_kind(write: Write, problems: Problems, line: str, problem: str) -> None:
    told = problems(write(MINIMAL + line + "\n"))
    assert len(told) == 1
    assert told[0].split(": ", 1)[1].startswith(problem)


def test_extends_merges_and_the_later_one_wins(write: Write) -> None:
    write("model: yolo11n.pt\ndata: reef\ntrain: {epochs: 1, batch: 2, freeze: [1, 2]}\n", "deep/base.yaml")
    write("train: {epochs: 2, seed: 5}\nresources: {device: cpu}\n", "deep/more.yaml")
    path = write("extends: [deep/base.yaml, deep/more.yaml]\ntrain: {batch: 4, freeze: [3]}\n")
    loaded = load_spec(path, env={})
    assert loaded.spec.train == {"epochs": 2, "seed": 5, "batch": 4, "freeze": [3]}
    assert loaded.spec.resources.device == "cpu"
    assert [file.name for file in loaded.files] == ["job.yaml", "base.yaml", "more.yaml"]


def test_problems_of_a_base_stand_at_the_base(write: Write, problems: Problems) -> None:
    write("model: yolo11n.pt\n\ntrain:\n  epoch: 1\n  batch: 0\n", "base.yaml")
    told = problems(write("extends: base.yaml\ntrain: {batch: 0.5, lr0: 3}\n"))
    assert told == [
        "job.yaml:1:1: data: is missing",
        "job.yaml:2:26: train.lr0: must be 0 to 1, is 3",
        "base.yaml:4:3: train.epoch: Ultralytics has no argument 'epoch' (did you mean 'epochs'?)",
    ]


def test_null_replaces(write: Write, problems: Problems) -> None:
    write(MINIMAL + "train: {epochs: 5, time: 2}\nresources: {device: cpu}\n", "base.yaml")
    loaded = load_spec(write("extends: base.yaml\nresources: {device: null}\ntrain: {time: null}\n"), env={})
    assert loaded.spec.resources.device == "auto"
    assert loaded.spec.train == {"epochs": 5, "time": None}
    assert load_spec(write("extends: base.yaml\ntrain:\n"), env={}).spec.train == {}
    assert problems(write("extends: base.yaml\ntrain: {epochs: null}\n")) == [
        "job.yaml:2:17: train.epochs: must not be null (leave it out for Ultralytics' default, 100)"
    ]


def test_a_cycle_is_told_where_it_closes(write: Write, problems: Problems) -> None:
    write("extends: c.yaml\n", "b.yaml")
    write("# c\nextends: [job.yaml]\n", "c.yaml")
    told = problems(write("extends: b.yaml\n" + MINIMAL))
    assert told == ["c.yaml:2:11: extends: job.yaml extends itself: job.yaml → b.yaml → c.yaml → job.yaml"]
    assert "extends itself" in problems(write("extends: job.yaml\n"))[0]


def test_a_long_line_of_descent_is_refused(write: Write, problems: Problems) -> None:
    for n in range(12):
        write(f"extends: {n + 1}.yaml\n", f"{n}.yaml")
    write(MINIMAL, "12.yaml")
    assert "goes more than 10 levels deep" in problems(write("extends: 0.yaml\n"))[0]
    assert load_spec(write("extends: 4.yaml\n"), env={}).spec.model == "yolo11n.yaml"


def test_a_base_named_many_times_is_merged_once(write: Write) -> None:
    write(MINIMAL, "0.yaml")
    for n in range(1, 9):
        write("extends: [" + f"{n - 1}.yaml, " * 200 + "]\n", f"{n}.yaml")
    assert load_spec(write("extends: 8.yaml\n"), env={}).spec.model == "yolo11n.yaml"


def test_files_that_cannot_be_read(write: Write, problems: Problems, tmp_path: Path) -> None:
    assert problems(tmp_path / "none.yaml") == ["none.yaml: does not exist"]
    (tmp_path / "folder.yaml").mkdir()
    assert problems(tmp_path / "folder.yaml") == ["folder.yaml: is not a file"]
    os.mkfifo(tmp_path / "pipe.yaml")
    assert problems(tmp_path / "pipe.yaml") == ["pipe.yaml: is not a file"]
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    assert problems(tmp_path / "loop.yaml")[0].startswith("loop.yaml: ")
    assert problems(tmp_path / ("x" * 300))[0].endswith(": cannot be read: File name too long")
    assert problems(write("extends: [gone.yaml, 3]\n" + MINIMAL)) == [
        "job.yaml:1:11: extends: gone.yaml does not exist",
        "job.yaml:1:22: extends: must be a file name or a list of them",
    ]
    big = write(MINIMAL + "# " + "x" * 1_000_000, "big.yaml")
    assert problems(big) == ["big.yaml: is larger than 1000 kB; that is no spec"]
    (tmp_path / "latin.yaml").write_bytes(b"model: x\nnotes: caf\xe9\n")
    assert problems(tmp_path / "latin.yaml") == ["latin.yaml:2:11: is not UTF-8 text"]


def test_syntax_errors_of_several_files_are_told_together(write: Write, problems: Problems) -> None:
    write("a: [\n", "base.yaml")
    told = problems(write("extends: base.yaml\nmodel: x\nmodel: y\n"))
    assert [line.split(" ")[0] for line in told] == ["job.yaml:3:1:", "base.yaml:2:1:"]


def set_of(path: Path, *overrides: str) -> dict[str, Any]:
    return load_spec(path, overrides, {}).resolved


def test_set_overrides(write: Write) -> None:
    path = write(MINIMAL + "train: {epochs: 3, seed: 1}\n")
    assert set_of(path, "train.epochs=5")["train"] == {"epochs": 5, "seed": 1}
    assert set_of(path, "train.epochs=5", "train.epochs=6")["train"]["epochs"] == 6
    assert set_of(path, "train={epochs: 7, lr0: 1e-3}")["train"] == {"epochs": 7, "lr0": 0.001, "seed": 1}
    assert set_of(path, "train.freeze=[1, 2]")["train"]["freeze"] == [1, 2]
    assert set_of(path, "train.time=")["train"]["time"] is None
    assert set_of(path, "resources.device=cpu")["resources"] == {"device": "cpu"}
    assert set_of(path, "data.reef.seed=4")["data"] == {"reef": {"seed": 4}}
    assert set_of(path, "data=other.yaml", "data=reef", "data.reef.seed=4")["data"] == {"reef": {"seed": 4}}
    assert set_of(path, "name=x", "notes=a=b")["notes"] == "a=b"
    assert set_of(path, "environment.variables.A=1")["environment"] == {"variables": {"A": "1"}}


@pytest.mark.parametrize(
    ("argument", "problem"),
    [
        ("train.epochs", "--set: is written as field=value (as in --set train.epochs=3)"),
        ("=3", "--set: is written as field=value (as in --set train.epochs=3)"),
        ("a..b=3", "--set: is written as field=value (as in --set train.epochs=3)"),
        ("trian.epochs=3", "--set: trian: there is no field 'trian' (did you mean 'train'?)"),
        ("resources.devise=3", "--set: resources.devise: there is no field 'devise' (did you mean 'device'?)"),
        ("train.epochs.x=3", "--set: train.epochs.x: train.epochs is one value, with no fields below it"),
        ("train.freeze.0=3", "--set: train.freeze.0: train.freeze is a list; set it whole"),
        ("train.epochs=[1", "--set: train.epochs: is not YAML: "),
        ("extends=x.yaml", "--set: extends: cannot be set from the command line"),
        ("model=", "job.yaml:1:1: model: is missing"),
        ("train.device=cpu", "--set: train.device: is not set under train (write it as `resources.device`)"),
        (".".join("a" * 50) + "=1", "--set: there is no field so deep"),
        ("data=!!python/name:os.system", "--set: data: carries a YAML tag"),
        ("\ud800=1", "--set: is written as field=value"),
        ("notes=\ud800", "--set: notes: is not YAML"),
    ],
)
def test_set_arguments_that_are_wrong(write: Write, problems: Problems, argument: str, problem: str) -> None:
    told = problems(write(MINIMAL + "train: {epochs: 3, freeze: [1]}\n"), argument)
    assert len(told) == 1
    assert told[0].startswith(problem)


def test_a_data_path_is_not_silently_replaced_by_the_reef(write: Write, problems: Problems) -> None:
    write("names: [a]\n", "mine.yaml")
    told = problems(write("model: yolo11n.yaml\ndata: mine.yaml\n"), "data.reef.seed=1")
    assert told == ["--set: data.reef.seed: data is one value, with no fields below it"]


def test_paths_start_at_the_file_that_holds_them(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("model: own.pt\ndata: ../sets/data.yaml\n", "base/base.yaml")
    (tmp_path / "base/own.pt").write_bytes(b"")
    path = write("extends: base/base.yaml\n", "jobs/job.yaml").parent / "job.yaml"
    write("model: own.pt\ndata: ../sets/data.yaml\n", "jobs/base/base.yaml")
    (tmp_path / "jobs/base/own.pt").write_bytes(b"")
    here = tmp_path / "here"
    for file in (tmp_path / "jobs/sets/data.yaml", here / "x.yaml", tmp_path / "home/x.yaml"):
        file.parent.mkdir(exist_ok=True)
        file.write_text("")
    monkeypatch.chdir(here)
    loaded = load_spec(Path("../jobs") / path.name, env={})
    assert loaded.resolved["data"] == str(tmp_path / "jobs/sets/data.yaml")
    assert loaded.resolved["model"] == str(tmp_path / "jobs/base/own.pt")
    assert set_of(path, "data=x.yaml")["data"] == str(here / "x.yaml")
    assert set_of(path, f"data={here}/../here/x.yaml")["data"] == str(here / "x.yaml")
    assert set_of(path, "model=yolo11n.pt")["model"] == "yolo11n.pt"
    assert set_of(path, "data=~/x.yaml")["data"] == str(Path("~/x.yaml").expanduser())


def test_data_is_not_an_address(write: Write, problems: Problems) -> None:
    assert problems(write("model: yolo11n.yaml\ndata: https://example.org/x.zip\n")) == [
        "job.yaml:2:7: data: must be a path, not an address"
    ]


def test_models_are_frozen(write: Write) -> None:
    spec = load_spec(write(MINIMAL), env={}).spec
    with pytest.raises(ValueError, match="frozen"):
        spec.model = "other"  # type: ignore[misc]


def test_parse_resolved_tells_what_is_wrong() -> None:
    with pytest.raises(SpecError) as caught:
        parse_resolved({"model": "m", "data": {"reef": {"sed": 1}}, "train": {"x": {}}, "extends": "y"})
    assert [problem.field for problem in caught.value.problems] == ["name", "data.reef", "train.x", "extends"]
    with pytest.raises(SpecError):
        read_resolved("a: [")
