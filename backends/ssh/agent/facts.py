"""What this host is: the launcher sends this file to the host's Python, which says so and leaves nothing behind.

Called as `python - ROOT AGENT HOW PYTHON`; it stands alone, and is also a module of the agent. Prints one answer.
"""

from __future__ import annotations

import json
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Json = dict[str, Any]

CUDA_SIGNS = ("/dev/nvidia0", "/dev/nvidiactl", "/proc/driver/nvidia/version", "/dev/dxg")  # the last is WSL2's
PLACES = ("~/.local/bin", "~/.cargo/bin", "/opt/homebrew/bin", "/usr/local/bin")
"""Where programs lie that a shell without login does not find."""
LINGER = "/var/lib/systemd/linger"
NVIDIA_S = 20.0  # a driver that is not loaded yet takes seconds
PACKAGES = ("ultralytics", "torch", "torchvision")


def facts(root: str, agent: str, thorough: bool, called: str) -> Json:
    """Plain values; sizes in bytes, None for what the system does not say. `thorough`: also what takes a second."""
    home = os.path.abspath(os.path.expanduser(root))
    found = {
        "python": sys.executable,
        "called": called,
        "version": list(sys.version_info[:3]),
        "platform": f"cp{sys.version_info[0]}{sys.version_info[1]}-{sys.platform}-{os.uname().machine}"
        + ("-gpu" if has_cuda() else ""),
        "root": home,
        "exists": os.path.isdir(home),
        "shared": _shared(home),
        "agent": os.path.isdir(os.path.join(home, "agents", agent)),
        "node": node(),
        "system": os.uname().sysname,
        "machine": os.uname().machine,
        "cuda": has_cuda(),
        "boot": boot_id(),
        "user": os.environ.get("USER") or os.environ.get("LOGNAME") or str(os.getuid()),
    }
    if thorough:
        import shutil

        standing = home
        while not os.path.exists(standing):
            standing = os.path.dirname(standing)
        found.update(
            cpus=os.cpu_count(),
            memory=_free_memory(),
            disk=shutil.disk_usage(standing).free,
            writable=os.access(standing, os.W_OK),
            gpus=_gpus(),
            uv=find("uv"),
            pip=_has_venv(),
            ends_at_logout=_ends_at_logout(),
            versions=_versions(),
        )
    return found


def _shared(folder: str) -> str:
    """Who else could put programs there that we would run; empty when nobody can (sshd's own rule, StrictModes)."""
    try:
        found = os.stat(folder)
    except OSError:
        return ""
    if found.st_uid not in (os.getuid(), 0):
        return "it belongs to user %d" % found.st_uid
    return "others may write in it" if found.st_mode & 0o022 else ""


def node() -> str:
    """This machine's name."""
    return os.uname().nodename


def has_cuda() -> bool:
    """Whether a driver for NVIDIA's GPUs is there. Whether it computes, the worker proves."""
    return any(os.path.exists(sign) for sign in CUDA_SIGNS)


def boot_id() -> str:
    """Another one after each start of the machine; empty where the system does not say."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
            return stream.read().strip()
    except OSError:
        return _said(["sysctl", "-n", "kern.bootsessionuuid"])  # macOS


def lingers() -> bool:
    """Whether this user's service manager outlives the last login (systemd)."""
    import pwd

    try:
        return os.path.exists(os.path.join(LINGER, pwd.getpwuid(os.getuid()).pw_name))
    except KeyError:
        return False


def find(program: str) -> str:
    """The path of a program, also where a shell without login does not look; empty when there is none."""
    import shutil

    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *map(os.path.expanduser, PLACES)])
    return shutil.which(program, path=path) or ""


def _ends_at_logout() -> bool:
    """Whether systemd ends this user's processes when the last login is over."""
    asked = ["loginctl", "show-user", "--property=KillUserProcesses"]
    return not lingers() and _said(asked).endswith("=yes")


def _gpus() -> list[str]:
    """Name and memory of each NVIDIA GPU, by nvidia-smi."""
    if not has_cuda():
        return []
    said = _said([find("nvidia-smi") or "nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"])
    return [line.strip() for line in said.splitlines() if line.strip()]


def _free_memory() -> int | None:
    try:
        with open("/proc/meminfo", encoding="ascii") as stream:
            found = dict(line.split(":", 1) for line in stream)
        return int(found["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        pass
    try:
        return int(_said(["sysctl", "-n", "hw.memsize"]))  # macOS: what there is, not what is free
    except ValueError:
        return None


def _has_venv() -> bool:
    """Whether this Python can make an environment with pip in it (Debian leaves that out)."""
    import importlib.util

    return importlib.util.find_spec("ensurepip") is not None and importlib.util.find_spec("venv") is not None


def _versions() -> Json:
    """What of the training's packages this very Python has, the user's own folder of packages included."""
    import site
    from importlib import metadata

    found: Json = {}
    for name in PACKAGES:
        for listed in metadata.distributions(name=name, path=[*sys.path, site.getusersitepackages()]):
            found.setdefault(name, listed.version)
    return found


def _said(argv: list[str]) -> str:
    """What a command prints; empty for one that is not there, fails or hangs."""
    import subprocess

    null = subprocess.DEVNULL
    try:
        done = subprocess.run(argv, stdin=null, stdout=subprocess.PIPE, stderr=null, timeout=NVIDIA_S, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode("utf-8", "replace").strip() if done.returncode == 0 else ""


if __name__ == "__main__":
    sys.stdout.write(json.dumps(facts(sys.argv[1], sys.argv[2], sys.argv[3] == "thorough", sys.argv[4])) + "\n")
