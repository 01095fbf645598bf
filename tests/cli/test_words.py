"""What a human reads: on which stream, how long, how often, and in which words."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.cli import out
from launcher.cli.show import _attempt, _checked, _results
from launcher.runs.record import AttemptRecord
from tests.cli.conftest import SPEC, Launch


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.0, 0.3, "under 1 s"),
        (0.2, 3.4, "about 1 to 3 s"),
        (11.0, 18.0, "about 10 to 20 s"),
        (40.0, 200.0, "about 40 s to 3 min"),
        (56.0, 58.0, "about 55 s to 1 min"),
        (58.0, 80.0, "about 1 min"),
        (3000.0, 3590.0, "about 50 min to 1 h"),
        (5400.0, 7200.0, "about 1.5 to 2 h"),
        (86400.0, 172800.0, "about 24 to 48 h"),
    ],
)
def test_about(low: float, high: float, words: str) -> None:
    assert out.about(low, high) == words


def test_short_cuts_between_words() -> None:
    assert out.short("a" * 100) == "a" * 100
    text = "assumption: this machine is as fast as another, " * 3
    assert (
        out.short(text)
        == "assumption: this machine is as fast as another, assumption: this machine is as fast as another…"
    )
    assert len(out.short("word " * 40)) <= 100


def test_plan_is_on_stdout_and_in_full(launch: Launch, spec: Path) -> None:
    assert launch(spec, "--detach").code == 0  # draws the reef
    said = launch("plan", spec)
    assert said.code == 0, said.err
    assert said.err == ""
    assert "3 epochs, imgsz 640 (the default)" in said.out
    assert "      evidence: " in said.out
    assert "      source: " in said.out
    assert "3 to train on, 3 to validate on, 1 class, " in said.out


def test_a_run_says_it_short_and_on_stderr(launch: Launch, spec: Path) -> None:
    said = launch(spec, "--set", "train.epochs=1")
    assert said.out == ""
    assert "  training 1 epoch, imgsz" in said.err
    assert "train.close-mosaic-covers-run" in said.err
    assert "      remedy: " in said.err
    assert "evidence: " not in said.err
    assert "source: " not in said.err
    takes = next(line for line in said.err.splitlines() if line.startswith("  takes "))
    assert len(takes) < 160


@pytest.mark.parametrize("command", [[], ["plan"]])
def test_with_an_error_only_the_errors_are_shown(launch: Launch, spec: Path, command: list[str]) -> None:
    said = launch(*command, spec, "--set", "environment.torch=1.0.0")
    assert said.code == 2
    shown = said.out + said.err
    assert "environment.torch-differs" in shown
    assert "train.close-mosaic" not in shown


def test_dry_run_prints_its_result_on_stdout(launch: Launch, spec: Path) -> None:
    said = launch(spec, "--dry-run")
    assert said.code == 0, said.err
    assert "files" in json.loads(said.out)


def test_help_says_what_there_is(launch: Launch) -> None:
    usage = launch("--help").out.splitlines()[0]
    for option in ("--new", "--detach", "--logs", "--dry-run", "--json"):
        assert f"[{option}]" in usage
    own = " ".join(launch("plan", "--help").out.split())
    assert "what a run would do" in own
    assert "`all` plans for each one" in own


def test_a_spec_that_was_run_before_says_so(launch: Launch, spec: Path) -> None:
    assert "of this very spec" not in launch(spec, SAMERUN_STUB_FAIL_EPOCH="2").err
    failed = launch("ps", "--json").json[0]["id"]
    said = launch(spec)
    assert (
        f"run {failed} of this very spec failed after epoch 1; this starts another (`launch resume {failed}`"
        in said.err
    )
    verified = launch("ps", "--json").json[0]["id"]
    assert f"run {verified} of this very spec is verified already; this starts another" in launch(spec).err


def _call(argv: list[str], *, lines: int) -> tuple[int, str]:
    """The exit code and stderr of a `launch` whose reader goes after some lines of stdout."""
    command = [sys.executable, "-m", "launcher", *argv]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stderr is not None
    for _ in range(lines):
        child.stdout.readline()
    child.stdout.close()
    err = child.stderr.read()
    return child.wait(60), err


def test_a_closed_pipe_is_no_success(launch: Launch, spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMERUN_STUB_EPOCH_S", "0.5")
    code, err = _call([str(spec), "--json"], lines=1)
    assert code == 130
    assert "Traceback" not in err
    assert "Exception ignored" not in err


@pytest.mark.parametrize("argv", [["--help"], ["plan", "--help"], ["schema"]])
def test_no_reader_at_all(launch: Launch, argv: list[str]) -> None:
    code, err = _call(argv, lines=0)
    assert "Traceback" not in err
    assert "Exception ignored" not in err
    assert code in (0, 130)  # 0: all of it was written before the reader went


def test_interrupted_while_importing(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "argparse.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    code = (
        "import sys; sys.path.insert(0, '.'); from launcher.cli.main import entry; sys.argv = ['launch', 'ps']; entry()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "\nlaunch: interrupted\n")


def test_show_names_what_came_back(launch: Launch, spec: Path, tmp_path: Path) -> None:
    assert launch(spec).code == 0
    shown = launch("show", "tiny").out
    assert "None" not in shown
    run = launch("show", "tiny", "--json").json[0]["dir"]
    assert f"weights    {run}/train/weights/best.pt" in shown
    assert "checked    " in shown
    assert " files, " in shown


def test_rows_of_show(tmp_path: Path) -> None:
    checked = {"complete": True, "manifest": "33b5ce" + "0" * 58, "files": 21, "bytes": 12_300_000}
    assert _checked(checked) == [("checked", "21 files, 12.3 MB, manifest 33b5ce…")]
    assert _checked({"files": 0, "trouble": "x", "left_over": ["a", "b"]}) == [("trouble", "x"), ("left over", "a; b")]
    attempt = AttemptRecord("a1", 1, "local", 0.0, reason="cancelled", started={"device": "cpu"})
    assert _attempt(attempt) == [("attempt", "a1  journalled, local, cancelled"), ("  ran as", "device cpu")]
    assert _results(tmp_path) == []
    (tmp_path / "results.png").write_bytes(b"")
    assert _results(tmp_path) == [("pictures", str(tmp_path))]


def test_a_cancelled_run_is_not_cancelled_cancelled(launch: Launch, spec: Path) -> None:
    assert launch(spec, "--detach", SAMERUN_STUB_EPOCH_S="2").code == 0
    assert launch("cancel", "tiny").code == 0
    assert "cancelled: cancelled" not in launch("show", "tiny").out


def test_a_model_in_a_variable_reaches_the_worker(launch: Launch, spec: Path, tmp_path: Path) -> None:
    spec.write_text(SPEC.replace("yolo11n.yaml", "${env:MODEL}"))
    weights = tmp_path / "own.pt"
    weights.write_bytes(b"weights")
    for value in ("yolo11n.yaml", str(weights)):
        said = launch(spec, "--dry-run", "--json", MODEL=value)
        assert said.code == 0, said.err
        jobs = sorted((tmp_path / "cache").rglob("job.json"), key=lambda file: file.stat().st_mtime_ns)
        assert json.loads(jobs[-1].read_text())["model"] == value
