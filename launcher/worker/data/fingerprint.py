"""The formula of a fingerprint: how the digests of files, and how they are split, become one.

Two datasets have one fingerprint exactly when each split holds the same images and labels, byte for byte, under the
same names, with the same classes.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .dataset import Item

Kind = Literal["image", "label"]

SCHEME = "samerun-data-1"
"""Part of the total: raised when digests are composed in another way."""


class FileDigest(NamedTuple):
    """One file: path relative to the dataset's root, size in bytes, SHA-256 in hex, `image` or `label`."""

    path: str
    size: int
    sha256: str
    kind: Kind


@dataclass(frozen=True)
class Fingerprint:
    """The identity of a dataset. All digests are SHA-256 in hex; `files` is sorted by path, each file once."""

    images: str
    """Of the names and bytes of all images."""
    labels: str
    """Of the names and bytes of all labels."""
    splits: str
    """Of the class names, and of which image is in which split, with or without a label."""
    total: str
    """Of the three above."""
    files: tuple[FileDigest, ...]
    n_images: int
    n_labels: int
    bytes: int

    def as_json(self) -> dict[str, Any]:
        """Plain values; the inverse of `from_json`."""
        head = {key: getattr(self, key) for key in ("images", "labels", "splits", "total")}
        counts = {key: getattr(self, key) for key in ("n_images", "n_labels", "bytes")}
        files = [[file.path, file.size, file.sha256, file.kind] for file in self.files]
        return {"scheme": SCHEME, **head, **counts, "files": files}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Fingerprint:
        """Read what `as_json` wrote. Raises ValueError when it is not that, or not consistent with itself."""
        try:
            if value["scheme"] != SCHEME:
                raise ValueError(f"scheme {value['scheme']!r}, expected {SCHEME!r}")
            files = tuple(FileDigest(str(p), int(n), str(d), _kind(k)) for p, n, d, k in value["files"])
            made = compose(files, str(value["splits"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a fingerprint: {error!r}") from error
        if made.as_json() != value:
            raise ValueError("the fingerprint's digests are not those of its files")
        return made


def _kind(value: object) -> Kind:
    if value == "image":
        return "image"
    if value == "label":
        return "label"
    raise ValueError(f"{value!r} is not a kind of file")


def _text(value: str) -> bytes:
    """A path as bytes, also one that is not UTF-8 on disk."""
    return value.encode("utf-8", "surrogateescape")


def _digest_of(rows: list[str]) -> str:
    """SHA-256 of rows of which none holds a NUL: paths cannot."""
    return hashlib.sha256(_text(f"{len(rows)}\0" + "\0".join(rows))).hexdigest()


def compose(files: tuple[FileDigest, ...], splits: str) -> Fingerprint:
    """The fingerprint of these files, sorted by path, each once; `splits` is what `splits_digest` gives."""
    images = [f"{sha256} {path}" for path, _, sha256, kind in files if kind == "image"]
    labels = [f"{sha256} {path}" for path, _, sha256, kind in files if kind == "label"]
    parts = _digest_of(images), _digest_of(labels), splits
    size = sum(file.size for file in files)
    return Fingerprint(*parts, _digest_of([SCHEME, *parts]), files, len(images), len(labels), size)


def splits_digest(names: Mapping[int, str], splits: Mapping[str, Sequence[Item]]) -> str:
    """Of the class names by number, and of the items of each split in their order."""
    rows = [f"{number} {json.dumps(name)}" for number, name in sorted(names.items())]
    for split, items in sorted(splits.items()):
        rows.append(f"split {split} {len(items)}")
        rows += [f"{item.image}//{item.label or ''}" for item in items]
    return _digest_of(rows)
