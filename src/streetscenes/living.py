"""Trees and people."""

from __future__ import annotations

import cv2
import numpy as np

from streetscenes.camera import Floats
from streetscenes.light import Light
from streetscenes.model import FINE, Model
from streetscenes.scene import Streams, Thing

_UP = np.array([0.0, 0.0, 1.0])
_LARGEST = 420
_MOST_LEAVES = 1200
_CLOTHES = np.array(
    [
        [0.15, 0.16, 0.20], [0.20, 0.28, 0.45], [0.60, 0.16, 0.16], [0.80, 0.79, 0.76], [0.34, 0.40, 0.28],
        [0.70, 0.55, 0.25], [0.45, 0.45, 0.47], [0.46, 0.26, 0.42], [0.22, 0.46, 0.50], [0.52, 0.40, 0.30],
    ]
)  # fmt: skip
_SKIN = np.array([[0.86, 0.66, 0.54], [0.72, 0.52, 0.38], [0.50, 0.34, 0.24], [0.36, 0.24, 0.18]])


def add_tree(model: Model, light: Light, streams: Streams, thing: Thing) -> None:
    """Add a trunk with branches and a crown of leaf clusters, darker below and away from the sun."""
    rng, season = streams.of("tree", thing.index), streams.of("season").uniform(-0.2, 1)
    height, radius, crown = tree_form(streams, thing)
    foot, top = np.array([thing.x, thing.y, 0.0]), np.array([thing.x, thing.y, height])
    _add_trunk(model, light, rng, foot, top, crown)
    green = np.array([0.20, 0.34, 0.11]) + max(0.0, season - 0.45) * np.array([0.55, 0.20, 0.02])
    green = green * rng.uniform(0.8, 1.2) + rng.normal(0, 0.02, 3)
    count = int(np.clip((model.focal * radius / model.distance) ** 1.45, 16, _MOST_LEAVES))
    offsets, lit = _clusters(rng, light, count, is_conical=rng.random() < 0.22)
    middle = np.array([thing.x, thing.y, (height + crown) / 2])
    flat = offsets * (radius, radius, (crown - height) / 2) @ np.stack([model.right, _UP], axis=1)
    stars = flat[:, None] + _stars(rng, count, radius * 2.9 / np.sqrt(count))
    sight = model.eye - middle
    order = np.argsort(0.6 * lit + offsets @ (sight / np.linalg.norm(sight)))
    colours = light.on(green * (0.5 + 0.9 * lit[:, None]), _UP, model.distance)
    _add_crown(model, middle, stars[order], np.clip(colours[order], 0, 255))


def _add_crown(model: Model, middle: Floats, stars: Floats, colours: Floats) -> None:
    """Add a panel around `middle` with leaf clusters (N, K, 2), given in metres to the right and down."""
    low, high = stars.min(axis=(0, 1)), stars.max(axis=(0, 1))
    texels = min(0.8 * FINE * model.focal / model.distance, _LARGEST / float((high - low).max()))
    width, height = (int(size) for size in np.ceil((high - low) * texels) + 2)
    texture = np.zeros((height, width, 4), np.uint8)
    texture[..., :3] = colours.mean(axis=0)
    outlines = np.rint(((stars - low) * texels + 0.5) * 16).astype(np.int32)
    for outline, colour in zip(outlines, colours.tolist(), strict=True):
        cv2.fillPoly(texture, [outline], (*colour, 255), cv2.LINE_8, 4)
    corner = middle + model.right * (low[0] - 1 / texels) - _UP * (low[1] - 1 / texels)
    across, down = model.right * (width / texels), -_UP * (height / texels)
    model.panel(corner, across, down, texture, texture[..., 3].copy())


def tree_form(streams: Streams, thing: Thing) -> tuple[float, float, float]:
    """Draw the form of a tree: height, crown radius and height of the lowest leaves, in metres."""
    rng = streams.of("tree form", thing.index)
    height = rng.uniform(4.5, 9.0)
    return height, height * rng.uniform(0.20, 0.32), height * rng.uniform(0.26, 0.42)


def _add_trunk(model: Model, light: Light, rng: np.random.Generator, foot: Floats, top: Floats, crown: float) -> None:
    right = model.right
    bark = np.array([0.34, 0.27, 0.21]) * rng.uniform(0.75, 1.2)
    thick, fork = rng.uniform(0.11, 0.2), foot + _UP * (crown + 0.4)
    shapes, tones = [], []
    for left, end, tone in ((-1.0, 0.1, 0.75), (0.1, 1.0, 1.15)):
        edges = [foot + right * thick * left, fork + right * thick * 0.6 * left]
        shapes.append(np.stack([*edges, fork + right * thick * 0.6 * end, foot + right * thick * end]))
        tones.append(tone)
    for lean in rng.uniform(-1.2, 1.2, 4):
        tip = fork + (top - fork) * 0.5 + right * lean
        shapes.append(np.stack([fork - right * 0.07, fork + right * 0.07, tip]))
        tones.append(0.8)
    colours = light.on(bark * np.array(tones)[:, None], np.array([0.0, 0.0, 0.6]), model.distance)
    model.polygons(shapes, colours)


