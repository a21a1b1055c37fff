"""The phantom: procedurally drawn colonoscopy-like frames with exact lesion masks and one look per hospital.

A frame is a wall seen by a scope: a tube with haustral folds around a lumen, lit from the camera. Lesions are heights
on that wall, so shape, shading, shadow and texture reveal them; their colour varies around the wall's own.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

VERSION = 1
"""Raised whenever the drawing changes: a store of phantom frames is keyed by it."""

Field = NDArray[Any]  # float32 (SIDE, SIDE), or with three planes or channels of colour
Direction = tuple[Field, Field, Field]  # away from the lumen: x and y of length 1, and the distance in half frames
Point = tuple[float, float]  # x, y from the middle, in half frames

SIDE = 256  # every frame is drawn at this size and then resized: the same scene at every size
_Y, _X = (np.mgrid[:SIDE, :SIDE].astype(np.float32) + 0.5) / (SIDE / 2) - 1
# Visible lesion area: log-normal around the quartiles of Kvasir-SEG, 0.06, 0.11 and 0.21 of the frame.
MEDIAN_FRACTION, SPREAD = 0.125, 0.95
SMALLEST, LARGEST = 0.01, 0.55  # of the frame; at 32 pixels the smallest still covers a few of them


@dataclass(frozen=True)
class Look:
    """The properties of a hospital's scope, lamp and patients that all of its frames share."""

    mucosa: tuple[float, float, float]  # reflectance of the wall, RGB in 0..1
    exposure: float
    falloff: float  # how far from the lumen the light reaches its half, in half frames
    lamp: tuple[float, float]  # where the lamp sits beside the lens, in half frames
    blur: float  # standard deviation of the lens blur, pixels of the drawing
    corner: float  # cut corners of the octagonal border, as a fraction of the side
    box: tuple[float, float]  # width and height of the black box at the bottom left, fractions; zero: none
    lesion_scale: float  # factor on the lesions' area


def draw(count: int, size: int, looks: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.intp]]:
    """`count` frames of `size` pixels square; frame i depends on (seed, i, looks, size) alone.

    Returns:
        images uint8 (count, size, size, 3) RGB; masks uint8 (count, size, size) in {0, 1}, none of them empty, 1 where
        a lesion is drawn and not hidden by the border; look intp (count,), `i % looks`.
    """
    scopes = sample_looks(looks, seed)
    images = np.empty((count, size, size, 3), np.uint8)
    masks = np.empty((count, size, size), np.uint8)
    shrink = cv2.INTER_AREA if size < SIDE else cv2.INTER_LINEAR
    for i in range(count):
        image, lesion = _frame(np.random.default_rng([seed, i]), scopes[i % looks])
        cv2.resize(image, (size, size), dst=images[i], interpolation=shrink)
        masks[i] = cv2.resize(lesion.astype(np.float32), (size, size), interpolation=shrink) >= 0.5
    return images, masks, np.arange(count) % looks


def sample_looks(looks: int, seed: int) -> tuple[Look, ...]:
    """One look per hospital. Tone and lesion size are spread evenly, so that looks differ whatever the seed."""
    rng = np.random.default_rng([seed, looks, 1])
    steps = np.linspace(-1, 1, looks) if looks > 1 else np.zeros(1)
    warmth, size = rng.permutation(steps), rng.permutation(steps)
    return tuple(_look(rng, warmth[k], size[k]) for k in range(looks))


def _look(rng: Generator, warmth: float, size: float) -> Look:
    boxed = rng.random() < 0.4
    return Look(
        mucosa=(rng.uniform(0.74, 0.8), 0.33 + 0.035 * warmth, 0.23 - 0.05 * warmth),
        exposure=rng.uniform(1.6, 2.2),
        falloff=rng.uniform(0.35, 0.6),
        lamp=(rng.uniform(-0.5, 0.5), rng.uniform(-0.6, 0.1)),
        blur=rng.uniform(0.5, 1.1),
        corner=rng.uniform(0.12, 0.3),
        box=(rng.uniform(0.24, 0.34), rng.uniform(0.28, 0.36)) if boxed else (0.0, 0.0),
        lesion_scale=float(np.exp(0.35 * size)),
    )


