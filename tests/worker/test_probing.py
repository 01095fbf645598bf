"""The probe on the machine: when the supervisor runs it, and what becomes of a training by what it says."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from launcher.sync.manifest import parse
from launcher.worker.box import Box, write_json
from launcher.worker.probing import probe as probing
from launcher.worker.probing.tensors import FEWEST, SIZE_LIMIT, STEPS, STRIDE, WEIGHTS_LIMIT, plan, thinned
from tests.worker.laid import Laid
from tests.worker.test_train import Told

ANSWERS = {
    "fine": "open(f'{box}/out/probe.json', 'w').write('{}')",
    "refuses": "tell({'event': 'error', 'reason': 'other targets', 'code': 'probe-different', 'remedy': 'r'}); exit(1)",
    "breaks": "exit(3)",
    "is killed": "import signal; os.kill(os.getpid(), signal.SIGKILL)",
}
ASKED = {"key": "k", "required": False, "on_different": "stop", "files": {}}


def laid(folder: Path, answer: str, **job: Any) -> Laid:
    """A box whose Python answers `worker.pyz probe BOX` by itself, and counts how often it is asked."""
    script = folder / "answer.py"
    script.write_text(
        "import json, os, sys\nbox = sys.argv[3]\nopen(f'{box}/work/asked', 'a').write('x')\n"
        "def tell(what): os.write(int(os.environ['SAMERUN_EVENTS']), json.dumps(what).encode() + b'\\n')\n"
        + ANSWERS[answer]
    )
    python = folder / "python"
    python.write_text(
        f'#!/bin/sh\nif [ "$2" = probe ]; then exec {sys.executable} {script} "$@"; fi\nexec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    box = Laid(folder / "box", **job)
    box.python = str(python)
    return box


def run(box: Laid) -> int:
    """The supervisor itself runs with the real Python."""
    box.python, python = sys.executable, box.python
    assert json.loads((box.root / "in/attempt.json").read_text())["python"] == python
    return box.run()


def asked(box: Laid) -> int:
    mark = box.mark("asked")
    return len(mark.read_text()) if mark.exists() else 0


def test_it_comes_before_the_training_and_its_file_is_in_the_manifest(tmp_path: Path) -> None:
    box = laid(tmp_path, "fine")
    box.describe(probe=ASKED)
    assert run(box) == 0
    assert (asked(box), box.epochs()) == (1, [1, 2, 3])
    manifest = parse((box.root / "out/manifest.json").read_bytes())
    assert manifest.complete
    assert manifest.entry("probe.json") is not None


@pytest.mark.parametrize("more", [{}, {"probe": ASKED, "resume": {"epoch": 1, "stop": False, "files": []}}])
def test_no_probe_is_run_that_was_not_asked_for_or_when_a_training_goes_on(tmp_path: Path, more: Any) -> None:
    box = laid(tmp_path, "refuses")
    box.describe(**more)
    run(box)
    assert asked(box) == 0


def test_a_training_that_is_started_again_is_not_probed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    box = laid(tmp_path, "fine", stub={"kill_epoch": 2})
    box.describe(probe=ASKED)
    assert run(box) == 0
    assert [event["code"] for event in box.named("warning")] == ["trainer-killed"]
    assert asked(box) == 1


def test_one_that_refuses_ends_the_attempt_before_anything_is_trained(tmp_path: Path) -> None:
    box = laid(tmp_path, "refuses")
    box.describe(probe=ASKED)
    assert run(box) != 0
    assert (box.exit["outcome"], box.exit["reason"], box.exit["code"]) == ("failed", "other targets", "probe-different")
    assert box.exit["remedy"] == "r"
    assert not (box.root / "out/train").exists()


@pytest.mark.parametrize("required", [True, False])
def test_one_that_is_killed_has_said_nothing(tmp_path: Path, required: bool) -> None:
    box = laid(tmp_path, "is killed")
    box.describe(probe={**ASKED, "required": required})
    assert (run(box) == 0) is not required
    if required:
        assert "the probe was killed by SIGKILL" in box.exit["reason"]
    else:
        assert [event["code"] for event in box.named("warning")] == ["probe-failed"]
        assert box.epochs() == [1, 2, 3]


def test_a_run_that_is_only_a_probe_ends_with_it(tmp_path: Path) -> None:
    box = laid(tmp_path, "fine", probe_only=True)
    box.describe(probe=ASKED)
    assert run(box) == 0
    assert box.exit["outcome"] == "done"
    manifest = parse((box.root / "out/manifest.json").read_bytes())
    assert ([entry.path for entry in manifest.files], manifest.complete) == (["probe.json"], True)
    assert not (box.root / "out/train").exists()


def test_a_run_that_is_only_a_probe_fails_with_it(tmp_path: Path) -> None:
    box = laid(tmp_path, "breaks", probe_only=True)
    box.describe(probe=ASKED)
    assert run(box) == 3
    assert "the probe ended with exit code 3" in box.exit["reason"]


# What the process says, by what it has found.


def answered(
    root: Path, monkeypatch: pytest.MonkeyPatch, result: Any, asked: Any, job: Any = None
) -> tuple[int, Told, Box]:
    """The probe's process with its computing replaced: by a comparison, or by an error."""
    told, box = Told(), Box(str(root))
    box.make()
    Path(box.inbox).mkdir()
    write_json(f"{box.inbox}/attempt.json", {"probe": asked})
    write_json(f"{box.inbox}/job.json", job or {})

    class Computed:
        def __init__(self, *_: Any) -> None: ...

        def run(self) -> Any:
            if isinstance(result, Exception):
                raise result
            return {"machine": {"device": "cpu"}, **({"result": result} if result else {})}

    monkeypatch.setattr(probing, "Probe", Computed)
    monkeypatch.setattr(probing, "Emitter", lambda: told)
    monkeypatch.setattr(probing, "hold_lifeline", lambda _: None)
    return probing.probe(str(root)), told, box


