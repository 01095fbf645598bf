"""`python -m tests.emulators.storage.agreement --testbench URL`: compares the emulator with Google's storage-testbench.

The testbench (github.com/googleapis/storage-testbench, Apache 2.0) is not part of this repository and not on PyPI. With
a checkout of it at hand, in an environment of its own (it pins an old grpcio and protobuf):

    uv venv /tmp/testbench && uv pip install --python /tmp/testbench/bin/python CHECKOUT
    cd CHECKOUT && /tmp/testbench/bin/gunicorn --bind=127.0.0.1:9000 --worker-class=sync --threads=10 "testbench:run()"
    python -m tests.emulators.storage.agreement --testbench http://127.0.0.1:9000

Never ask it for /start_grpc: that listens on every interface. Exit code 0: they differ in nothing but what
`differences` names and reasons, and in all of that. 1: they do not. `--record` also writes what the testbench said to
recorded.json, which the test suite holds the emulator against without it; `--commit` notes which testbench it was.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from tests.emulators.storage import StorageEmulator
from tests.emulators.storage.agreement.cases import CASES
from tests.emulators.storage.agreement.compare import Seen, differences, run
from tests.emulators.storage.agreement.differences import KNOWN

RECORDED = Path(__file__).with_name("recorded.json")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.emulators.storage.agreement", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--testbench", required=True, metavar="URL", help="http://127.0.0.1:PORT of a running testbench"
    )
    parser.add_argument("--record", action="store_true", help="write its answers to recorded.json")
    parser.add_argument("--commit", default="unknown", help="of the testbench, for the record")
    arguments = parser.parse_args()
    theirs = {name: run(arguments.testbench.rstrip("/"), name) for name in CASES}
    with StorageEmulator() as storage:
        ours = {name: run(storage.endpoint, name) for name in CASES}
    if arguments.record:
        about = {"testbench": arguments.commit, "date": datetime.now(UTC).date().isoformat(), "cases": theirs}
        RECORDED.write_text(json.dumps(about, indent=1) + "\n")
    found = complaints(ours, theirs)
    print("\n".join(found) or f"{len(CASES)} cases: no difference but the {len(KNOWN)} known ones")
    return 1 if found else 0


def recorded() -> dict[str, list[Seen]]:
    """What the testbench said when it was last asked, by case."""
    cases: dict[str, list[Seen]] = json.loads(RECORDED.read_text())["cases"]
    return cases


def complaints(ours: Mapping[str, list[Seen]], theirs: Mapping[str, list[Seen]]) -> list[str]:
    """Differences that are not known, and known ones that are no longer there."""
    found, used = [], set()
    for case in CASES:
        for step, what, mine, other in differences(ours[case], theirs[case]):
            known = [index for index, one in enumerate(KNOWN) if one.fits(case, step, what, mine, other)]
            used.update(known)
            if not known:
                found.append(f"{case}, step {step}, {what}: ours {mine!r}, the testbench's {other!r}")
    stale = [one for index, one in enumerate(KNOWN) if index not in used]
    return found + [f"no longer a difference: {one.reason} ({one.case}, {one.what})" for one in stale]


if __name__ == "__main__":
    sys.exit(main())
