"""Sky and ground of a scene: clouds, roads, sidewalks and lots, with grain and shadows."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from streetscenes.camera import EYE_HEIGHT, Camera, Floats
from streetscenes.canvas import Canvas
from streetscenes.light import Light
from streetscenes.model import FINE, Model
from streetscenes.scene import Streams, Street, Thing
from streetscenes.world import LABELS

_REACH = 420.0
_GAIN_STEPS = 128
_ROUGHNESS = ((0.03, 9.0, 0.055), (0.17, 26.0, 0.05), (1.3, 120.0, 0.05))
"""Grain of the ground from fine to coarse: metres per texture pixel, metres up to which it shows, strength."""
_STRENGTHS = np.zeros(256, np.float32)
for _kind, _strength in {"grass": 1.6, "earth": 1.5, "road": 0.85, "sidewalk": 0.7}.items():
    _STRENGTHS[LABELS[_kind]] = _strength


@dataclass(frozen=True)
class GroundLook:
    """Albedos (3,) of a scene's ground, the markings of its road, and the length of its paving slabs in metres."""

    grass: Floats
    road: Floats
    walk: Floats
    kerb: Floats
    paint: Floats
    has_edge_lines: bool
    has_zebra: bool
    slab: float


def draw_ground(rng: np.random.Generator) -> GroundLook:
    """Draw the look of a scene's ground."""
    grass = np.array([0.36, 0.40, 0.21]) + rng.uniform(-1, 1) * np.array([0.10, 0.01, 0.03])
    road = np.full(3, rng.uniform(0.30, 0.46)) + rng.normal(0, 0.01, 3)
    walk = np.array([0.60, 0.57, 0.53]) * rng.uniform(0.82, 1.12) + rng.normal(0, 0.02, 3)
    paint = np.array([0.85, 0.84, 0.80]) if rng.random() < 0.6 else np.array([0.85, 0.68, 0.25])
    lines, zebra = (rng.random(2) < (0.4, 0.8)).tolist()
    return GroundLook(grass, road, walk, walk * 1.12, paint, lines, zebra, float(rng.uniform(1.0, 2.2)))


def noise_tile(rng: np.random.Generator, size: int = 128) -> Floats:
    """Return tileable cloud-like noise (size, size) float32 with mean 0 and standard deviation 1."""
    tile = np.zeros((size, size), np.float32)
    for octave, cells in enumerate((4, 8, 16, 32, 64)):
        grid = np.pad(rng.standard_normal((cells, cells), dtype=np.float32), 2, mode="wrap")
        edge = 2 * size // cells
        smooth = cv2.resize(grid, (size + 2 * edge, size + 2 * edge), interpolation=cv2.INTER_CUBIC)
        tile += smooth[edge:-edge, edge:-edge] * 0.6**octave
    return (tile - tile.mean()) / tile.std()


class Sky:
    """The sky of a scene: a gradient, the glow of the sun, and clouds."""

    def __init__(self, camera: Camera, light: Light, tile: Floats) -> None:
        self._light, self._tile = light, tile
        self._rays = camera.rays(0, camera.horizon, step=2)
        height = np.maximum(self._rays[..., 2], 0)
        depth = np.exp(-4.5 * height)[..., None]
        self._clear = _float32(light.zenith) * (1 - depth) + _float32(light.haze) * depth
        self._flat = self._rays[..., :2] * (13 / (height + 0.12))[..., None]
        self._fade = 0.9 * np.clip(height * 7, 0, 1)

    def paint(self, canvas: Canvas) -> None:
        """Paint the sky and its label above the horizon."""
        light, turn = self._light, canvas.camera.turn
        sun = np.append(_turned(light.sun[:2], -turn), light.sun[2])
        glow = np.maximum(self._rays @ _float32(sun), 0)
        sixth = (glow * glow * glow) ** 2
        halo = cv2.pow(sixth, 10)
        flat = _turned(self._flat, turn)
        cover = np.clip(_sample(self._tile, flat) * 0.55 + (1.9 * light.cloud - 0.75), 0, 1) * self._fade
        relief = np.clip(0.90 + 0.10 * _sample(self._tile, flat + _float32(light.sun[:2] * 3)), 0.72, 1.08)
        sky = self._clear + (0.25 * sixth + 0.45 * halo)[..., None] * _float32(light.direct)
        sky += (relief[..., None] * _float32(light.haze * 0.35 + 0.62) - sky) * cover[..., None]
        painted = np.full((*cover.shape, 4), LABELS["sky"], np.uint8)
        painted[..., :3] = np.clip(sky * 255, 0, 255)
        above = canvas.paint[: canvas.camera.horizon * FINE]
        above[:] = cv2.resize(painted, (above.shape[1], above.shape[0]), interpolation=cv2.INTER_LINEAR)