def found(verdict: str, *, stops: bool) -> dict[str, Any]:
    return {"verdict": verdict, "kind": "assigner", "reason": "step 0", "decided": None, "noise": 0.0, "stops": stops}


@pytest.mark.parametrize(
    ("result", "on_different", "code", "events"),
    [
        (found("identical", stops=False), "stop", 0, ["preparing", "probe"]),
        (found("within-noise", stops=False), "stop", 0, ["preparing", "probe"]),
        (found("not-comparable", stops=False), "stop", 0, ["preparing", "probe"]),
        (found("different", stops=True), "stop", 1, ["preparing", "probe", "error"]),
        (found("different", stops=True), "go-on", 0, ["preparing", "probe", "warning"]),
        (found("different", stops=False), "stop", 0, ["preparing", "probe"]),
        (None, "stop", 0, ["preparing", "probe"]),
    ],
)
def test_only_a_machine_that_computes_something_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, result: Any, on_different: str, code: int, events: list[str]
) -> None:
    got, told, box = answered(tmp_path, monkeypatch, result, {**ASKED, "on_different": on_different})
    assert (got, [event["event"] for event in told]) == (code, events)
    assert json.loads(Path(box.probe).read_text()).get("result") == result
    if code:
        assert told[-1]["code"] == "probe-different"
        assert "parity.on_different: go-on" in told[-1]["remedy"]


@pytest.mark.parametrize(("required", "code", "name"), [(True, 1, "error"), (False, 0, "warning")])
def test_one_that_breaks_stops_only_what_requires_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, required: bool, code: int, name: str
) -> None:
    got, told, box = answered(tmp_path, monkeypatch, RuntimeError("no kernel"), {**ASKED, "required": required})
    assert (got, told[-1]["event"], told[-1]["code"]) == (code, name, "probe-failed")
    assert "RuntimeError: no kernel" in told[-1]["reason"]
    assert not Path(box.probe).exists()


# The fixed batches.


@pytest.mark.parametrize("imgsz", [96, 320, 416, 640, 736, 1280, 1536, 3648])
@pytest.mark.parametrize("parameters", [1_800_000, 2_600_000, 9_430_000, 20_100_000, 56_900_000])
def test_every_model_and_size_has_a_probe_that_fits(imgsz: int, parameters: int) -> None:
    size = plan(imgsz, parameters, 16)
    weights = 2 * parameters if 2 * parameters <= WEIGHTS_LIMIT else 0
    assert size.side <= imgsz
    assert size.side % STRIDE == 0
    assert size.images >= FEWEST
    assert 1 <= size.batches <= STEPS
    assert size.images * size.batches <= 16
    assert weights + 3 * size.side**2 * size.images * size.batches <= SIZE_LIMIT < 20_000_000


def test_one_image_is_not_enough() -> None:
    with pytest.raises(ValueError, match="takes 2 or more"):
        plan(640, 2_600_000, 1)


@pytest.mark.parametrize(("shape", "side", "wanted"), [((64, 64), 32, (32, 32)), ((384, 640), 320, (192, 320))])
def test_smaller_images_keep_pixels_of_the_larger(shape: Any, side: int, wanted: Any) -> None:
    numpy = pytest.importorskip("numpy")
    image = numpy.arange(3 * shape[0] * shape[1]).reshape(1, 3, *shape)
    small = thinned(image, side)
    assert small.shape == (1, 3, *wanted)
    assert small[0, 1, 0, :3].tolist() == image[0, 1, 0, :6:2].tolist()
    assert thinned(image, max(shape)) is image