def _frame(rng: Generator, look: Look) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    visible = _border(look)
    bend_x, bend_y = 0.09 * _noise(rng, 5), 0.09 * _noise(rng, 5)  # coordinates are bent so that nothing looks regular
    away, light = _tube(rng, look, _X + bend_x, _Y + bend_y)
    folds = _folds(rng, away)
    height, radius = _polyps(rng, look, _X + 0.45 * bend_x, _Y + 0.45 * bend_y, visible & (light > 0.35))
    lesion = height > 0
    patches = _noise(rng, 7)

    wall = _mucosa(rng, look, patches) * (1 - _vessels(rng) * _rgb(0.3, 0.7, 0.6))
    wall = _residue(rng, wall)
    surface = _polyp_surface(rng, wall)
    colour = wall + (surface - wall) * np.minimum(height * 12, lesion)  # a lesion's rim takes the colour around it

    # A lesion stands out of the wall: it is lit like its base, hides the folds behind it and shades its surroundings.
    steady = np.maximum(_softened(light, 3), 0.55)
    light = np.where(lesion, steady, light * folds * (1 - _shadow(look, lesion, radius)))
    facing, gleam = _relief(rng, look, away, height, patches)
    image = cv2.merge(list(colour * (light * facing * look.exposure) + gleam * np.minimum(light, 1)))
    _bubbles(rng, image)
    image = 255 - 255 * cv2.exp(-1.25 * image)  # the sensor saturates: red first, in the end all is white
    image = cv2.GaussianBlur(image.astype(np.uint8), (0, 0), look.blur)
    image[~visible] = 4
    return image, lesion & visible


def _rgb(red: float, green: float, blue: float) -> Field:
    """A colour to multiply fields with: (3, 1, 1), which makes planes (3, SIDE, SIDE)."""
    return np.array([red, green, blue], np.float32)[:, None, None]


