"""Poles with wires, street lamps, fences and signboards."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from streetscenes.camera import Floats
from streetscenes.light import Light
from streetscenes.model import Model
from streetscenes.panels import fence_panel, glyphs
from streetscenes.scene import Streams, Thing

_UP = np.array([0.0, 0.0, 1.0])
_SOFT = np.array([0.0, 0.0, 0.7])
_ROUND = (0.7, 1.2, 0.92)
"""Tones of the three strips of a shaft, from left to right."""


def add_pole(model: Model, light: Light, streams: Streams, thing: Thing) -> None:
    """Add a utility pole with cross arms and the wires to the next pole; some have a transformer."""
    rng = streams.of("pole", thing.index)
    tall, half = rng.uniform(8.2, 8.8), rng.uniform(0.13, 0.19)
    has_can, arms = rng.random() < 0.5, int(rng.integers(1, 4))
    grey = np.array([0.50, 0.48, 0.45]) if rng.random() < 0.5 else np.array([0.36, 0.27, 0.20])
    distance, foot = model.distance, np.array([thing.x, thing.y, 0.0])
    if thing.link is not None:
        model.lines(_wires(thing, tall), 0.035, light.on(np.full(3, 0.07), _SOFT, distance))
    shapes = _shaft(model, foot, tall, half)
    for number in range(arms):
        z, reach = tall - 0.35 - 0.75 * number, 1.25 - 0.2 * number
        shapes.append(foot + np.array([[-reach, 0, z], [reach, 0, z], [reach, 0, z + 0.13], [-reach, 0, z + 0.13]]))
    model.polygons(shapes, light.on(grey * np.array([*_ROUND, *[0.8] * arms])[:, None], _SOFT, distance))
    if has_can:
        side = foot + model.right * 0.42 + _UP * (tall - 3.1)
        colours = light.on(np.array([0.58, 0.60, 0.60]) * np.array(_ROUND)[:, None], _SOFT, distance)
        model.polygons(_shaft(model, side, 1.0, 0.27), colours)


def _wires(thing: Thing, tall: float) -> list[Floats]:
    """Return sagging wires (10, 3) from a pole to the next one."""
    share = np.linspace(0, 1, 10)
    y = thing.y + (float(thing.link or 0.0) - thing.y) * share
    sag = 4 * share * (1 - share)
    levels = [(-1.15, tall - 0.2, 0.8), (1.15, tall - 0.2, 0.85), (0.4, tall - 0.2, 0.9), (0.0, tall - 2.4, 1.1)]
    return [np.stack([np.full(10, thing.x + x), y, z - dip * sag], axis=1) for x, z, dip in levels]


def _shaft(model: Model, foot: Floats, tall: float, half: float) -> list[Floats]:
    """Return three upright strips (4, 3) of a round shaft, which is thinner at its top."""
    edges = [model.right * half * share for share in (-1.0, -0.35, 0.4, 1.0)]
    return [
        np.stack([foot + left, foot + right, foot + right * 0.72 + _UP * tall, foot + left * 0.72 + _UP * tall])
        for left, right in pairwise(edges)
    ]


def add_streetlight(model: Model, light: Light, streams: Streams, thing: Thing) -> None:
    """Add a street lamp: a slim mast with an arm over the road."""
    rng = streams.of("streetlight", thing.index)
    tall, arm = rng.uniform(5.5, 7.0), rng.uniform(0.9, 1.8)
    distance, foot = model.distance, np.array([thing.x, thing.y, 0.0])
    shapes = _shaft(model, foot, tall, 0.085)
    tip = foot + np.array([-thing.side * arm, 0.0, tall + 0.3])
    top = foot + _UP * tall
    shapes.append(np.stack([top - _UP * 0.12, top, tip + _UP * 0.04, tip - _UP * 0.06]))
    head = np.array([[-thing.side * 0.6, 0, 0], [0, 0, -0.05], [0, 0, 0.12], [-thing.side * 0.6, 0, 0.08]])
    shapes.append(tip + head)
    albedo = np.array([0.34, 0.36, 0.37]) * np.array([*_ROUND, 0.9, 1.6])[:, None]
    model.polygons(shapes, light.on(albedo, _SOFT, distance))


def add_fence(model: Model, light: Light, streams: Streams, thing: Thing) -> None:
    """Add a fence on three sides of a lot: along the street and back from it."""
    rng = streams.of("fence", thing.index)
    tall = rng.uniform(1.3, 2.3)
    front, back = (thing.x0, thing.x1) if thing.side > 0 else (thing.x1, thing.x0)
    front += thing.side * 0.3
    low, high = thing.y0 + 0.2, thing.y1 - 0.2
    seed, texels = int(rng.integers(2**31)), 30 * min(1.0, 12 / model.distance_to(front, thing.y))
    ends = sorted((low, high), key=lambda y: -abs(y - model.eye[1]))
    walls = [((front, y), (back, y), np.array([0.0, np.sign(model.eye[1] - y), 0.0])) for y in ends]
    walls.append(((front, low), (front, high), np.array([-thing.side, 0.0, 0.0])))
    for start, end, normal in walls:
        corner, along = np.array([*start, tall]), np.array([end[0] - start[0], end[1] - start[1], 0.0])
        middle = corner + along / 2
        texture, mask = fence_panel(np.random.default_rng(seed), float(np.linalg.norm(along)), texels)
        painted = light.texture(texture, normal, model.distance_to(middle[0], middle[1]))
        model.panel(corner, along, -_UP * tall, painted, mask)


def add_signboard(model: Model, light: Light, streams: Streams, thing: Thing) -> None:
    """Add a signboard: flat along the facades, sticking out over the sidewalk, or on two posts."""
    rng = streams.of("signboard", thing.index)
    across, down, centre = _draw_board(rng, thing)
    face = glyphs(rng, float(np.linalg.norm(across) / np.linalg.norm(down)))
    towards = model.eye - centre
    normal = np.cross(across, _UP)
    normal = normal / np.linalg.norm(normal)
    if normal @ towards < 0:
        across, normal = -across, -normal
    distance = model.distance
    if thing.form == "post":
        _add_posts(model, light, centre, across, distance)
    corner = centre - across / 2 - down / 2
    rim = across / np.linalg.norm(across) * 0.07 + np.zeros(3)
    edge = np.stack([corner - rim, corner + across + rim, corner + across + down + rim, corner + down - rim])
    edge[:2] += _UP * 0.07
    edge[2:] -= _UP * 0.07
    model.polygons([edge], light.on(np.full(3, 0.16), _SOFT, distance))
    model.panel(corner, across, down, light.texture(face.astype(np.float32) / 255, normal, distance))


def _draw_board(rng: np.random.Generator, thing: Thing) -> tuple[Floats, Floats, Floats]:
    """Draw the edges across and down and the centre of a signboard, in metres."""
    if thing.form == "flat":
        wide, high, z = rng.uniform([2.2, 0.7, 3.0], [4.6, 1.3, 3.9])
        return np.array([0.0, wide, 0.0]), -_UP * high, np.array([thing.x - thing.side * 0.15, thing.y, z])
    if thing.form == "blade":
        wide, high, z = rng.uniform([0.7, 1.2, 3.6], [1.2, 2.8, 4.4])
        centre = np.array([thing.x - thing.side * (wide / 2 + 0.2), thing.y, z])
        return np.array([wide, 0.0, 0.0]), -_UP * high, centre
    wide, high, z = rng.uniform([1.6, 1.1, 2.6], [3.4, 2.0, 3.6])
    is_along = rng.random() < 0.5
    across = np.array([0.0, wide, 0.0]) if is_along else np.array([min(wide, 2.2), 0.0, 0.0])
    return across, -_UP * high, np.array([thing.x, thing.y, z])


def _add_posts(model: Model, light: Light, centre: Floats, across: Floats, distance: float) -> None:
    shapes: list[Floats] = []
    for share in (-0.35, 0.35):
        foot = centre + across * share
        foot[2] = 0.0
        shapes += _shaft(model, foot, float(centre[2]), 0.07)
    tones = np.array(_ROUND * 2)[:, None]
    model.polygons(shapes, light.on(np.full(3, 0.42) * tones, _SOFT, distance))