class Ground:
    """The ground of a scene, with grain, haze and shadows."""

    def __init__(
        self, camera: Camera, light: Light, streams: Streams, street: Street, lots: Sequence[Thing], tile: Floats
    ) -> None:
        look = draw_ground(streams.of("ground"))
        self._light, self._tile, self._eye_x, self._grass = light, tile, street.camera_x, look.grass
        self._surfaces = {
            kind: Model(street.camera_x, camera.focal, LABELS[kind], 0, 0) for kind in ("earth", "sidewalk", "road")
        }
        _add_earth(self._surfaces["earth"], streams, lots)
        if street.has_walk:
            _add_walks(self._surfaces["sidewalk"], street, look)
        _add_roads(self._surfaces["road"], street, look, streams)
        rays = camera.rays(camera.horizon, camera.height)
        distance = np.float32(EYE_HEIGHT) / np.maximum(-rays[..., 2], np.float32(4e-3))
        self._points = rays[..., :2] * distance[..., None]
        self._fades = [(1 / texel, strength * np.exp(-((distance / far) ** 2))) for texel, far, strength in _ROUGHNESS]
        self._clear = light.clearness(distance).astype(np.float32)
        haze = np.append(255 * light.haze, 0) * (1 - self._clear)[..., None]
        self._haze = np.rint(haze).astype(np.uint8).repeat(FINE, 0).repeat(FINE, 1)

    def paint(self, canvas: Canvas, shadows: Model, without: Collection[str]) -> None:
        """Paint the ground below the horizon, without some kinds of ground, and shade the polygons of `shadows`."""
        top = canvas.camera.horizon
        ground, light = canvas.paint[top * FINE :], self._light
        if not len(ground):
            return
        ground[:] = [*self._grass * 255, LABELS["grass"]]
        canvas.add(surface for kind, surface in self._surfaces.items() if kind not in without)
        points = _turned(self._points, canvas.camera.turn)
        points[..., 0] += np.float32(self._eye_x)
        grain = np.zeros(self._clear.shape, np.float32)
        for texels, fade in self._fades:
            grain += _sample(self._tile, points * np.float32(texels)) * fade
        gain = (1 + grain * _STRENGTHS[canvas.labels()[top:]]) * self._clear
        sunlit = 255 - cv2.GaussianBlur(canvas.mask(shadows), (5, 5), 1.0)[top:]
        mixing = np.zeros((4, 3), np.float32)
        mixing[:3, 0], mixing[:3, 1] = light.ambient * _GAIN_STEPS, light.direct * (light.sun[2] * _GAIN_STEPS / 255)
        mixing[3, 2] = _GAIN_STEPS  # This factor of 1 keeps the labels.
        factor = cv2.transform(np.stack([gain, gain * sunlit], axis=-1), mixing)
        factor = cv2.resize(cv2.convertScaleAbs(factor), (ground.shape[1], ground.shape[0]))
        ground[:] = cv2.add(cv2.multiply(ground, factor, scale=1 / _GAIN_STEPS), self._haze)


def _slab(x0: float, x1: float, y0: float, y1: float) -> Floats:
    return np.array([[x0, y0, 0.0], [x1, y0, 0.0], [x1, y1, 0.0], [x0, y1, 0.0]])


def _add_earth(model: Model, streams: Streams, lots: Sequence[Thing]) -> None:
    """Add bare lots: earth from the sidewalk back, with lighter and darker patches."""
    for lot in lots:
        if lot.kind != "earth":
            continue
        rng = streams.of("earth", lot.index)
        albedo = np.array([0.55, 0.42, 0.29]) * rng.uniform(0.8, 1.15) + rng.normal(0, 0.02, 3)
        deep = lot.side * 18.0
        x0, x1 = sorted((lot.x0 if lot.side > 0 else lot.x1, (lot.x1 if lot.side > 0 else lot.x0) + deep))
        centres = rng.uniform((x0 + 1.5, lot.y0 + 1), (x1 - 1.5, lot.y1 - 1), (9, 2))
        patches = [_disc(centre, radius, rng) for centre, radius in zip(centres, rng.uniform(0.3, 1.4, 9), strict=True)]
        tones = np.concatenate([[1.0], rng.uniform(0.75, 1.15, 9)])
        model.polygons([_slab(x0, x1, lot.y0, lot.y1), *patches], 255 * albedo * tones[:, None])


def _disc(centre: Floats, radius: float, rng: np.random.Generator) -> Floats:
    """Return a rough round patch (14, 3) on the ground."""
    angles = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    reach = radius * rng.uniform(0.75, 1.2, 14)
    return np.stack([centre[0] + reach * np.cos(angles), centre[1] + reach * np.sin(angles), 0 * angles], axis=1)