def _noise(rng: Generator, cells: int) -> Field:
    """Smooth noise, about standard normal, with `cells` bumps along a side."""
    field: Field = rng.standard_normal((cells, cells), np.float32)
    if cells < 16:  # smooth enough already at a quarter of the size; linear from there is cheap
        field = cv2.resize(field, (SIDE // 4, SIDE // 4), interpolation=cv2.INTER_CUBIC)
        return cv2.resize(field, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    return cv2.resize(field, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)


def _softened(field: Field, sigma: float) -> Field:
    """`field` with a wide blur, `sigma` in fours of pixels: it is done at a quarter of the size, where it is cheap."""
    small = cv2.resize(field, (SIDE // 4, SIDE // 4), interpolation=cv2.INTER_AREA)
    return cv2.resize(cv2.GaussianBlur(small, (0, 0), sigma), (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)


def _border(look: Look) -> NDArray[np.bool_]:
    """Where the scope's octagonal window shows the wall."""
    cut, end = round(look.corner * SIDE), SIDE - 1
    octagon = [(cut, 0), (end - cut, 0), (end, cut), (end, end - cut), (end - cut, end), (cut, end), (0, end - cut)]
    window = np.zeros((SIDE, SIDE), np.uint8)
    cv2.fillPoly(window, [np.array([*octagon, (0, cut)], np.int32)], 1)
    width, height = (round(part * SIDE) for part in look.box)
    window[SIDE - height :, :width] = 0
    return window > 0


def _tube(rng: Generator, look: Look, x: Field, y: Field) -> tuple[Direction, Field]:
    """Where the lumen is, and the light, which is lost in the lumen."""
    far = rng.uniform(0.1, 0.7) if rng.random() < 0.45 else rng.uniform(1.0, 1.9)  # in view, or beside the frame
    angle = rng.uniform(0, 2 * np.pi)
    dx, dy = x - np.float32(far * np.cos(angle)), y - np.float32(far * np.sin(angle))
    distance = cv2.magnitude(dx, dy) + np.float32(0.02)
    fallen = distance**2 / (distance**2 + np.float32(rng.uniform(0.7, 1.5) * look.falloff) ** 2)
    near_x, near_y = rng.uniform(-1, 1, 2).astype(np.float32)  # where the wall comes close to the lamp
    glare = np.float32(rng.uniform(0, 1.8)) * cv2.exp(-2.5 * ((_X - near_x) ** 2 + (_Y - near_y) ** 2))
    return (dx / distance, dy / distance, distance), fallen * (np.float32(0.75) + glare)


def _folds(rng: Generator, away: Direction) -> Field:
    """Haustral folds: crescents around the lumen, each with a bright lip and, before the next one, a shaded trough."""
    across, down, distance = away
    turn = np.float32(rng.uniform(1.2, 2.4)) * cv2.log(distance) + np.float32(rng.uniform(0, 1))
    turn += np.float32(0.12) * _noise(rng, 4)
    phase = turn - np.floor(turn)
    side = rng.uniform(0, 2 * np.pi)
    crescent = across * np.float32(np.cos(side)) + down * np.float32(np.sin(side))
    strength = np.clip(0.45 + 0.5 * crescent + 0.5 * _noise(rng, 4), 0, 1) * np.float32(rng.uniform(0.6, 1))
    lip = np.float32(0.6) * cv2.exp(-7 * phase)
    folds: Field = 1 + strength * (lip - np.float32(0.75) * phase * phase * phase)
    return cv2.GaussianBlur(folds, (3, 3), 0.8)  # a fold's edge is round


def _mucosa(rng: Generator, look: Look, patches: Field) -> Field:
    """The wall's colour, with redder and paler patches."""
    tint = _rgb(*look.mucosa) * _rgb(*rng.normal(1, 0.04, 3))
    redness = np.float32(0.07) * patches + np.float32(0.03) * _noise(rng, 40)
    return tint * (1 + redness * _rgb(0.3, -1, -0.9))


def _vessels(rng: Generator) -> Field:
    """Branching vessels, 0..1: trunks walk across the wall, branches leave them and thin out."""
    layer = np.zeros((SIDE, SIDE), np.uint8)
    trunks = int(rng.integers(1, 5))
    start, heading = rng.uniform(0, SIDE, (trunks, 2)), rng.uniform(0, 2 * np.pi, trunks)
    for steps, stride, strength, thickness in ((26, 8, 230, 2), (14, 6, 170, 1), (9, 4, 120, 1)):
        headings = heading[:, None] + np.cumsum(rng.normal(0, 0.22, (len(start), steps)), 1)
        paths = start[:, None] + stride * np.cumsum(np.stack([np.cos(headings), np.sin(headings)], 2), 1)
        cv2.polylines(layer, list((paths * 16).astype(np.int32)), False, strength, thickness, cv2.LINE_AA, 4)
        forks = np.repeat(np.arange(len(start)), 4), rng.integers(1, steps, 4 * len(start))
        start, heading = paths[forks], headings[forks] + rng.choice((-0.7, 0.7), 4 * len(start))
    there = np.clip(0.4 + 0.6 * _noise(rng, 3), 0, 1) * np.float32(rng.uniform(0.2, 0.9))
    return cv2.GaussianBlur(layer, (3, 3), 0.8) * there / np.float32(255)


def _residue(rng: Generator, wall: Field) -> Field:
    """Stool specks and yellow film on the wall: spots of another colour that are not lesions."""
    if rng.random() < 0.65:
        return wall
    amount = np.clip(0.8 * _noise(rng, 36) + 1.2 * _noise(rng, 3) - np.float32(rng.uniform(1.8, 2.6)), 0, 0.6)
    return wall + amount * (_rgb(0.85, 0.58, 0.16) * np.float32(rng.uniform(0.6, 1.1)) - wall)


def _polyps(rng: Generator, look: Look, x: Field, y: Field, allowed: NDArray[np.bool_]) -> tuple[Field, float]:
    """Height of one lesion, sometimes two, above the wall (half frames; 0 is no lesion), and the first one's radius."""
    fraction = MEDIAN_FRACTION * look.lesion_scale * np.exp(SPREAD * rng.standard_normal())
    radius = np.sqrt(np.clip(fraction, SMALLEST, LARGEST) * 4 / np.pi)
    height = _polyp(rng, x, y, _place(rng, allowed, radius), radius)
    if rng.random() < 0.12:
        small = rng.uniform(0.14, 0.3)
        height = np.maximum(height, _polyp(rng, x, y, _place(rng, allowed, small), small))
    return height, float(radius)


def _place(rng: Generator, allowed: NDArray[np.bool_], radius: float) -> Point:
    """A lit and visible centre; large lesions lie nearer to the middle."""
    inner = max(0.25, 0.85 - 0.5 * radius)
    choices = np.flatnonzero(allowed & (np.maximum(np.abs(_X), np.abs(_Y)) < inner))
    pixel = rng.choice(choices if len(choices) else np.flatnonzero(allowed))
    return float(_X.flat[pixel]), float(_Y.flat[pixel])


def _polyp(rng: Generator, x: Field, y: Field, centre: Point, radius: float) -> Field:
    """A sessile dome, a lobulated mass, a head on a stalk or a flat lesion: each a union of domes."""
    angle, aspect = rng.uniform(0, 2 * np.pi), rng.uniform(0.72, 1)
    kind = rng.choice(["dome", "lobes", "stalk", "flat"], p=[0.4, 0.28, 0.17, 0.15])
    long, short = radius / np.sqrt(aspect), radius * np.sqrt(aspect)
    if kind == "dome":
        return _dome(x, y, centre, long, short, angle, rng.uniform(0.4, 0.75) * short)
    if kind == "flat":
        return _dome(x, y, centre, long * 1.15, short * 0.87, angle, rng.uniform(0.22, 0.35) * short)
    if kind == "stalk":
        head = _dome(x, y, centre, long * 0.88, short * 0.88, angle, 0.7 * short)
        foot = (centre[0] + radius * np.cos(angle), centre[1] + radius * np.sin(angle))
        return np.maximum(head, _dome(x, y, foot, radius * 0.8, radius * 0.4, angle, 0.3 * radius))
    height = _dome(x, y, centre, long * 0.7, short * 0.7, angle, 0.5 * short)
    for turn in angle + np.arange(6) + rng.normal(0, 0.35, 6):
        lobe, out = radius * rng.uniform(0.35, 0.55), radius * rng.uniform(0.25, 0.62)
        where = (centre[0] + out * np.cos(turn), centre[1] + out * np.sin(turn))
        height = np.maximum(height, _dome(x, y, where, lobe, lobe, turn, lobe * rng.uniform(0.9, 1.3)))
    return height


def _dome(x: Field, y: Field, centre: Point, long: float, short: float, angle: float, top: float) -> Field:
    """A bump on an ellipse, `top` high, zero outside; steep at the rim, but less so than an ellipsoid."""
    dx, dy = x - np.float32(centre[0]), y - np.float32(centre[1])
    cosine, sine = np.cos(angle), np.sin(angle)
    along = dx * np.float32(cosine / long) + dy * np.float32(sine / long)
    across = dy * np.float32(cosine / short) - dx * np.float32(sine / short)
    root = cv2.sqrt(np.maximum(1 - along * along - across * across, 0))
    bump: Field = np.float32(top) * root * cv2.sqrt(root)
    return bump


def _polyp_surface(rng: Generator, wall: Field) -> Field:
    """The lesion's own colour: redder, paler or just like the wall, with a pit pattern instead of vessels."""
    redder, paler = rng.normal(0.02, 0.1), rng.normal(1.03, 0.1)
    tint = wall.mean((1, 2), keepdims=True) * (1 + np.float32(redder) * _rgb(0.2, -1, -1)) * np.float32(paler)
    pits = np.abs(_noise(rng, int(rng.integers(28, 60)))) - np.float32(0.7)
    mottle = np.float32(rng.uniform(0.03, 0.2)) * pits + np.float32(0.05) * _noise(rng, 12)
    surface: Field = tint * (1 + mottle * _rgb(0.5, 1, 1))
    return surface


def _shadow(look: Look, lesion: NDArray[np.bool_], radius: float) -> Field:
    """Shade around a lesion, falling away from the lamp."""
    shift = np.array([[1, 0, -24 * look.lamp[0] * radius], [0, 1, -24 * look.lamp[1] * radius]], np.float32)
    moved = cv2.warpAffine(lesion.astype(np.float32), shift, (SIDE, SIDE))
    return np.float32(0.45) * _softened(moved, 0.8 + 3 * radius)


def _relief(rng: Generator, look: Look, away: Direction, height: Field, patches: Field) -> tuple[Field, Field]:
    """How much each point faces the lamp (0..1), and the gleam of the wet surface."""
    wet = np.clip(patches + np.float32(rng.uniform(-0.5, 0.7)), 0, 1) * np.float32(0.35)
    relief = (SIDE / 2) * height + np.float32(rng.uniform(0.6, 1.3)) * _noise(rng, 14) + wet * _noise(rng, 80)
    if rng.random() < 0.5:  # a bulge of the wall: round as a polyp, but with no rim
        where = rng.uniform(-0.8, 0.8, 2)
        relief += 14 * cv2.exp(-((_X - where[0]) ** 2 + (_Y - where[1]) ** 2) / np.float32(rng.uniform(0.02, 0.1)))
    tilt = np.where(height > 0, 0, np.float32(rng.uniform(0.45, 0.85)))  # the wall leans towards the lumen
    gx = cv2.Sobel(relief, cv2.CV_32F, 1, 0, scale=1 / 8) + tilt * away[0]
    gy = cv2.Sobel(relief, cv2.CV_32F, 0, 1, scale=1 / 8) + tilt * away[1]
    lx, ly = look.lamp[0] - np.float32(0.3) * _X, look.lamp[1] - np.float32(0.3) * _Y
    steep = cv2.sqrt(gx * gx + gy * gy + 1)
    lamp = cv2.sqrt(lx * lx + ly * ly + 1)
    cosine = (1 - gx * lx - gy * ly) / (steep * lamp)
    half = (1 + lamp - gx * lx - gy * ly) / (steep * cv2.sqrt(lx * lx + ly * ly + (1 + lamp) ** 2))
    return 0.25 + 0.75 * np.maximum(cosine, 0), 1.6 * np.clip((half - 0.99) * 140, 0, 1)


def _bubbles(rng: Generator, image: Field) -> None:
    """A cluster of bubbles: small rings with a glint."""
    if rng.random() < 0.35:
        middle = rng.uniform(0.15, 0.85, 2) * SIDE
        for _ in range(rng.integers(3, 14)):
            column, row = (middle + rng.normal(0, 12, 2)).astype(int).tolist()
            radius = int(rng.integers(2, 6))
            cv2.circle(image, (column, row), radius, (0.8, 0.65, 0.5), 1, cv2.LINE_8)
            cv2.circle(image, (column - radius // 2, row - radius // 2), 1, (2.0, 2.0, 2.0), -1, cv2.LINE_8)
