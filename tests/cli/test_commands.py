"""The commands as scripts rely on them: exit codes, JSON on stdout and nothing else there, words on stderr."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launcher import __version__
from launcher.cli.main import COMMANDS
from tests.cli.conftest import Launch

HEAVY = ("torch", "ultralytics", "numpy", "cv2", "kagglesdk", "kaggle", "google.cloud", "fabric", "paramiko", "rich")
LIGHT = ("pydantic", "yaml", "rich")


def test_help_names_every_command_and_answers_each_ones_help(launch: Launch) -> None:
    said = launch("--help")
    assert said.code == 0
    for name in COMMANDS:
        assert f"  {name} " in said.out
        own = launch(name, "--help")
        assert own.code == 0
        assert "usage: launch" in own.out


def test_version(launch: Launch) -> None:
    assert launch("--version").out == f"samerun {__version__}\n"


def test_no_arguments_show_the_help_and_fail(launch: Launch) -> None:
    assert launch().code == 2


def test_a_word_that_is_no_command_is_answered_with_the_nearest(launch: Launch) -> None:
    said = launch("atach", "x")
    assert said.code == 2
    assert "did you mean `launch attach`?" in said.err


@pytest.mark.parametrize("arguments", [["--help"], ["ps"], ["show", "tiny"], ["logs", "tiny"], ["plan", "tiny.yaml"]])
def test_no_command_that_only_looks_imports_anything_heavy(launch: Launch, spec: Path, arguments: list[str]) -> None:
    assert launch(spec).code == 0
    code = (
        "import sys; from launcher.cli.main import main; code = main(sys.argv[1:]);"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "[]"


@pytest.mark.parametrize("arguments", [["--help"], ["ps"], ["show", "tiny"], ["logs", "tiny"]])
def test_listing_needs_neither_pydantic_nor_yaml(launch: Launch, spec: Path, arguments: list[str]) -> None:
    assert launch(spec).code == 0
    code = (
        "import sys; from launcher.cli.main import main; main(sys.argv[1:]);"
        f"print([name for name in {LIGHT!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == "[]"


def test_a_run_speaks_json_on_stdout_and_ends_with_the_result(launch: Launch, spec: Path, tmp_path: Path) -> None:
    said = launch(spec, "--json")
    assert said.code == 0, said.err
    result = said.json[-1]
    assert result["state"] == "verified"
    assert result["attempts"][0]["id"] == f"{result['run']}-a1"
    assert Path(result["dir"]) == tmp_path / "runs" / result["run"]
    assert result["metrics"] == {"metrics/mAP50(B)": 1.0}
    assert result["parity"] is None
    assert [line["epoch"] for line in said.json if line.get("event") == "epoch"] == [1, 2, 3]
    rows = launch("ps", "--json").json
    assert [row["state"] for row in rows] == ["verified"]
    assert launch("show", "tiny", "--json").json[0]["id"] == result["run"]
    assert launch("attach", "tiny").code == 0
    assert launch("fetch", "tiny").code == 0


def test_set_overrides_a_field_and_is_in_the_run_s_own_spec(launch: Launch, spec: Path, tmp_path: Path) -> None:
    result = launch(spec, "--set", "train.epochs=1", "--json").json[-1]
    assert result["epoch"] == 1
    assert "epochs: 1" in (tmp_path / "runs" / result["run"] / "spec.yaml").read_text()


def test_a_failed_training_exits_1_and_keeps_what_it_has(launch: Launch, spec: Path, tmp_path: Path) -> None:
    said = launch(spec, "--json", SAMERUN_STUB_FAIL_EPOCH="2")
    assert said.code == 1
    assert said.json[-1]["state"] == "failed"
    folder = Path(said.json[-1]["dir"])
    assert (folder / "train" / "results.csv").read_text().count("\n") == 2
    assert (folder / "train" / "weights" / "last.pt").exists()
    assert "told to fail in epoch 2" in (folder / "log.txt").read_text()
    assert launch("attach", "tiny").code == 1
    resumed = launch("resume", "tiny", "--json")
    assert resumed.code == 0, resumed.err
    assert resumed.json[-1]["attempts"][-1]["resumed_epoch"] == 1


def test_detach_returns_at_once_and_attach_follows_to_the_end(launch: Launch, spec: Path) -> None:
    slow = {"SAMERUN_STUB_EPOCH_S": "2"}
    assert launch(spec, "--detach", **slow).code == 0
    assert launch("ps", "--json").json[0]["state"] in ("queued", "running")
    followed = launch("logs", "tiny", "-f", "--events")
    assert [line["event"] for line in followed.json][-1] == "done"
    assert launch("attach", "tiny", "--json").json[-1]["state"] == "verified"


def test_the_same_spec_started_again_goes_on_with_the_run_that_is_going_on(launch: Launch, spec: Path) -> None:
    slow = {"SAMERUN_STUB_EPOCH_S": "0.5"}
    first = launch(spec, "--detach", "--json", **slow).json[-1]["run"]
    again = launch(spec, "--json", **slow).json[-1]
    assert again["run"] == first
    assert again["state"] == "verified"
    assert len(again["attempts"]) == 1
    assert launch(spec, "--json").json[-1]["run"] != first  # it has ended: this is another run


def test_interrupted_here_the_run_goes_on(launch: Launch, spec: Path) -> None:
    argv = [sys.executable, "-m", "launcher", str(spec)]
    env = {**os.environ, "SAMERUN_STUB_EPOCH_S": "0.7"}
    child = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, env=env, start_new_session=True)
    assert child.stderr is not None
    while "running" not in child.stderr.readline():
        pass
    os.kill(child.pid, signal.SIGINT)
    err = child.stderr.read()
    assert child.wait(20) == 130
    assert "goes on" in err
    assert launch("attach", "tiny", "--json").json[-1]["state"] == "verified"


def test_cancel_stops_the_run_while_another_launch_follows_it(launch: Launch, spec: Path) -> None:
    argv = [sys.executable, "-m", "launcher", str(spec)]
    child = subprocess.Popen(argv, stderr=subprocess.DEVNULL, env={**os.environ, "SAMERUN_STUB_EPOCH_S": "2"})
    until = time.monotonic() + 20
    while time.monotonic() < until and not any(row["state"] == "running" for row in launch("ps", "--json").json):
        time.sleep(0.1)
    said = launch("cancel", "tiny", "--json")
    assert said.code == 0, said.err
    assert said.json[-1]["state"] == "cancelled"
    assert child.wait(20) == 1
    assert launch("cancel", "tiny").code == 0


def test_dry_run_shows_what_would_be_sent_and_makes_no_run(launch: Launch, spec: Path, tmp_path: Path) -> None:
    said = launch(spec, "--dry-run", "--json")
    assert said.code == 0, said.err
    assert {"worker.pyz", "job.json"} <= {file["path"] for file in said.json[-1]["files"]}
    assert not (tmp_path / "runs").exists()


def test_plan_submits_nothing_and_writes_no_run(launch: Launch, spec: Path, tmp_path: Path) -> None:
    said = launch("plan", spec, "--backend", "all", "--json")
    assert said.code == 0, said.err
    assert {"kaggle", "local"} <= {line["backend"] for line in said.json}
    assert not (tmp_path / "runs").exists()


def test_ps_rebuild_reads_the_folders_again(launch: Launch, spec: Path, tmp_path: Path) -> None:
    assert launch(spec).code == 0
    before = launch("ps", "--json").out
    (tmp_path / "runs" / "index.sqlite").write_bytes(b"no database")
    assert launch("ps", "--rebuild", "--json").out == before


def test_schema_is_json(launch: Launch, tmp_path: Path) -> None:
    assert launch("schema", "-o", "schema.json").code == 0
    assert '"$schema"' in (tmp_path / "schema.json").read_text()


def test_doctor_names_versions_and_backends(launch: Launch) -> None:
    said = launch("doctor", "--json")
    assert said.code == 0, said.err
    assert {"samerun", "local"} <= {line["backend"] for line in said.json}


def test_a_backend_whose_client_is_missing_holds_up_no_other(launch: Launch, tmp_path: Path) -> None:
    info = tmp_path / "site/broken-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[launcher.backends]\nbroken = no_such_module:Broken\n", encoding="utf-8")
    here = {"PYTHONPATH": str(tmp_path / "site")}
    said = launch("doctor", "--json", **here)
    assert said.code == 0, said.err
    assert [line["code"] for line in said.json if line["backend"] == "broken"] == ["broken.unusable"]
    assert any(line["backend"] == "local" for line in said.json)
    assert launch("doctor", "--backend", "broken", **here).code == 2
    reaped = launch("reap", **here)
    assert "local: 0 attempt(s) held" in reaped.err
    assert "no_such_module" in reaped.err
    assert reaped.code == 2  # what could not be asked may hold something
