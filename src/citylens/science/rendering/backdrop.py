"""Sky and ground of a view: clouds, roads, sidewalks, lots, their grain, and the shadows that fall on them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from citylens.science.rendering.camera import Floats
from citylens.science.rendering.canvas import FINE, Canvas
from citylens.science.rendering.light import Light
from citylens.science.rendering.scene import Streams, Street, Thing
from citylens.science.rendering.world import LABELS

_REACH = 420.0
_GAIN_STEPS = 128
_GRAIN = {"grass": 1.6, "earth": 1.5, "road": 0.85, "sidewalk": 0.7}


@dataclass(frozen=True)
class GroundLook:
    """Albedos (3,) of the ground of a spot, and how its road is marked."""

    grass: Floats
    road: Floats
    walk: Floats
    kerb: Floats
    paint: Floats
    has_edge_lines: bool
    has_zebra: bool
    slab: float


def draw_ground(rng: np.random.Generator) -> GroundLook:
    """Draw the materials of a spot."""
    grass = np.array([0.36, 0.40, 0.21]) + rng.uniform(-1, 1) * np.array([0.10, 0.01, 0.03])
    road = np.full(3, rng.uniform(0.30, 0.46)) + rng.normal(0, 0.01, 3)
    walk = np.array([0.60, 0.57, 0.53]) * rng.uniform(0.82, 1.12) + rng.normal(0, 0.02, 3)
    paint = np.array([0.85, 0.84, 0.80]) if rng.random() < 0.6 else np.array([0.85, 0.68, 0.25])
    lines, zebra = (rng.random(2) < (0.4, 0.8)).tolist()
    return GroundLook(grass, road, walk, walk * 1.12, paint, lines, zebra, float(rng.uniform(1.0, 2.2)))


def noise_tile(rng: np.random.Generator, size: int = 128) -> Floats:
    """Tileable cloud-like noise (size, size) float32 with mean 0 and deviation 1."""
    tile = np.zeros((size, size), np.float32)
    for octave, cells in enumerate((4, 8, 16, 32, 64)):
        grid = np.pad(rng.standard_normal((cells, cells), dtype=np.float32), 2, mode="wrap")
        edge = 2 * size // cells
        smooth = cv2.resize(grid, (size + 2 * edge, size + 2 * edge), interpolation=cv2.INTER_CUBIC)
        tile += smooth[edge:-edge, edge:-edge] * 0.6**octave
    return (tile - tile.mean()) / tile.std()


def paint_sky(canvas: Canvas, light: Light, tile: Floats) -> None:
    """Fill the canvas above the horizon with sky: a gradient, the glow of the sun, and clouds."""
    rays = canvas.camera.rays(0, canvas.camera.horizon, step=2)
    height = np.maximum(rays[..., 2], 0)
    depth = np.exp(-4.5 * height)[..., None]
    sky = light.zenith * (1 - depth) + light.haze * depth
    glow = np.maximum(rays @ light.sun.astype(np.float32), 0)
    sky = sky + (0.25 * glow**6 + 0.45 * glow**60)[..., None] * light.direct
    flat = rays[..., :2] / (height + 0.12)[..., None] * 13
    cover = np.clip(_sample(tile, flat) * 0.55 - 0.75 + 1.9 * light.cloud, 0, 1) * np.clip(height * 7, 0, 1)
    relief = 0.90 + 0.10 * _sample(tile, flat + light.sun[:2] * 3)
    white = (light.haze * 0.35 + 0.62)[None, None] * np.clip(relief, 0.72, 1.08)[..., None]
    sky = sky + (white - sky) * (0.9 * cover)[..., None]
    painted = np.clip(sky * 255, 0, 255).astype(np.uint8)
    above = canvas.colours[: canvas.camera.horizon * FINE]
    above[:] = cv2.resize(painted, (above.shape[1], above.shape[0]), interpolation=cv2.INTER_LINEAR)
    canvas.fine_labels[:] = LABELS["sky"]


def paint_ground(
    canvas: Canvas,
    light: Light,
    street: Street,
    streams: Streams,
    tile: Floats,
    lots: Sequence[Thing],
    shadows: Sequence[Floats],
    without: Collection[str],
) -> None:
    """Paint all ground below the horizon with its grain, haze and shadows ((K, 3) polygons on the ground)."""
    look = draw_ground(streams.of("ground"))
    top = canvas.camera.horizon
    canvas.colours[top * FINE :] = look.grass * 255
    canvas.fine_labels[top * FINE :] = LABELS["grass"]
    if "earth" not in without:
        _paint_earth(canvas, streams, lots)
    if street.has_walk and "sidewalk" not in without:
        _paint_walks(canvas, street, look)
    _paint_roads(canvas, street, look, streams)
    _finish_ground(canvas, light, tile, shadows)


def _slab(x0: float, x1: float, y0: float, y1: float) -> Floats:
    return np.array([[x0, y0, 0.0], [x1, y0, 0.0], [x1, y1, 0.0], [x0, y1, 0.0]])


def _fill(canvas: Canvas, shapes: Sequence[Floats], albedo: Floats, kind: str) -> None:
    """Fill ground polygons with one albedo (3,) or one each (N, 3)."""
    canvas.polygons(shapes, np.broadcast_to(albedo * 255, (len(shapes), 3)), LABELS[kind])


def _paint_earth(canvas: Canvas, streams: Streams, lots: Sequence[Thing]) -> None:
    """Bare lots: earth from the sidewalk back, with lighter and darker patches."""
    for lot in lots:
        if lot.kind != "earth" or not canvas.camera.sees(lot.x, lot.y, lot.radius + 4):
            continue
        rng = streams.of("earth", lot.index)
        albedo = np.array([0.55, 0.42, 0.29]) * rng.uniform(0.8, 1.15) + rng.normal(0, 0.02, 3)
        deep = lot.side * 18.0
        x0, x1 = sorted((lot.x0 if lot.side > 0 else lot.x1, (lot.x1 if lot.side > 0 else lot.x0) + deep))
        centres = rng.uniform((x0 + 1.5, lot.y0 + 1), (x1 - 1.5, lot.y1 - 1), (9, 2))
        patches = [_disc(centre, radius, rng) for centre, radius in zip(centres, rng.uniform(0.3, 1.4, 9), strict=True)]
        tones = np.concatenate([[1.0], rng.uniform(0.75, 1.15, 9)])
        _fill(canvas, [_slab(x0, x1, lot.y0, lot.y1), *patches], albedo * tones[:, None], "earth")


def _disc(centre: Floats, radius: float, rng: np.random.Generator) -> Floats:
    """A rough round patch on the ground."""
    angles = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    reach = radius * rng.uniform(0.75, 1.2, 14)
    return np.stack([centre[0] + reach * np.cos(angles), centre[1] + reach * np.sin(angles), 0 * angles], axis=1)


def _paint_walks(canvas: Canvas, street: Street, look: GroundLook) -> None:
    """Sidewalks of the street and the cross street, their joints and kerbs."""
    near, far = street.half_road, street.front
    walks = [_slab(-far, -near, -_REACH, _REACH), _slab(near, far, -_REACH, _REACH)]
    if street.crossing is not None:
        inner, outer = street.half_cross, street.half_cross + street.walk
        walks += [_slab(-_REACH, _REACH, street.crossing + s * inner, street.crossing + s * outer) for s in (-1, 1)]
    _fill(canvas, walks, look.walk, "sidewalk")
    joints = np.arange(-18, 18, look.slab)
    lines = [_slab(side * near, side * far, y, y + 0.035) for y in joints for side in (-1, 1)]
    middle = (near + far) / 2
    lines += [_slab(side * middle, side * middle + 0.035, -40, 40) for side in (-1, 1)]
    _fill(canvas, lines, look.walk * 0.78, "sidewalk")
    _fill(canvas, [_slab(side * near, side * (near + 0.28), -150, 150) for side in (-1, 1)], look.kerb, "sidewalk")


def _paint_roads(canvas: Canvas, street: Street, look: GroundLook, streams: Streams) -> None:
    """Asphalt with gutters, patches, lane markings and zebra crossings."""
    half = street.half_road
    roads = [_slab(-half, half, -_REACH, _REACH)]
    if street.crossing is not None:
        low, high = street.crossing - street.half_cross, street.crossing + street.half_cross
        roads.append(_slab(-_REACH, _REACH, low, high))
    _fill(canvas, roads, look.road, "road")
    gutters = [_slab(side * (half - 0.22), side * half, y0, y1) for side in (-1, 1) for y0, y1 in _free(street)]
    _fill(canvas, gutters, look.road * 0.72, "road")
    rng = streams.of("road")
    corners, sizes = rng.uniform((-half + 1, -35), (half - 1, 35), (8, 2)), rng.uniform((0.4, 0.5), (1.6, 5), (8, 2))
    patches = [_slab(x, x + wide, y, y + long) for (x, y), (wide, long) in zip(corners, sizes, strict=True)]
    patches += [_disc(centre, 0.33, rng) for centre in rng.uniform((-half + 1, -30), (half - 1, 30), (4, 2))]
    tones = np.concatenate([rng.uniform(0.78, 1.12, 8), np.full(4, 0.55)])
    _fill(canvas, patches, look.road * tones[:, None], "road")
    _paint_markings(canvas, street, look)


def _free(street: Street) -> list[tuple[float, float]]:
    """Stretches of the street, as y0 and y1, without the cross street."""
    if street.crossing is None:
        return [(-150.0, 150.0)]
    return [(-150.0, street.crossing - street.half_cross), (street.crossing + street.half_cross, 150.0)]


def _paint_markings(canvas: Canvas, street: Street, look: GroundLook) -> None:
    """Dashes in the middle, lines along the edges, and zebra crossings at the cross street."""
    half = street.half_road
    dashes = [_slab(-0.07, 0.07, y, y + 3) for y in np.arange(-75, 75, 7.5) if not street.crosses(y, y + 3)]
    if look.has_edge_lines:
        dashes += [_slab(s * (half - 2.4), s * (half - 2.28), y0, y1) for s in (-1, 1) for y0, y1 in _free(street)]
    if street.crossing is not None and look.has_zebra:
        for end in (-1, 1):
            y = street.crossing + end * (street.half_cross + 1.7)
            dashes += [_slab(x, x + 0.5, y - 1.5, y + 1.5) for x in np.arange(-half + 0.4, half - 0.5, 1.0)]
    _fill(canvas, dashes, look.paint, "road")


def _finish_ground(canvas: Canvas, light: Light, tile: Floats, shadows: Sequence[Floats]) -> None:
    """Give the painted ground its grain, shadows, light and haze."""
    camera, top = canvas.camera, canvas.camera.horizon
    if top >= camera.height:
        return
    rays = camera.rays(top, camera.height)
    distance = np.float32(camera.eye[2]) / np.maximum(-rays[..., 2], np.float32(4e-3))
    spots = camera.eye[:2].astype(np.float32) + rays[..., :2] * distance[..., None]
    grain = 1 + _grain(tile, spots, distance) * _strengths()[canvas.labels()[top:]]
    clear = light.clearness(distance)
    sunny = _sunlit(canvas, shadows)[top:, :, None] * (light.direct * light.sun[2]).astype(np.float32)
    gain = (light.ambient.astype(np.float32) + sunny) * (grain * clear)[..., None]
    haze = (1 - clear)[..., None] * (255 * light.haze).astype(np.float32)
    ground = canvas.colours[top * FINE :]
    size = (ground.shape[1], ground.shape[0])
    factor, offset = (cv2.resize(cv2.convertScaleAbs(layer), size) for layer in (gain * _GAIN_STEPS, haze))
    ground[:] = cv2.add(cv2.multiply(ground, factor, scale=1 / _GAIN_STEPS), offset)


def _grain(tile: Floats, spots: Floats, distance: Floats) -> Floats:
    """Brightness changes (h, w) of rough ground at `spots` (h, w, 2), fading where a pixel covers too much of it."""
    grain = np.zeros(distance.shape, np.float32)
    for texel, reach, strength in ((0.03, 9.0, 0.055), (0.17, 26.0, 0.05), (1.3, 120.0, 0.05)):
        grain += _sample(tile, spots / texel) * (strength * np.exp(-((distance / reach) ** 2)))
    return grain


def _strengths() -> Floats:
    """How strongly the grain shows, by label."""
    strengths = np.zeros(max(LABELS.values()) + 1, np.float32)
    for kind, strength in _GRAIN.items():
        strengths[LABELS[kind]] = strength
    return strengths


def _sunlit(canvas: Canvas, shadows: Sequence[Floats]) -> Floats:
    """Share (H, W), 0 to 1, of the sunlight that reaches the ground past the shadow polygons, with soft edges."""
    scratch = Canvas(canvas.camera)
    scratch.polygons(shadows, np.zeros((len(shadows), 3)), 255)
    return 1 - cv2.GaussianBlur(scratch.labels(), (5, 5), 1.0).astype(np.float32) / 255


def _sample(tile: Floats, spots: Floats) -> Floats:
    """The tile, repeated without end, at `spots` (h, w, 2) in tile pixels."""
    turns = spots * np.float32(1 / tile.shape[0])
    wrapped = ((turns - np.floor(turns)) * np.float32(tile.shape[0])).astype(np.float32)
    columns, rows = wrapped[..., 0].copy(), wrapped[..., 1].copy()
    return np.asarray(cv2.remap(tile, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP), np.float32)
