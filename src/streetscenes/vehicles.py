"""Cars: a body and a cabin as prisms, with windows, wheels and lamps."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from streetscenes.camera import Floats
from streetscenes.light import Light
from streetscenes.model import Model
from streetscenes.scene import PARKED, Streams, Thing

_PAINTS = np.array(
    [
        [0.85, 0.85, 0.86], [0.10, 0.10, 0.11], [0.55, 0.57, 0.60], [0.32, 0.34, 0.37], [0.62, 0.10, 0.10],
        [0.12, 0.22, 0.48], [0.14, 0.32, 0.24], [0.78, 0.66, 0.30], [0.44, 0.36, 0.28], [0.30, 0.46, 0.62],
    ]
)  # fmt: skip
_RING = np.stack([np.cos(np.arange(12) * np.pi / 6), np.sin(np.arange(12) * np.pi / 6)], axis=1)
_NOSE_AND_TAIL = {"sedan": (0.30, -0.62), "hatch": (0.34, -0.98), "van": (0.72, -0.98), "estate": (0.30, -1.0)}
_DARK, _GREY, _GLASS = np.full(3, 0.06), np.array([0.55, 0.56, 0.58]), np.array([0.13, 0.17, 0.20])


@dataclass
class _Parts:
    """The polygons of one car in painting order.

    Points of profiles (K, 2) are in metres forward and up. `side` is the visible flank (1, -1, or 0 for neither) and
    `end` the visible end (1 the nose, -1 the tail, 0 neither). `half` is half the car's width. `eye` (2,) is the
    camera, forward and up from the car.
    """

    half: float
    side: float
    end: float
    eye: Floats
    shapes: list[Floats] = field(default_factory=list)
    albedos: list[Floats] = field(default_factory=list)
    normals: list[tuple[float, float, float]] = field(default_factory=list)

    def add(self, profile: Floats, across: Floats | float, albedo: Floats, normal: tuple[float, float, float]) -> None:
        """Add a polygon by its profile, its points' positions across the car, and its normal (across, forward, up)."""
        shape = np.empty((len(profile), 3))
        shape[:, 0] = across
        shape[:, 1:] = profile
        self.shapes.append(shape)
        self.albedos.append(albedo)
        self.normals.append(normal)


def add_car(model: Model, light: Light, streams: Streams, thing: Thing) -> None:
    """Add a car."""
    rng, eye = streams.of("car", thing.index), model.eye
    paint = _PAINTS[rng.integers(len(_PAINTS))] * rng.uniform(0.85, 1.1)
    length, width, roof, belt = rng.uniform([4.0, 1.7, 1.4, 0.82], [4.8, 1.85, 1.62, 0.95])
    form = str(rng.choice(list(_NOSE_AND_TAIL)))
    roof, belt = (1.95, 1.05) if form == "van" else (roof, belt)
    forward = thing.side * (-1.0 if rng.random() < 0.15 and thing.slab == PARKED else 1.0)
    gap, along = (eye[0] - thing.x) * forward, (eye[1] - thing.y) * forward
    side = float(np.sign(gap)) if abs(gap) > width / 2 else 0.0
    end = float(np.sign(along)) if abs(along) > length / 2 else 0.0
    parts = _Parts(width / 2, side, end, np.array([along, eye[2]]))
    _add_car(parts, form, length / 2, roof, belt, paint)
    turn = np.array([forward, forward, 1.0])
    middle = np.array([thing.x, thing.y, 0.0])
    colours = light.on(np.array(parts.albedos), np.array(parts.normals) * turn, model.distance)
    model.polygons([middle + shape * turn for shape in parts.shapes], colours)


def _add_car(parts: _Parts, form: str, reach: float, roof: float, belt: float, paint: Floats) -> None:
    """Add all parts of a car with half its length `reach` and the heights `roof` and `belt` (foot of the windows)."""
    nose, tail = _NOSE_AND_TAIL[form]
    slope, stretch = (0.10 if form == "van" else 0.32), np.array([reach, 1.0])
    body = [(-1, 0.32), (-1, belt * 0.95), (-0.93, belt), (0.3, belt), (0.92, belt * 0.84), (1, belt * 0.66), (1, 0.32)]
    cabin = [(tail, belt), (tail + 0.12, roof), (nose - slope, roof), (nose, belt)]
    _add_prism(parts, np.array(body) * stretch, 1.0, 1.0, paint)
    if parts.side:
        _add_flank(parts, reach, belt)
    if parts.end:
        _add_lamps(parts, reach, belt)
    _add_prism(parts, np.array(cabin) * stretch, 0.97, 0.82, paint)
    _add_glass(parts, np.array(cabin) * stretch)


