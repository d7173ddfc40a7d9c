"""Textures of facades, towers and roofs: albedo (h, w, 3) float32, 0 to 1."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from streetscenes.camera import Floats

_CELL = 96
_PLAIN_BELOW = 3 * 1500
_PLASTER = np.array(
    [
        [0.86, 0.80, 0.68], [0.80, 0.66, 0.46], [0.74, 0.52, 0.40], [0.78, 0.77, 0.74], [0.66, 0.72, 0.76],
        [0.90, 0.88, 0.83], [0.72, 0.76, 0.64], [0.84, 0.72, 0.66], [0.58, 0.57, 0.56], [0.88, 0.82, 0.60],
    ]
)  # fmt: skip
_BRICK = np.array([[0.55, 0.29, 0.22], [0.46, 0.26, 0.20], [0.62, 0.42, 0.30], [0.68, 0.58, 0.42], [0.40, 0.30, 0.27]])
_TRIM = np.array([[0.90, 0.89, 0.86], [0.80, 0.76, 0.68], [0.35, 0.33, 0.31], [0.62, 0.60, 0.57], [0.28, 0.20, 0.16]])
_PANES = np.array([[0.24, 0.30, 0.36], [0.20, 0.24, 0.28], [0.30, 0.36, 0.40], [0.26, 0.28, 0.27]])
_TOWER_GLASS = np.array([[0.32, 0.46, 0.58], [0.26, 0.36, 0.44], [0.36, 0.50, 0.50], [0.42, 0.40, 0.36]])
_TOWER_FRAME = np.array([[0.62, 0.66, 0.70], [0.30, 0.34, 0.38], [0.80, 0.80, 0.78], [0.56, 0.50, 0.44]])


@dataclass(frozen=True)
class Style:
    """The look of a facade: colours (3,), floor height and bay width in metres, windows as shares of a bay."""

    wall: Floats
    trim: Floats
    frame: Floats
    glass: Floats
    is_brick: bool
    is_shop: bool
    is_tower: bool
    floor: float
    bay: float
    window_width: float
    window_height: float
    panes: tuple[int, int]
    has_shutters: bool
    has_course: bool
    has_balcony: bool


def draw_style(rng: np.random.Generator) -> Style:
    """Draw the style of a house."""
    is_brick = bool(rng.random() < 0.4)
    palette = _BRICK if is_brick else _PLASTER
    wall = np.clip(palette[rng.integers(len(palette))] * rng.uniform(0.85, 1.1) + rng.normal(0, 0.025, 3), 0.05, 0.95)
    trim, frame = _TRIM[rng.integers(len(_TRIM))], _TRIM[rng.integers(len(_TRIM))]
    glass = _PANES[rng.integers(len(_PANES))]
    is_shop, has_shutters, has_course, has_balcony = (rng.random(4) < (0.5, 0.2, 0.45, 0.2)).tolist()
    floor, bay, wide, high = rng.uniform([2.8, 1.9, 0.36, 0.46], [3.7, 3.6, 0.66, 0.68])
    panes = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
    return Style(
        wall, trim, frame, glass, is_brick, is_shop, False, floor, bay, wide, high, panes, has_shutters, has_course,
        has_balcony,
    )  # fmt: skip


def draw_tower_style(rng: np.random.Generator) -> Style:
    """Draw the style of a skyscraper: a grid of glass."""
    glass = _TOWER_GLASS[rng.integers(len(_TOWER_GLASS))] * rng.uniform(0.85, 1.15)
    frame = _TOWER_FRAME[rng.integers(len(_TOWER_FRAME))] * rng.uniform(0.9, 1.1)
    floor, bay, wide, high = rng.uniform([3.6, 1.6, 0.62, 0.58], [4.4, 4.5, 0.95, 0.92])
    return Style(frame, frame, frame, glass, False, False, True, floor, bay, wide, high, (1, 1), False, False, False)


@dataclass(frozen=True)
class Cells:
    """The tiles of one house's walls, (_CELL, _CELL, 3), and the share of glass in `window`, (_CELL, _CELL)."""

    style: Style
    window: Floats
    glass: Floats
    ground: Floats | None
    door: Floats | None


def cut_cells(style: Style, has_ground_floor: bool) -> Cells:
    """Return the cells of a style; without a ground floor, windows reach down to the street."""
    window, glass = _window_cell(style)
    if not has_ground_floor or style.is_tower:
        return Cells(style, window, glass, None, None)
    if style.is_shop:
        return Cells(style, window, glass, _shop_cell(style, False), _shop_cell(style, True))
    return Cells(style, window, glass, None, _door_cell(style))


