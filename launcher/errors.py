"""Every error a user can act on, and the exit code each one means.

    SamerunError                 1   the training failed, or something else went wrong that has a remedy
    ├── SpecError                2   the spec, or a command's arguments, must be mended (lists every problem found)
    ├── DataError                2   the dataset must be mended
    ├── StorageError             2   a folder here is full or not writable
    ├── NotFoundError            2   no such run, backend or folder
    ├── CredentialError          3
    ├── QuotaError               3
    ├── CapacityError            4
    ├── IntegrityError           5   bytes are not what their digest says
    └── RemoteError              7   a machine did not answer in a way that says what became of the work

Foreign errors are mapped to these once, where they enter. Each message says what happened and where; `remedy` says
what to do next.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Exit(enum.IntEnum):
    """Exit codes that scripts may rely on (README, "Exit codes")."""

    OK = 0
    FAILED = 1
    USAGE = 2
    ACCESS = 3
    CAPACITY = 4
    INTEGRITY = 5
    DIFFERENT = 6
    UNKNOWN = 7
    LEFT_OVER = 8
    INTERRUPTED = 130


class SamerunError(Exception):
    """Base of all errors that are shown to the user without a traceback."""

    exit_code: Exit = Exit.FAILED

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a file: where, and what to do about it.

    `line` and `column` count from 1; None where the place is not known (a `--set` argument, a missing file).
    """

    message: str
    file: str | None = None
    line: int | None = None
    column: int | None = None
    field: str | None = None
    remedy: str | None = None

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)
        head = " ".join(part for part in (f"{place}:" if place else "", f"{self.field}:" if self.field else "") if part)
        tail = f" ({self.remedy})" if self.remedy else ""
        return f"{head} {self.message}{tail}".strip()


class ProblemsError(SamerunError):
    """An error that lists several problems at once, so that one edit mends them all."""

    exit_code = Exit.USAGE

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in problems))


class SpecError(ProblemsError):
    """The spec or an argument of the command is wrong."""


class DataError(ProblemsError):
    """The dataset is wrong: a missing folder, an empty split, a corrupt image, a class that does not exist."""


class StorageError(SamerunError):
    """A folder on this machine is full or cannot be written."""

    exit_code = Exit.USAGE


class NotFoundError(SamerunError):
    """What was named does not exist."""

    exit_code = Exit.USAGE


class CredentialError(SamerunError):
    """A backend refused, or lacks, credentials."""

    exit_code = Exit.ACCESS


class QuotaError(SamerunError):
    """The account's allowance is used up."""

    exit_code = Exit.ACCESS


class CapacityError(SamerunError):
    """The backend has no machine free just now."""

    exit_code = Exit.CAPACITY


class IntegrityError(SamerunError):
    """Bytes are not what their digest says, or are missing."""

    exit_code = Exit.INTEGRITY


class RemoteError(SamerunError):
    """A machine or service did not answer in a way that tells what became of the work."""

    exit_code = Exit.UNKNOWN
