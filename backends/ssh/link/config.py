"""What ~/.ssh/config and /etc/ssh/ssh_config say, with their `Include` lines, which paramiko does not follow."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import paramiko

from launcher.errors import Problem, SpecError

FILES = ("~/.ssh/config", "/etc/ssh/ssh_config")
_DEEPEST = 16
"""Levels of Include: OpenSSH's own limit (READCONF_MAX_DEPTH of its readconf.c)."""


def read(files: tuple[str, ...] = FILES) -> Any:
    """A paramiko.SSHConfig of the user's file and then the system's. Raises SpecError for what it cannot read."""
    config = paramiko.SSHConfig()
    for name in files:
        file = Path(name).expanduser()
        text = "\n".join(_lines(file, Path("~/.ssh" if name.startswith("~") else "/etc/ssh").expanduser(), 0))
        try:
            config.parse(iter(f"Host *\n{text}\n".splitlines(keepends=True)))
        except paramiko.ConfigParseError as error:
            raise SpecError([Problem(str(error), file=str(file), remedy="see `man ssh_config`")]) from error
    return config


def _lines(file: Path, base: Path, depth: int) -> list[str]:
    """The lines of a file, with those of included ones in their place.

    An Include below a Host line holds for that host alone: as its own Host lines would end that, the lines of the
    block that it stands in begin anew after it.
    """
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    lines: list[str] = []
    block = "Host *"
    for line in text.splitlines():
        key, _, rest = line.strip().replace("=", " ", 1).partition(" ")
        if key.lower() in ("host", "match"):
            block = line
        if key.lower() != "include" or depth >= _DEEPEST:
            lines.append(line)
            continue
        for pattern in shlex.split(rest):
            where = base / Path(pattern).expanduser()
            for found in sorted(Path(where.anchor).glob(str(where.relative_to(where.anchor)))):
                lines += [*_lines(found, base, depth + 1), block]
    return lines
