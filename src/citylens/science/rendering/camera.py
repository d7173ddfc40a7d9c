"""A pinhole camera on the street: from metres to pixels, with clipping at the near plane."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

EYE_HEIGHT = 2.5
FIELD_OF_VIEW = 70.0
PITCH = 6.0
NEAR = 0.3


@dataclass(frozen=True)
class Camera:
    """Where the camera stands (`eye`, metres), its axes (rows right, down, forward) and its focal length in pixels.

    The street frame has x across the street, y along it and z up; its ground is z = 0.
    """

    eye: Floats
    axes: Floats
    focal: float
    width: int
    height: int

    def to_view(self, points: Floats) -> Floats:
        """Points (..., 3) of the street frame as (..., 3) right, down and forward metres from the eye."""
        return (points - self.eye) @ self.axes.T

    def to_pixels(self, view: Floats) -> Floats:
        """View points (..., 3) in front of the camera as (..., 2) pixels, 0 to width and 0 to height inside."""
        centre = np.array([self.width / 2, self.height / 2])
        return view[..., :2] * (self.focal / view[..., 2:]) + centre

    def sees(self, x: float, y: float, radius: float) -> bool:
        """Whether an upright cylinder of `radius` metres around (x, y), of any height, may be in the picture."""
        across, ahead = self._level(x, y)
        slope = self.width / 2 / self.focal * 1.06
        return ahead > NEAR - radius and abs(across) - radius * math.hypot(1, slope) < slope * max(ahead, 0) + 0.5

    def distance(self, x: float, y: float) -> float:
        """Horizontal distance in metres from the eye to (x, y)."""
        return math.hypot(x - float(self.eye[0]), y - float(self.eye[1]))

    @property
    def horizon(self) -> int:
        """First row, 0 to height, that lies below the horizon."""
        level = self.height / 2 - self.focal * self.axes[2, 2] / self.axes[1, 2]
        return int(np.clip(np.ceil(level), 0, self.height))

    def rays(self, top: int, bottom: int, step: int = 1) -> Floats:
        """Unit directions (h, w, 3) in the street frame through every step-th pixel of the rows top..bottom."""
        columns = np.arange(step / 2, self.width, step, dtype=np.float32) - np.float32(self.width / 2)
        rows = np.arange(top + step / 2, bottom, step, dtype=np.float32) - np.float32(self.height / 2)
        right, down, forward = self.axes.astype(np.float32)
        rays = (columns / np.float32(self.focal))[None, :, None] * right + forward
        rays = rays + (rows / np.float32(self.focal))[:, None, None] * down
        return rays / np.sqrt((rays * rays).sum(axis=-1, keepdims=True))

    def _level(self, x: float, y: float) -> tuple[float, float]:
        right = self.axes[0]
        east, north = x - float(self.eye[0]), y - float(self.eye[1])
        across = east * float(right[0]) + north * float(right[1])
        return across, north * float(right[0]) - east * float(right[1])


def street_camera(x: float, yaw: float, width: int, height: int) -> Camera:
    """Camera at (x, 0) that looks `yaw` degrees clockwise from the street's direction; size in pixels."""
    turn, tilt = math.radians(yaw), math.radians(PITCH)
    level = np.array([math.sin(turn), math.cos(turn), 0.0])
    forward = level * math.cos(tilt) + np.array([0.0, 0.0, math.sin(tilt)])
    right = np.array([math.cos(turn), -math.sin(turn), 0.0])
    axes = np.stack([right, np.cross(forward, right), forward])
    focal = width / 2 / math.tan(math.radians(FIELD_OF_VIEW / 2))
    return Camera(np.array([x, 0.0, EYE_HEIGHT]), axes, focal, width, height)


def clip_near(view: Floats) -> Floats:
    """The part in front of the near plane of a polygon (K, 3) in view metres: (M, 3), M = 0 if nothing is."""
    ahead = view[:, 2] - NEAR
    if (ahead >= 0).all():
        return view
    following, next_ahead = np.roll(view, -1, axis=0), np.roll(ahead, -1)
    kept: list[Floats] = []
    for here, there, depth, next_depth in zip(view, following, ahead, next_ahead, strict=True):
        if depth >= 0:
            kept.append(here)
        if (depth >= 0) != (next_depth >= 0):
            kept.append(here + (there - here) * (depth / (depth - next_depth)))
    return np.array(kept).reshape(-1, 3)
