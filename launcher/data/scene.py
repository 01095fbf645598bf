"""Draws the built-in reef: an underwater video, frame by frame, with the tight box of every starfish.

Promises: the pixels and boxes of a frame depend on its arguments alone, on every machine. To keep that, everything
that decides a pixel uses operations that IEEE 754 defines to the last bit (+, -, *, /, sqrt, comparison, floor), one
per numpy call: no sin, exp or power (their last bit differs between CPUs and library builds), no sums over an axis
(their order does), no drawing library and no random generator of another library. float64 throughout.

numpy is imported here, so this module is imported only by the code that draws.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from launcher.data.exact import Array, Stream, noise, sine, sine1
from launcher.data.floor import floor

Colour = tuple[float, float, float]

STAR_COLOURS: tuple[Colour, ...] = ((0.62, 0.22, 0.20), (0.55, 0.30, 0.18), (0.52, 0.24, 0.42), (0.70, 0.32, 0.16))
LABELLED_SHARE = 0.3
"""A star of which a smaller share than this is in the frame is drawn but not labelled: nobody could tell what it is."""
LABELLED_SIDE = 5
"""Pixels: nor has one whose visible part is narrower than this."""


@dataclass(frozen=True)
class View:
    """One starfish in one frame: its number in the video, and its box in pixels, right and bottom exclusive."""

    star: int
    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True)
class Frame:
    """One picture: uint8 RGB of shape (height, width, 3), and the starfish that a label names."""

    pixels: NDArray[np.uint8]
    views: tuple[View, ...]


@dataclass(frozen=True)
class Scene:
    """What one video shows. Lengths in pixels; `stars` is how many there are, `empty` the share of frames without."""

    seed: int
    name: str
    frames: int
    width: int
    height: int
    stars: int
    empty: float


@dataclass(frozen=True)
class _Star:
    x: float
    y: float
    drift_x: float
    drift_y: float
    radius: float
    turn: float
    spin: float
    squash: float
    swirl: float
    colour: Colour
    lengths: Array
    wobble: Array


def draw(scene: Scene, *, with_stars: bool = True) -> Iterator[Frame]:
    """The frames of a video, in order. Without stars the rest of each picture is the same, pixel for pixel."""
    path = _path(scene)
    stars = _stars(scene, path)
    wide, high = _margin(scene)
    size = scene.height + high, scene.width + wide
    ground = floor(Stream(scene.seed, scene.name, "floor"), *size, scale=min(scene.width, scene.height))
    water = _water(scene)
    for number in range(scene.frames):
        x, y = path[number]
        light = _crop(ground, x, y, scene.height, scene.width)
        views: list[View] = []
        for index, star in enumerate(stars if with_stars else ()):
            view = _paint_star(light, star, index, x, y, number)
            if view is not None:
                views.append(view)
        yield Frame(water.over(light, x, y, number), tuple(views))


# Where things are


def _margin(scene: Scene) -> tuple[int, int]:
    """How much wider and higher the world is than the picture, in pixels: room to drift."""
    return 3 * scene.width, scene.height


def _path(scene: Scene) -> list[tuple[float, float]]:
    """Where the frame's top left corner is in the world at each frame: a slow drift that sways like a diver's hand."""
    stream = Stream(scene.seed, scene.name, "path")
    wide, high = (float(side) for side in _margin(scene))
    steps = max(scene.frames, 24)
    sign = 1.0 if stream.below(2) else -1.0
    speed_x = sign * stream.between(0.6, 0.85) * wide / steps
    speed_y = stream.between(-0.6, 0.6) * high / steps
    phase_x, phase_y = stream.between(0.0, 1.0), stream.between(0.0, 1.0)
    sway = 0.02 * min(scene.width, scene.height)
    path = []
    for number in range(scene.frames):
        along = number - (scene.frames - 1) / 2.0
        x = wide / 2.0 + speed_x * along + sway * sine1(phase_x + number / 17.0)
        y = high / 2.0 + speed_y * along + sway * sine1(phase_y + number / 11.0)
        path.append((min(max(x, 0.0), wide - 2.0), min(max(y, 0.0), high - 2.0)))
    return path


def _place(star: _Star, number: int) -> tuple[float, float]:
    return star.x + star.drift_x * number, star.y + star.drift_y * number


def _in_frame(star: _Star, path: list[tuple[float, float]], number: int, scene: Scene, reach: float) -> bool:
    """Whether any point within `reach` pixels of the star's middle is in this frame."""
    x, y = _place(star, number)
    left, top = path[number]
    return -reach < x - left < scene.width + reach and -reach < y - top < scene.height + reach


