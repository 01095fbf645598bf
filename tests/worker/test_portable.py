"""The worker runs on every Python from 3.10 on, and what stays in memory is the standard library."""

from __future__ import annotations

import ast
import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.worker.laid import ROOT, Laid

VERSIONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
SOURCES = sorted((ROOT / "launcher/worker").rglob("*.py"))
STAYS = ("__init__", "__main__", "box", "supervise", "stream", "scratch", "manifest", "training/checkpoint")
"""What the supervisor imports, at its start or for its last word."""


def python(version: str) -> str:
    """A Python of this version on this machine; skips where there is none."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path(pwd.getpwuid(os.getuid()).pw_dir) / ".pyenv") / "versions"
    found = sorted(pyenv.glob(f"{version}.*/bin/python")) if pyenv.is_dir() else []
    if path := (str(found[-1]) if found else shutil.which(f"python{version}")):
        return path
    pytest.skip(f"no Python {version} on this machine")


@pytest.mark.parametrize("version", VERSIONS)
def test_the_sources_compile(tmp_path: Path, version: str) -> None:
    copy = tmp_path / "worker"
    shutil.copytree(ROOT / "launcher/worker", copy, ignore=shutil.ignore_patterns("__pycache__"))
    argv = [python(version), "-W", "error", "-m", "compileall", "-q", str(copy)]
    subprocess.run(argv, check=True, timeout=60)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_run_with_a_kill_in_it(tmp_path: Path, version: str) -> None:
    box = Laid(tmp_path / "box", python=python(version))
    assert box.run(SAMERUN_STUB_KILL_EPOCH="2") == 0
    assert box.epochs() == [1, 2, 3]
    assert box.exit["outcome"] == "done"


@pytest.mark.parametrize("name", STAYS)
def test_what_stays_in_memory_imports_the_standard_library_alone(name: str) -> None:
    tree = ast.parse((ROOT / f"launcher/worker/{name}.py").read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert {alias.name.split(".")[0] for alias in node.names} <= sys.stdlib_module_names
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            assert (node.module or "").split(".")[0] in sys.stdlib_module_names


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_nothing_that_travels_imports_the_launcher(source: Path) -> None:
    for node in ast.walk(ast.parse(source.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
        assert not [name for name in names if name.split(".")[0] in ("launcher", "backends")]
