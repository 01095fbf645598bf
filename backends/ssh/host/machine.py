"""A POSIX machine behind a connection, with our folder on it: everything that is asked of a host.

Promises: a question is one round trip, however many attempts it is about; asking leaves nothing on a host on which
nothing of ours is; an answer is whole, or RemoteError; what the host itself refuses is a SamerunError in its own
words; values of the environment travel on standard input alone.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from backends.ssh.host import agent
from backends.ssh.host.facts import Facts
from backends.ssh.link import Done, Link, tree
from launcher.backend import OUTCOMES, DataSource, InputFile, Lines, RemoteFile, State, Status, Tell
from launcher.errors import NotFoundError, RemoteError, SamerunError
from launcher.files import storage

Json = dict[str, Any]

NOT_THERE = 2
"""Python's exit code for a program that is not there, as when someone has deleted the agent."""
INCOMPLETE = (b"ModuleNotFoundError", b"ImportError")
"""What it says of one of which only some files are left: a scratch disk was tidied."""
INLINE_BYTES = 1 << 20
"""Inputs up to this size together travel with the question that lays out the box: 8 s at a megabit a second."""
START_S = 20.0  # a supervisor takes 0.03 s to start; a machine that swaps, longer
LONG_S = 60.0  # for what looks at, or removes, each of very many files
SLOWEST = 50_000  # bytes a second of a connection that is worth waiting for, beside the time a question may take


