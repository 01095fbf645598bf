"""Trees of files over a Link: `send` brings to the host what it lacks, `fetch` brings files from there.

Promises: each file has its name, there and here, only when its bytes have their digest; what the host has is not sent;
a sending that was cut is gone on with by calling again, within a file too; a content that several files share travels
once; no path leads out of the folder on either side. Nothing moves for the link's `seconds`: RemoteError.

One tar over one channel, to the agent's `take` (backends/ssh/agent/tree.py). `benchmarks/ssh_transfer.py` holds it
against rsync.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from backends.ssh.link.link import Done, Link
from launcher.errors import IntegrityError, Problem, RemoteError, SpecError
from launcher.files import CHUNK, sha256_file, storage

PIECE = 1 << 18
"""Bytes that are gathered before they are handed to the connection: small files share a piece."""
BULK = 32 << 20
"""Bytes from which a connection by the `ssh` command pays: it takes 0.2 s here, and moves as much more in 0.3 s."""
TRIES = 2
Tell = Callable[[int, int], None]
"""Called with the bytes that were moved, and those to be moved altogether."""


@dataclass(frozen=True)
class Entry:
    """A file of the tree: its path in it with `/`, its bytes, their digest."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Sent:
    """What a call of `send` moved, and how many files were there already."""

    files: int
    bytes: int
    there: int


def send(
    link: Link, agent: Sequence[str], root: Path, files: Sequence[Entry], to: str, tell: Tell | None = None
) -> Sent:
    """Bring the files of `root` to the folder `to` of the host, where `agent` (words of a command) is the agent.

    Raises RemoteError when it was cut or the host's disk cannot be written (call again: it goes on), IntegrityError for
    a file that is no longer what its entry says, SpecError for a path that leads out of the tree.
    """
    _check([entry.path for entry in files])
    wrong: dict[str, str] = {}
    for _ in range(TRIES):
        missing, parts = _ask(link, agent, files, to)
        if not missing:
            return Sent(0, 0, len(files))
        stream = _Outgoing(root, missing, parts)
        wrong = _answer(link, _pour(link, [*agent, "take", to], stream, tell)).get("wrong", {})
        if not wrong:
            return Sent(len(missing), stream.bytes, len(files) - len(missing))
        for entry in missing:
            if entry.sha256 in wrong and sha256_file(root / entry.path) != entry.sha256:
                raise IntegrityError(f"{root / entry.path} changed after it was hashed", remedy="start again")
    raise IntegrityError(
        f"{link.where} could not keep {len(wrong)} files in {to}: {next(iter(wrong.values()))}",
        remedy="look at that folder and at the disk there",
    )


def fetch(
    link: Link,
    agent: Sequence[str],
    root: str,
    paths: Sequence[str],
    to: Path,
    tell: Tell | None = None,
    *,
    expected: int = 0,
) -> dict[str, str]:
    """Bring files of the host's folder `root` below `to`; the reasons of those that did not come.

    `expected`: about how many bytes that is, where it is known: much is worth another way (`BULK`).
    Raises RemoteError when it was cut: what had come whole is in its place then. Raises SpecError as `send` does.
    """
    _check(paths)
    to.mkdir(parents=True, exist_ok=True)
    asked = json.dumps(list(paths)).encode()
    incoming, moved = _Incoming(paths, to), 0

    def count(size: int) -> None:
        nonlocal moved
        moved += size
        if tell is not None:
            tell(moved, max(moved, expected))

    try:
        with storage("keeping what comes", to):
            done = link.draw([*agent, "give", root], incoming, feed=asked, moved=count, bulk=expected > BULK)
    except (tarfile.TarError, ValueError, LookupError, TypeError) as error:
        raise RemoteError(f"{link.where} sent files in a way that is not the agent's: {error!r}") from error
    finally:
        incoming.close()
    if done.code or incoming.wrong is None:
        raise RemoteError(f"{link.where}: {done.said or f'the agent ended with {done.code}'}")
    return incoming.wrong


def _ask(link: Link, agent: Sequence[str], files: Sequence[Entry], to: str) -> tuple[list[Entry], dict[str, int]]:
    """What is missing there, and how much there is of a content that came in part."""
    answer = bytearray()
    listed = json.dumps([[entry.path, entry.size, entry.sha256] for entry in files]).encode()
    done = link.draw([*agent, "have", to], answer.extend, feed=listed)
    found = _answer(link, Done(done.code, bytes(answer), done.err))
    try:
        return [files[at] for at in found["missing"]], {str(sha): int(size) for sha, size in found["parts"].items()}
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise RemoteError(f"{link.where}: the agent's answer is none: {error!r}") from error


def _pour(link: Link, argv: Sequence[str], stream: _Outgoing, tell: Tell | None) -> Done:
    moved = 0

    def count(size: int) -> None:
        nonlocal moved
        moved += size
        if tell is not None:
            tell(min(moved, stream.bytes), stream.bytes)

    return link.pour(argv, stream, moved=count, bulk=stream.bytes > BULK)


