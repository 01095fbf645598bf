"""The source of the kernel, below two lines that `backends.kaggle.kernel` writes: CONFIG and PAYLOAD.

Promises: standard output holds the worker's stream and nothing else between two marks, byte for byte; /kaggle/working
holds the outbox and nothing else but two small files, the mark of the attempt and exit.json; the kernel ends with 0,
whatever became of the training, so that Kaggle keeps the output.
"""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile

CONFIG: dict = {}  # type: ignore[type-arg]  # written over
PAYLOAD = ""

LOOK_S = 0.2
READ_BYTES = 1 << 16


def main() -> int:
    """Run the attempt; returns 0 unless it could not even be begun."""
    box = lay_out()
    environment = {**os.environ, **CONFIG["variables"], "SAMERUN_SECRETS": "[]"}
    argv = [sys.executable, "-I", "-S", os.path.join(box, "in", "worker.pyz"), box]
    null = subprocess.DEVNULL
    worker = subprocess.Popen(argv, env=environment, stdin=null, stdout=null, stderr=None, start_new_session=True)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: worker.send_signal(signal.SIGTERM))
    mark("begin")
    hand_on(os.path.join(box, "out", "stream.log"), worker)
    mark("end")
    ended = os.path.join(box, "state", "exit.json")
    if os.path.exists(ended):
        shutil.copyfile(ended, os.path.join(box, "out", "exit.json"))
    return 0


def lay_out() -> str:
    """Make the box beside /kaggle/working, with its outbox there; returns its path."""
    working = os.environ.get("KAGGLE_WORKING_ROOT", "/kaggle/working")
    scratch = os.environ.get("KAGGLE_TEMP_ROOT", "/kaggle/temp")
    box = os.path.join(scratch, CONFIG["attempt"]["attempt"])
    for name in ("in", "state", "work"):
        os.makedirs(os.path.join(box, name), exist_ok=True)
    os.makedirs(working, exist_ok=True)
    os.symlink(working, os.path.join(box, "out"))
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(PAYLOAD))) as archive:
        archive.extractall(os.path.join(box, "in"))
    CONFIG["attempt"]["data_root"] = os.path.join(box, "work", "source")
    for name, value in (("attempt.json", CONFIG["attempt"]), ("kaggle.json", CONFIG["kaggle"])):
        with open(os.path.join(box, "in", name), "w", encoding="utf-8") as stream:
            json.dump(value, stream)
    with open(os.path.join(working, CONFIG["kaggle"]["mark"]), "w", encoding="utf-8") as stream:
        json.dump({"attempt": CONFIG["attempt"]["attempt"]}, stream)
    return box


def mark(what: str) -> None:
    """A line that no training writes, around what is the worker's."""
    write(f"--- samerun {what} {CONFIG['attempt']['attempt']} ---\n".encode())


def hand_on(stream: str, worker: subprocess.Popen[bytes]) -> None:
    """Write the stream to standard output as it grows, until the supervisor has ended and all is written."""
    offset = 0
    while True:
        ended = worker.poll() is not None
        if os.path.exists(stream):
            with open(stream, "rb") as source:
                source.seek(offset)
                while data := source.read(READ_BYTES):
                    offset += len(data)
                    write(data)
        if ended:
            if offset and not data_ends_a_line(stream):
                write(b"\n")
            return
        try:
            worker.wait(LOOK_S)
        except subprocess.TimeoutExpired:
            pass


def data_ends_a_line(stream: str) -> bool:
    """Whether the last byte is a line's end: a supervisor that was killed may have left half a line."""
    with open(stream, "rb") as source:
        source.seek(-1, os.SEEK_END)
        return source.read(1) == b"\n"


def write(data: bytes) -> None:
    """To standard output, at once and whole."""
    while data:
        data = data[os.write(1, data) :]


if __name__ == "__main__":
    sys.exit(main())