class Machine:
    """See the module's docstring. Constructing it asks nothing. Safe to use from several threads.

    `root` is the folder on the host, `~` allowed; `python` its Python for agent and supervisor (default: the first
    that is new enough). Every call raises RemoteError when the host does not answer, CredentialError when it lets us
    not in.
    """

    def __init__(self, link: Link, root: str, *, python: str | None = None) -> None:
        self.link = link
        self.root = root
        self._python = python
        self._facts: Facts | None = None
        self._lock = threading.Lock()

    def ready(self) -> Facts:
        """The host's facts, with the agent there: one round trip, two the first time ever. Raises SamerunError."""
        with self._lock:
            if self._facts is None:
                self._facts = self._safe()
            if not self._facts.agent:
                self._put_agent(self._facts)
                self._facts = replace(self._facts, agent=True, exists=True)
            return self._facts

    def facts(self, *, thorough: bool = True) -> Facts:
        """Ask what the host is, in one round trip that leaves nothing there; GPUs, disk and such when `thorough`.

        Raises NotFoundError when it has no Python that the worker runs on.
        """
        pythons = [self._python] if self._python else agent.PYTHONS
        how = "thorough" if thorough else "quick"
        argv = ["sh", "-c", agent.FIND, "sh", self.root, agent.name(), how, *pythons]
        done = self.link.run(argv, feed=agent.asking())
        if done.code == agent.NO_PYTHON:
            message = f"{self} has no Python 3.10 or newer: looked for {', '.join(pythons)}"
            remedy = "install one there (`uv python install 3.12`), or name it: resources.python=/path/to/python3"
            raise NotFoundError(message, remedy=remedy)
        said, _ = self._whole(done)
        try:
            found = Facts.of(said)
            return replace(found, python=found.called) if self._python else found
        except TypeError as error:
            raise RemoteError(f"{self} gave an odd answer: {error}", remedy="try again") from error

    # Attempts.

    def bring(self, attempt: str, inputs: Sequence[InputFile], tell: Tell) -> None:
        """Send the inputs that are too large for `lay_out`; what is there already is not sent again."""
        facts = self.ready()
        for folder, (to, files) in _folders(_split(inputs)[1]).items():
            wanted = [tree.Entry(file.source.name, file.size, file.sha256) for file in files]
            place = f"{facts.root}/incoming/{attempt}/{to}"
            tree.send(self.link, self._command(facts), folder, wanted, place, _telling(tell, "sending the run's input"))

    def lay_out(self, attempt: str, inputs: Sequence[InputFile], attempt_json: Mapping[str, Any]) -> bool:
        """Make the attempt's box, whole or not at all; False when it was there.

        In the texts of `attempt_json`, {root}, {agent}, {host_python} and {platform} are this machine's.
        """
        small, large = _split(inputs)
        if large:
            self.bring(attempt, large, lambda what, done, of: None)
        with storage("sending the run's input"):
            bodies = [file.source.read_bytes() for file in small]
        files: list[Json] = [
            {"path": file.path, "sha256": file.sha256, "size": len(body)}
            for file, body in zip(small, bodies, strict=True)
        ]
        for to, sent in _folders(large).values():
            files += [{"path": file.path, "sha256": file.sha256, "sent": f"{to}/{file.source.name}"} for file in sent]
        filled = _filled(dict(attempt_json), self.places())
        asked = {"attempt": attempt, "files": files, "attempt_json": filled}
        return bool(self._ask("lay", asked, b"".join(bodies))["made"])

    def start(self, attempt: str, env: Mapping[str, str]) -> str:
        """Start the worker, once however often this is called; returns how it was detached, empty when it had been."""
        wait = min(START_S, self.link.seconds)
        asked = {"attempt": attempt, "env": dict(env), "wait": wait}
        return str(self._ask("start", asked, limit=wait)["found"]["how"])

    def started(self, attempts: Sequence[str]) -> list[str]:
        """Those of the attempts whose worker was started here."""
        found = self._status(attempts)
        return [attempt for attempt in attempts if found[attempt]["started"]]

    def status(self, attempts: Sequence[str]) -> dict[str, Status]:
        """What became of each, in one round trip."""
        return {attempt: _as_status(said) for attempt, said in self._status(attempts).items()}

    def lines(self, attempt: str, offset: int, wait: float) -> Lines:
        """Whole lines after a byte offset, which is the cursor; waits for some as long as the attempt goes on."""
        if not self._is_used():
            return Lines((), str(offset))
        asked = {"attempt": attempt, "offset": offset, "wait": wait}
        body = self._answer("lines", asked, limit=wait)[1]
        return Lines(tuple(body.decode("utf-8", "replace").split("\n")[:-1]), str(offset + len(body)))

    def files(self, attempt: str) -> list[RemoteFile] | None:
        """What lies in the outbox."""
        found = self._ask("files", {"attempt": attempt})["found"] if self._is_used() else None
        return None if found is None else [RemoteFile(path, size) for path, size in found]

    def fetch(self, attempt: str, paths: Sequence[str], to: Path) -> None:
        """Bring files of the outbox; what is not there, is a link or lies outside is left out."""
        wanted = [path for path in paths if path and not _leads_out(path)]
        if wanted and self._is_used():
            facts = self.ready()
            try:
                tree.fetch(self.link, self._command(facts), f"{facts.root}/boxes/{attempt}/out", wanted, to)
            except RemoteError:
                if self.files(attempt) is not None:
                    raise  # else the box is gone, and nothing can come

    def cancel(self, attempt: str, *, wait: float, kill: bool = False) -> Status:
        """Ask the worker to end, and look for `wait` s whether it has. `kill`: its whole session at once."""
        if not self._is_used():
            return self.status([attempt])[attempt]
        asked = {"attempt": attempt, "wait": wait, "kill": kill}
        return _as_status(self._ask("cancel", asked, limit=wait)["found"])

    def release(self, attempt: str) -> list[str]:
        """Delete the box of an attempt that has ended; returns what is left over, in words."""
        if not self._is_used():
            return []
        return [f"{self}: {left}" for left in self._ask("release", {"attempt": attempt})["found"]]

    def boxes(self) -> list[str]:
        """Attempts whose boxes are here."""
        return [str(name) for name in self._ask("boxes", {})["found"]] if self._is_used() else []

    # What stays for runs to come.

    def data(self, source: DataSource, listing: Path, tell: Tell) -> str:
        """Have the dataset here, and return its folder (with {root} in it). `listing` is the run's data.json.

        One round trip where it is here already.
        """
        folder = f"data/{source.fingerprint}"
        facts = self.ready()
        if not self._ask("has-data", {"fingerprint": source.fingerprint}, limit=LONG_S)["found"]:
            with storage("reading the dataset's listing"):
                files = json.loads(listing.read_bytes())["files"]
            wanted = [tree.Entry(str(file["path"]), int(file["size"]), str(file["sha256"])) for file in files]
            told = _telling(tell, "sending the dataset")
            tree.send(self.link, self._command(facts), source.root, wanted, f"{facts.root}/{folder}", told)
            sizes = [[entry.path, entry.size] for entry in wanted]
            self._ask("seal-data", {"fingerprint": source.fingerprint, "files": sizes}, limit=LONG_S)
        return f"{{root}}/{folder}"

    def kept(self) -> list[Json]:
        """Datasets, environments and the agent: `key`, `what`, `size` in bytes, `made`."""
        found: list[Json] = self._ask("kept", {}, limit=LONG_S)["found"] if self._is_used() else []
        return found

    def discard(self, key: str) -> list[str]:
        """Remove one of those; returns what is left over, in words."""
        if not self._is_used():
            return []
        found = self._ask("discard", {"key": key}, limit=LONG_S)["found"]
        with self._lock:
            self._facts = None  # it may have been the agent
        return [f"{self}: {left}" for left in found]

    def __str__(self) -> str:
        return str(self.link.where)

    # Below: one question.

    def _status(self, attempts: Sequence[str]) -> Json:
        if not attempts:
            return {}
        if not self._is_used():
            reason = f"there is no {self.root} on {self}: is a disk not mounted? If it was deleted for good, make it"
            gone = {"state": "unknown", "reason": reason, "started": False}
            return dict.fromkeys(attempts, gone)
        found: Json = self._ask("status", {"attempts": list(attempts)})["found"]
        return found

    def _is_used(self) -> bool:
        """Whether our folder is there: where it is not, there is nothing to ask, and nothing is put there to ask it."""
        with self._lock:
            if self._facts is None:
                self._facts = self._safe()
            if self._facts.exists:
                return True
            self._facts = None
            return False

    def _safe(self) -> Facts:
        """The facts of a host on which nobody else could have put what we are going to run."""
        facts = self.facts(thorough=False)
        if facts.shared:
            remedy = f"`chmod go-w {facts.root}` there if it is yours, else set resources.root to a folder of your own"
            raise SamerunError(f"{self}: {facts.root} is not safe to run programs from: {facts.shared}", remedy=remedy)
        return facts

    def _ask(self, command: str, asked: Mapping[str, Any], body: bytes = b"", limit: float = 0.0) -> Json:
        return self._answer(command, asked, body, limit)[0]

    def _answer(
        self, command: str, asked: Mapping[str, Any], body: bytes = b"", limit: float = 0.0
    ) -> tuple[Json, bytes]:
        """The agent's answer. `limit`: seconds that it may take longer than a question that is answered at once."""
        feed = json.dumps(asked).encode() + b"\n" + body
        seconds = self.link.seconds + limit + len(feed) / SLOWEST
        done = self._run(command, feed, seconds)
        if not done.out and (done.code == NOT_THERE or any(sign in done.err for sign in INCOMPLETE)):
            with self._lock:
                self._facts = None
            if not self._is_used():  # nor is anything put where a disk is not mounted
                raise RemoteError(f"{self.root} is gone from {self}", remedy="mount its disk, or make the folder again")
            self._put_agent(self.ready())
            done = self._run(command, feed, seconds)
        said, rest = self._whole(done)
        if "refused" in said:
            kind = RemoteError if said.get("unsure") else SamerunError
            remedy = said.get("remedy") or f"look at {self.root} on {self}, or set resources.root"
            raise kind(f"{self}: {said['refused']}", remedy=remedy)
        return said, rest

    def _run(self, command: str, feed: bytes, seconds: float) -> Done:
        facts = self.ready()
        return self.link.run([*self._command(facts), command, facts.root], feed=feed, limit=seconds, most=1 << 30)

    def _command(self, facts: Facts) -> list[str]:
        return [facts.python, "-I", "-S", f"{self._agent(facts)}/{agent.MAIN}"]

    def places(self) -> dict[str, str]:
        """What stands for this machine in the texts of an attempt.json: {root}, {agent}, {host_python}, {platform}."""
        facts = self.ready()
        command = self._command(facts)
        texts = {"root": facts.root, "agent": command[-1], "host_python": command[0], "platform": facts.platform}
        return {f"{{{name}}}": text for name, text in texts.items()}

    def _agent(self, facts: Facts) -> str:
        return f"{facts.root}/agents/{agent.name()}"

    def _put_agent(self, facts: Facts) -> None:
        path = self._agent(facts)
        argv = [facts.python, "-I", "-S", "-", path, agent.digest()]
        done = self.link.run(argv, feed=agent.storing())
        if done.code:
            why = done.err.decode("utf-8", "replace").strip().rsplit("\n", 1)[-1]
            remedy = f"make {facts.root} writable, free some space there, or set resources.root"
            raise SamerunError(f"{self}: {path} cannot be written: {why}", remedy=remedy)
        self._whole(done)

    def _whole(self, done: Done) -> tuple[Json, bytes]:
        """Head and body of an answer. Raises RemoteError for what is none."""
        head, _, body = done.out.partition(b"\n")
        try:
            said = json.loads(head)
        except ValueError:
            said = None
        if done.code or not isinstance(said, dict):
            why = (done.err or done.out).decode("utf-8", "replace").strip()[-500:]
            raise RemoteError(f"{self} gave no answer (exit code {done.code}): {why}", remedy="try again")
        return said, body


