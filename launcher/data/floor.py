"""The floor of the built-in reef: sand, rubble, and the corals and rocks among which starfish are not easy to tell.

Promises as `scene` does: the same arguments give the same numbers on every machine.
"""

from __future__ import annotations

import numpy as np

from launcher.data.exact import Array, Stream, noise, sine

Colour = tuple[float, float, float]

CORAL_COLOURS: tuple[Colour, ...] = (
    (0.58, 0.42, 0.30), (0.50, 0.48, 0.28), (0.66, 0.56, 0.46), (0.44, 0.32, 0.44), (0.36, 0.42, 0.36),
    (0.60, 0.34, 0.28), (0.24, 0.22, 0.22),
)  # fmt: skip


def floor(stream: Stream, height: int, width: int, scale: int) -> Array:
    """The albedo of a sea floor in 0..1, shape (height, width, 3); `scale` is the picture's short side, in pixels."""
    broad = noise(stream, height, width, max(scale // 2, 4))
    middle = noise(stream, height, width, max(scale // 8, 3))
    fine = noise(stream, height, width, max(scale // 24, 2))
    speck = stream.floats(height, width)
    rubble = np.minimum(np.maximum((0.6 * broad + 0.4 * middle - 0.42) * 6.0, 0.0), 1.0)
    tone = 0.55 + 0.25 * middle + 0.3 * (fine - 0.5) + 0.12 * (speck - 0.5)
    stones = 0.25 + 0.45 * fine * middle + 0.15 * (speck - 0.5)
    ground = np.empty((height, width, 3))
    for channel in range(3):
        sand = (1.0, 0.93, 0.76)[channel] * tone
        rock = (0.95, 0.86, 0.72)[channel] * stones
        ground[:, :, channel] = sand * (1.0 - rubble) + rock * rubble
    count = 10 + int(height * width / (scale * scale) * stream.between(5.0, 8.0))
    for _ in range(count):
        x, y = stream.between(0.0, width), stream.between(0.0, height)
        size = stream.between(0.04, 0.2) * scale
        colour = CORAL_COLOURS[stream.below(len(CORAL_COLOURS))]
        (_boulder, _boulder, _staghorn, _plate)[stream.below(4)](ground, stream, x, y, size, colour)
    return ground


def _patch(ground: Array, x: float, y: float, reach: float) -> tuple[Array, Array, Array] | None:
    """The part of the floor within `reach` of (x, y), and the coordinates of its pixels from there; None if outside."""
    height, width, _ = ground.shape
    x0, x1 = max(int(x - reach), 0), min(int(x + reach) + 1, width)
    y0, y1 = max(int(y - reach), 0), min(int(y + reach) + 1, height)
    if x1 <= x0 or y1 <= y0:
        return None
    px = np.arange(x0, x1, dtype=np.float64)[None, :] + 0.5 - x
    py = np.arange(y0, y1, dtype=np.float64)[:, None] + 0.5 - y
    return ground[y0:y1, x0:x1], px, py


def _blend(part: Array, cover: Array, shade: Array, colour: Colour) -> None:
    for channel in range(3):
        part[:, :, channel] = part[:, :, channel] * (1.0 - cover) + colour[channel] * shade * cover


def _boulder(ground: Array, stream: Stream, x: float, y: float, size: float, colour: Colour) -> None:
    """A round coral head or rock: lumpy outline, lit from the upper left, often with the ridges of a brain coral."""
    lumps = stream.floats(3)
    ridges = stream.below(2)
    found = _patch(ground, x, y, size * 1.5)
    if found is None:
        return
    part, px, py = found
    lump = sine(px / (size * 1.7) + lumps[0]) + sine(py / (size * 1.3) + lumps[1]) + sine((px + py) / size + lumps[2])
    r = np.sqrt(px * px + py * py * 1.3) / size * (1.0 + 0.09 * lump)
    cover = np.minimum(np.maximum((1.0 - r) * size * 0.6 + 0.5, 0.0), 1.0)
    ball = np.maximum(1.0 - r * r, 0.0)
    shade = 0.45 + 0.6 * ball - 0.22 * (px + py) / size
    if ridges:
        shade = shade + 0.16 * sine(lump * 0.9 + px / 5.0) * ball
    _blend(part, cover, np.maximum(shade, 0.1), colour)


def _staghorn(ground: Array, stream: Stream, x: float, y: float, size: float, colour: Colour) -> None:
    """A branching coral: a fan of tapered branches from one foot. Up close, the thing most like a starfish's arms."""
    found = _patch(ground, x, y, size * 1.5)
    branches = 4 + stream.below(5)
    angles = -0.25 + (stream.floats(branches) - 0.5) * 0.55
    lengths = size * (0.7 + 0.6 * stream.floats(branches))
    if found is None:
        return
    part, px, py = found
    dx, dy = sine(angles + 0.25)[:, None, None], sine(angles)[:, None, None]
    along = np.minimum(np.maximum(px * dx + py * dy, 0.0), lengths[:, None, None])
    ex, ey = px - along * dx, py - along * dy
    edge = np.sqrt(ex * ex + ey * ey) - np.maximum(size * 0.11 - 0.05 * along, 0.7)
    edge = np.min(edge, axis=0)
    cover = np.minimum(np.maximum(0.5 - edge, 0.0), 1.0)
    shade = 0.8 + 0.5 * np.minimum(np.maximum(-py / size, 0.0), 1.0)
    _blend(part, cover, shade, colour)


def _plate(ground: Array, stream: Stream, x: float, y: float, size: float, colour: Colour) -> None:
    """A flat disc with rings: a plate coral or sponge, as round as a starfish and of its size."""
    found = _patch(ground, x, y, size * 1.2)
    flat = stream.between(1.2, 2.4)
    if found is None:
        return
    part, px, py = found
    qy = py * flat
    lump = 0.12 * sine(px / size + 0.3) + 0.12 * sine(py / size)
    r = np.sqrt(px * px + qy * qy) * (1.0 + lump)
    cover = np.minimum(np.maximum(size - r + 0.5, 0.0), 1.0)
    shade = 0.75 + 0.09 * sine(r / 5.0 + lump) + 0.25 * r / size
    _blend(part, cover, shade, colour)
