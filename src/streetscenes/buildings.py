"""Houses and skyscrapers: their forms, walls, roofs and shadows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from streetscenes.camera import Floats
from streetscenes.facades import Cells, blank_wall, cut_cells, draw_style, draw_tower_style, facade, roof_tiles
from streetscenes.light import Light
from streetscenes.model import FINE, Model
from streetscenes.scene import FAR, Streams, Thing

_TILES = np.array([[0.52, 0.28, 0.20], [0.32, 0.31, 0.32], [0.44, 0.34, 0.27], [0.60, 0.36, 0.24]])
Random = np.random.Generator
Texture = Callable[[Random, Cells, tuple[float, float], tuple[float, float]], Floats]

_FINEST = 26.0
_LARGEST = 420


@dataclass(frozen=True)
class Form:
    """Box x0..x1, y0..y1 of a building, its height to the eaves and the rise of its roof (0 for flat), in metres."""

    x0: float
    x1: float
    y0: float
    y1: float
    height: float
    rise: float
    has_windows_aside: bool


def house_form(streams: Streams, thing: Thing) -> Form:
    """Draw the form of a house."""
    rng = streams.of("building form", thing.index)
    storeys = (1, 2, 2, 3, 3, 4, 5)[rng.integers(7)]
    setback, gap = (0.0, 0.0, 0.0, 1.5, 3.0)[rng.integers(5)], (0.0, 0.0, 1.2)[rng.integers(3)]
    height = storeys * rng.uniform(2.9, 3.6) + rng.uniform(0.4, 1.2)
    rise = rng.uniform(1.6, 3.6) if storeys < 4 and rng.random() < 0.5 else 0.0
    has_windows = bool(rng.random() < 0.55)
    if thing.slab == FAR:
        return Form(thing.x0, thing.x1, thing.y0, thing.y1, height + 3, rise, has_windows)
    x0, x1 = (thing.x0 + setback, thing.x1) if thing.side > 0 else (thing.x0, thing.x1 - setback)
    return Form(x0, x1, thing.y0, thing.y1 - gap, height, rise, has_windows)


def add_building(model: Model, light: Light, streams: Streams, thing: Thing) -> None:
    """Add a house."""
    form, rng = house_form(streams, thing), streams.of("building", thing.index)
    cells = cut_cells(draw_style(rng), model.distance < 75)
    tiles = _TILES[rng.integers(len(_TILES))] * rng.uniform(0.85, 1.15)
    if form.rise:
        _add_roof(model, light, rng, form, cells, tiles)
    elif rng.random() < 0.5:
        _add_hut(model, light, rng, form, cells)
    aside = facade if form.has_windows_aside or thing.slab == FAR else blank_wall
    _add_box(model, light, rng, form, cells, aside)


def add_skyscraper(model: Model, light: Light, streams: Streams, thing: Thing) -> None:
    """Add a tower of glass; some have a narrower top and a mast."""
    rng = streams.of("skyscraper", thing.index)
    cells = cut_cells(draw_tower_style(rng), False)
    height = rng.uniform(45, 130)
    has_top, has_mast, inset = rng.random() < 0.5, rng.random() < 0.35, rng.uniform(2, 6)
    peak = height * rng.uniform(1.12, 1.3) if has_top else height
    if has_mast:
        mast = np.array([[thing.x, thing.y, peak], [thing.x, thing.y, peak * 1.22]])
        colour = light.on(np.full(3, 0.4), np.array([0.0, 0.0, 1.0]), model.distance)
        model.lines([mast], 0.7, colour)
    if has_top:
        top = Form(thing.x0 + inset, thing.x1 - inset, thing.y0 + inset, thing.y1 - inset, peak, 0.0, True)
        _add_box(model, light, rng, top, cells, facade)
    shaft = Form(thing.x0, thing.x1, thing.y0, thing.y1, height, 0.0, True)
    _add_box(model, light, rng, shaft, cells, facade)


def _add_box(model: Model, light: Light, rng: Random, form: Form, cells: Cells, aside: Texture) -> None:
    """Add the walls of a box that face the camera: `aside` textures the one across the street, a facade the other."""
    eye, state = model.eye, rng.integers(2**31, size=2)
    if form.y0 > eye[1] or form.y1 < eye[1]:
        facing = -1 if form.y0 > eye[1] else 1
        y = form.y0 if facing < 0 else form.y1
        start, end = (form.x0, form.x1) if facing < 0 else (form.x1, form.x0)
        ends = np.array([[start, y, form.height], [end, y, form.height]])
        _add_wall(model, light, int(state[0]), ends, np.array([0.0, facing, 0.0]), cells, aside)
    if form.x0 > eye[0] or form.x1 < eye[0]:
        facing = -1 if form.x0 > eye[0] else 1
        x = form.x0 if facing < 0 else form.x1
        start, end = (form.y1, form.y0) if facing < 0 else (form.y0, form.y1)
        ends = np.array([[x, start, form.height], [x, end, form.height]])
        _add_wall(model, light, int(state[1]), ends, np.array([facing, 0.0, 0.0]), cells, facade)


def _add_wall(model: Model, light: Light, seed: int, ends: Floats, normal: Floats, cells: Cells, draw: Texture) -> None:
    """Add the wall below the upper corners `ends` (2, 3), left to right as seen from outside."""
    size = (float(np.linalg.norm(ends[1] - ends[0])), float(ends[0, 2]))
    distance, texels = _sampling(model, ends, normal)
    limits = (min(texels[0], _LARGEST / size[0]), min(texels[1], _LARGEST / size[1]))
    texture = light.texture(draw(np.random.default_rng(seed), cells, size, limits), normal, distance)
    model.panel(ends[0], ends[1] - ends[0], np.array([0.0, 0.0, -size[1]]), texture)


def _sampling(model: Model, ends: Floats, normal: Floats) -> tuple[float, tuple[float, float]]:
    """Return the distance to a wall in metres, and the texture pixels per metre, across and down, that it needs."""
    offset = ends[:, :2] - model.eye[:2]
    along = (ends[1, :2] - ends[0, :2]) / max(1e-6, float(np.linalg.norm(ends[1, :2] - ends[0, :2])))
    reach = offset @ along
    nearest = 0.0 if reach[0] * reach[1] < 0 else float(np.abs(reach).min())
    gap = abs(float(offset[0] @ normal[:2]))
    middle = float(np.linalg.norm(offset.mean(axis=0)))
    near = max(3.0, float(np.hypot(gap, nearest)))
    sharp = model.focal * FINE * 0.62 / near
    return (near + middle) / 2, (float(np.clip(sharp * gap / near, 1.2, _FINEST)), float(np.clip(sharp, 1.2, _FINEST)))


def _add_roof(model: Model, light: Light, rng: Random, form: Form, cells: Cells, tiles: Floats) -> None:
    """Add the roof's slope towards the camera, the gable beside it, and a chimney."""
    eye = model.eye
    ridge, peak = (form.x0 + form.x1) / 2, form.height + form.rise
    facing = -1.0 if ridge > eye[0] else 1.0
    eaves = form.x0 - 0.4 if facing < 0 else form.x1 + 0.4
    distance = model.distance_to(ridge, (form.y0 + form.y1) / 2)
    _add_chimney(model, light, rng, form, ridge, distance)
    y = form.y0 if form.y0 > eye[1] else form.y1
    gable = np.array([[form.x0, y, form.height], [form.x1, y, form.height], [ridge, y, peak]])
    aside = light.on(cells.style.wall * 0.95, np.array([0.0, np.sign(eye[1] - y), 0.0]), distance)
    model.polygons([gable], aside)
    normal = np.array([facing * form.rise, 0.0, abs(ridge - eaves)])
    texture = light.texture(roof_tiles(rng, tiles, (40, 72)), normal / np.linalg.norm(normal), distance)
    start, end = (form.y1, form.y0) if facing < 0 else (form.y0, form.y1)
    top = np.array([ridge, start, peak])
    model.panel(top, np.array([0.0, end - start, 0.0]), np.array([eaves - ridge, 0.0, -form.rise]), texture)


