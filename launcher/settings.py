"""Where samerun keeps things, and how long it waits: environment variables over config.toml over defaults.

Standard library only. pydantic-settings was measured at 200 ms of import, `launch ps` answers in less than half of
that; the few settings here do not need it.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from launcher.errors import Problem, SpecError


def _base(env: Mapping[str, str], variable: str, fallback: str) -> Path:
    """A folder of the XDG base directory specification, for samerun."""
    return _expanded(env.get(variable) or f"{env.get('HOME', '~')}/{fallback}") / "samerun"


def _expanded(path: str) -> Path:
    """An absolute path; where there is no home folder to stand for `~`, one below the folder for temporary files."""
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError:  # neither HOME nor an entry for this user, as in some containers
        import tempfile

        return Path(tempfile.gettempdir(), f"samerun-{os.getuid()}", path.lstrip("~/")).absolute()


@dataclass(frozen=True)
class Settings:
    """Each field is also `SAMERUN_<FIELD>` in the environment and `<field>` in `~/.config/samerun/config.toml`."""

    runs_dir: Path
    """Run folders and the run store. Default: `runs` in the current folder."""
    cache_dir: Path
    """Bundles, generated datasets, fingerprints. Default: `$XDG_CACHE_HOME/samerun`."""
    payload: Path | None = None
    """A Python file that runs in the place of the training, for tests and benchmarks. The run record names it."""
    kaggle_endpoint: str | None = None
    """Where Kaggle's API is. Default: Kaggle's own; `python -m tests.emulators.kaggle` prints one to try things on."""
    kaggle_session_hours: float = 11.5
    """How long a training may use a Kaggle session before it leaves and goes on in another: Kaggle ends them at 12."""
    kaggle_poll_seconds: float = 10.0
    """How soon after one question for a kernel's state the next is asked; the pause grows to six times as much."""

    ssh_seconds: float = 30.0
    """How long one question to an SSH host may take, and how long a transfer may stand still, before it is given up."""
    gcp_project: str | None = None
    """The project whose machines and storage are used. Default: `resources.project`, else that of the credentials."""
    gcp_bucket: str | None = None
    """The bucket for datasets and results, without `gs://`. Default: `resources.bucket`."""
    gce_endpoint: str | None = None
    """Where the Compute Engine API is. Default: Google's own. STORAGE_EMULATOR_HOST does the same for Cloud Storage."""
    gce_poll_seconds: float = 10.0
    """How soon after one question for a machine's state the next is asked."""

    @classmethod
    def load(cls, env: Mapping[str, str] | None = None) -> Settings:
        """Read the settings. Raises SpecError when config.toml is not TOML or names an unknown setting."""
        env = os.environ if env is None else env
        values: dict[str, str] = {}
        file = _base(env, "XDG_CONFIG_HOME", ".config") / "config.toml"
        if file.is_file():
            try:
                values.update(tomllib.loads(file.read_text(encoding="utf-8")))
            except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
                raise SpecError([Problem(f"is not TOML: {error}", file=str(file))]) from error
        names = {field.name for field in fields(cls)}
        if unknown := sorted(values.keys() - names):
            known = f"known settings: {', '.join(sorted(names))}"
            raise SpecError([Problem("unknown setting", file=str(file), field=name, remedy=known) for name in unknown])
        values.update({name: env[f"SAMERUN_{name.upper()}"] for name in names if env.get(f"SAMERUN_{name.upper()}")})
        payload = values.pop("payload", None)
        texts: dict[str, Any] = {name: values.get(name) for name in TEXTS}
        numbers: dict[str, Any] = {name: _number(name, values.pop(name), file) for name in NUMBERS & values.keys()}
        return cls(
            runs_dir=_expanded(str(values.get("runs_dir", "runs"))),
            cache_dir=_expanded(str(values.get("cache_dir") or _base(env, "XDG_CACHE_HOME", ".cache"))),
            payload=_expanded(str(payload)) if payload else None,
            **texts,
            **numbers,
        )


NUMBERS = frozenset({"kaggle_session_hours", "kaggle_poll_seconds", "ssh_seconds", "gce_poll_seconds"})
TEXTS = frozenset({"kaggle_endpoint", "gcp_project", "gcp_bucket", "gce_endpoint"})


def _number(name: str, value: object, file: Path) -> float:
    """A setting that is a positive number. Raises SpecError."""
    try:
        number = float(str(value))
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        remedy = f"mend it in SAMERUN_{name.upper()} or in {file}"
        raise SpecError([Problem(f"must be a number above 0, not {value!r}", field=name, remedy=remedy)])
    return number
