"""The host's side of bulk transfer: `have` says what is there, `take` receives files, `give` sends some.

Each speaks on standard input and output in its own way; the other side is `backends/ssh/link/tree.py`. Promises:
nothing is written outside the folder, through links neither; a file has its name only when its bytes have their
digest; what had come before a cut is gone on from, within a file too. A file of the folder is hashed again only when
its size, times or inode are not those of the last time: these lie in `.transfer/seen.json`.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json
import os
import re
import stat
import sys
import tarfile
import time

from .pieces import CHUNK, READ, WRITE, copy, copy_start, digest_of, is_mine, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, BinaryIO

STATE = ".transfer"
PIPE = 1 << 20
"""Bytes that a pipe should hold: what Linux lets an ordinary user ask for (/proc/sys/fs/pipe-max-size)."""
PULSE = 1.0
"""Seconds between two signs of life while nothing else is said: a space, which JSON allows before a value."""
ABANDONED = 86_400.0
"""Seconds after which a part that nobody wrote to is garbage. Assumption: a cut is mended within a day."""
_SHA = re.compile("[0-9a-f]{64}")
_HERE = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def main(argv: list[str]) -> int:
    """`have ROOT`, `take ROOT` or `give ROOT`; returns the exit code."""
    os.umask(0o077)
    commands: dict[str, Any] = {"have": have, "take": take, "give": give}
    command = commands[argv[0]]
    _widen(0)
    _widen(1)
    try:
        with open(0, "rb", buffering=PIPE, closefd=False) as asked:
            command(argv[1], asked, sys.stdout.buffer)
    except (OSError, ValueError, tarfile.TarError) as error:
        sys.stderr.write(f"{argv[0]} {argv[1]}: {error}\n")
        return 1
    return 0


def have(root: str, asked: BinaryIO, answer: BinaryIO) -> None:
    """Which of `[[path, size, sha256], ...]` are not there (by place in the list), and what is there in part."""
    wanted = json.load(asked)
    pulse = _Pulse(answer)
    with Tree(root) as tree:
        missing = [at for at, (path, size, sha) in enumerate(wanted) if not tree.holds(path, size, sha, pulse)]
        parts = {wanted[at][2]: tree.part_size(wanted[at][2]) for at in missing}
    _say(answer, {"missing": missing, "parts": {sha: size for sha, size in parts.items() if size}})


def take(root: str, came: io.BufferedReader, answer: BinaryIO) -> None:
    """Receive contents, and give each its names.

    `came` is a tar of `list.json`, `{"contents": [[sha256, size, offset], ...], "places": [[path, sha256], ...]}`, and
    of members `0`, `1`, ...: the bytes of each content from its offset on. Answers with what is wrong, by digest.
    """
    pulse = _Pulse(answer)
    wrong: dict[str, str] = {}
    with Tree(root) as tree:
        contents, places = _list(came)
        for number, (sha, size, offset) in enumerate(contents):
            if _next(came) != (str(number), size - offset):
                raise ValueError("what came is not what was announced")
            with tree.part(sha, offset) as (name, part):
                reason = tree.receive(came, sha, size, offset, name, part, pulse)
                _exactly(came, -(size - offset) % tarfile.BLOCKSIZE)
                reason = reason or tree.place(sha, places.get(sha, []), name)
            if reason:
                wrong[sha] = reason
        if not wrong:
            tree.drop_parts()
    _say(answer, {"wrong": wrong})


def give(root: str, asked: BinaryIO, answer: BinaryIO) -> None:
    """Send the files of `[path, ...]`: a tar of `0` and `0.sha256`, `1` and `1.sha256`, ..., and of `list.json`.

    A file that cannot be read has no members and its reason in the list, `[[number, reason], ...]`; one that shrinks
    while it is read is filled up, and its digest is empty.
    """
    failed: list[tuple[int, str]] = []
    with Tree(root, make=False) as tree:
        for number, path in enumerate(json.load(asked)):
            try:
                with tree.read(path) as fd:
                    _send(answer, str(number), fd)
            except (OSError, ValueError) as error:
                failed.append((number, str(getattr(error, "strerror", None) or error)))
    answer.write(_member("list.json", json.dumps(failed).encode()) + b"\0" * 1024)
    answer.flush()


class Tree:
    """A folder, entered by descriptors alone: whatever links lie in it lead nowhere."""

    def __init__(self, root: str, *, make: bool = True) -> None:
        if make:
            os.makedirs(root, exist_ok=True)
        self.root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)  # the root itself may be a link
        self._folder: tuple[tuple[str, ...], int] = ((), self.root)
        self._parts: int | None = None
        self._seen: dict[str, Any] = {}
        self._dirty = False
        self._buffer = bytearray(CHUNK)

    def __enter__(self) -> Tree:
        with contextlib.suppress(OSError, ValueError):
            with os.fdopen(self._open((STATE, "seen.json"), READ), "rb") as stream:
                found = json.load(stream)
            self._seen = found if isinstance(found, dict) else {}
        return self

    def __exit__(self, *_: object) -> None:
        """Also after a cut: what is known of the files that came is kept."""
        try:
            if self._dirty:
                folder = self._enter((STATE,), make=True)
                name = f"seen.{os.getpid()}"
                with os.fdopen(os.open(name, WRITE | os.O_TRUNC, 0o600, dir_fd=folder), "w") as stream:
                    json.dump(self._seen, stream)
                os.rename(name, "seen.json", src_dir_fd=folder, dst_dir_fd=folder)
        finally:
            for fd in {self._folder[1], self.root, self._parts if self._parts is not None else self.root}:
                os.close(fd)

    def holds(self, path: str, size: int, sha: str, pulse: _Pulse) -> bool:
        """Whether the file is there with these bytes."""
        try:
            with self.read(path) as fd:
                found = os.fstat(fd)
                if found.st_size != size:
                    return False
                if self._seen.get(path) == [*_signs(found), sha]:
                    return True
                if digest_of(fd, size, pulse).hexdigest() != sha:
                    return False
                self._remember(path, fd, sha)
                return True
        except OSError:
            return False

    @contextlib.contextmanager
    def read(self, path: str) -> Iterator[int]:
        """A regular file of the tree, open. Raises OSError, and ValueError for what is none or is not in the tree."""
        fd = self._open(_inside(path), READ)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise ValueError("no regular file")
            yield fd
        finally:
            os.close(fd)

    def part_size(self, sha: str) -> int:
        """Bytes of a content that came before a cut."""
        try:
            return os.stat(_name(sha), dir_fd=self._part_folder(), follow_symlinks=False).st_size
        except OSError:
            return 0

    @contextlib.contextmanager
    def part(self, sha: str, offset: int) -> Iterator[tuple[str, io.FileIO]]:
        """Name and file of what came of a content, nobody else's as long as it is open.

        Two machines may send the same dataset, and a sending that was cut may live on until its connection is known to
        be dead. Whoever comes second goes on in a copy of what is there: nobody waits, or writes in the other's file.
        """
        folder, name = self._part_folder(), _name(sha)
        part = io.FileIO(os.open(name, WRITE, 0o600, dir_fd=folder), "r+b")
        try:
            if not is_mine(part.fileno(), name, folder):
                theirs, name = part, f"{sha}.{os.getpid()}"
                with theirs:
                    part = io.FileIO(os.open(name, WRITE | os.O_TRUNC, 0o600, dir_fd=folder), "r+b")
                    copy_start(theirs, part, offset)
            if os.fstat(part.fileno()).st_size < offset:
                raise ValueError(f"the first {offset} bytes of {sha} are gone")
            yield name, part
        finally:
            part.close()

    def receive(
        self, source: io.BufferedReader, sha: str, size: int, offset: int, name: str, part: io.FileIO, pulse: _Pulse
    ) -> str:
        """Write a content from its offset on; why it is not what it should be, or nothing."""
        digest = digest_of(part.fileno(), offset, pulse)
        part.seek(offset)
        left = size - offset
        while left:
            piece = memoryview(self._buffer)[: min(CHUNK, left)]
            got = source.readinto(piece)
            digest.update(piece[:got])
            write(part, piece[:got])
            if got < len(piece):
                raise ValueError("what came ends in the middle")
            left -= got
            pulse()
        part.truncate(size)
        if digest.hexdigest() == sha:
            return ""
        os.unlink(name, dir_fd=self._part_folder())
        return f"sha256 {digest.hexdigest()[:12]} instead of {sha[:12]}"

    def place(self, sha: str, paths: list[str], part: str) -> str:
        """Give a content its names: the part becomes the last of them. Why not, or nothing."""
        parts = self._part_folder()
        for number, path in enumerate(paths, 1):
            *parents, name = _inside(path)
            try:
                folder = self._enter(tuple(parents), make=True)
                source = part
                if number < len(paths):
                    source = f"{sha}.{os.getpid()}.copy"
                    copy(parts, part, source)
                os.rename(source, name, src_dir_fd=parts, dst_dir_fd=folder)
                fd = os.open(name, READ, dir_fd=folder)
            except OSError as error:
                return f"{path}: {error.strerror}"
            try:
                self._remember(path, fd, sha)
            finally:
                os.close(fd)
        return ""

    def drop_parts(self) -> None:
        """All that was asked for is there: remove what is left of former sendings, if nobody is at it now."""
        parts = self._part_folder()
        for name in os.listdir(parts):
            with contextlib.suppress(OSError):
                if time.time() - os.stat(name, dir_fd=parts, follow_symlinks=False).st_mtime > ABANDONED:
                    os.unlink(name, dir_fd=parts)

    def _remember(self, path: str, fd: int, sha: str) -> None:
        self._seen[path] = [*_signs(os.fstat(fd)), sha]
        self._dirty = True

    def _part_folder(self) -> int:
        if self._parts is None:
            self._parts = os.dup(self._enter((STATE, "parts"), make=True))
        return self._parts

    def _open(self, parts: tuple[str, ...], flags: int) -> int:
        return os.open(parts[-1], flags, dir_fd=self._enter(parts[:-1]))

    def _enter(self, parts: tuple[str, ...], *, make: bool = False) -> int:
        """A folder of the tree, by one step after the other; the last one stays open for the next file in it."""
        if self._folder[0] == parts:
            return self._folder[1]
        at = os.dup(self.root)
        for part in parts:
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o700, dir_fd=at)
            try:
                below = os.open(part, _HERE, dir_fd=at)
            finally:
                os.close(at)
            at = below
        if self._folder[1] != self.root:
            os.close(self._folder[1])
        self._folder = (parts, at)
        return at


class _Pulse:
    """Says now and then that work goes on."""

    def __init__(self, answer: BinaryIO) -> None:
        self._answer, self._last = answer, time.monotonic()

    def __call__(self) -> None:
        if time.monotonic() - self._last > PULSE:
            self._answer.write(b" ")
            self._answer.flush()
            self._last = time.monotonic()


def _say(answer: BinaryIO, value: Any) -> None:
    answer.write(json.dumps(value).encode())
    answer.flush()


def _list(came: BinaryIO) -> tuple[list[Any], dict[str, list[str]]]:
    name, size = _next(came)
    if name != "list.json":
        raise ValueError("what came begins without its list")
    value = json.loads(_exactly(came, size))
    _exactly(came, -size % tarfile.BLOCKSIZE)
    places: dict[str, list[str]] = {}
    for path, sha in value["places"]:
        _inside(path)
        places.setdefault(sha, []).append(path)
    for sha, _, _ in value["contents"]:
        _name(sha)
    return value["contents"], places


def _next(came: BinaryIO) -> tuple[str, int]:
    """Name and size of the next member. tarfile's own streams copy each byte several times: 1.5 s of 500 MB."""
    member = tarfile.TarInfo.frombuf(_exactly(came, tarfile.BLOCKSIZE), "utf-8", "strict")
    return member.name, member.size


