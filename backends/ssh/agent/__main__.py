"""Entry of the agent: `COMMAND ROOT` answers one question, `environment BOX` makes what trains.

The question comes on standard input. Commands of `tree`, which move many files, speak in their own way.
"""

from __future__ import annotations

import os
import sys

from . import answer, box

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, BinaryIO

    Json = dict[str, Any]

TREE = ("have", "take", "give")


def main(argv: list[str]) -> int:
    """Run one command; returns the exit code."""
    if len(argv) == 2 and argv[0] == "environment":
        from .environment import environment

        return environment(argv[1])
    if argv and argv[0] in TREE:
        from .tree import main as tree

        return tree(argv)
    if len(argv) != 2 or argv[0] not in COMMANDS:
        sys.stderr.write(f"usage: agent {' | '.join((*COMMANDS, *TREE))} ROOT, or environment BOX\n")
        return 2
    os.umask(0o077)  # a dataset and its results are nobody else's on a shared host
    try:
        asked = answer.question(sys.stdin.buffer)
        value, body = COMMANDS[argv[0]](argv[1], {**asked, "command": argv[0]}, sys.stdin.buffer)
        answer.answer(value, body)
    except answer.Refusal as refusal:
        answer.answer({"refused": refusal.reason, "remedy": refusal.remedy, "unsure": refusal.unsure})
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        answer.answer({"refused": f"{place}{error.strerror or error}", "remedy": "", "unsure": False})
    return 0


def _lines(root: str, asked: Json, _: BinaryIO) -> tuple[Json, bytes]:
    from . import lines

    return {}, lines.lines(root, asked["attempt"], int(asked["offset"]), float(asked["wait"]))


def _status(root: str, asked: Json, _: BinaryIO) -> tuple[Json, bytes]:
    return {"found": {attempt: box.status(root, attempt) for attempt in asked["attempts"]}}, b""


def _cancel(root: str, asked: Json, _: BinaryIO) -> tuple[Json, bytes]:
    found = box.cancel(root, asked["attempt"], float(asked["wait"]), bool(asked["kill"]))
    return {"found": found}, b""


def _keeping(root: str, asked: Json, _: BinaryIO) -> tuple[Json, bytes]:
    from . import keep

    if asked["command"] == "kept":
        return {"found": keep.kept(root)}, b""
    if asked["command"] == "discard":
        return {"found": keep.discard(root, asked["key"])}, b""
    if asked["command"] == "has-data":
        return {"found": keep.has_data(root, asked["fingerprint"])}, b""
    return {"found": keep.seal_data(root, asked["fingerprint"], asked["files"])}, b""


def _simple(work: Callable[[str, Json], Any]) -> Callable[[str, Json, BinaryIO], tuple[Json, bytes]]:
    """A command whose answer is one value, `found`."""
    return lambda root, asked, stream: ({"found": work(root, asked)}, b"")


COMMANDS: dict[str, Callable[[str, Json, BinaryIO], tuple[Json, bytes]]] = {
    "lay": lambda root, asked, stream: (box.lay_out(root, asked, stream), b""),
    "start": _simple(box.start),
    "status": _status,
    "lines": _lines,
    "files": _simple(lambda root, asked: box.files(root, asked["attempt"])),
    "cancel": _cancel,
    "release": _simple(lambda root, asked: box.release(root, asked["attempt"])),
    "boxes": _simple(lambda root, asked: box.boxes(root)),
    "has-data": _keeping,
    "seal-data": _keeping,
    "kept": _keeping,
    "discard": _keeping,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
