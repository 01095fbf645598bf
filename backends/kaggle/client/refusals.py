"""What Kaggle's answers mean to us: the errors of this backend, and the sentences that Kaggle is known to refuse with.

Kaggle says no in three ways: by HTTP status, by `{"code": 4xx, "message": ...}` and by an `error` text, the last two
within HTTP 200. All three come through `refusal`. A sentence that is not in the table is no guess at a class: it
becomes `RefusedError`, with the sentence.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from launcher.errors import (
    CapacityError,
    CredentialError,
    NotFoundError,
    Problem,
    QuotaError,
    RemoteError,
    SamerunError,
    SpecError,
)

TEXT_LIMIT = 300  # characters of Kaggle's own words that go into a message of ours


class UnansweredError(RemoteError):
    """No answer, or one that is not Kaggle's word: a cut connection, 429, 5xx, an HTML page. Asking again may help.

    `maybe_done`: the service may have done what was asked. False where the request certainly did not get in.
    `retry_after`: seconds that the service asked to wait, None where it did not say.
    """

    def __init__(self, message: str, *, maybe_done: bool = True, retry_after: float | None = None) -> None:
        super().__init__(message, remedy="try again; see status.kaggle.com if it lasts")
        self.maybe_done = maybe_done
        self.retry_after = retry_after


class UnreadableError(RemoteError):
    """An answer in good JSON that the client cannot read, such as a new status name. Asking again does not help."""


class RefusedError(RemoteError):
    """Kaggle said no, in words that are not in the table. Whether it did something before, only a look-up can tell."""


class NotThereError(NotFoundError):
    """The kernel, dataset or file is not there.

    `certain`: False for HTTP 403, which Kaggle also answers for what exists and belongs to someone else.
    """

    def __init__(self, message: str, *, certain: bool, remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.certain = certain


@dataclass(frozen=True)
class Sentence:
    """A known refusal. `seen` says where the sentence was found: nothing here was tried against the real service."""

    pattern: str
    error: type[SamerunError]
    remedy: str
    seen: str


SENTENCES = (
    Sentence(
        r"maximum batch \w+ session count of \d+ reached",
        CapacityError,
        "wait until one of your running kernels ends; stopped ones can count for some minutes",
        "Kaggle/kaggle-cli#185 (GPU); public repositories quote `Maximum batch CPU session count of 5 reached`",
    ),
    Sentence(
        r"maximum weekly \w+ quota of [\d.]+ hours reached|accelerator quota exceeded|exceeded the number of hours",
        QuotaError,
        "`launch doctor --backend kaggle` says when the week begins anew; resources.device=cpu needs no quota",
        "public repositories quote `Maximum weekly GPU quota of 30.00 hours reached.`; Kaggle/kaggle-benchmarks#76",
    ),
    Sentence(
        r"title .*already in use",
        SpecError,
        "a deleted one may keep its name for some time: launch again later, or look at kaggle.com/work for what has it",
        "kaggle 2.2.4, kaggle_api_extended.py (datasets); Kaggle/kaggle-cli#243 (kernels)",
    ),
    Sentence(
        r"notebook not found",
        SpecError,
        "title and name must be one (the title's slug), plain ASCII, at least five characters, no digit in front",
        "Kaggle/kaggle-cli#139, #545, #575",
    ),
    Sentence(
        r"phone number|phone.verif|verify your (account|identity|phone)|not verified",
        CredentialError,
        "verify your phone at kaggle.com/settings: GPUs and internet need it",
        "assumption: instructlab/instructlab#355 tells of the condition, the sentence itself was not found",
    ),
    Sentence(
        r"unauthenticated|invalid (api )?(token|key|credentials)",
        CredentialError,
        "make a new token at kaggle.com/settings",
        "assumption: the usual words; HTTP 401 is what counts",
    ),
)


def known(text: str) -> Sentence | None:
    """The row of the table that a text belongs to."""
    return next((each for each in SENTENCES if re.search(each.pattern, text, re.IGNORECASE)), None)


def refusal(text: str, doing: str) -> SamerunError:
    """The error for Kaggle's own words. `doing` is ours, as in "pushing alice/x"."""
    text = clean(text)
    message = f"{doing}: Kaggle says: {text}"
    sentence = known(text)
    if sentence is None:
        return RefusedError(message, remedy="look at kaggle.com/work for what became of it")
    if issubclass(sentence.error, SpecError):
        return sentence.error([Problem(message, remedy=sentence.remedy)])
    return sentence.error(message, remedy=sentence.remedy)


def clean(text: str, secrets: tuple[str, ...] = ()) -> str:
    """One line of what the other side wrote: no secret of ours, no control characters, no tags, not too long."""
    for secret in secrets:
        text = text.replace(secret, "***")
    text = re.sub(r"<(script|style).*?</\1>|<[^<>]*>", " ", text[: 100 * TEXT_LIMIT], flags=re.DOTALL | re.IGNORECASE)
    text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return text if len(text) <= TEXT_LIMIT else text[: TEXT_LIMIT - 1] + "…"
