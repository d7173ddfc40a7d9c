"""A pinhole camera on the street, and the clipping of polygons at its near plane."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Pixels = NDArray[np.uint8]

EYE_HEIGHT = 2.5
NEAR = 0.3
_FIELD_OF_VIEW = math.radians(70)
_PITCH = math.radians(6)


@dataclass(frozen=True)
class Camera:
    """A camera with a picture of `width` x `height` pixels, which looks `turn` radians clockwise from the street.

    Its pitch is 6 degrees up. The street frame has x across the street, y along it and z up, in metres.
    """

    turn: float
    width: int
    height: int

    @property
    def focal(self) -> float:
        """Return the focal length in pixels."""
        return self.width / 2 / math.tan(_FIELD_OF_VIEW / 2)

    @property
    def axes(self) -> Floats:
        """Return the unit vectors right, down and forward as rows (3, 3) in the street frame."""
        sine, cosine = math.sin(self.turn), math.cos(self.turn)
        right = np.array([cosine, -sine, 0.0])
        forward = np.array([sine * math.cos(_PITCH), cosine * math.cos(_PITCH), math.sin(_PITCH)])
        return np.stack([right, np.cross(forward, right), forward])

    @property
    def horizon(self) -> int:
        """Return the first row below the horizon, from 0 to `height`."""
        level = math.ceil(self.height / 2 + self.focal * math.tan(_PITCH))
        return min(max(level, 0), self.height)

    def sees(self, x: Floats, y: Floats, radius: Floats) -> NDArray[np.bool_]:
        """Return whether upright cylinders (N,) of `radius` metres around (x, y) can be in the picture."""
        across = x * math.cos(self.turn) - y * math.sin(self.turn)
        ahead = x * math.sin(self.turn) + y * math.cos(self.turn)
        slope = self.width / 2 / self.focal * 1.06
        is_within = np.abs(across) - radius * math.hypot(1, slope) < slope * np.maximum(ahead, 0) + 0.5
        return np.asarray(is_within & (ahead > NEAR - radius))

    def rays(self, top: int, bottom: int, step: int = 1) -> Floats:
        """Return unit vectors (h, w, 3) in the street frame through every `step`-th pixel of rows top to bottom."""
        columns = np.arange(step / 2, self.width, step) - self.width / 2
        rows = np.arange(top + step / 2, bottom, step) - self.height / 2
        right, down, forward = self.axes
        rays = (columns / self.focal)[None, :, None] * right + (rows / self.focal)[:, None, None] * down + forward
        return (rays / np.linalg.norm(rays, axis=-1, keepdims=True)).astype(np.float32)


def clip_near(view: Floats, counts: NDArray[np.intp]) -> tuple[Floats, NDArray[np.intp]]:
    """Return the parts of polygons that are NEAR or farther: their corners (M, 3), and each polygon's number of them.

    `view` (N, 3) holds the corners of all polygons, one after the other; the third coordinate is the distance ahead.
    `counts` holds each polygon's number of corners.
    """
    ends = np.cumsum(counts)
    following = np.arange(1, len(view) + 1)
    following[ends - 1] = ends - counts
    ahead = view[:, 2] - NEAR
    is_ahead = ahead >= 0
    is_crossing = is_ahead != is_ahead[following]
    share = ahead / np.where(is_crossing, ahead - ahead[following], 1)
    between = view + (view[following] - view) * share[:, None]
    is_kept = np.stack([is_ahead, is_crossing], axis=1)
    return np.stack([view, between], axis=1)[is_kept], np.add.reduceat(is_kept.sum(axis=1), ends - counts)
