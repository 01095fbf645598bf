"""The machine of one session: run as `python -I -S guard.py SPEC.json`, standard library only.

Starts the kernel in a root of its own with a literal /kaggle, by namespaces for users, mounts, processes and (internet
off) the network, without being root; where the system does not allow that, as a plain process. What it reached is
written to the spec's `report` before the kernel starts. Its stdin is a lifeline: when the emulator closes it, or dies
in whatever way, the kernel and everything that it has started is killed. Its exit status is the kernel's.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import select
import shutil
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x20000, 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
KEPT_FLAGS = 1 | 2 | 4 | 8 | 1024 | 2048  # what a mount has and a remount in a user namespace must not drop
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
PR_SET_CHILD_SUBREAPER = 36
FAILED = 125


def main() -> int:
    spec = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    if spec["sandbox"] != "plain":
        status = _own_root(spec)
        if status is not None:
            return status
        if spec["sandbox"] == "chroot":
            print("this system allows no root of its own (user and mount namespaces)", file=sys.stderr)
            return FAILED
    _plain_tree(spec)
    _report(spec, "plain", "on" if spec["internet"] else "not enforced")
    with contextlib.suppress(OSError, AttributeError):
        _libc().prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    return _watch(_start(spec["plain"]), _kill_all)


def _plain_tree(spec: dict[str, Any]) -> None:
    """The sources as a tree of links (a dataset's files are read-only) or copies, where nothing can be mounted."""
    for source, target, kind in spec["tree"]:
        copy = os.link if kind == "datasets" else shutil.copy2
        shutil.copytree(source, target, copy_function=copy, dirs_exist_ok=True)
    for folder, _, _ in os.walk(spec["plain"]["env"]["KAGGLE_INPUT_ROOT"]):
        Path(folder).chmod(0o555)


def _report(spec: dict[str, Any], sandbox: str, internet: str) -> None:
    Path(spec["report"]).write_text(json.dumps({"sandbox": sandbox, "internet": internet}), "utf-8")


def _own_root(spec: dict[str, Any]) -> int | None:
    """The kernel's exit status; None when the namespaces could not be had, and nothing was started."""
    ready, tell = os.pipe()
    outer = os.fork()
    if outer == 0:
        os.close(ready)
        _leave(lambda: _namespaces(spec, tell))
    os.close(tell)
    started = os.read(ready, 1)
    os.close(ready)
    _, status = os.waitpid(outer, 0)
    return _code(status) if started else None


def _leave(work: Callable[[], int]) -> NoReturn:
    """End this forked process with what `work` returns, whatever happens in it."""
    code = FAILED
    try:
        code = work()
    except OSError:
        pass
    finally:
        os._exit(code)


def _namespaces(spec: dict[str, Any], tell: int) -> int:
    user, group = os.geteuid(), os.getegid()
    network = 0 if spec["internet"] else CLONE_NEWNET
    if _libc().unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | network) != 0:
        return FAILED
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    first = os.fork()  # process 1 of the new namespace: when it ends, all others in it are killed
    if first == 0:
        _leave(lambda: _init(spec, tell))
    os.close(tell)
    _, status = os.waitpid(first, 0)
    return _code(status)


def _init(spec: dict[str, Any], tell: int) -> int:
    if not spec["internet"]:
        _loopback_up()
    _build_root(spec)
    _report(spec, "chroot", "on" if spec["internet"] else "off")
    os.chroot(spec["root"])
    os.write(tell, b"1")
    os.close(tell)
    return _watch(_start(spec["inside"]), lambda _: None)


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        answer = fcntl.ioctl(probe, SIOCGIFFLAGS, struct.pack("16sh22x", b"lo", 0))
        flags = struct.unpack("16sh22x", answer)[1]
        fcntl.ioctl(probe, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", flags | IFF_UP))


def _build_root(spec: dict[str, Any]) -> None:
    root = Path(spec["root"])
    _mount("none", "/", None, MS_REC | MS_PRIVATE)
    _mount("tmpfs", str(root), "tmpfs", 0, "mode=755")
    for entry in Path("/").iterdir():
        if entry.name != "kaggle":
            _mirror(entry, root / entry.name)
    try:
        _mount("proc", f"{root}/proc", "proc", 0)
    except OSError:  # a container that masks parts of /proc
        _mount("/proc", f"{root}/proc", None, MS_BIND | MS_REC)
    for path, source in spec["hide"]:
        if Path(f"{root}{path}").is_dir():
            _mount(source, f"{root}{path}", None, MS_BIND | MS_REC)
    readable = root / "kaggle" / "input"
    readable.mkdir(parents=True)
    _mount("tmpfs", str(readable), "tmpfs", 0, "mode=755")
    for _, target, _ in spec["binds"]:
        Path(f"{root}{target}").mkdir(parents=True, exist_ok=True)
    _read_only(str(readable))
    for source, target, read_only in spec["binds"]:
        _mount(source, f"{root}{target}", None, MS_BIND | MS_REC)
        if read_only:
            _read_only(f"{root}{target}")


def _mirror(entry: Path, target: Path) -> None:
    """Show something of this machine's root in the new one."""
    if entry.is_symlink():
        target.symlink_to(entry.readlink())
    elif entry.is_dir():
        target.mkdir()
        if entry.name != "proc":
            _mount(str(entry), str(target), None, MS_BIND | MS_REC)
    else:
        target.touch()
        _mount(str(entry), str(target), None, MS_BIND)


def _read_only(path: str) -> None:
    kept = os.statvfs(path).f_flag & KEPT_FLAGS
    _mount("none", path, None, MS_REMOUNT | MS_BIND | MS_RDONLY | kept)


def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def _mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    texts = [text.encode() if text is not None else None for text in (source, target, kind, data)]
    if _libc().mount(texts[0], texts[1], texts[2], ctypes.c_ulong(flags), texts[3]) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target)


def _start(plan: dict[str, Any]) -> int:
    """Fork the kernel's own process, in a session of its own; its id."""
    child = os.fork()
    if child:
        return child
    try:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.closerange(3, 256)
        os.chdir(plan["cwd"])
        os.execve(plan["argv"][0], plan["argv"], plan["env"])
    except OSError as error:
        os.write(2, f"{plan['argv'][0]}: {error}\n".encode())
    finally:
        os._exit(127)


def _watch(child: int, kill: Callable[[int], None]) -> int:
    """Reap until the kernel's own process has ended, or the lifeline has; its exit status."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    while True:
        with contextlib.suppress(ChildProcessError):
            while True:
                done, status = os.waitpid(-1, os.WNOHANG)
                if done == child:
                    kill(child)
                    return _code(status)
                if done == 0:
                    break
        readable, _, _ = select.select([0, woken], [], [], 1.0)
        if woken in readable:
            os.read(woken, 4096)
        if 0 in readable and not os.read(0, 1):
            kill(child)
            return 128 + signal.SIGKILL


def _kill_all(child: int) -> None:
    """Kill the kernel's group, then what has left it: as the subreaper, this process inherits all of it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    listed = Path(f"/proc/self/task/{os.getpid()}/children")
    for _ in range(200):
        try:
            left = listed.read_text().split()
        except OSError:
            return
        if not left:
            return
        for process in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(int(process), signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.005)


def _code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
