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

from launcher.errors import Problem, SpecError


def _base(env: Mapping[str, str], variable: str, fallback: str) -> Path:
    """A folder of the XDG base directory specification, for samerun."""
    return Path(env.get(variable) or Path(env.get("HOME", "~")).expanduser() / fallback) / "samerun"


@dataclass(frozen=True)
class Settings:
    """Each field is also `SAMERUN_<FIELD>` in the environment and `<field>` in `~/.config/samerun/config.toml`."""

    runs_dir: Path
    """Run folders and the run store. Default: `runs` in the current folder."""
    cache_dir: Path
    """Bundles, generated datasets, fingerprints. Default: `$XDG_CACHE_HOME/samerun`."""
    payload: Path | None = None
    """A Python file that runs in the place of the training, for tests and benchmarks. The run record names it."""

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
        payload = values.get("payload")
        return cls(
            runs_dir=Path(values.get("runs_dir", "runs")).expanduser().absolute(),
            cache_dir=Path(values.get("cache_dir", _base(env, "XDG_CACHE_HOME", ".cache"))).expanduser().absolute(),
            payload=Path(payload).expanduser().absolute() if payload else None,
        )
