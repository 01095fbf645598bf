"""The environment that trains: pinned, made by uv beside the host's Python, once, and used by every run that wants it.

`environment BOX` is a `before` command of the attempt: the supervisor runs it, so its output is in the
stream and a cancel ends it. What to make stands in attempt.json's `environment`; where, in its `python`. An
environment is made under a lock, in its own place, and marked last: one without a mark is thrown away.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

from .answer import Refusal
from .box import locked
from .facts import find
from .keep import ENVS, UV, WHOLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    Json = dict[str, Any]

INSTALL_UV = "install uv on the host (https://docs.astral.sh/uv), or name a Python that has all with resources.python"


def environment(box: str) -> int:
    """Make it, or find it made. Returns 0, or 1 when it cannot be; the `error` event says why."""
    _hold_lifeline()
    try:
        with open(os.path.join(box, "in", "attempt.json"), encoding="utf-8") as stream:
            attempt = json.load(stream)
        folder = os.path.dirname(os.path.dirname(attempt["python"]))
        ensure(folder, attempt["environment"], os.path.join(box, "work"))
    except Exception as error:  # noqa: BLE001  the last place that can say why
        reason = error.reason if isinstance(error, Refusal) else f"{type(error).__name__}: {error}"
        remedy = getattr(error, "remedy", "") or "`launch logs` shows what was printed"
        event = {"event": "error", "type": "EnvironmentError", "reason": reason[:2000], "remedy": remedy}
        os.write(int(os.environ.get("SAMERUN_EVENTS", "1")), (json.dumps(event) + "\n").encode())
        return 1
    return 0


def ensure(folder: str, wanted: Json, work: str) -> None:
    """Have the environment at `folder`: {`requirements`, `preferred`, `python`, `wheels`, `torch_backend`}.

    Whoever comes second waits for the first. Raises Refusal.
    """
    if os.path.exists(os.path.join(folder, WHOLE)):
        _say(f"the environment {folder} is there")
        return
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    _say(f"making the environment {folder}: {', '.join(wanted['requirements'])}")
    with locked(f"{folder}.lock", wait=True):
        if os.path.exists(os.path.join(folder, WHOLE)):
            return
        begun = time.monotonic()
        shutil.rmtree(folder, ignore_errors=True)  # of one who was killed
        uv = _uv(os.path.dirname(os.path.dirname(folder)), wanted["wheels"])
        _run([uv, "venv", "--no-project", "--python", wanted["python"] or sys.executable, folder])
        listed = _resolve(uv, folder, wanted, work)
        _run([uv, "pip", "install", "--python", _python(folder), "--no-deps", *_sources(wanted), "-r", listed])
        _check(folder, wanted["requirements"])
        mark = {**wanted, "made": time.time(), "seconds": round(time.monotonic() - begun, 1)}
        shutil.copyfile(listed, os.path.join(folder, "requirements.txt"))
        part = os.path.join(folder, f"{WHOLE}.part")
        with open(part, "w", encoding="utf-8") as stream:
            json.dump(mark, stream)
        os.replace(part, os.path.join(folder, WHOLE))
        _say(f"the environment is there after {mark['seconds']:g} s")


def _resolve(uv: str, folder: str, wanted: Json, work: str) -> str:
    """A file with a version for every package: the required ones, and the preferred ones where they go together.

    uv keeps the versions of an output file that is there already, as far as it can: so that file says what is
    preferred. A pinned numpy has no wheel for every Python; the run is to start all the same.
    """
    asked, listed = os.path.join(work, "requirements.in"), os.path.join(work, "requirements.txt")
    for path, lines in ((asked, wanted["requirements"]), (listed, wanted["preferred"])):
        with open(path, "w", encoding="utf-8") as stream:
            stream.writelines(f"{line}\n" for line in lines)
    compiled = ["--quiet", "--no-header", "--python", _python(folder), "--output-file", listed, asked]
    _run([uv, "pip", "compile", *_sources(wanted), *compiled])
    return listed


def _sources(wanted: Json) -> list[str]:
    """Where packages come from: a folder of wheels alone, or the index, and torch's own one for this machine's GPU."""
    if wanted["wheels"]:
        folder = os.path.expanduser(wanted["wheels"])
        if not os.path.isdir(folder):
            raise Refusal(f"there is no folder {folder} on this host", "mend resources.wheels")
        return ["--no-index", "--find-links", folder]
    return ["--torch-backend", wanted["torch_backend"]]


def _uv(root: str, wheels: str) -> str:
    """The host's uv, or one of our own beside its Python. Raises Refusal when neither can be had."""
    own = os.path.join(root, UV)
    uv = find("uv") or os.path.join(own, "bin", "uv")
    if os.path.exists(uv):
        return uv
    _say("uv is not on this host: getting it")
    os.makedirs(os.path.join(root, ENVS), exist_ok=True)
    with locked(os.path.join(root, ENVS, ".uv.lock"), wait=True):
        if os.path.exists(uv):
            return uv
        shutil.rmtree(own, ignore_errors=True)
        source = ["--no-index", "--find-links", os.path.expanduser(wheels)] if wheels else []
        pip = [os.path.join(own, "bin", "python"), "-m", "pip", "install", "--quiet", "--no-input", *source, "uv"]
        for argv in ([sys.executable, "-m", "venv", own], pip):
            if code := subprocess.call(argv):
                shutil.rmtree(own, ignore_errors=True)
                raise Refusal(f"uv is not on this host, and `{' '.join(argv)}` ended with exit code {code}", INSTALL_UV)
    return uv


def _run(argv: Sequence[str]) -> None:
    # From the root: uv would take constraints from the pyproject.toml of a folder above the one it is called in.
    if code := subprocess.call(argv, cwd="/"):
        remedy = "see what uv said above; without internet on the host: resources.wheels, or resources.python"
        raise Refusal(f"`{' '.join(argv)[:300]}` ended with exit code {code}", remedy)


def _check(folder: str, requirements: Sequence[str]) -> None:
    """That what was asked for is what is installed. Raises Refusal."""
    names = [line.split("==")[0] for line in requirements]
    program = "import sys, importlib.metadata as m; print(*(f'{n}=={m.version(n)}' for n in sys.argv[1:]))"
    done = subprocess.run([_python(folder), "-c", program, *names], stdout=subprocess.PIPE, check=False)
    found = done.stdout.decode().split()
    for wanted, got in zip(requirements, found or [""] * len(names)):  # noqa: B905  Python 3.9 knows no `strict`
        if "==" in wanted and got.split("+")[0] != wanted.split("+")[0]:
            raise Refusal(f"{wanted} was asked for, and {got or 'nothing'} is installed")


def _python(folder: str) -> str:
    return os.path.join(folder, "bin", "python")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _hold_lifeline() -> None:
    """End with the supervisor: it holds the other end of the pipe, and reading returns when it dies."""
    number = os.environ.get("SAMERUN_LIFELINE")
    if number is None:
        return

    def wait() -> None:
        os.read(int(number), 1)
        if os.getpgrp() == os.getpid():  # the supervisor gave us a group of our own: uv goes with us
            os.killpg(0, signal.SIGKILL)
        os._exit(143)

    threading.Thread(target=wait, daemon=True).start()