def _add_chimney(model: Model, light: Light, rng: Random, form: Form, ridge: float, distance: float) -> None:
    y, half, top = rng.uniform(form.y0 + 1, form.y1 - 1), 0.4, form.height + form.rise + 0.9
    stack = [[ridge, y - half, top], [ridge, y + half, top], [ridge, y + half, top - 2], [ridge, y - half, top - 2]]
    model.polygons([np.array(stack)], light.on(np.array([0.45, 0.30, 0.25]), np.array([0.0, 0.0, 0.5]), distance))


def _add_hut(model: Model, light: Light, rng: Random, form: Form, cells: Cells) -> None:
    """Add a stairhead or machine room on a flat roof."""
    x, y = (form.x0 + form.x1) / 2, rng.uniform(form.y0 + 2, max(form.y0 + 2.1, form.y1 - 4))
    hut = Form(x - 1.5, x + 1.5, y, y + rng.uniform(1.5, 3.0), form.height + rng.uniform(1.0, 2.2), 0.0, False)
    if model.distance_to(x, y) < 70:
        _add_box(model, light, rng, hut, cells, blank_wall)


def house_shadow(form: Form, reach: Floats) -> Floats:
    """Return the ground polygon (K, 3) that a house shades; `reach` (2,) is the shadow of a stick of 1 m."""
    return cast_shadow(form.x0, form.x1, form.y0, form.y1, form.height + form.rise / 2, reach)


def cast_shadow(x0: float, x1: float, y0: float, y1: float, height: float, reach: Floats) -> Floats:
    """Return the ground polygon (K, 3) that a box of `height` metres over x0..x1, y0..y1 shades."""
    plan = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
    hull = cv2.convexHull(np.concatenate([plan, plan + height * reach]).astype(np.float32))[:, 0]
    return np.concatenate([hull, np.zeros((len(hull), 1))], axis=1)