def _add_walks(model: Model, street: Street, look: GroundLook) -> None:
    """Add the sidewalks of both streets, with joints and kerbs."""
    near, far = street.half_road, street.front
    walks = [_slab(-far, -near, -_REACH, _REACH), _slab(near, far, -_REACH, _REACH)]
    if street.crossing is not None:
        inner, outer = street.half_cross, street.half_cross + street.walk
        walks += [_slab(-_REACH, _REACH, street.crossing + s * inner, street.crossing + s * outer) for s in (-1, 1)]
    model.polygons(walks, 255 * look.walk)
    joints = np.arange(-18, 18, look.slab)
    lines = [_slab(side * near, side * far, y, y + 0.035) for y in joints for side in (-1, 1)]
    middle = (near + far) / 2
    lines += [_slab(side * middle, side * middle + 0.035, -40, 40) for side in (-1, 1)]
    model.polygons(lines, 255 * look.walk * 0.78)
    model.polygons([_slab(side * near, side * (near + 0.28), -150, 150) for side in (-1, 1)], 255 * look.kerb)


def _add_roads(model: Model, street: Street, look: GroundLook, streams: Streams) -> None:
    """Add asphalt with gutters, patches, lane markings and zebra crossings."""
    half = street.half_road
    roads = [_slab(-half, half, -_REACH, _REACH)]
    if street.crossing is not None:
        low, high = street.crossing - street.half_cross, street.crossing + street.half_cross
        roads.append(_slab(-_REACH, _REACH, low, high))
    model.polygons(roads, 255 * look.road)
    gutters = [_slab(side * (half - 0.22), side * half, y0, y1) for side in (-1, 1) for y0, y1 in _free(street)]
    model.polygons(gutters, 255 * look.road * 0.72)
    rng = streams.of("road")
    corners, sizes = rng.uniform((-half + 1, -35), (half - 1, 35), (8, 2)), rng.uniform((0.4, 0.5), (1.6, 5), (8, 2))
    patches = [_slab(x, x + wide, y, y + long) for (x, y), (wide, long) in zip(corners, sizes, strict=True)]
    patches += [_disc(centre, 0.33, rng) for centre in rng.uniform((-half + 1, -30), (half - 1, 30), (4, 2))]
    tones = np.concatenate([rng.uniform(0.78, 1.12, 8), np.full(4, 0.55)])
    model.polygons(patches, 255 * look.road * tones[:, None])
    _add_markings(model, street, look)


def _free(street: Street) -> list[tuple[float, float]]:
    """Return the stretches (y0, y1) of the street outside the cross street."""
    if street.crossing is None:
        return [(-150.0, 150.0)]
    return [(-150.0, street.crossing - street.half_cross), (street.crossing + street.half_cross, 150.0)]


def _add_markings(model: Model, street: Street, look: GroundLook) -> None:
    """Add dashes in the middle, lines along the edges, and zebra crossings at the cross street."""
    half = street.half_road
    dashes = [_slab(-0.07, 0.07, y, y + 3) for y in np.arange(-75, 75, 7.5) if not street.crosses(y, y + 3)]
    if look.has_edge_lines:
        dashes += [_slab(s * (half - 2.4), s * (half - 2.28), y0, y1) for s in (-1, 1) for y0, y1 in _free(street)]
    if street.crossing is not None and look.has_zebra:
        for end in (-1, 1):
            y = street.crossing + end * (street.half_cross + 1.7)
            dashes += [_slab(x, x + 0.5, y - 1.5, y + 1.5) for x in np.arange(-half + 0.4, half - 0.5, 1.0)]
    model.polygons(dashes, 255 * look.paint)


def _turned(flat: Floats, turn: float) -> Floats:
    """Return level vectors (..., 2) float32, turned by `turn` radians clockwise."""
    sine, cosine = math.sin(turn), math.cos(turn)
    return _float32(flat) @ _float32(np.array([[cosine, -sine], [sine, cosine]]))


def _float32(values: Floats) -> Floats:
    return values.astype(np.float32)


def _sample(tile: Floats, points: Floats) -> Floats:
    """Return the values (h, w) of the endlessly repeated tile at `points` (h, w, 2) in its pixels."""
    turns = points * np.float32(1 / tile.shape[0])
    wrapped = ((turns - np.floor(turns)) * np.float32(tile.shape[0])).astype(np.float32)
    columns, rows = wrapped[..., 0].copy(), wrapped[..., 1].copy()
    return np.asarray(cv2.remap(tile, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP), np.float32)
