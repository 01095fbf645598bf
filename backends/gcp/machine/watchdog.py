#!/usr/bin/env python3
"""Startup script of a machine: it deletes the machine when nobody works on it (any more), by its own account.

The service deletes the machine at its deadline whatever happens; this only makes it sooner. A machine is in use while
a box's worker or carrier holds its lock. Not in use: since the start for `claim` seconds (its launcher died before it
began anything), since a box came or something stopped for `idle` seconds (all processes were killed), or since
everything was carried for `done` seconds. Where the account may not delete it, it is switched off: its disk alone costs
money then.

Standard library only; Python 3.8 or newer; it leaves a process behind and ends, because the system waits for it.
"""

from __future__ import annotations

import fcntl
import glob
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

METADATA = f"http://{os.environ.get('GCE_METADATA_HOST', 'metadata.google.internal')}/computeMetadata/v1/"
EMULATED = "GCE_METADATA_HOST" in os.environ  # no machine of its own: nothing of the system may be touched
USUAL = {"claim": 1800.0, "idle": 300.0, "done": 15.0, "look": 5.0, "api": "https://compute.googleapis.com"}
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Limits = dict[str, Any]

OFF_AFTER = 5  # refusals of the deletion
OPEN = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # metadata is never behind a proxy


def ask(path: str, seconds: float = 5.0) -> str:
    """A value of the machine's metadata; empty where there is none."""
    request = urllib.request.Request(METADATA + path, headers={"Metadata-Flavor": "Google"})
    try:
        with OPEN.open(request, timeout=seconds) as answer:
            return str(answer.read().decode())
    except (OSError, http.client.HTTPException):
        return ""


def delete_itself(api: str) -> bool:
    """Ask for the deletion of this machine; False where it was refused."""
    token = json.loads(ask("instance/service-accounts/default/token") or "{}").get("access_token", "")
    project, name = ask("project/project-id"), ask("instance/name")
    zone = ask("instance/zone").rsplit("/", 1)[-1]
    url = f"{api.rstrip('/')}/compute/v1/projects/{project}/zones/{zone}/instances/{name}"
    request = urllib.request.Request(url, headers={"Authorization": "Bearer " + token}, method="DELETE")
    opener = OPEN if EMULATED else urllib.request.build_opener()
    try:
        with opener.open(request, timeout=30):
            return True
    except OSError as error:
        print(f"samerun: this machine was not deleted: {error}", flush=True)
        return False


def boxes() -> list[str]:
    """The state folders of all boxes here."""
    homes = [os.path.expanduser("~")] if EMULATED else [*glob.glob("/home/*"), "/root"]
    return [state for home in homes for state in glob.glob(home + "/.samerun/boxes/*/state")]


def is_held(path: str) -> bool:
    """Whether a process holds this lock."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def in_use(state: str) -> bool:
    """Whether a worker or a carrier works on this box."""
    return is_held(state + "/lock") or is_held(state + "/carrier.lock")


def is_carried(state: str) -> bool:
    """Whether the carrier has said that all of it is in the bucket."""
    return os.path.exists(state + "/carried")


def tell_workers() -> None:
    """Ask every worker to end: the machine is about to be taken away."""
    for state in boxes():
        try:
            with open(state + "/started") as stream:
                number = int(stream.read() or 0)
            if number and is_held(state + "/lock"):
                os.kill(number, signal.SIGTERM)
        except (OSError, ValueError):
            pass


def watch(limits: Limits) -> None:
    """Look until the machine is not needed any more."""
    since, told, known = time.monotonic(), False, 0
    while True:
        now, found = time.monotonic(), boxes()
        if not told and ask("instance/preempted") == "TRUE":
            told = True
            tell_workers()
        if any(in_use(state) for state in found) or len(found) > known:  # a new box is worked on in a moment
            since = now
        known = len(found)
        carried = bool(found) and all(is_carried(state) for state in found)
        allowed = limits["done"] if carried else limits["idle"] if found else limits["claim"]
        if now - since > allowed:
            return
        time.sleep(limits["look"])


def end(limits: Limits) -> None:
    """Delete the machine, however long it takes; switch it off when it is refused again and again."""
    refused = 0
    while True:
        if not delete_itself(limits["api"]):
            refused += 1
        if refused >= OFF_AFTER:
            switch_off()
        time.sleep(30 * limits["look"] / USUAL["look"])


def prepare() -> None:
    """Unattended upgrades hold locks for which installations wait (SkyPilot#1341); uv is got into a venv."""
    subprocess.call(["systemctl", "stop", "unattended-upgrades"], stderr=subprocess.DEVNULL)
    if subprocess.call([sys.executable, "-c", "import ensurepip"], stderr=subprocess.DEVNULL):
        env = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
        for words in (["update"], ["install", "--yes", "python3-venv"]):
            subprocess.call(["apt-get", "--quiet", "-o", "DPkg::Lock::Timeout=120", *words], env=env)


def switch_off() -> None:
    """Power off; an emulated machine only by the command that its emulator gives it."""
    command = shutil.which("poweroff") or ""
    if command and not (EMULATED and command.startswith(("/sbin/", "/bin/", "/usr/"))):
        subprocess.call([command])


def main() -> int:
    limits = dict(USUAL, **json.loads(ask("instance/attributes/samerun-watch") or "{}"))
    if os.fork():
        return 0
    os.setsid()
    if not EMULATED:
        prepare()
    watch(limits)
    end(limits)
    return 0


if __name__ == "__main__":
    sys.exit(main())
