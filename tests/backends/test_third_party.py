"""A backend from a package of its own: installed outside this tree, found by its entry point, held to the suite."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

from launcher.installed import GROUP

PACKAGE = Path(__file__).parent.parent / "example_backend"
TIME_LIMIT_S = 100


def install_with_uv(site: Path) -> None:
    """What a user does. Offline it works only where uv has already seen the build backend."""
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("uv is not installed")
    copy = site.parent / "source"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    argv = [
        uv,
        "pip",
        "install",
        "--offline",
        "--no-deps",
        "--target",
        str(site),
        "--python",
        sys.executable,
        str(copy),
    ]
    cache = subprocess.run([uv, "cache", "dir"], env=real_home(), capture_output=True, text=True, check=True)
    env = {**real_home(), "UV_CACHE_DIR": cache.stdout.strip()}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=TIME_LIMIT_S, check=False)
    if done.returncode != 0 and "hatchling" in done.stderr:
        pytest.skip("uv has no hatchling in its cache, and tests do not go to the network")
    assert done.returncode == 0, done.stderr


def install_by_hand(site: Path) -> None:
    """The files that an installer leaves, written here from the package's pyproject.toml."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    shutil.copy(PACKAGE / "samerun_example.py", site)
    head = {"Metadata-Version": "2.1", "Name": project["name"], "Version": project["version"]}
    (info / "METADATA").write_text("".join(f"{key}: {value}\n" for key, value in head.items()), encoding="utf-8")
    (info / "INSTALLER").write_text("tests/backends/test_third_party.py\n", encoding="utf-8")
    points = "".join(f"{name} = {value}\n" for name, value in project["entry-points"][GROUP].items())
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{points}", encoding="utf-8")


@pytest.fixture(params=[install_with_uv, install_by_hand])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder with the example installed in it."""
    folder = tmp_path / "site"
    request.param(folder)
    return folder


def run(argv: list[str], site: Path | None, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run Python with samerun and, beside it, what is installed in `site`."""
    folders = [str(Path(__file__).parents[2]), *([str(site)] if site is not None else [])]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(folders), "PYTHONDONTWRITEBYTECODE": "1"}
    argv = [sys.executable, *argv]
    return subprocess.run(argv, env=env, cwd=cwd, capture_output=True, text=True, timeout=TIME_LIMIT_S, check=False)


def test_an_installed_backend_is_found_by_its_name(site: Path, tmp_path: Path) -> None:
    doctor = ["-m", "launcher", "doctor", "--backend", "example", "--json"]
    before = run(doctor, None, tmp_path)
    assert "there is no backend 'example'" in before.stdout + before.stderr
    done = run(doctor, site, tmp_path)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    said = {line["code"]: line["message"] for line in found if line.get("backend") == "example"}
    assert "example.place" in said, done.stderr
    assert "example.lacks" in said
    assert "there is no backend 'example'" in run(doctor, None, tmp_path).stderr


def test_the_suite_runs_outside_this_tree(site: Path, tmp_path: Path) -> None:
    shutil.copy(PACKAGE / "test_example.py", tmp_path)
    chosen = ["-k", "handle_works or lost_once or cancel_stops_or", "-p", "no:cacheprovider", "-q", "-rs"]
    done = run(["-m", "pytest", *chosen, str(tmp_path / "test_example.py")], site, tmp_path)
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


def real_home() -> Mapping[str, str]:
    """The environment without this test's own home: uv keeps its cache in the user's."""
    import pwd

    kept = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
    return {**kept, "HOME": pwd.getpwuid(os.getuid()).pw_dir}
