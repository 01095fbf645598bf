"""The environment that trains: made by a real uv from a folder of small wheels, once, and never taken half made."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from backends.ssh.host import agent
from backends.ssh.host.environment import Environment
from launcher.runs.state import RunState
from tests.backends.ssh.world import Host, Launch
from tests.worker.laid import until

ULTRALYTICS, TORCH = "8.4.190", "2.15.0"


def wheel(folder: Path, name: str, version: str, *needs: str, extra: Mapping[str, str] | None = None) -> None:
    """A small wheel of this name."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    lines = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}", *(f"Requires-Dist: {each}" for each in needs)]
    files = {
        **(extra or {}),
        f"{name}.py": f"__version__ = {version!r}\n",
        f"{info}/METADATA": "\n".join(lines) + "\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in files) + f"{info}/RECORD,,\n"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in files.items():
            member = zipfile.ZipInfo(path)
            member.external_attr = (0o100755 if "/scripts/" in path else 0o100644) << 16
            archive.writestr(member, text)


def wheels(folder: Path) -> Path:
    """What a training needs, in its dependencies' shape."""
    wheel(folder, "ultralytics", ULTRALYTICS, "torch>=1.8", "numpy>=1.23")
    wheel(folder, "ultralytics", "8.5.0", "torch>=1.8", "numpy>=1.23")
    wheel(folder, "torch", TORCH)
    for version in ("2.3.0", "2.4.6"):
        wheel(folder, "numpy", version)
    return folder


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Where a host finds its programs: a Python, uv, and nothing else of this machine's user."""
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("uv is not installed")
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "uv").symlink_to(uv)
    (programs / "python3").symlink_to(Path(sys.executable).resolve())
    return f"{programs}:/usr/bin:/bin"


class Maker:
    """The agent's command, run by hand on a box."""

    def __init__(self, root: Path, path: str) -> None:
        self.root = root
        self.box = root / "boxes/a1"
        for name in ("in", "work"):
            (self.box / name).mkdir(parents=True)
        with zipfile.ZipFile(_archive(root)) as archive:
            archive.extractall(root / "agents/x")
        self.events = root / "events"
        self.env = {"PATH": path, "HOME": str(root), "UV_CACHE_DIR": str(root / "uv-cache"), "UV_OFFLINE": "1"}
        self.folder = root / "envs/abc-cp"

    def wants(self, **more: Any) -> None:
        """Write attempt.json."""
        asked: dict[str, Any] = {
            "requirements": [f"ultralytics=={ULTRALYTICS}", f"torch=={TORCH}"],
            "preferred": ["numpy==2.3.0"],
        }
        asked.update(python="", wheels=str(self.root / "wheels"), torch_backend="auto")
        attempt = {"python": str(self.folder / "bin/python"), "environment": {**asked, **more}}
        (self.box / "in/attempt.json").write_text(json.dumps(attempt))

    def begin(self, *, lifeline: int | None = None) -> subprocess.Popen[str]:
        """Start it, as the supervisor does."""
        argv = [sys.executable, "-I", str(self.root / "agents/x" / agent.MAIN), "environment", str(self.box)]
        with self.events.open("ab") as out:
            env, passed = {**self.env, "SAMERUN_EVENTS": str(out.fileno())}, [out.fileno()]
            if lifeline is not None:
                env["SAMERUN_LIFELINE"] = str(lifeline)
                passed.append(lifeline)
            return subprocess.Popen(
                argv, env=env, pass_fds=passed, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                process_group=0,
            )  # fmt: skip

    def __call__(self) -> tuple[int, str]:
        """Exit code and output."""
        process = self.begin()
        said, _ = process.communicate(timeout=120)
        return process.returncode, said

    @property
    def error(self) -> dict[str, Any]:
        """The last event."""
        found: dict[str, Any] = json.loads(self.events.read_text().splitlines()[-1])
        return found

    def version(self, name: str) -> str:
        """What is installed there."""
        program = f"import {name}, importlib.metadata as m; assert {name}.__version__ == m.version({name!r}); "
        argv = [str(self.folder / "bin/python"), "-c", f"{program}print({name}.__version__)"]
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()


def _archive(root: Path) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / "agent.zip").write_bytes(agent.archive())
    return root / "agent.zip"


@pytest.fixture
def make(tmp_path: Path, path: str) -> Maker:
    wheels(tmp_path / "host/wheels")
    maker = Maker(tmp_path / "host", path)
    maker.wants()
    return maker


def test_it_is_made_once_with_the_pinned_versions_and_the_preferred_ones(make: Maker) -> None:
    code, said = make()
    assert code == 0, (said, make.events.read_text())
    assert [make.version(name) for name in ("ultralytics", "torch", "numpy")] == [ULTRALYTICS, TORCH, "2.3.0"]
    assert f"ultralytics=={ULTRALYTICS}" in (make.folder / "requirements.txt").read_text()
    shutil.rmtree(make.root / "wheels")
    code, said = make()
    assert (code, said.count("is there")) == (0, 1)


def test_a_preferred_version_that_cannot_be_had_is_no_reason_not_to_train(make: Maker) -> None:
    make.wants(preferred=["numpy==9.9.9"])
    code, said = make()
    assert code == 0, (said, make.events.read_text())
    assert make.version("numpy") == "2.4.6"