def _answer(link: Link, done: Done) -> dict[str, Any]:
    if done.code:
        raise RemoteError(
            f"{link.where}: {done.said or f'the agent ended with {done.code}'}", remedy="look at its disk"
        )
    try:
        value = json.loads(done.out)
    except ValueError as error:
        raise RemoteError(f"{link.where}: the agent's answer is none: {done.out[:200]!r}") from error
    if not isinstance(value, dict):
        raise RemoteError(f"{link.where}: the agent's answer is none: {done.out[:200]!r}")
    return value


class _Outgoing:
    """The tar for `take`, made while it is sent. `bytes`: of contents that are to be sent."""

    def __init__(self, root: Path, missing: Sequence[Entry], parts: dict[str, int]) -> None:
        self._root = root
        self._contents = {entry.sha256: entry for entry in missing}
        self._places = [(entry.path, entry.sha256) for entry in missing]
        self._offsets = {sha: min(parts.get(sha, 0), entry.size) for sha, entry in self._contents.items()}
        self.bytes = sum(entry.size - self._offsets[sha] for sha, entry in self._contents.items())

    def __iter__(self) -> Iterator[bytearray]:
        held = bytearray()
        for piece in self._pieces():
            held += piece
            if len(held) >= PIECE:
                yield held
                held = bytearray()
        yield held

    def _pieces(self) -> Iterator[bytes]:
        contents = [(sha, entry.size, self._offsets[sha]) for sha, entry in self._contents.items()]
        data = json.dumps({"contents": contents, "places": self._places}).encode()
        yield _header("list.json", len(data)) + data + _padding(len(data))
        for number, (sha, entry) in enumerate(self._contents.items()):
            left = entry.size - self._offsets[sha]
            yield _header(str(number), left)
            yield from _read(self._root / entry.path, self._offsets[sha], left)
            yield _padding(left)
        yield b"\0" * 1024


def _read(path: Path, offset: int, size: int) -> Iterator[bytes]:
    """So many bytes from there on; zeros for those that are gone: their digest will be wrong."""
    with storage("reading what is to be sent", path), path.open("rb", buffering=0) as stream:
        stream.seek(offset)
        while size:
            piece = stream.read(min(CHUNK, size)) or b"\0" * min(CHUNK, size)
            size -= len(piece)
            yield piece


class _Incoming:
    """Takes the tar of `give` piece by piece; each file gets its name when its digest has come and is right.

    `wrong`: what did not come, and why; None until the list at the end has come.
    """

    def __init__(self, paths: Sequence[str], to: Path) -> None:
        self.wrong: dict[str, str] | None = None
        self._paths, self._to, self._part = paths, to, to / ".incoming-part"
        self._torn: dict[str, str] = {}
        self._work = self._go()
        self._wanted = next(self._work)
        self._held = bytearray()
        self._file: BinaryIO | None = None

    def __call__(self, piece: bytes) -> None:
        """The next bytes. Raises ValueError, tarfile.TarError and others for what is no such tar."""
        left = memoryview(piece)
        while left and self.wrong is None:
            if self._file is None:  # a header, a digest, the list: whole, or not yet
                taken = left[: self._wanted - len(self._held)]
                self._held += taken
                if len(self._held) == self._wanted:
                    data, self._held = bytes(self._held), bytearray()
                    self._wanted = self._work.send(data)
            else:
                taken = left[: self._wanted]
                self._wanted = self._work.send(taken)
            left = left[len(taken) :]

    def close(self) -> None:
        """No more comes."""
        self._work.close()
        self._part.unlink(missing_ok=True)

    def _go(self) -> Generator[int, Any, None]:
        """Yields how many bytes it wants: all at once, or at most that many while a file is open."""
        while self.wrong is None:
            header = tarfile.TarInfo.frombuf((yield tarfile.BLOCKSIZE), "utf-8", "strict")
            if header.name == "list.json":
                reasons = json.loads((yield header.size))
                self.wrong = {**self._torn, **{self._paths[number]: str(reason) for number, reason in reasons}}
                yield tarfile.BLOCKSIZE
                return
            path = self._paths[int(header.name)]
            found = yield from self._write(header.size)
            digest = tarfile.TarInfo.frombuf((yield tarfile.BLOCKSIZE), "utf-8", "strict")
            said = ((yield tarfile.BLOCKSIZE) if digest.size else b"")[: digest.size].decode()
            if said == found:
                (self._to / path).parent.mkdir(parents=True, exist_ok=True)
                self._part.replace(self._to / path)
            else:
                self._torn[path] = "it changed while it was read"

    def _write(self, size: int) -> Generator[int, Any, str]:
        digest = hashlib.sha256()
        left = size
        with self._part.open("wb") as stream:
            self._file = stream
            try:
                while left:
                    piece = yield left
                    digest.update(piece)
                    stream.write(piece)
                    left -= len(piece)
            finally:
                self._file = None
        if padding := -size % tarfile.BLOCKSIZE:
            yield padding
        return digest.hexdigest()


def _check(paths: Sequence[str]) -> None:
    """Raises SpecError for what is no plain path in a tree."""
    for path in paths:
        pure = PurePosixPath(path)
        if not path or pure.is_absolute() or ".." in pure.parts or str(pure) != path or "\0" in path or path == ".":
            raise SpecError([Problem(f"{path!r} is no path in the folder", remedy="leave it out")])


def _header(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf(tarfile.GNU_FORMAT)


def _padding(size: int) -> bytes:
    return b"\0" * (-size % tarfile.BLOCKSIZE)
