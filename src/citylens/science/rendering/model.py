"""An object as polygons, textured panels and lines around the eye: drawn once, and painted under any heading."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from citylens.science.rendering.camera import EYE_HEIGHT, Floats

_TEXEL_CENTRE = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
FINE = 2
"""How many times larger than the picture all is painted."""

_OUTLINE = np.array([4])


@dataclass(frozen=True)
class Polygons:
    """Corners (N, 3) of polygons, one after the other, how many each has, and red, green, blue and label of each."""

    corners: Floats
    counts: NDArray[np.intp]
    paints: list[list[float]]


@dataclass(frozen=True)
class Panel:
    """A flat texture (h, w, 4): its outline (4, 3), and (3, 3) from its pixels to metres; the label of what is solid.

    The fourth channel is the label, or, if `is_cut`, 128 and more where the panel is solid.
    """

    corners: Floats
    plane: Floats
    texture: NDArray[np.uint8]
    label: int
    is_cut: bool

    counts = _OUTLINE


@dataclass(frozen=True)
class Lines:
    """Open paths (K, 3) of `width` metres, and their red, green, blue and label."""

    paths: Sequence[Floats]
    width: float
    paint: list[float]


class Model:
    """The parts of one object of one label around (x, y), in painting order.

    Points are given in metres of the street frame on the ground, with the eye above `eye_x`, 0; parts are kept in
    metres from the eye, which does not move. `focal` is the camera's, in pixels; `distance` is from the eye on the
    ground; `right` is the level direction across the line of sight, to which flat things are turned.
    """

    def __init__(self, eye_x: float, focal: float, label: int, x: float, y: float) -> None:
        self.eye = np.array([eye_x, 0.0, EYE_HEIGHT])
        self.focal = focal
        self.label = label
        self.parts: list[Polygons | Panel | Lines] = []
        self.distance = self.distance_to(x, y)
        self.right = np.array([y, eye_x - x, 0.0]) / max(self.distance, 1e-6)

    def distance_to(self, x: float, y: float) -> float:
        """Metres on the ground from the eye to (x, y)."""
        return math.hypot(x - self.eye[0], y)

    def polygons(self, shapes: Sequence[Floats], colours: Floats) -> None:
        """Add polygons (K, 3), in order, with `colours` (N, 3) or (3,), 0 to 255."""
        if len(shapes):
            paints = np.full((len(shapes), 4), float(self.label))
            paints[:, :3] = np.clip(colours, 0, 255)
            counts = np.array([len(shape) for shape in shapes])
            self.parts.append(Polygons(np.concatenate(shapes) - self.eye, counts, paints.tolist()))

    def lines(self, paths: Sequence[Floats], width: float, colour: Floats) -> None:
        """Add open paths (K, 3), `width` metres thick."""
        self.parts.append(Lines([path - self.eye for path in paths], width, [*colour.tolist(), self.label]))

    def panel(
        self,
        corner: Floats,
        across: Floats,
        down: Floats,
        texture: NDArray[np.uint8],
        mask: NDArray[np.uint8] | None = None,
    ) -> None:
        """Add a flat texture (h, w, 4) whose top left stands at `corner` and whose edges are `across` and `down`.

        Its fourth channel is overwritten. Where `mask` (h, w) is given and below 128 the panel is see-through.
        """
        texture[..., 3] = self.label if mask is None else mask
        corner = corner - self.eye
        outline = np.stack([corner, corner + across, corner + across + down, corner + down])
        plane = np.stack([across / texture.shape[1], down / texture.shape[0], corner], axis=1) @ _TEXEL_CENTRE
        self.parts.append(Panel(outline, plane, texture, self.label, mask is not None))