def _clusters(rng: np.random.Generator, light: Light, count: int, is_conical: bool) -> tuple[Floats, Floats]:
    """Draw the leaf clusters of a unit crown: offsets (N, 3) and the light on each (N,), 0 to 1."""
    directions = rng.standard_normal((count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    offsets = directions * rng.uniform(0.25, 1, (count, 1)) ** (1 / 2.2) * 0.88
    offsets += 0.19 * np.sin(directions[:, [1, 2, 0]] * 5 + rng.uniform(0, 6))
    if is_conical:
        offsets[:, :2] *= np.clip(0.95 - 0.75 * offsets[:, 2:], 0.1, 1.2) * 0.75
    facing = offsets @ (0.55 * light.sun + np.array([0, 0, 0.55]))
    return offsets, np.clip(0.42 + 0.5 * facing + rng.normal(0, 0.13, count), 0, 1)


def _stars(rng: np.random.Generator, count: int, size: float) -> Floats:
    """Draw outlines (count, 9, 2) of ragged leaf clusters of about `size` metres around 0."""
    angles = np.linspace(0, 2 * np.pi, 9, endpoint=False) + rng.uniform(0, 1, (count, 1))
    reach = size * rng.uniform(0.45, 1.25, (count, 9)) * rng.uniform(0.6, 1.3, (count, 1))
    return np.stack([np.cos(angles) * reach, np.sin(angles) * reach], axis=-1)


def add_person(model: Model, light: Light, streams: Streams, thing: Thing) -> None:
    """Add a person who walks or stands, turned to the camera: legs, arms, torso, head and hair."""
    rng = streams.of("person", thing.index)
    tall, stride, wide = rng.uniform([1.55, 0.0, 0.9], [1.9, 0.17, 1.15])
    coat, legs, skin = (p[rng.integers(len(p))] for p in (_CLOTHES, _CLOTHES[[0, 1, 5, 6]], _SKIN))
    hair = np.array([0.16, 0.12, 0.09]) * rng.uniform(0.5, 2.2)
    hem, swing = (0.36 if rng.random() < 0.25 else 0.50), rng.uniform(0, 0.1)
    flank = np.array([(0.13, hem), (0.115, 0.62), (0.135, 0.79), (0.06, 0.84)])
    parts = [
        (_limb(0.05, 0.5, 0.05 + stride / 2, 0.02, 0.055), legs * 0.85),
        (_limb(-0.05, 0.5, -0.05 - stride / 2, 0.0, 0.055), legs),
        (_limb(stride / 2 + 0.07, 0.025, stride / 2 + 0.02, 0.0, 0.03), np.full(3, 0.1)),
        (_limb(0.14, 0.79, 0.15 + swing, 0.48, 0.035), coat * 0.8),
        (np.concatenate([flank, flank[::-1] * (-1, 1)]), coat),
        (_limb(-0.14, 0.79, -0.15 - swing, 0.48, 0.035), coat * 0.9),
        (_ring(-0.15 - swing, 0.46, 0.028), skin),
        (_limb(0.0, 0.87, 0.0, 0.82, 0.03), skin * 0.85),
        (_ring(0.0, 0.925, 0.066), hair),
        (_ring(0.01, 0.912, 0.054), skin),
    ]
    foot, right = np.array([thing.x, thing.y, 0.0]), model.right
    shapes = [foot + (part[:, :1] * wide * right + part[:, 1:] * _UP) * tall for part, _ in parts]
    colours = light.on(np.array([albedo for _, albedo in parts]), np.array([0.0, 0.0, 0.8]), model.distance)
    model.polygons(shapes, colours)


def _limb(x0: float, z0: float, x1: float, z1: float, half: float) -> Floats:
    """Return a limb (4, 2) from (x0, z0) to (x1, z1), thinner at its end."""
    return np.array([[x0 - half, z0], [x0 + half, z0], [x1 + half * 0.7, z1], [x1 - half * 0.7, z1]])


def _ring(x: float, z: float, radius: float) -> Floats:
    angles = np.linspace(0, 2 * np.pi, 10, endpoint=False)
    return np.stack([x + radius * np.cos(angles), z + radius * 1.2 * np.sin(angles)], axis=1)
