"""Several questions to Kaggle at a time, without holding anybody up who stops waiting."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

AT_A_TIME = 8
A = TypeVar("A")
B = TypeVar("B")


def side_by_side(ask: Callable[[A], B], items: Sequence[A]) -> list[B]:
    """`ask` of each item, in the items' order. Raises what the first that fails has raised.

    The threads are daemons: with a pool of the standard library Ctrl-C waits for a server that does not answer.
    """
    if len(items) < 2:
        return [ask(item) for item in items]
    todo, answers = queue.SimpleQueue[int](), queue.SimpleQueue[tuple[int, B | BaseException]]()

    def work() -> None:
        while True:
            try:
                index = todo.get_nowait()
            except queue.Empty:
                return
            try:
                answers.put((index, ask(items[index])))
            except BaseException as error:  # noqa: BLE001  raised again where it is waited for
                answers.put((index, error))

    for index in range(len(items)):
        todo.put(index)
    for _ in range(min(AT_A_TIME, len(items))):
        threading.Thread(target=work, name="kaggle-ask", daemon=True).start()
    found: dict[int, B] = {}
    for _ in items:
        index, answer = answers.get()
        if isinstance(answer, BaseException):
            raise answer
        found[index] = answer
    return [found[index] for index in range(len(items))]
