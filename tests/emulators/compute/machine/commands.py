"""Commands in front of a machine's PATH, so that a script that manages its system does not manage this one."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

OFF = "machine/power-off"
_OFF = """
import urllib.request
headers = {{"Metadata-Flavor": "Google"}}
opener = urllib.request.build_opener(urllib.request.ProxyHandler({{}}))
opener.open(urllib.request.Request("http://{netloc}/{off}", method="PUT", data=b"", headers=headers))
"""
_SUDO = 'while [ "${1#-}" != "$1" ]; do shift; done\nexec env "$@"\n'
REFUSED = {
    "apt": 100,
    "apt-get": 100,
    "dpkg": 2,
    "reboot": 1,
    "systemctl": 5,
    "systemd-run": 1,
    "loginctl": 1,
    "snap": 1,
}
"""Exit status of commands that are not emulated; those of systemctl (no such unit), apt and dpkg are theirs."""


def write_commands(folder: Path, netloc: str) -> Path:
    """`shutdown`, `poweroff` and `halt` stop the instance, `sudo` is a plain call, the rest is refused with a word."""
    folder.mkdir(parents=True, exist_ok=True)
    off = f"exec {shlex.quote(sys.executable)} -I -S -c {shlex.quote(_OFF.format(netloc=netloc, off=OFF))}\n"
    texts = dict.fromkeys(("shutdown", "poweroff", "halt"), off) | {"sudo": _SUDO}
    texts |= {
        name: f"echo '{name}: not emulated on this machine' >&2\nexit {status}\n" for name, status in REFUSED.items()
    }
    for name, text in texts.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}")
        (folder / name).chmod(0o755)
    return folder
