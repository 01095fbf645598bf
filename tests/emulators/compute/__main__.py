"""`python -m tests.emulators.compute`: a loopback Compute Engine for a person, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from pathlib import Path

from tests.emulators.compute.emulator import ComputeEmulator
from tests.emulators.compute.settings import Settings


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.emulators.compute", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1; default: a free one")
    parser.add_argument("--root", type=Path, help="where everything lies; default: a temporary folder")
    parser.add_argument("--no-sshd", action="store_true", help="instances are no machines: no processes at all")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=JSON", help="a setting; see settings.py")
    arguments = parser.parse_args()
    options = dict(_setting(parser, text) for text in arguments.set)
    for name in options.keys() - Settings.__dataclass_fields__.keys():
        parser.error(f"--set {name}: no such setting; see tests/emulators/compute/settings.py")
    if arguments.no_sshd:
        options["sshd"] = False
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: over.set())
    with ComputeEmulator(arguments.root, port=arguments.port, **options) as compute:
        print(f"export SAMERUN_GCE_ENDPOINT={compute.endpoint}", flush=True)
        print(f"# project {compute.project}, SSH as {compute.ssh_user} at port {compute.ssh_port}", flush=True)
        print(f"# faults, clock, leftovers: {compute.endpoint}/_emulator/..., see wire/admin.py", flush=True)
        over.wait()
        for left in compute.leftovers():
            print(f"# left over: {left}", flush=True)
    return 0


def _setting(parser: argparse.ArgumentParser, text: str) -> tuple[str, object]:
    """NAME=JSON; what is no JSON is a string."""
    name, equals, value = text.partition("=")
    if not equals:
        parser.error(f"--set {text}: want NAME=JSON")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


if __name__ == "__main__":
    sys.exit(main())
