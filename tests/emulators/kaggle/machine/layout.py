"""Where things lie on the machine of a session, in both of Kaggle's layouts and with or without a literal /kaggle."""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tests.emulators.kaggle.settings import Settings

HOME = "/kaggle/.home"


@dataclass(frozen=True)
class Mount:
    """A source of a kernel: a read-only folder of this machine, by what it is and whose."""

    kind: Literal["datasets", "notebooks", "competitions"]
    owner: str
    slug: str
    folder: Path

    def below_input(self, layout: str) -> str:
        if layout == "old":
            return self.slug
        return f"{self.kind}/{self.slug}" if self.kind == "competitions" else f"{self.kind}/{self.owner}/{self.slug}"


@dataclass(frozen=True)
class Machine:
    """The folders of one session, below the emulator's root. `working` becomes the outputs."""

    folder: Path

    @property
    def working(self) -> Path:
        return self.folder / "working"

    @property
    def report(self) -> Path:
        return self.folder / "report.json"

    def prepare(self, script: str, mounts: Sequence[Mount], internet: bool, settings: Settings) -> Path:
        """Lay everything out; the path of the guard's spec."""
        for name in ("working", "temp", "src", "home", "tmp", "root", "input"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "src" / "script.py").write_text(script, "utf-8")
        inside = {"argv": [settings.python, "/kaggle/src/script.py"], "cwd": "/kaggle/working"}
        plain = {"argv": [settings.python, str(self.folder / "src" / "script.py")], "cwd": str(self.working)}
        roots = {
            "KAGGLE_INPUT_ROOT": str(self.folder / "input"),
            "KAGGLE_WORKING_ROOT": str(self.working),
            "KAGGLE_TEMP_ROOT": str(self.folder / "temp"),
        }
        spec = {
            "sandbox": settings.sandbox,
            "internet": internet,
            "root": str(self.folder / "root"),
            "report": str(self.report),
            "hide": [[path, str(self.folder / "tmp")] for path in settings.hide if _hidable(path, settings.python)],
            "tree": [
                [str(mount.folder), str(self.folder / "input" / mount.below_input(settings.layout)), mount.kind]
                for mount in mounts
            ],
            "binds": self._binds(mounts, settings.layout),
            "inside": {**inside, "env": self._env(settings, HOME)},
            "plain": {**plain, "env": {**self._env(settings, str(self.folder / "home")), **roots}},
        }
        path = self.folder / "spec.json"
        path.write_text(json.dumps(spec), "utf-8")
        return path

    def _env(self, settings: Settings, home: str) -> dict[str, str]:
        """The whole environment of a kernel: nothing of this machine's is in it."""
        return {
            "KAGGLE_KERNEL_RUN_TYPE": "Batch",
            "HOME": home,
            "LANG": "C.UTF-8",
            "PATH": f"{Path(settings.python).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            **settings.kernel_env,
        }

    def _binds(self, mounts: Sequence[Mount], layout: str) -> list[list[Any]]:
        own = (("src", "/kaggle/src"), ("home", HOME), ("working", "/kaggle/working"), ("temp", "/kaggle/temp"))
        sources = [[str(mount.folder), f"/kaggle/input/{mount.below_input(layout)}", True] for mount in mounts]
        return [[str(self.folder / name), target, name == "src"] for name, target in own] + sources

    def clean(self, *, outputs: bool) -> None:
        """Remove what a session leaves that Kaggle does not keep."""
        for name in ("temp", "home", "tmp", "input", "root"):
            remove(self.folder / name)
        if not outputs:
            remove(self.working)
            self.working.mkdir(parents=True, exist_ok=True)


def with_notebook(text: str) -> str:
    """The code of a notebook's cells as a script. Raises ValueError with what the log of Kaggle says."""
    notebook = json.loads(text)
    if "kernelspec" not in notebook.get("metadata", {}):
        raise ValueError("ValueError: No kernel name found in notebook and no override provided.")
    cells = [cell["source"] for cell in notebook.get("cells", ()) if cell.get("cell_type") == "code"]
    return "\n\n".join(source if isinstance(source, str) else "".join(source) for source in cells)


def files(folder: Path) -> list[tuple[str, int, float]]:
    """Path, size and modification time of each regular file, sorted by path. Links are not followed."""
    found = []
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            status = path.lstat()
            if stat.S_ISREG(status.st_mode):
                found.append((path.relative_to(folder).as_posix(), status.st_size, status.st_mtime))
    return sorted(found)


def remove(folder: Path) -> None:
    """Remove a tree, also where its folders are read-only."""
    for parent, _, _ in os.walk(folder):
        if not os.access(parent, os.W_OK):
            Path(parent).chmod(0o755)
    shutil.rmtree(folder, ignore_errors=True)


def _hidable(path: str, python: str) -> bool:
    """False for a folder without which the image's Python could not start."""
    needed = [Path(python), Path(python).resolve()]
    if python == sys.executable:
        needed += [Path(sys.prefix), Path(sys.base_prefix)]
    return not any(place.is_relative_to(path) for place in needed)
