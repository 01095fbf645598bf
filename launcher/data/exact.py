"""Random numbers, waves and smooth noise that are the same to the last bit on every machine.

Promises: a `Stream` is a pure function of its name; `sine` and `noise` use only operations that IEEE 754 defines to
the last bit (+, -, *, /, floor), one per numpy call: no sin, exp or power, whose last bit differs between CPUs and
library builds.

numpy is imported here, so this module is imported only by the code that draws.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

GOLDEN = 0x9E3779B97F4A7C15
"""splitmix64: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014; so are MIX_1 and MIX_2."""
MIX_1, MIX_2 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
WORD = (1 << 64) - 1


class Stream:
    """Random numbers that are a pure function of a name: splitmix64 over a counter, keyed by SHA-256 of the name."""

    def __init__(self, *name: object) -> None:
        digest = hashlib.sha256("/".join(str(part) for part in name).encode()).digest()
        self._state = int.from_bytes(digest[:8], "little")

    def raw(self, count: int) -> NDArray[np.uint64]:
        """`count` 64-bit integers."""
        steps = np.arange(1, count + 1, dtype=np.uint64)
        z = steps * np.uint64(GOLDEN) + np.uint64(self._state)
        self._state = (self._state + count * GOLDEN) & WORD
        z = (z ^ (z >> np.uint64(30))) * np.uint64(MIX_1)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(MIX_2)
        return z ^ (z >> np.uint64(31))

    def floats(self, *shape: int) -> Array:
        """Numbers in [0, 1), of 53 bits, in an array of this shape."""
        count = 1
        for side in shape:
            count *= side
        return ((self.raw(count) >> np.uint64(11)).astype(np.float64) * 2.0**-53).reshape(shape)

    def grain(self, *shape: int) -> Array:
        """Noise in (-1, 1), bell-shaped: the sum of four random bytes each, in an array of this shape."""
        count = 1
        for side in shape:
            count *= side
        octets = self.raw((count + 1) // 2).astype("<u8").view(np.uint8)[: count * 4].reshape(count, 4).astype(np.int64)
        total = octets[:, 0] + octets[:, 1] + octets[:, 2] + octets[:, 3]
        return ((total - 510).astype(np.float64) / 510.0).reshape(shape)

    def between(self, low: float, high: float) -> float:
        """One number in [low, high)."""
        return low + (high - low) * float(self.floats(1)[0])

    def below(self, bound: int) -> int:
        """One integer in [0, bound)."""
        return int(self.raw(1)[0]) % bound


def sine(turns: Array) -> Array:
    """About sin(2 pi x), within 0.002: Bhaskara's rational formula, which needs no libm. `turns` is x, any shape."""
    half = turns * 2.0
    part = half - np.floor(half)
    q = part * (1.0 - part)
    wave = 16.0 * q / (5.0 - 4.0 * q)
    whole = np.floor(half)
    odd = whole - 2.0 * np.floor(whole / 2.0)
    return wave * (1.0 - 2.0 * odd)


def sine1(turns: float) -> float:
    """`sine` of one number."""
    return float(sine(np.array([turns]))[0])


def noise(stream: Stream, height: int, width: int, cell: int) -> Array:
    """Smooth noise in 0..1 with lumps of about `cell` pixels."""
    grid = stream.floats(height // cell + 2, width // cell + 2)

    def weights(count: int) -> tuple[NDArray[np.int64], Array]:
        at = np.arange(count, dtype=np.int64)
        part = (at % cell).astype(np.float64) / cell
        return at // cell, part * part * (3.0 - 2.0 * part)

    row, wr = weights(height)
    column, wc = weights(width)
    band = grid[row] * (1.0 - wr[:, None]) + grid[row + 1] * wr[:, None]
    return band[:, column] * (1.0 - wc[None, :]) + band[:, column + 1] * wc[None, :]