def _add_prism(parts: _Parts, profile: Floats, low: float, high: float, paint: Floats) -> None:
    """Add the visible faces of a prism.

    The profile is convex, clockwise from its lower tail; its width shrinks from `low` to `high` times the car's.
    """
    rise = (profile[:, 1] - profile[:, 1].min()) / np.ptp(profile[:, 1])
    across = parts.half * (low + (high - low) * rise)
    steps = np.diff(profile, axis=0)
    outward = np.stack([-steps[:, 1], steps[:, 0]], axis=1) / np.linalg.norm(steps, axis=1)[:, None]
    facing = ((parts.eye - profile[:-1]) * outward).sum(axis=1) > 0
    for here in np.flatnonzero(facing):
        pair = [here, here + 1, here + 1, here]
        wide = across[pair] * (-1, -1, 1, 1)
        parts.add(profile[pair], wide, paint, (0.0, float(outward[here, 0]), float(outward[here, 1])))
    if parts.side:
        parts.add(profile, across * parts.side, paint, (parts.side, 0.0, 0.12))


def _add_flank(parts: _Parts, reach: float, belt: float) -> None:
    """Add the sill, the door seams, and the wheels in their arches."""
    across, normal = parts.side * parts.half * 1.01, (0.0, 0.0, 0.7)
    boxes = [(-0.98, 0.98, 0.25, 0.4), (-0.3, -0.29, 0.4, belt), (0.22, 0.23, 0.4, belt)]
    for left, right, low, high in boxes:
        parts.add(_box(left * reach, right * reach, low, high), across, _DARK * 1.6, normal)
    for wheel in (-0.62 * reach, 0.64 * reach):
        for radius, tone in ((0.40, _DARK * 1.4), (0.32, _DARK * 0.8), (0.19, _GREY)):
            parts.add(_RING * radius + (wheel, 0.32), across, tone, normal)


def _add_lamps(parts: _Parts, reach: float, belt: float) -> None:
    """Add lamps, bumper and plate at the visible end."""
    lamp = np.array([0.95, 0.93, 0.85]) if parts.end > 0 else np.array([0.70, 0.06, 0.05])
    along, low = parts.end * reach * 1.005, belt * 0.58
    pieces = [(-0.95, -0.55, low, low + 0.15, lamp), (0.55, 0.95, low, low + 0.15, lamp)]
    pieces += [(-0.9, 0.9, 0.33, 0.44, _DARK), (-0.28, 0.28, 0.46, 0.56, np.array([0.86, 0.86, 0.80]))]
    for left, right, foot, top, tone in pieces:
        across = parts.half * np.array([left, left, right, right])
        parts.add(np.array([(along, foot), (along, top), (along, top), (along, foot)]), across, tone, (0.0, 0.0, 0.8))


def _add_glass(parts: _Parts, cabin: Floats) -> None:
    """Add two windows on the visible flank of the cabin, and the screen at the visible end."""
    (tail, belt), (rear, roof), (front, _), (nose, _) = cabin
    low, high, up = belt + 0.05, roof - 0.09, (0.0, 0.0, 1.0)
    if parts.side:
        middle, across = (tail + front) / 2 + 0.1, parts.side * parts.half * np.array([0.98, 0.98, 0.86, 0.86])
        for start, end in ((tail + 0.1, middle - 0.05), (middle + 0.05, nose - 0.13)):
            pane = np.array([(start, low), (end, low), (min(end, front - 0.02), high), (max(start, rear + 0.05), high)])
            parts.add(pane, across, _GLASS, up)
    if parts.end:
        foot, top = (nose, front) if parts.end > 0 else (tail, rear)
        lean, out = (top - foot) / (roof - belt), parts.end * 0.02
        lower, upper = (foot + lean * 0.05 + out, low), (foot + lean * (high - belt) + out, high)
        across = parts.half * np.array([-0.9, 0.9, 0.76, -0.76])
        parts.add(np.array([lower, lower, upper, upper]), across, _GLASS * 1.5, up)


def _box(left: float, right: float, low: float, high: float) -> Floats:
    return np.array([(left, low), (right, low), (right, high), (left, high)])