def test_a_required_version_that_cannot_be_had_is_an_error_with_a_remedy(make: Maker) -> None:
    make.wants(requirements=["ultralytics==1.0", "torch"])
    code, said = make()
    assert code == 1
    assert "ultralytics==1.0" in said
    assert "resources.wheels" in make.error["remedy"]
    assert not (make.folder / ".samerun-whole.json").exists()


def test_what_is_half_made_is_thrown_away(make: Maker) -> None:
    (make.folder / "bin").mkdir(parents=True)
    (make.folder / "bin/python").write_text("#!/bin/false\n")
    code, said = make()
    assert code == 0, (said, make.events.read_text())
    assert make.version("torch") == TORCH


def test_two_at_once_make_it_once(make: Maker) -> None:
    both = [make.begin(), make.begin()]
    said = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sum("is there after" in each for each in said) == 1
    assert make.version("torch") == TORCH


def test_one_that_was_killed_leaves_it_to_the_next(make: Maker) -> None:
    process = make.begin()
    until(make.folder.exists, 20)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (make.folder / ".samerun-whole.json").exists()
    code, said = make()
    assert code == 0, (said, make.events.read_text())
    assert make.version("torch") == TORCH


def test_it_ends_with_its_supervisor(make: Maker) -> None:
    (make.root / "slow").mkdir()
    uv = make.root / "slow/uv"
    uv.write_text("#!/bin/sh\ntouch $HOME/begun\nexec sleep 60\n")
    uv.chmod(0o755)
    make.env["PATH"] = f"{uv.parent}:/usr/bin:/bin"
    reader, writer = os.pipe()
    process = make.begin(lifeline=reader)
    until((make.root / "begun").exists, 20)
    os.close(writer)
    begun = time.monotonic()
    assert process.wait(10) == -signal.SIGKILL
    process.communicate()  # the pipe's other ends are closed: uv is gone too
    assert time.monotonic() - begun < 5
    os.close(reader)


@pytest.mark.slow
def test_a_host_without_uv_says_how_to_get_it(make: Maker, path: str) -> None:
    Path(path.split(":", maxsplit=1)[0], "uv").unlink()
    code, _ = make()
    assert code == 1
    assert "uv is not on this host" in make.error["reason"]
    assert "https://docs.astral.sh/uv" in make.error["remedy"]
    assert not (make.root / "uv").exists()


@pytest.mark.slow
def test_a_host_without_uv_gets_one_of_its_own(make: Maker, path: str) -> None:
    program = Path(path.split(":", maxsplit=1)[0]) / "uv"
    uv = f'#!/bin/sh\nexec {program.readlink()} "$@"\n'
    program.unlink()
    wheel(make.root / "wheels", "uv", "1.0", extra={"uv-1.0.data/scripts/uv": uv})
    for _ in range(2):
        code, said = make()
        assert code == 0, (said, make.events.read_text())
        shutil.rmtree(make.folder)
    assert (make.root / "uv/bin/uv").exists()


def test_wheels_that_are_not_there_are_named(make: Maker) -> None:
    make.wants(wheels="~/no-such-folder")
    assert make()[0] == 1
    assert f"there is no folder {make.root}/no-such-folder" in make.error["reason"]


def test_its_name_follows_from_what_is_asked_for() -> None:
    pins = {"ultralytics": ULTRALYTICS, "torch": f"{TORCH}+cpu", "numpy": "2.4.6", "samerun": "0.1.0"}
    made = Environment.of(pins)
    assert made.requirements == (f"ultralytics=={ULTRALYTICS}", f"torch=={TORCH}")
    assert made.preferred == ("numpy==2.4.6",)
    assert made.digest == Environment.of({**pins, "torch": TORCH, "samerun": "0.2.0"}).digest
    others = [Environment.of({**pins, "torch": "2.14.0"}), Environment.of(pins, python="3.12")]
    others += [Environment.of(pins, wheels="w"), Environment.of(pins, torch_backend="cpu")]
    assert len({made.digest, *(other.digest for other in others)}) == 5


def test_a_launch_makes_it_on_the_host_and_the_next_finds_it(launch: Launch, host: Host, path: str) -> None:
    folder = wheels(host.home / "wheels")
    host.sshd.stop()
    host.sshd.environment.update(PATH=path, UV_CACHE_DIR=str(host.home / "uv-cache"), UV_OFFLINE="1")
    host.sshd.start()
    words = ["--backend", "ssh", "--set", "resources.host=gpubox", "--set", f"resources.wheels={folder}"]
    for epochs, said in (("2", "making the environment"), ("3", "is there")):
        assert launch(str(launch.spec), *words, "--set", f"train.epochs={epochs}") == 0
        assert launch.record.state is RunState.VERIFIED
        assert said in (launch.folder / "log.txt").read_text()
    (made,) = (path for path in (host.root / "envs").iterdir() if path.is_dir())
    assert (made / ".samerun-whole.json").exists()
    assert launch("--backend", "ssh", "--yes", "--data", command="reap") == 0
    assert not host.root.exists()
