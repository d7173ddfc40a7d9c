"""Light, haze and film of a scene, drawn from one distribution for all cities."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from streetscenes.camera import Floats, Pixels


@dataclass(frozen=True)
class Light:
    """Unit vector towards the sun, and colours (3,) of light and air, about 0 to 1.

    `direct` is the sun's light on a surface that faces it, and `ambient` is the sky's light on every surface.
    `haze_length` is the distance in metres at which 63 % of a colour has turned into `haze`. `cloud` (0 to 1) says
    how much of the sky is covered.
    """

    sun: Floats
    direct: Floats
    ambient: Floats
    zenith: Floats
    haze: Floats
    haze_length: float
    cloud: float

    def gain(self, normal: Floats) -> Floats:
        """Return the light (..., 3) on surfaces with unit `normal` (..., 3)."""
        facing = np.maximum(normal @ self.sun, 0)[..., None]
        open_sky = 0.78 + 0.22 * normal[..., 2:]
        return self.ambient * open_sky + self.direct * facing

    def clearness(self, distance: Floats | float) -> Floats:
        """Return the share, 0 to 1, of a surface's colour that is left after `distance` metres of haze."""
        return np.exp(-np.asarray(distance) / self.haze_length)

    def on(self, albedo: Floats, normal: Floats, distance: float) -> Floats:
        """Return colours (..., 3), 0 to 255, of surfaces of `albedo` (..., 3), 0 to 1, at `distance` metres."""
        clear = self.clearness(distance)
        return 255 * (albedo * self.gain(normal) * clear + self.haze * (1 - clear))

    def texture(self, albedo: Floats, normal: Floats, distance: float) -> Pixels:
        """Return the colours of a flat surface of `albedo` (h, w, 3) as (h, w, 4) uint8, last channel unused."""
        clear = float(self.clearness(distance))
        mixing = np.zeros((4, 4))
        mixing[:3] = np.column_stack([np.diag(255 * clear * self.gain(normal)), 255 * (1 - clear) * self.haze])
        return np.asarray(cv2.convertScaleAbs(cv2.transform(albedo, mixing.astype(np.float32))), np.uint8)


@dataclass(frozen=True)
class Film:
    """How the camera develops a picture: gains (3,), saturation, lift and noise in grey levels, blur in pixels."""

    gains: Floats
    saturation: float
    lift: float
    blur: float
    noise: float


def draw_light(rng: np.random.Generator) -> Light:
    """Draw the light of a time of day and a weather."""
    elevation = math.radians(rng.uniform(14, 62))
    azimuth = rng.uniform(0, 2 * math.pi)
    overcast = float(np.clip(rng.normal(0.35, 0.35), 0, 1))
    warmth = max(0.0, 1 - math.degrees(elevation) / 38)
    level = math.cos(elevation)
    sun = np.array([level * math.sin(azimuth), level * math.cos(azimuth), math.sin(elevation)])
    direct = np.array([1.0, 0.95 - 0.14 * warmth, 0.86 - 0.34 * warmth]) * (0.80 - 0.72 * overcast)
    ambient = np.array([0.46, 0.50, 0.57]) * (1 - overcast) + np.array([0.74, 0.75, 0.77]) * overcast
    zenith = np.array([0.24, 0.46, 0.80]) * (1 - overcast) + np.array([0.66, 0.69, 0.74]) * overcast
    zenith = zenith * rng.uniform(0.85, 1.1)
    haze = np.array([0.74, 0.82, 0.90]) * (1 - overcast) + np.array([0.80, 0.82, 0.84]) * overcast
    haze = haze + warmth * (1 - overcast) * np.array([0.16, 0.02, -0.12])
    return Light(sun, direct, ambient, zenith, haze, float(rng.uniform(170, 700)), float(0.15 + 0.75 * overcast))


def draw_film(rng: np.random.Generator) -> Film:
    """Draw the film of a scene: exposure, tint, saturation, blur and noise."""
    gains = rng.uniform(0.98, 1.24) * (1 + rng.normal(0, 0.025, 3))
    saturation, lift = float(rng.uniform(0.8, 1.15)), float(rng.uniform(-4, 10))
    return Film(gains, saturation, lift, float(rng.uniform(0.3, 0.6)), float(rng.uniform(1.0, 3.5)))