def _exactly(came: BinaryIO, size: int) -> bytes:
    data = came.read(size)
    if len(data) != size:
        raise ValueError("what came ends in the middle")
    return data


def _widen(fd: int) -> None:
    """Make a pipe hold more, where the system can (Linux): fewer turns between sshd and us."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(fd, getattr(fcntl, "F_SETPIPE_SZ", 1031), PIPE)


def _inside(path: str) -> tuple[str, ...]:
    """The steps of a path. Raises ValueError for one that leads out of the tree, or into our own folder in it."""
    parts = tuple(path.split("/"))
    if parts[0] == STATE or any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise ValueError(f"{path!r} is no path in the folder")
    return parts


def _name(sha: str) -> str:
    if not _SHA.fullmatch(sha):
        raise ValueError(f"{sha!r} is no sha256")
    return sha


def _signs(found: os.stat_result) -> list[int]:
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _send(answer: BinaryIO, name: str, fd: int) -> None:
    """As many bytes as the file has now, and their digest; an empty one when it became shorter meanwhile."""
    size, at = os.fstat(fd).st_size, 0
    digest = hashlib.sha256()
    answer.write(_header(name, size))
    while at < size:
        piece = os.pread(fd, min(CHUNK, size - at), at)
        if not piece:
            break
        digest.update(piece)
        answer.write(piece)
        at += len(piece)
    answer.writelines(b"\0" * min(missing, CHUNK) for missing in range(size - at, 0, -CHUNK))
    answer.write(b"\0" * (-size % 512))
    answer.write(_member(f"{name}.sha256", digest.hexdigest().encode() if at == size else b""))


def _member(name: str, data: bytes) -> bytes:
    return _header(name, len(data)) + data + b"\0" * (-len(data) % 512)


def _header(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf(tarfile.GNU_FORMAT)
