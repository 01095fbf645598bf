"""The dataset as Ultralytics may have it: links to the images, copies of the labels, in the box's scratch folder.

Ultralytics writes a label cache beside the labels and rewrites JPEG files that end oddly. Neither may reach the user's
dataset, so the training sees a view: every image is a link, except those that would be rewritten, which are copies
(8.4.190 swaps a new file in for the link, earlier versions write through it); labels are copies; the split lists are
files of absolute paths in the order Ultralytics sorts them into.
"""

from __future__ import annotations

import json
import os
import shutil

from .. import manifest
from ..box import Box, read_json, write_bytes
from .listing import file as listing_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..box import Json

DONE = "data.yaml"


class DataMismatchError(Exception):
    """The dataset on this machine is not the one the run was planned with."""


def make(box: Box) -> str:
    """Check the dataset against its listing and lay the view below work/data; returns the path of its data.yaml.

    Sizes are always compared, digests too unless the attempt says that nothing travelled, or the listing was made here.
    Raises DataMismatchError.
    """
    listing = read_json(listing_of(box))
    attempt = box.attempt()
    listed_here = str(listing.get("root") or "")
    source = listed_here or str(attempt["data_root"])
    view = os.path.join(box.work, "data")
    done = os.path.join(view, DONE)
    if os.path.exists(done):
        return done  # a restarted training: the view is whole, and so is the label cache in it
    _check(source, listing, digests=not listed_here and attempt.get("verify_data") is not False)
    copies = set(listing.get("copy", ()))
    for split, items in listing["splits"].items():
        lines = []
        for item in items:
            target = os.path.join(view, item["image"])
            origin = os.path.join(source, item["image"])
            _place(origin, target, copy=item["image"] in copies)
            if item["label"]:
                _place(os.path.join(source, item["label"]), os.path.join(view, item["label"]), copy=True)
            lines.append(target)
        write_bytes(os.path.join(view, f"{split}.txt"), ("\n".join(lines) + "\n").encode())
    # JSON is YAML: no quoting rules to get wrong, and no YAML library needed here. Not its \u escapes, though: YAML
    # readers do not join the two halves in which JSON writes what lies beyond 16 bits.
    yaml = {"path": view, **{split: f"{split}.txt" for split in listing["splits"]}, "names": _names(listing)}
    write_bytes(done, json.dumps(yaml, indent=1, ensure_ascii=False).encode())
    return done


def _names(listing: Json) -> list[str]:
    """Class names as a list: JSON has no integer keys."""
    names = {int(key): value for key, value in listing["names"].items()}
    return [names[index] for index in sorted(names)]


def _check(source: str, listing: Json, digests: bool) -> None:
    for file in listing["files"]:
        path = os.path.join(source, file["path"])
        try:
            size = os.stat(path).st_size
        except OSError as error:
            raise DataMismatchError(f"{file['path']} is not in the dataset at {source}: {error.strerror}") from error
        if size != file["size"]:
            raise DataMismatchError(f"{file['path']} has {size} bytes, {file['size']} when the run was planned")
        if digests and manifest.entry(source, file["path"])["sha256"] != file["sha256"]:
            raise DataMismatchError(f"{file['path']} has other bytes than when the run was planned")


def _place(origin: str, target: str, copy: bool) -> None:
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if os.path.lexists(target):
        os.unlink(target)
    if copy:
        shutil.copyfile(origin, target)
    else:
        os.symlink(origin, target)
