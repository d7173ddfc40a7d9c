"""The model of an object: polygons, textured panels and lines around the eye, the same for all headings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streetscenes.camera import EYE_HEIGHT, Floats, Pixels

_TEXEL_CENTRE = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
FINE = 2
"""How many times larger than the picture the canvas is."""
_OUTLINE = np.array([4])


@dataclass(frozen=True)
class Polygons:
    """Corners (N, 3) of polygons, one after the other, and per polygon its number of corners, colour and label."""

    corners: Floats
    counts: NDArray[np.intp]
    paints: list[list[float]]


@dataclass(frozen=True)
class Panel:
    """A flat `texture` (h, w, 4) with its corners (4, 3); the matrix `plane` (3, 3) maps its pixels to metres.

    The fourth channel holds the label. If `is_cut`, it holds a mask instead: the panel is solid from 128 on.
    """

    corners: Floats
    plane: Floats
    texture: Pixels
    label: int
    is_cut: bool

    counts = _OUTLINE


@dataclass(frozen=True)
class Lines:
    """Open paths (K, 3), `width` metres wide, with red, green, blue and label."""

    paths: Sequence[Floats]
    width: float
    paint: list[float]


class Model:
    """The parts of one object around (x, y), with one label, in painting order.

    Methods take points in metres of the street frame, where the eye stands at (`eye_x`, 0); parts are stored in
    metres from the eye. `focal` is the camera's focal length in pixels. `distance` is the distance from the eye to
    (x, y). `right` is the level unit vector across the line of sight, along which flat things are drawn.
    """

    def __init__(self, eye_x: float, focal: float, label: int, x: float, y: float) -> None:
        self.eye = np.array([eye_x, 0.0, EYE_HEIGHT])
        self.focal = focal
        self.label = label
        self.parts: list[Polygons | Panel | Lines] = []
        self.distance = self.distance_to(x, y)
        self.right = np.array([y, eye_x - x, 0.0]) / max(self.distance, 1e-6)

    def distance_to(self, x: float, y: float) -> float:
        """Return the level distance in metres from the eye to (x, y)."""
        return math.hypot(x - self.eye[0], y)

    def polygons(self, shapes: Sequence[Floats], colours: Floats) -> None:
        """Add polygons (K, 3) in order, with `colours` (N, 3) or (3,), 0 to 255."""
        if len(shapes):
            paints = np.full((len(shapes), 4), float(self.label))
            paints[:, :3] = np.clip(colours, 0, 255)
            counts = np.array([len(shape) for shape in shapes])
            self.parts.append(Polygons(np.concatenate(shapes) - self.eye, counts, paints.tolist()))

    def lines(self, paths: Sequence[Floats], width: float, colour: Floats) -> None:
        """Add open paths (K, 3), `width` metres wide, with one `colour` (3,), 0 to 255."""
        self.parts.append(Lines([path - self.eye for path in paths], width, [*colour.tolist(), self.label]))

    def panel(self, corner: Floats, across: Floats, down: Floats, texture: Pixels, mask: Pixels | None = None) -> None:
        """Add a flat texture (h, w, 4) with its top left at `corner` and the edges `across` and `down`.

        The fourth channel is overwritten. The panel is transparent where `mask` (h, w) is below 128.
        """
        texture[..., 3] = self.label if mask is None else mask
        corner = corner - self.eye
        outline = np.stack([corner, corner + across, corner + across + down, corner + down])
        plane = np.stack([across / texture.shape[1], down / texture.shape[0], corner], axis=1) @ _TEXEL_CENTRE
        self.parts.append(Panel(outline, plane, texture, self.label, mask is not None))
