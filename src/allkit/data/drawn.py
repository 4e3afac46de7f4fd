"""Drawn sample smears: synthetic microscope fields for the demo, the examples and the tests.

They are sketches, not data: metrics measured on them say nothing about patients. Only the
shape of the white cells depends on the class (size, outline, chromatin, nucleoli, cytoplasm). Stain,
light, background, scale and density belong to the slide and do not depend on the class, so a
classifier that uses colour fails on unseen slides.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from PIL.PngImagePlugin import PngInfo

from allkit.data.labels import ALL_CLASSES
from allkit.data.rows import Sample
from allkit.data.sources import DRAWN, BytesSource
from allkit.errors import ConfigError

__all__ = ["DrawnField", "as_png", "draw_smears", "drawn_samples", "write_smears"]

_Floats = NDArray[np.float32]
_Array = NDArray[np.float64]

# Lengths are in pixels of a 224-pixel field throughout; `_draw` scales them to the wanted size.
_VIEW = 224.0
_MARGIN = 60.0  # drawn around the view, so that the stage can be moved
_WHOLE = _VIEW + 2 * _MARGIN
_TILE = 256
_SLIDE, _LAYOUT, _CAMERA, _MOVE = range(4)  # independent streams of random numbers


@dataclass(frozen=True)
class DrawnField:
    """One drawn microscope field.

    `image` is (H, W, 3) uint8 RGB. `cells` are the white cells that reach into it, as
    (x, y, radius) in pixels from the upper left corner; a centre may lie outside. Fields that
    share `near_duplicate_of` show the same spot of the same slide.
    """

    image: NDArray[np.uint8]
    label: str
    group: str
    case: str
    cells: tuple[tuple[float, float, float], ...]
    near_duplicate_of: str


class _Morphology(NamedTuple):
    nucleus: float  # mean radius of the nucleus
    rim: float  # radius of the cell over that of the nucleus
    eccentric: float  # how far the nucleus lies off the centre, over the room there is
    irregular: float  # relative depth of the folds in the outline
    grain: float  # size of the chromatin clumps
    contrast: float  # higher for finer grain, so that the blur leaves the same
    nucleoli: tuple[int, int]  # fewest and most
    nucleolus: float  # radius over that of the nucleus


_MORPHOLOGY = {
    name: _Morphology._make(row)
    for name, row in {
        "Benign": (9.3, 1.06, 0.2, 0.012, 2.2, 0.24, (0, 0), 0.0),
        "Early": (12.2, 1.20, 0.4, 0.02, 0.8, 0.40, (0, 1), 0.11),
        "Pre": (14.4, 1.50, 0.7, 0.03, 1.1, 0.26, (1, 1), 0.22),
        "Pro": (18.2, 1.05, 0.2, 0.1, 1.2, 0.22, (2, 4), 0.20),
    }.items()
}


class _Slide(NamedTuple):
    light: _Array  # (3,) of the empty background, 0–1
    stains: _Array  # (3, 3) optical density of red cells, nuclei, cytoplasm
    tilt: _Array  # (2,) fall of the light to the right and down
    vignette: float
    scale: float
    white_share: float  # share of the area that white cells stain
    red_count: float
    red_radius: float
    pallor: float
    blur: float
    noise: float
    debris: float


def _rng(seed: int, stream: int, index: int) -> np.random.Generator:
    return np.random.default_rng([seed, stream, index])


@lru_cache(maxsize=16)
def _texture(grain: float) -> _Floats:
    """Return (256, 256) noise that repeats without a seam, even over −1 to 1, in clumps."""
    noise = np.random.default_rng(20).standard_normal((_TILE, _TILE))
    square = np.fft.fftfreq(_TILE) ** 2
    power = -2 * (math.pi * grain) ** 2 * (square[:, None] + square)
    smooth = np.fft.ifft2(np.fft.fft2(noise) * np.exp(power)).real
    even = np.empty(_TILE * _TILE, dtype=np.float32)
    even[np.argsort(smooth, axis=None)] = np.linspace(-1, 1, _TILE * _TILE, dtype=np.float32)
    return even.reshape(_TILE, _TILE)


def _slide(rng: np.random.Generator, hue: float | None) -> _Slide:
    """Draw a slide; `hue` (0 pink to 1 blue) plants a stain instead of drawing it."""
    drawn = float(rng.uniform())
    hue = drawn if hue is None else hue + 0.1 * (drawn - 0.5)
    known = np.array([[0.30, 0.86, 0.14], [0.72, 1.18, 0.22], [1.10, 1.16, 0.26]])
    purple = np.array([np.interp(hue, (0, 0.5, 1), known[:, c]) for c in range(3)])
    reds = np.array([[0.56, 0.40, 0.22], [0.22, 0.38, 0.26], [0.46, 0.36, 0.30]])
    red = rng.dirichlet((0.6, 0.6, 0.6)) @ reds * rng.uniform(0.75, 1.1)
    cytoplasm = 0.22 * purple + np.array([0.26, 0.20, 0.03]) * rng.uniform(0.6, 1.2)
    return _Slide(
        light=0.975 + rng.uniform(-0.035, 0.02, 3),
        stains=np.stack([red, purple * rng.uniform(0.85, 1.15), cytoplasm]),
        tilt=rng.uniform(-0.05, 0.05, 2),
        vignette=rng.uniform(0.02, 0.09),
        scale=rng.uniform(0.95, 1.05),
        white_share=rng.uniform(0.06, 0.13),
        red_count=rng.uniform(40, 100),
        red_radius=rng.uniform(8.2, 9.6),
        pallor=rng.uniform(0.35, 1.0),
        blur=rng.uniform(0.55, 0.85),
        noise=rng.uniform(1.2, 2.4),
        debris=rng.uniform(1, 5),
    )


def _whites(rng: np.random.Generator, slide: _Slide, form: _Morphology) -> _Array:
    """Return (N, 5): x, y, radius of nucleus and cell, seed; the view first, then the margin.

    Cells are placed until they stain the same area whatever the class, so that large ones are few.
    """
    share = slide.white_share * math.exp(rng.normal(0, 0.2))
    placed: list[tuple[float, ...]] = []
    for inside, area in ((True, _VIEW**2), (False, _WHOLE**2 - _VIEW**2)):
        left = area * share
        while left > 0:
            nucleus = form.nucleus * slide.scale * math.exp(rng.normal(0, 0.06))
            cell = nucleus * (1 + (form.rim - 1) * rng.uniform(0.8, 1.2))
            stained = math.pi * (0.82 * nucleus**2 + 0.18 * cell**2)
            # The last cell comes by chance, so that the mean area is right whatever the cell size.
            if placed and rng.uniform() > left / stained:
                break
            left -= stained
            for _ in range(40):
                x, y = rng.uniform(0, _WHOLE, 2)
                central = max(abs(x - _WHOLE / 2), abs(y - _WHOLE / 2)) < _VIEW / 2
                free = all(math.hypot(x - o[0], y - o[1]) > 0.95 * (cell + o[3]) for o in placed)
                if central == inside and free:
                    placed.append((x, y, nucleus, cell, float(rng.integers(2**31))))
                    break
    return np.array(placed)


def _scatter(
    rng: np.random.Generator, count: float, least: list[float], most: list[float]
) -> _Array:
    """Return (N, 2 + M): x, y and M even numbers between two bounds, for `count` in a view."""
    spots = rng.uniform(0, 1, (int(rng.poisson(count * (_WHOLE / _VIEW) ** 2)), 2 + len(least)))
    spots[:, :2] *= _WHOLE
    spots[:, 2:] = least + np.subtract(most, least) * spots[:, 2:]
    return spots


class _Canvas:
    """The stains on a view, each (H, W) float32, 0 or more."""

    def __init__(self, size: int, corner: tuple[float, float]) -> None:
        self.size, self.unit, self.corner = size, size / _VIEW, corner
        self.stains = np.zeros((3, size, size), dtype=np.float32)

    def window(self, x: float, y: float, reach: float) -> tuple[Any, _Floats, _Floats]:
        """Return the pixels around a point and how far to the right and down of it they lie."""
        slices, away = [], []
        for at, corner in ((y, self.corner[1]), (x, self.corner[0])):
            centre = (at - corner) * self.unit - 0.5
            start = min(self.size, max(0, math.floor(centre - reach * self.unit)))
            stop = max(start, min(self.size, math.ceil(centre + reach * self.unit) + 1))
            slices.append(slice(start, stop))
            away.append((np.arange(start, stop, dtype=np.float32) - centre) / self.unit)
        return tuple(slices), away[1][None, :], away[0][:, None]

    def cover(self, gap: Any) -> _Floats:
        """Return how much of each pixel lies inside, 0–1, from its distance to the outline."""
        return np.asarray(np.clip(gap * self.unit + 0.5, 0, 1), dtype=np.float32)

    def add_red(self, spot: _Array, pallor: float) -> None:
        x, y, radius, stretch, angle, strength = spot.tolist()
        at, right, down = self.window(x, y, radius * stretch + 1)
        if not right.size or not down.size:
            return
        c, s = math.cos(angle), math.sin(angle)
        square = ((right * c + down * s) / stretch) ** 2 + (down * c - right * s) ** 2
        square /= radius * radius
        profile = 0.85 + 0.3 * square - pallor * np.exp(square * -5)
        self.stains[0][at] += self.cover((1 - square) * radius / 2) * profile * strength

    def add_debris(self, spot: _Array) -> None:
        x, y, radius, strength, start = spot.tolist()
        at, right, down = self.window(x, y, radius * 1.5 + 1)
        rough = _tile(_texture(3.0), right, down, (int(start), int(start * 7)))
        edge = radius * (1 + 0.45 * rough) - np.hypot(right, down)
        self.stains[1][at] += strength * np.clip(edge / (0.12 * radius + 1), 0, 1)

    def add_white(self, spot: _Array, form: _Morphology) -> None:
        x, y, nucleus, cell, seed = spot.tolist()
        at, right, down = self.window(x, y, cell * 1.35 + 2)
        if not right.size or not down.size:
            return
        rng = np.random.default_rng(int(seed))
        body = self.cover(_folded(rng, right, down, radius=cell, depth=0.6 * form.irregular + 0.01))
        turn, away = rng.uniform(0, 2 * math.pi, 2).tolist(), form.eccentric * (cell - nucleus)
        right, down = right - away * math.cos(turn[0]), down - away * math.sin(turn[0])
        core = self.cover(_folded(rng, right, down, radius=nucleus, depth=form.irregular))
        start = rng.integers(_TILE, size=2)
        chromatin = form.contrast * _tile(_texture(form.grain), right, down, start)
        count = int(rng.integers(form.nucleoli[0], form.nucleoli[1], endpoint=True))
        for k in range(count):
            angle = turn[1] + 2 * math.pi * k / count + rng.normal(0, 0.3)
            off, radius = nucleus * rng.uniform((0.3, 0.85), (0.5, 1.15)) * (1, form.nucleolus)
            far = np.hypot(right - off * math.cos(angle), down - off * math.sin(angle)) / radius
            chromatin -= 0.55 * np.clip(1.5 - far, 0, 1)
            chromatin += 0.22 * np.exp(-(((far - 1.5) / 0.35) ** 2))
        chromatin -= (chromatin * core).sum() / max(core.sum(), 1)
        body = np.maximum(body, core)
        for stain, new in zip(self.stains, (0, core * (1 + chromatin), body - core), strict=True):
            stain[at] = stain[at] * (1 - body) + new


def _tile(texture: _Floats, right: _Floats, down: _Floats, start: Any) -> _Floats:
    rows, columns = (np.floor(v).astype(int) + n for v, n in zip((down, right), start, strict=True))
    return np.asarray(texture[rows % _TILE, columns % _TILE])


def _folded(
    rng: np.random.Generator, right: _Floats, down: _Floats, *, radius: float, depth: float
) -> Any:
    """Return the distance to a folded outline, positive inside."""
    theta = np.arctan2(down, right)
    edge = np.ones_like(theta)
    for k, part in ((2, 1.0), (3, 0.8), (4, 0.6), (5, 0.5)):
        edge += np.float32(rng.normal(0, depth * part)) * np.cos(k * theta + rng.uniform(0, 6.3))
    return edge * radius - np.hypot(right, down)


def _draw(
    slide: _Slide,
    form: _Morphology,
    *,
    layout: np.random.Generator,
    camera: np.random.Generator,
    size: int,
    corner: tuple[float, float],
) -> tuple[NDArray[np.uint8], tuple[tuple[float, float, float], ...]]:
    canvas = _Canvas(size, corner)
    whites = _whites(layout, slide, form)
    radius = slide.red_radius * slide.scale
    least, most = [0.88 * radius, 1, 0, 0.75], [1.12 * radius, 1.2, math.pi, 1.2]
    # Red cells are in clusters: where a coarse texture is low, few are left.
    drifts, start = _texture(12.0), layout.integers(_TILE, size=2)
    reds = _scatter(layout, 1.6 * slide.red_count, least, most)
    columns, rows = (reds[:, :2] * 0.5 + start).astype(int).T % _TILE
    for spot in reds[layout.uniform(size=len(reds)) < 0.625 + 0.45 * drifts[rows, columns]]:
        canvas.add_red(spot, slide.pallor)
    canvas.stains[0] = 1.7 * np.tanh(canvas.stains[0] / 1.7)  # a heap is not black
    platelets = _scatter(layout, slide.debris, [1.6, 0.4, 0], [3.4, 0.8, _TILE])
    smudges = _scatter(layout, 0.12 * slide.debris, [12, 0.18, 0], [21, 0.32, _TILE])
    for spot in (*platelets, *smudges):
        canvas.add_debris(spot)
    for spot in whites:
        canvas.add_white(spot, form)
    across = np.linspace(-1, 1, size, dtype=np.float32)
    right, down = across[None, :], across[:, None]
    fall = 1 + slide.tilt[0] * right + slide.tilt[1] * down
    fall -= slide.vignette * (right**2 + down**2) / 2
    density = np.moveaxis(canvas.stains, 0, -1) @ slide.stains.astype(np.float32)
    light = (slide.light * 255 * camera.uniform(0.97, 1.01)).astype(np.float32)
    picture = np.clip(np.exp(-density) * light * fall[..., None].astype(np.float32), 0, 255)
    blur = ImageFilter.GaussianBlur(slide.blur * canvas.unit * camera.uniform(0.9, 1.15))
    blurred = np.asarray(Image.fromarray(picture.astype(np.uint8)).filter(blur))
    noise = camera.standard_normal((size, size, 3), dtype=np.float32) * np.float32(slide.noise)
    cells = (whites[:, [0, 1, 3]] - [*corner, 0]) * canvas.unit
    seen = ((cells[:, :2] > -cells[:, 2:]) & (cells[:, :2] < size + cells[:, 2:])).all(axis=1)
    image = np.clip(blurred + noise + 0.5, 0, 255).astype(np.uint8)
    return image, tuple((x, y, r) for x, y, r in cells[seen].tolist())


def _burn_scale_bar(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the (H, W, 3) uint8 image with a white label in the lower right corner."""
    size = len(image)
    label = Image.new("RGB", (40, 18), "white")
    pen = ImageDraw.Draw(label)
    pen.line([(10, 13), (30, 13)], fill="black")
    pen.line([(10, 11), (10, 15)], fill="black")
    pen.line([(30, 11), (30, 15)], fill="black")
    pen.text((5, 0), "20 px", fill="black", font=ImageFont.load_default_imagefont())
    width, height = max(1, size * 40 // 224), max(1, size * 18 // 224)
    picture = Image.fromarray(image)
    picture.paste(label.resize((width, height)), (size - width, size - height - size * 4 // 224))
    return np.array(picture)


def draw_smears(
    count: int = 240,
    *,
    groups: int = 24,
    seed: int = 0,
    size: int = 224,
    colour_cue: bool = False,
    scale_bar: bool = False,
    same_fields: int = 0,
) -> Iterator[DrawnField]:
    """Yield `count` drawn fields, and then `same_fields` fields that were already shown, moved.

    Field i belongs to group i modulo `groups`, a drawn slide that holds one class and is the only
    slide of its case; it is the same whatever `count` is. `size` is the side of the square image
    in pixels: another size shows the same spot at another resolution. `colour_cue` lets the stain
    follow the class, as a shortcut to be found; `scale_bar` burns the same label into the lower
    right corner of every image. A moved field is the same spot with the stage shifted by 10 to 60
    pixels (at size 224), in slightly different light and noise.

    Raises `ConfigError` for fewer groups than classes, a negative number, or a size below 32.
    """
    for name, value, least in (
        ("count", count, 0),
        ("groups", groups, len(ALL_CLASSES)),
        ("seed", seed, 0),
        ("size", size, 32),
        ("same_fields", same_fields, 0),
    ):
        if value < least:
            raise ConfigError(f"{name} is {value}; give {least} or more.")
    if same_fields and not count:
        raise ConfigError("There is no field to show again: give a count of 1 or more.")
    return _fields(
        count=count,
        groups=groups,
        seed=seed,
        size=size,
        cue=colour_cue,
        bar=scale_bar,
        again=same_fields,
    )


def _fields(
    *, count: int, groups: int, seed: int, size: int, cue: bool, bar: bool, again: int
) -> Iterator[DrawnField]:
    slides: dict[int, _Slide] = {}
    for index in range(count + again):
        spot, corner, camera = index, (_MARGIN, _MARGIN), _rng(seed, _CAMERA, index)
        if index >= count:
            camera = _rng(seed, _MOVE, index - count)
            spot = int(camera.integers(count))
            angle, far = camera.uniform(0, 2 * math.pi), camera.uniform(10, _MARGIN)
            corner = (_MARGIN + far * math.cos(angle), _MARGIN + far * math.sin(angle))
        group = spot % groups
        rank = group % len(ALL_CLASSES)
        label = ALL_CLASSES[rank]
        if group not in slides:
            hue = rank / (len(ALL_CLASSES) - 1) if cue else None
            slides[group] = _slide(_rng(seed, _SLIDE, group), hue)
        form, layout = _MORPHOLOGY[label], _rng(seed, _LAYOUT, spot)
        image, cells = _draw(
            slides[group], form, layout=layout, camera=camera, size=size, corner=corner
        )
        yield DrawnField(
            image=_burn_scale_bar(image) if bar else image,
            label=label,
            group=f"drawn-slide-{group:02d}",
            case=f"drawn-case-{group:02d}",
            cells=cells,
            near_duplicate_of=f"drawn-field-{spot:05d}",
        )


def as_png(field: DrawnField) -> BytesSource:
    """Return the field's image as the bytes of a PNG file, which says that it was drawn."""
    stream, says = io.BytesIO(), PngInfo()
    says.add_text(*DRAWN)
    Image.fromarray(field.image).save(stream, "PNG", compress_level=3, pnginfo=says)
    return BytesSource(stream.getvalue())


def write_smears(folder: str | Path, count: int = 240, **settings: Any) -> Path:
    """Draw a set into a folder and return the path of its `index.csv`.

    The settings are those of `draw_smears`. The images are `images/drawn-00000.png` and so on;
    the table has the columns image, label, group, case and near_duplicate_of, with paths relative
    to itself. It is written last, so that a folder that has one is complete.
    """
    folder = Path(folder)
    fields = draw_smears(count, **settings)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    table, draft = folder / "index.csv", folder / "index.csv.part"
    table.unlink(missing_ok=True)
    with draft.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image", "label", "group", "case", "near_duplicate_of"])
        for index, field in enumerate(fields):
            name = f"images/drawn-{index:05d}.png"
            (folder / name).write_bytes(as_png(field).read())
            writer.writerow([name, field.label, field.group, field.case, field.near_duplicate_of])
    os.replace(draft, table)
    return table


def drawn_samples(count: int, *, groups: int, seed: int) -> list[Sample]:
    """Return drawn smears as the samples of a set; the images are in memory."""
    fields = draw_smears(count, groups=groups, seed=seed)
    return [
        Sample(f"drawn-{index:05d}.png", as_png(one), one.label, group=one.group, case=one.case)
        for index, one in enumerate(fields)
    ]
