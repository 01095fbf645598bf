"""A fresh machine gets the same packages, from whichever registry it uses."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PINS = [Requirement(text) for text in PROJECT["tool"]["uv"]["constraint-dependencies"]]


def _pinned() -> dict[str, str]:
    """Versions that hold on this machine, by name."""
    here = [pin for pin in PINS if pin.marker is None or pin.marker.evaluate()]
    return {canonicalize_name(pin.name): str(pin.specifier) for pin in here}


def _resolved() -> set[str]:
    """Every distribution that the project and its development group need here, needs of needs included."""
    waiting = [Requirement(text) for text in PROJECT["project"]["dependencies"]]
    waiting += [Requirement(text) for text in PROJECT["dependency-groups"]["dev"]]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        wanted = waiting.pop()
        key = (canonicalize_name(wanted.name), frozenset(wanted.extras))
        if key in seen:
            continue
        seen.add(key)
        for text in metadata.requires(wanted.name) or []:
            need = Requirement(text)
            if any(need.marker is None or need.marker.evaluate({"extra": extra}) for extra in ("", *wanted.extras)):
                waiting.append(need)
    return {name for name, _ in seen}


def test_every_package_that_is_installed_for_us_is_pinned_to_its_version() -> None:
    pinned, resolved = _pinned(), _resolved()
    assert len(resolved) > 80  # the walk has found the needs of needs
    assert {name: f"=={metadata.version(name)}" for name in resolved} == {name: pinned.get(name) for name in resolved}


def test_all_pins_are_exact_and_name_no_place() -> None:
    for pin in PINS:
        assert re.fullmatch(r"==[^,*]+", str(pin.specifier)), pin
        assert pin.url is None
    assert "://" not in (ROOT / "pyproject.toml").read_text()


def test_no_lock_file_is_kept() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    assert not [name for name in files if name.endswith(".lock") or Path(name).name == "requirements.txt"]


@pytest.mark.parametrize("module", ["six", "kagglesdk", "google.cloud.storage", "google.cloud.compute_v1", "fabric"])
def test_the_clients_of_backends_to_come_are_there(module: str) -> None:
    assert importlib.util.find_spec(module) is not None


@pytest.mark.parametrize("package", ["launcher", "backends"])
def test_both_packages_say_that_they_are_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").exists()
