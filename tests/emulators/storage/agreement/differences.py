"""In what the emulator differs from Google's storage-testbench, on purpose, and why.

The testbench is Google's, yet not the service: it is for testing clients' retries, and says itself that it is no
emulator. Where it and Google's documentation differ, the documentation is followed. None of this was checked against
the real service.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

ANY = object()


@dataclass(frozen=True)
class Known:
    """One known difference: `what` (a shell pattern) of the steps of a case (also a pattern), ours and theirs."""

    reason: str
    what: str
    ours: Any
    theirs: Any
    case: str = "*"
    step: int | None = None

    def fits(self, case: str, step: int, what: str, ours: Any, theirs: Any) -> bool:
        return (
            fnmatchcase(case, self.case)
            and fnmatchcase(what, self.what)
            and self.step in (None, step)
            and (self.ours is ANY or self.ours == ours)
            and (self.theirs is ANY or self.theirs == theirs)
        )


KNOWN = (
    Known("the testbench forgets the Content-Type of a media upload", "contentType", "text/plain", None),
    Known("Content-Range belongs to 206 only (RFC 9110)", "header content-range", None, ANY),
    Known("deleting has no content to reply: 204, as the JSON API's clients expect", "status", 204, 200),
    Known("its JSON leaves out zero; GCS writes a size of 0", "size", "0", None),
    Known("a bucket that is not empty: 409 conflict (JSON API, status codes)", "status", 409, 400, "bucket"),
    Known("checksum mismatch: 400 (JSON API, objects.insert; facts A3)", "status", 400, 412, "checksums"),
    Known("the same, at the end of a resumable upload", "status", 400, 412, "resumable, wrong hash"),
    Known(
        "a name in the query must agree with that in the resource, as in resumable ones",
        "status",
        400,
        200,
        "multipart",
    ),
    Known("a chunk beyond what is there leaves a hole, which GCS refuses", "status", 400, 200, "resumable, a gap", 2),
    Known("so there is no object then", "status", 404, 200, "resumable, a gap", 3),
    Known("only multiples of 256 KiB are kept (resumable uploads)", "header range", None, "bytes=0-99", "*odd chunk"),
    Known("NotMatch that fails: 304 for reading, 412 for writing (preconditions)", "status", 412, 304),
    Known("without versioning an overwritten generation is gone", "status", 404, 200, "generations", 5),
    Known("a suffix longer than the object begins at 0", "header content-range", "bytes 0-9/10", ANY, "ranges"),
    Known("a Range that is none (4-2, x-2) is not heard (RFC 9110)", "status", 200, 206, "ranges"),
    Known("the testbench has no pages", "items.*", ANY, ANY, "list in pages"),
    Known("a slash in a name must be encoded in a path", "status", 501, 200, "names"),
    Known("an upload without a name", "status", 400, 500, "names"),
    Known("names have at most 1024 bytes", "status", 400, 200, "names"),
    Known("composed objects have no MD5", "md5Hash", None, ANY, "compose"),
    Known("so it is not in the header", "header x-goog-hash", "crc32c=mnG7TA==", ANY, "compose"),
)
