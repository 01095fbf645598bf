"""`python -m tests.emulators.storage`: a loopback Cloud Storage for a person, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sys
import threading
from pathlib import Path

from tests.emulators.storage.emulator import StorageEmulator


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.emulators.storage", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1; default: a free one")
    parser.add_argument("--root", type=Path, help="where everything lies; default: a temporary folder")
    parser.add_argument("--bucket", action="append", default=[], help="a bucket that is there from the start")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=JSON", help="a setting; see settings.py")
    arguments = parser.parse_args()
    options = dict(_setting(parser, text) for text in arguments.set)
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: over.set())
    try:
        storage = StorageEmulator(arguments.root, port=arguments.port, **options)
    except ValueError as error:
        parser.error(f"--set: {error}; see tests/emulators/storage/settings.py")
    with storage:
        for bucket in arguments.bucket:
            storage.bucket(bucket)
        for name, value in storage.env.items():
            print(f"export {name}={shlex.quote(value)}", flush=True)
        over.wait()
    return 0


def _setting(parser: argparse.ArgumentParser, text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    if not equals:
        parser.error(f"--set {text}: want NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


if __name__ == "__main__":
    sys.exit(main())
