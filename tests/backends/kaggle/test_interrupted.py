"""Ctrl-C: nothing that a server lets hang keeps a launch from ending."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.backends.kaggle.scripted import Reply, serving

ROOT = Path(__file__).parents[3]
WORK = {
    "download": """
from backends.kaggle.client.download import fetch
fetch(["a", "b"], Path(sys.argv[2]), lambda: {name: f"{sys.argv[1]}/{name}" for name in "ab"})
""",
    "upload": """
from backends.kaggle.client.blobs import Blob, upload
upload(Blob("a", 9, "t", sys.argv[1]), lambda offset, n: b"x" * n, fresh=True)
""",
    "log": """
from backends.kaggle.client.logs import LogReader
from backends.kaggle.client.wire import Wire
LogReader(lambda: Wire(None, endpoint=sys.argv[1]).open_log("alice", "x")).lines(0, 60)
""",
    "call": """
from backends.kaggle.client.service import Service
from backends.kaggle.client.wire import Wire
Service(Wire(None, endpoint=sys.argv[1]), "alice").quota()
""",
}


@pytest.mark.parametrize("what", WORK)
def test_interrupted_it_does_not_wait_for_a_server_that_hangs(tmp_path: Path, what: str) -> None:
    gate = threading.Event()
    with serving(lambda request: Reply(200, b"x" if gate.wait(30) else b"")) as server:
        script = f"import sys\nfrom pathlib import Path\n{WORK[what]}"
        command = [sys.executable, "-c", script, server.url, str(tmp_path)]
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
        while not server.requests:
            assert process.poll() is None
            time.sleep(0.02)
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.wait(20)
        gate.set()
    assert process.returncode == -signal.SIGINT
    assert time.monotonic() - begun < 3
