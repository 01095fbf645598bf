"""`python -m tests.emulators.kaggle`: a loopback Kaggle for a person, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import threading
from pathlib import Path

from tests.emulators.kaggle.emulator import KaggleEmulator
from tests.emulators.kaggle.settings import Settings


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.emulators.kaggle", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1; default: a free one")
    parser.add_argument("--root", type=Path, help="where everything lies; default: a temporary folder")
    parser.add_argument("--layout", choices=("old", "new"), default="new", help="where a kernel finds its sources")
    parser.add_argument("--sandbox", choices=("auto", "chroot", "plain"), default="auto")
    parser.add_argument("--python", default=sys.executable, help="the program that runs kernels")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting; see settings.py")
    arguments = parser.parse_args()
    options = dict(_setting(parser, text) for text in arguments.set)
    for name in options.keys() - Settings.__dataclass_fields__.keys():
        parser.error(f"--set {name}: no such setting; see tests/emulators/kaggle/settings.py")
    chosen = {name: getattr(arguments, name) for name in ("layout", "sandbox", "python")}
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: over.set())
    with KaggleEmulator(arguments.root, port=arguments.port, **chosen, **options) as kaggle:
        for name in ("SAMERUN_KAGGLE_ENDPOINT", "KAGGLE_USERNAME", "KAGGLE_KEY"):
            print(f"export {name}={shlex.quote(kaggle.env[name])}", flush=True)
        print("# and for the real `kaggle` command, which takes this server for its proxy:", flush=True)
        print(f"# export KAGGLE_API_ENVIRONMENT=LOCALHOST HTTP_PROXY={kaggle.endpoint} NO_PROXY=", flush=True)
        over.wait()
    return 0


def _setting(parser: argparse.ArgumentParser, text: str) -> tuple[str, object]:
    """NAME=VALUE, the value as a number where it is one."""
    name, equals, value = text.partition("=")
    if not equals:
        parser.error(f"--set {text}: want NAME=VALUE")
    if value in ("true", "false"):
        return name, value == "true"
    for kind in (int, float):
        try:
            return name, kind(value)
        except ValueError:
            continue
    return name, value


if __name__ == "__main__":
    sys.exit(main())