def facade(rng: np.random.Generator, cells: Cells, size: tuple[float, float], texels: tuple[float, float]) -> Floats:
    """Return a facade of `size` (width, height) in metres, with `texels` texture pixels per metre across and down."""
    style = cells.style
    bays = max(1, round(size[0] / style.bay))
    floors = max(1, round(size[1] / style.floor))
    cell_width = max(2, round(size[0] * texels[0] / bays))
    cell_height = max(2, round(size[1] * texels[1] / floors))
    cell, glass = (_shrink(part, cell_width, cell_height) for part in (cells.window, cells.glass))
    texture = np.tile(cell, (floors, bays, 1))
    if texture.size < _PLAIN_BELOW:
        return texture
    _vary_windows(rng, texture, np.tile(glass, (floors, bays)), bays, floors)
    _ground_floor(rng, cells, texture, bays, floors)
    _weather(rng, style, texture, size)
    if not style.is_tower:
        _cornice(style, texture, size[1])
    return texture


def blank_wall(
    rng: np.random.Generator, cells: Cells, size: tuple[float, float], texels: tuple[float, float]
) -> Floats:
    """Return a wall without windows, sized as `facade` does."""
    shape = (max(4, round(size[1] * texels[1])), max(4, round(size[0] * texels[0])))
    texture = np.full((*shape, 3), cells.style.wall * 0.94, np.float32)
    _weather(rng, cells.style, texture, size)
    return texture