def _stars(scene: Scene, path: list[tuple[float, float]]) -> list[_Star]:
    """Stars that are in the picture at some time, apart from each other, and never in the quiet part of the video."""
    stream = Stream(scene.seed, scene.name, "stars")
    quiet_count = min(int(scene.empty * scene.frames + 0.5), scene.frames)
    at_end = stream.below(2)
    quiet = range(scene.frames - quiet_count, scene.frames) if at_end else range(quiet_count)
    busy = range(scene.frames - quiet_count) if at_end else range(quiet_count, scene.frames)
    stars: list[_Star] = []
    for index in range(scene.stars):
        for attempt in range(60):
            if not busy:
                return stars
            star = _new_star(Stream(scene.seed, scene.name, "star", index, attempt), scene, path, busy)
            reach = star.radius * 1.3
            if any(_in_frame(star, path, number, scene, reach) for number in quiet):
                continue
            if any(_touch(star, other, scene.frames) for other in stars):
                continue
            stars.append(star)
            break
    return stars


def _touch(one: _Star, other: _Star, frames: int) -> bool:
    apart = (one.radius + other.radius) * 1.05
    for number in (0, frames // 2, frames):
        (x1, y1), (x2, y2) = _place(one, number), _place(other, number)
        if (x1 - x2) * (x1 - x2) + (y1 - y2) * (y1 - y2) < apart * apart:
            return True
    return False


def _new_star(stream: Stream, scene: Scene, path: list[tuple[float, float]], busy: range) -> _Star:
    side = min(scene.width, scene.height)
    smallest, largest = max(6.0, 0.075 * side), max(9.0, 0.24 * side)
    u = stream.between(0.0, 1.0)
    radius = smallest + (largest - smallest) * u * u
    when = busy[stream.below(len(busy))]
    left, top = path[when]
    drift_x, drift_y = stream.between(-0.25, 0.25), stream.between(-0.2, 0.2)
    x = left + stream.between(0.0, 1.0) * scene.width - drift_x * when
    y = top + stream.between(0.0, 1.0) * scene.height - drift_y * when
    arms = 11 + stream.below(7)
    base = STAR_COLOURS[stream.below(len(STAR_COLOURS))]
    tone = stream.between(0.8, 1.15)
    return _Star(
        x=x, y=y, drift_x=drift_x, drift_y=drift_y, radius=radius,
        turn=stream.between(0.0, 1.0), spin=stream.between(-0.004, 0.004),
        squash=stream.between(0.68, 1.0), swirl=stream.between(-0.07, 0.07),
        colour=(base[0] * tone, base[1] * tone, base[2] * tone),
        lengths=0.82 + 0.18 * stream.floats(arms), wobble=(stream.floats(arms) - 0.5) * 0.4,
    )  # fmt: skip


# The starfish


def _paint_star(light: Array, star: _Star, index: int, left: float, top: float, number: int) -> View | None:
    """Paint the star into the albedo `light`, shape (height, width, 3); its box, or None when too little is to see."""
    height, width, _ = light.shape
    x, y = _place(star, number)
    x, y = x - left, y - top
    reach = int(star.radius * 1.2) + 3
    x0, y0 = int(np.floor(x)) - reach, int(np.floor(y)) - reach
    if x0 >= width or y0 >= height or x0 + 2 * reach < 0 or y0 + 2 * reach < 0:
        return None
    px = np.arange(x0, x0 + 2 * reach + 1, dtype=np.float64)[None, :] + 0.5 - x
    py = np.arange(y0, y0 + 2 * reach + 1, dtype=np.float64)[:, None] + 0.5 - y
    cover, shade, tip = _star_shape(star, px, py, number)
    rows, columns = slice(max(y0, 0), y0 + 2 * reach + 1), slice(max(x0, 0), x0 + 2 * reach + 1)
    inside = light[rows, columns]
    cut_y, cut_x = max(-y0, 0), max(-x0, 0)
    cut = (slice(cut_y, cut_y + inside.shape[0]), slice(cut_x, cut_x + inside.shape[1]))
    shadow = np.zeros_like(cover)
    shadow[1:, 1:] = cover[:-1, :-1]
    inside *= 1.0 - 0.45 * np.maximum(shadow - cover, 0.0)[cut][:, :, None]
    alpha = cover[cut]
    for channel in range(3):
        # Arm tips are paler and redder than the disc, as on the animal.
        colour = star.colour[channel] * shade[cut] + (0.30, 0.10, 0.06)[channel] * tip[cut]
        inside[:, :, channel] = inside[:, :, channel] * (1.0 - alpha) + colour * alpha
    return _view(cover >= 0.5, (alpha >= 0.5), index, max(x0, 0), max(y0, 0))


def _view(whole: NDArray[np.bool_], seen: NDArray[np.bool_], star: int, left: int, top: int) -> View | None:
    """The box around the pixels of `seen`, whose first pixel is (left, top) in the frame."""
    if np.count_nonzero(seen) < LABELLED_SHARE * np.count_nonzero(whole):
        return None
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    if not len(rows):
        return None
    view = View(star, left + int(columns[0]), top + int(rows[0]), left + int(columns[-1]) + 1, top + int(rows[-1]) + 1)
    return view if min(view.right - view.left, view.bottom - view.top) >= LABELLED_SIDE else None


def _star_shape(star: _Star, px: Array, py: Array, number: int) -> tuple[Array, Array, Array]:
    """Coverage 0..1, brightness and tip colour of a star, over pixels at (px, py) from its middle."""
    qy = py / star.squash
    far = np.sqrt(px * px + qy * qy)
    # Swirl: turn each point by an angle that grows with its distance, which bends the arms.
    bend = star.swirl * far / star.radius
    c, s = sine(bend + 0.25), sine(bend)
    ux, uy = px * c - qy * s, px * s + qy * c
    arms = len(star.lengths)
    wave = sine(np.arange(arms, dtype=np.float64) * 0.37 + number / 23.0) * 0.12
    angle = star.turn + star.spin * number + (np.arange(arms, dtype=np.float64) + star.wobble + wave) / arms
    dx, dy = sine(angle + 0.25)[:, None, None], sine(angle)[:, None, None]
    length = (star.lengths * star.radius)[:, None, None]
    along = np.minimum(np.maximum(ux * dx + uy * dy, 0.0), length)
    ex, ey = ux - along * dx, uy - along * dy
    taper = along / length
    edge = np.sqrt(ex * ex + ey * ey) - star.radius * (0.135 - 0.075 * taper)
    nearest = np.argmin(edge, axis=0)[None]
    arm_edge = np.take_along_axis(edge, nearest, axis=0)[0]
    t = np.take_along_axis(taper, nearest, axis=0)[0]
    disc = far - 0.36 * star.radius
    cover = np.minimum(np.maximum(0.5 - np.minimum(arm_edge, disc), 0.0), 1.0)
    # Spines catch the light: bright dots along each arm, a granular disc; the edges of arms lie in shade.
    spines = 0.5 + 0.5 * sine(t * star.radius / 4.0 + nearest[0] * 0.5)
    depth = np.minimum(np.maximum(-arm_edge / (0.1 * star.radius), 0.0), 1.0)
    shade = np.where(disc < 0.0, 0.85, 0.62 + 0.38 * depth) + 0.22 * (spines - 0.5)
    return cover, shade, t * t


def _crop(ground: Array, x: float, y: float, height: int, width: int) -> Array:
    """The floor seen from (x, y), between pixels by bilinear weights: a fresh array of shape (height, width, 3)."""
    x0, y0 = int(np.floor(x)), int(np.floor(y))
    fx, fy = x - x0, y - y0
    rows = ground[y0 : y0 + height + 1, x0 : x0 + width + 1]
    band = rows[:, :-1] * (1.0 - fx) + rows[:, 1:] * fx
    return np.asarray(band[:-1] * (1.0 - fy) + band[1:] * fy)


# The water


@dataclass(frozen=True)
class _Water:
    """What lies between the floor and the camera, for one video."""

    scene: Scene
    colour: Colour
    tint: Colour
    murk: float
    blur: float
    grain: float
    ripples: tuple[Array, Array]
    shafts: Array
    snow: Array

    def over(self, light: Array, x: float, y: float, number: int) -> NDArray[np.uint8]:
        """The picture: caustics on the floor, attenuation with distance, shafts, marine snow, blur, sensor noise."""
        height, width, _ = light.shape
        lit = light * self._caustics(height, width, x, y, number)[:, :, None]
        # The camera looks slightly ahead: the top of the picture is farther away.
        away = 1.0 - np.arange(height, dtype=np.float64)[:, None] / height
        clear = 1.0 / (1.0 + self.murk * (0.35 + away))
        clear = np.repeat(clear * clear, width, axis=1)
        glow = 0.75 + 0.45 * away + self._shafts(height, width, number)
        picture = np.empty_like(lit)
        for channel in range(3):
            seen = lit[:, :, channel] * self.tint[channel] * clear
            picture[:, :, channel] = seen + self.colour[channel] * glow * (1.0 - clear)
        self._snow(picture, x, y, number)
        picture = picture * (1.0 - self.blur) + _soft(picture) * self.blur
        grain = Stream(self.scene.seed, self.scene.name, "grain", number)
        picture += self.grain * grain.grain(height, width)[:, :, None] + 0.4 * self.grain * grain.grain(
            height, width, 3
        )
        return np.floor(np.minimum(np.maximum(picture, 0.0), 1.0) * 255.0 + 0.5).astype(np.uint8)

    def _caustics(self, height: int, width: int, x: float, y: float, number: int) -> Array:
        """Brightness about 1 of the net of light that the waves draw on the floor."""
        one, two = self.ripples
        side = one.shape[0]
        rows = np.arange(height, dtype=np.int64)
        columns = np.arange(width, dtype=np.int64)
        a = one[(rows + int(y) + number) % side][:, (columns + int(x) + number) % side]
        b = two[(rows + int(y)) % side][:, (columns + int(x) - number) % side]
        near = 1.0 - np.minimum(np.abs(a - b) * 5.0, 1.0)
        return np.asarray(0.86 + 0.4 * near * near)

    def _shafts(self, height: int, width: int, number: int) -> Array:
        """Slanted rays from above, weaker the deeper they get."""
        rows = np.arange(height, dtype=np.float64)[:, None]
        at = np.arange(width, dtype=np.float64)[None, :] + rows * 0.45
        wave = sine(at / (width * 0.6) + self.shafts[0] + number / 60.0) * sine(at / (width * 0.23) + self.shafts[1])
        return np.asarray(np.maximum(wave, 0.0) * (1.0 - rows / height) * self.shafts[2])

    def _snow(self, picture: Array, x: float, y: float, number: int) -> None:
        """Specks that float between floor and camera and drift on their own."""
        height, width, _ = picture.shape
        for u, v, speed, bright in self.snow:
            column = int(u * width - 1.4 * x + number * speed) % width
            row = int(v * height - 1.4 * y + number * 0.5) % height
            picture[row : row + 1, column : column + 2] += 0.16 * bright


def _water(scene: Scene) -> _Water:
    stream = Stream(scene.seed, scene.name, "water")
    green = stream.between(0.0, 1.0)
    side = 2 * max(scene.width, scene.height)
    cell = max(min(scene.width, scene.height) // 8, 4)
    return _Water(
        scene=scene,
        colour=(0.05 + 0.05 * green, 0.36 + 0.12 * green, 0.52 - 0.14 * green),
        tint=(stream.between(0.62, 0.85), 0.95, stream.between(0.85, 1.0)),
        murk=stream.between(0.12, 0.4),
        blur=stream.between(0.15, 0.7),
        grain=stream.between(0.015, 0.045),
        ripples=(noise(stream, side, side, cell), noise(stream, side, side, cell + 2)),
        shafts=stream.floats(3) * 0.5,
        snow=stream.floats(max(6, scene.width * scene.height // 900), 4),
    )


def _soft(picture: Array) -> Array:
    """A 3 by 3 binomial blur, edges repeated."""
    padded = np.concatenate((picture[:1], picture, picture[-1:]), axis=0)
    band = (padded[:-2] + padded[2:]) * 0.25 + padded[1:-1] * 0.5
    padded = np.concatenate((band[:, :1], band, band[:, -1:]), axis=1)
    return np.asarray((padded[:, :-2] + padded[:, 2:]) * 0.25 + padded[:, 1:-1] * 0.5)
