"""What two machines' loaders gave, side by side: the same, other pixels by a little, or something else; and what.

Standard library alone.
"""

from __future__ import annotations

from .tolerances import DECODER_FIELD, DECODER_PIXEL, ENCODED_FIELD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..box import Json

GRID_FIELDS = 16  # of a channel: loader.GRID squared


def compare_streams(run: Json, reference: Json) -> Json:
    """`verdict` as in `compare`, with `kind`, `reason` and `evidence`; the first image that differs decides.

    `decoder`: other pixels, by no more than two JPEG decoders differ; `channels`: the reference's with the channels the
    other way round; `images`: the same picture, encoded otherwise; `augmentation`: the same file with other pixels
    or other targets; `order`: another file, which is another stream of random numbers, as another seed has.
    """
    ours, theirs = run.get("images") or [], reference.get("images") or []
    count = min(len(ours), len(theirs))
    if not count:
        return _said("not-comparable", "", "one of the two has no images")
    if len(ours) != len(theirs):
        return _said("not-comparable", "", f"the loaders gave {len(ours)} and {len(theirs)} images")
    largest = 0.0
    for index, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        kind, how, size = _image(mine, other)
        largest = max(largest, size)
        if kind not in ("", "decoder"):
            where = f"image {index} ({mine.get('file')})"
            evidence = {"image": index, "run": mine.get("file"), "reference": other.get("file"), "levels": largest}
            return {**_said("different", kind, f"{where}: {how}"), "evidence": evidence}
    evidence = {"images": count, "levels": largest}
    same = all(mine["pixels"] == other["pixels"] for mine, other in zip(ours, theirs, strict=True))
    if same:
        return {
            **_said("identical", "", f"{count} images and their targets are the same to the bit"),
            "evidence": evidence,
        }
    reason = f"the same targets, and pixels that differ by up to {largest:.2g} levels in the mean of a field"
    return {**_said("within-noise", "decoder", f"{reason}: another image decoder"), "evidence": evidence}


def _image(mine: Json, other: Json) -> tuple[str, str, float]:
    """Kind of difference (empty: none), how it is to be said, largest difference of a field's mean in levels."""
    if mine["file"] != other["file"]:
        return "order", f"the reference has {other['file']} there", 0.0
    if mine["shape"] != other["shape"]:
        return "augmentation", f"its shape is {mine['shape']}, the reference's {other['shape']}", 0.0
    size = _apart(mine["fields"], other["fields"])
    if mine["targets"] != other["targets"]:
        text = f"other targets: {mine['boxes']} boxes with the sums {mine['boxes_sum']}"
        return "augmentation", f"{text}; the reference has {other['boxes']} with {other['boxes_sum']}", size
    if mine["pixels"] == other["pixels"]:
        return "", "", 0.0
    pixel = _apart(mine["sample"], other["sample"])
    if size <= DECODER_FIELD and pixel <= DECODER_PIXEL:
        return "decoder", "", size
    turned = _apart(_turned(mine["fields"]), other["fields"])
    if turned <= DECODER_FIELD:
        return "channels", "the reference's pixels with the channels in reverse order (BGR and RGB)", size
    if size <= ENCODED_FIELD:
        how = f"the same targets, and pixels that differ by up to {pixel:.0f} levels, more than two decoders do"
        return "images", f"{how}: other bytes of the image, or encoded anew", size
    return "augmentation", f"the same targets, and pixels that differ by {size:.3g} levels in the mean of a field", size


def _apart(ours: list[float], theirs: list[float]) -> float:
    return max((abs(a - b) for a, b in zip(ours, theirs, strict=True)), default=0.0)


def _turned(fields: list[float]) -> list[float]:
    """The fields with the channels in reverse order."""
    channels = [fields[at : at + GRID_FIELDS] for at in range(0, len(fields), GRID_FIELDS)]
    return [value for channel in reversed(channels) for value in channel]


def _said(verdict: str, kind: str, reason: str) -> Json:
    return {"verdict": verdict, "kind": kind, "reason": reason, "evidence": {}}