def roof_tiles(rng: np.random.Generator, colour: Floats, shape: tuple[int, int]) -> Floats:
    """Return rows of roof tiles of `colour` (3,), with `shape` (h, w)."""
    texture = np.full((*shape, 3), colour, np.float32)
    texture *= spread(rng, shape, (max(4, shape[0] // 2), max(4, shape[1] // 3)), 0.13)
    texture[:: max(3, shape[0] // 14)] *= 0.8
    return texture


def spread(rng: np.random.Generator, shape: tuple[int, int], grid: tuple[int, int], amount: float) -> Floats:
    """Return smooth random factors (h, w, 1) around 1, with `grid` (rows, columns) bumps of deviation `amount`."""
    rows, columns = min(grid[0], shape[0]), min(grid[1], shape[1])
    bumps = rng.standard_normal((rows, columns), dtype=np.float32) * amount
    smooth = cv2.resize(bumps, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)
    return 1 + np.asarray(smooth, np.float32)[..., None]


def ramp(top: float, bottom: float, rows: int) -> Floats:
    """Return factors (rows, 1, 1) that change evenly from `top` to `bottom`."""
    return (top + (bottom - top) / rows * np.arange(rows, dtype=np.float32))[:, None, None]


def _window_cell(style: Style) -> tuple[Floats, Floats]:
    """Return one floor of one bay, (_CELL, _CELL, 3), and the share of glass in each pixel."""
    cell = np.full((_CELL, _CELL, 3), style.wall, np.float32)
    glass = np.zeros((_CELL, _CELL), np.float32)
    wide, high = round(style.window_width * _CELL / 2), round(style.window_height * _CELL / 2)
    left, right = _CELL // 2 - wide, _CELL // 2 + wide
    top, bottom = _CELL // 2 - high - 2, _CELL // 2 + high - 2
    if style.has_course and not style.is_tower:
        cell[-7:] = style.trim
        cell[-2:] *= 0.7
    if style.has_shutters:
        shutter = max(4, wide // 2)
        cell[top:bottom, max(0, left - shutter) : right + shutter] = style.frame * 0.8
    if not style.is_tower:
        cell[max(0, top - 5) : bottom + 3, max(0, left - 4) : right + 4] = style.trim
        cell[bottom : bottom + 5, max(0, left - 7) : right + 7] = style.trim * 0.92
        cell[bottom + 5 : bottom + 8, max(0, left - 7) : right + 7] *= 0.66
    _glaze(style, cell, glass, (left, top, right, bottom))
    if style.has_balcony:
        cell[bottom - 16 : bottom + 2, max(0, left - 12) : right + 12 : 4] = style.frame * 0.6
        cell[bottom : bottom + 6, max(0, left - 12) : right + 12] = style.trim * 0.8
    return cell, glass


def _glaze(style: Style, cell: Floats, glass: Floats, window: tuple[int, int, int, int]) -> None:
    """Add panes that mirror the sky, a frame and the shadow of the reveal to a window of a cell."""
    left, top, right, bottom = window
    cell[top:bottom, left:right] = style.glass * ramp(1.55, 0.75, bottom - top)
    glass[top:bottom, left:right] = 1
    columns, rows = style.panes
    for column in range(columns + 1):
        x = left + round((right - left - 3) * column / columns)
        cell[top:bottom, x : x + 3] = style.frame
        glass[top:bottom, x : x + 3] = 0
    for row in range(rows + 1):
        y = top + round((bottom - top - 3) * row / rows)
        cell[y : y + 3, left:right] = style.frame
        glass[y : y + 3, left:right] = 0
    cell[top : top + 5, left:right] *= 0.5


def _shrink(cell: Floats, width: int, height: int) -> Floats:
    return np.asarray(cv2.resize(cell, (width, height), interpolation=cv2.INTER_AREA), np.float32)


def _vary_windows(rng: np.random.Generator, texture: Floats, glass: Floats, bays: int, floors: int) -> None:
    """Give each window its own brightness, as curtains and lamps do."""
    each = rng.uniform(0.75, 1.2, (floors, bays)).astype(np.float32)
    each += (rng.random((floors, bays)) < 0.22) * rng.uniform(0.3, 1.4, (floors, bays)).astype(np.float32)
    factor = cv2.resize(each, (texture.shape[1], texture.shape[0]), interpolation=cv2.INTER_NEAREST)
    texture *= (1 + (factor - 1) * glass)[..., None]
    np.minimum(texture, 1, out=texture)


def _ground_floor(rng: np.random.Generator, cells: Cells, texture: Floats, bays: int, floors: int) -> None:
    """Turn the ground floor into a shop front, or give it a door."""
    if cells.door is None:
        return
    height, width = texture.shape[0] // floors, texture.shape[1] // bays
    top, door = texture.shape[0] - height, int(rng.integers(bays))
    awning = _BRICK[rng.integers(len(_BRICK))] if rng.random() < 0.4 else None
    if cells.ground is not None:
        texture[top:] = np.tile(_shrink(cells.ground, width, height), (1, bays, 1))
    texture[top:, door * width : (door + 1) * width] = _shrink(cells.door, width, height)
    if cells.ground is not None and awning is not None:
        texture[top + height // 12 : top + height // 4] = awning
        texture[top + height // 4 : top + height // 4 + max(1, height // 16)] *= 0.5
    elif cells.ground is None:
        texture[-max(1, height // 8) :] *= 0.8


def _shop_cell(style: Style, is_door: bool) -> Floats:
    """Return one bay of a shop front, with a door or a display window."""
    cell = np.full((_CELL, _CELL, 3), style.trim * 0.9, np.float32)
    cell[8:24] = style.frame * 0.85
    cell[24:27] *= 0.6
    low = _CELL - 2 if is_door else _CELL - 18
    left, right = (26, 70) if is_door else (5, _CELL - 5)
    cell[28:low, left:right] = style.glass * ramp(1.3, 0.7, low - 28)
    if is_door:
        cell[28:low, 47:49] = style.frame
        cell[28:low, left : left + 3] = style.frame
    else:
        goods = np.array([0.62, 0.52, 0.40]) * 0.9
        cell[low - 18 : low - 4, 14:34] = goods
        cell[low - 26 : low - 4, 52:64] = goods[::-1]
        cell[28:50, 60:70] *= 1.35
    return cell


def _door_cell(style: Style) -> Floats:
    """Return the bay of the ground floor that has the entrance."""
    cell = np.full((_CELL, _CELL, 3), style.wall, np.float32)
    cell[16:, 24:72] = style.trim
    cell[22:, 30:66] = style.frame * np.array([0.7, 0.6, 0.55])
    cell[22:36, 33:63] = style.glass
    cell[42:66, 34:46] *= 0.8
    cell[42:66, 50:62] *= 0.8
    cell[90:, 20:76] = 0.55
    return cell


def _weather(rng: np.random.Generator, style: Style, texture: Floats, size: tuple[float, float]) -> None:
    """Add bricks or plaster, stains, and dirt towards the ground."""
    shape = texture.shape[:2]
    if style.is_tower:
        texture *= spread(rng, shape, (5, 3), 0.13)
        return
    if style.is_brick:
        rows, columns = round(size[1] / 0.16), round(size[0] / 0.42)
        if rows < shape[0] and columns < shape[1]:
            texture *= spread(rng, shape, (rows, columns), 0.10)
    stains = spread(rng, shape, (4, 6), 0.05) * ramp(1.03, 0.9, shape[0])
    if shape[0] > 6 * size[1]:
        stains *= spread(rng, shape, (shape[0] // 2, shape[1] // 2), 0.035)
    texture *= stains


def _cornice(style: Style, texture: Floats, height: float) -> None:
    """Add a light band and its shadow under the roof."""
    band = max(1, round(texture.shape[0] * 0.45 / height))
    texture[:band] = style.trim
    texture[band : 2 * band] *= 0.72