def _as_status(said: Mapping[str, Any]) -> Status:
    if said["state"] == "ended":
        return Status(OUTCOMES.get(said["outcome"], State.UNKNOWN), said["reason"], said["exit_code"])
    return Status(State(said["state"]), said.get("reason", ""))


def _split(inputs: Sequence[InputFile]) -> tuple[list[InputFile], list[InputFile]]:
    """Inputs that travel with a question, the smallest first, and those that are sent before."""
    room = INLINE_BYTES
    small: list[InputFile] = []
    for file in sorted(inputs, key=lambda file: (file.size, file.path)):
        if file.size > room:
            break
        room -= file.size
        small.append(file)
    return small, [file for file in inputs if file not in small]


def _folders(files: Sequence[InputFile]) -> dict[Path, tuple[str, list[InputFile]]]:
    """The folders here that files lie in, and for each the name of the one on the host: a file may have other names."""
    found: dict[Path, tuple[str, list[InputFile]]] = {}
    for file in files:
        found.setdefault(file.source.parent, (str(len(found)), []))[1].append(file)
    return found


def _telling(tell: Tell, what: str) -> Callable[[int, int], None]:
    return lambda done, of: tell(what, done, of)


def _leads_out(path: str) -> bool:
    parts = path.split("/")
    return path.startswith("/") or ".." in parts or "." in parts or "" in parts


def _filled(value: Any, places: Mapping[str, str]) -> Any:
    """The value with each place's name in its texts replaced."""
    if isinstance(value, str):
        for name, text in places.items():
            value = value.replace(name, text)
    elif isinstance(value, dict):
        return {key: _filled(each, places) for key, each in value.items()}
    elif isinstance(value, list | tuple):
        return [_filled(each, places) for each in value]
    return value
