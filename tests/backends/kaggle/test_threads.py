"""Questions side by side: answers in order, failures raised, nobody held up."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from backends.kaggle.threads import AT_A_TIME, side_by_side
from launcher.errors import RemoteError

INTERRUPTED = """
import os, signal, threading, time
from backends.kaggle.threads import side_by_side
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    side_by_side(lambda item: time.sleep(60), [1, 2, 3])
except KeyboardInterrupt:
    print("interrupted")
"""


def test_answers_come_in_the_order_of_the_items_whoever_is_first() -> None:
    def ask(item: int) -> int:
        time.sleep(0.01 * (5 - item % 5))
        return item * item

    assert side_by_side(ask, range(40)) == [item * item for item in range(40)]
    assert side_by_side(ask, [3]) == [9]
    assert side_by_side(ask, []) == []


def test_they_are_asked_at_the_same_time() -> None:
    together = threading.Barrier(AT_A_TIME, timeout=5)
    side_by_side(lambda item: together.wait(), range(AT_A_TIME))


@pytest.mark.timeout(20)
def test_what_one_raises_is_raised() -> None:
    def ask(item: int) -> int:
        if item == 7:
            raise RemoteError("no answer")
        return item

    with pytest.raises(RemoteError, match="no answer"):
        side_by_side(ask, range(20))


def test_ctrl_c_waits_for_nobody() -> None:
    begun = time.monotonic()
    argv = [sys.executable, "-c", INTERRUPTED]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "interrupted\n"
    assert time.monotonic() - begun < 10
