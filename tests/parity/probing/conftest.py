"""One probe, made once a session, and the records of all planted faults: two processes that import torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from launcher.bundle.pack import Bundle
from launcher.parity.probing import Made, make, plan_of
from launcher.runs import create
from launcher.settings import Settings
from launcher.spec.load import load_spec

ROOT = Path(__file__).parent.parent.parent.parent
SMALL = ("data={reef: {videos: 2, frames: 8}}", "train.hsv_s=0.7", "train.fliplr=0.5")


@dataclass(frozen=True)
class World:
    """A made probe and what it was made of."""

    settings: Settings
    bundle: Bundle
    data: create.Data
    made: Made


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The smoke run's probe."""
    folder = tmp_path_factory.mktemp("probe")
    settings = replace(Settings.load({}), cache_dir=folder / "cache", runs_dir=folder / "runs")
    loaded = load_spec(ROOT / "jobspecs/smoke.yaml")
    data = create.look_at_data(settings, loaded.spec, lambda *_: None, make=True)
    assert isinstance(data, create.Data)
    bundle = create.pack_bundle(settings, loaded, data)
    return World(settings, bundle, data, make(settings, bundle, data))


@pytest.fixture(scope="session")
def planted(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Records by fault, each with the comparison that the worker made with the values of `world`."""
    from launcher.parity.probing.making import _lay

    box, out = tmp_path_factory.mktemp("box"), tmp_path_factory.mktemp("out") / "records.json"
    _lay(box, world.bundle, world.data, world.made.key)
    plan = plan_of(world.settings, world.made, required=True, on_different="stop")
    (box / "in/probe").mkdir()
    for path, file in plan["files"].items():
        (box / "in" / path).write_bytes(Path(file["source"]).read_bytes())
    attempt = json.loads((box / "in/attempt.json").read_text())
    sent = {path: file["sha256"] for path, file in plan["files"].items()}
    job = sorted(path for path in attempt["files"] if path != "job.json")
    attempt["files"] = {path: attempt["files"][path] for path in job}  # the faults change job.json
    (box / "in/attempt.json").write_text(json.dumps({**attempt, "probe": {**plan, "files": sent}}))
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(box)}
    argv = [sys.executable, "-m", "tests.parity.probing.planted", str(box), str(out)]
    done = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, timeout=400, check=False)
    assert out.exists(), done.stderr[-3000:]
    found: dict[str, Any] = json.loads(out.read_text())
    return found
