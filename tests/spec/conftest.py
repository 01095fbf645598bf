"""Fixtures of the spec tests: files in a folder of their own, and the installed Ultralytics, read once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.errors import SpecError
from launcher.spec.arguments import Arguments
from launcher.spec.load import load_spec

Write = Callable[..., Path]
Problems = Callable[..., list[str]]


@pytest.fixture(scope="session")
def arguments() -> Arguments:
    return Arguments()


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a spec file and get its path; `job.yaml` unless named."""

    def write(text: str, name: str = "job.yaml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def problems(tmp_path: Path) -> Problems:
    """All that is wrong with a spec, as lines, with the folder's name taken out."""

    def problems(path: Path, *overrides: str, env: dict[str, str] | None = None) -> list[str]:
        with pytest.raises(SpecError) as caught:
            load_spec(path, overrides, env or {})
        return [str(problem).replace(f"{tmp_path}/", "") for problem in caught.value.problems]

    return problems
