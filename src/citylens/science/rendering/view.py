"""Street scenes of made-up cities, with the ADE20K label of every pixel."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from statistics import NormalDist

import cv2
import numpy as np
from numpy.typing import NDArray

from citylens.science.rendering.backdrop import noise_tile, paint_ground, paint_sky
from citylens.science.rendering.buildings import (
    Form,
    cast_shadow,
    house_form,
    house_shadow,
    paint_building,
    paint_skyscraper,
)
from citylens.science.rendering.camera import Camera, Floats, street_camera
from citylens.science.rendering.canvas import Canvas
from citylens.science.rendering.furniture import paint_fence, paint_pole, paint_signboard, paint_streetlight
from citylens.science.rendering.light import Film, Light, draw_film, draw_light
from citylens.science.rendering.living import paint_person, paint_tree, tree_form
from citylens.science.rendering.occlusion import covered_rows, is_hidden
from citylens.science.rendering.scene import FAR, LOT, Streams, Thing, draw_street, place_things
from citylens.science.rendering.vehicles import paint_car
from citylens.science.rendering.world import World, check_view

_PAINTERS: dict[str, Callable[[Canvas, Light, Streams, Thing], None]] = {
    "building": paint_building,
    "skyscraper": paint_skyscraper,
    "tree": paint_tree,
    "car": paint_car,
    "person": paint_person,
    "pole": paint_pole,
    "streetlight": paint_streetlight,
    "fence": paint_fence,
    "signboard": paint_signboard,
}
_NORMAL = np.array([NormalDist().inv_cdf((step + 0.5) / 256) for step in range(256)], np.float32)
_TALLEST = {"building": 28.0, "tree": 10.0, "skyscraper": 210.0}
_MARGIN = {"tree": 3.0, "pole": 2.0, "streetlight": 2.5, "signboard": 1.5, "building": 0.6}


def render_view(
    world: World,
    city: str,
    spot: int,
    heading: float,
    *,
    width: int,
    height: int,
    seed: int,
    without: Collection[str] = (),
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Render what a camera at `spot` of `city` sees: picture (height, width, 3) RGB and labels (height, width).

    `heading` is in degrees clockwise from north, and all headings of a spot look at one scene in one light. Labels
    are ADE20K's, 1 to 150. Objects named in `without` are not painted, and what they hid is; everything else stays
    as it is, the shadows on the ground too: they belong to the light. So no pixel changes where the objects were not,
    but for a rim of two pixels, from smoothing, and specks smaller than a pixel. Same arguments give same bytes.

    Raises ValueError for an unknown city, an unknown object in `without`, and for sky, road and grass there, which
    are the background; for a size below 16 pixels, and for a spot or seed outside 0 to 2**32 - 1.
    """
    check_view(world, city, without)
    if min(width, height) < 16 or not 0 <= spot < 2**32 or not 0 <= seed < 2**32:
        raise ValueError(f"need 16 pixels or more and 0 <= spot, seed < 2**32: {width} x {height}, {spot}, {seed}")
    streams = Streams(seed, city, spot)
    street = draw_street(world, streams)
    light = draw_light(streams.of("light"))
    canvas = Canvas(street_camera(street.camera_x, heading % 360 - street.bearing, width, height))
    things = place_things(world, streams, street)
    tile = noise_tile(streams.of("noise tile"))
    paint_sky(canvas, light, tile)
    houses = {thing: house_form(streams, thing) for thing in things if thing.kind == "building" and thing.slab == LOT}
    shadows = list(_shadows(canvas.camera, light, streams, things, houses.values()))
    lots = [thing for thing in things if thing.slab == LOT]
    paint_ground(canvas, light, street, streams, tile, lots, shadows, without)
    cover = covered_rows(canvas.camera, () if "building" in without else houses.values())
    for thing in _in_painting_order(canvas.camera, things, cover):
        if thing.kind in _PAINTERS and thing.kind not in without:
            _PAINTERS[thing.kind](canvas, light, streams, thing)
    film = draw_film(streams.of("film"))
    noise = streams.of("sensor", round(heading % 360 * 1000) % 360000)
    return _develop(canvas.picture(), film, noise), canvas.labels()


def _in_painting_order(camera: Camera, things: list[Thing], cover: Floats) -> list[Thing]:
    """Things in view, from the farthest slab to the nearest, and within a slab from far to near."""

    def is_seen(thing: Thing) -> bool:
        if thing.link is not None:
            return True
        if not camera.sees(thing.x, thing.y, thing.radius + _MARGIN.get(thing.kind, 0.3)):
            return False
        return thing.slab != FAR or not is_hidden(camera, cover, thing, _TALLEST[thing.kind])

    def order(thing: Thing) -> tuple[int, float]:
        far = abs(thing.y) if thing.slab == LOT else camera.distance(thing.x, thing.y)
        return thing.slab, -far

    return sorted(filter(is_seen, things), key=order)


def _shadows(
    camera: Camera, light: Light, streams: Streams, things: list[Thing], houses: Iterable[Form]
) -> Iterator[Floats]:
    """Ground polygons (K, 3) in the shade of houses, trees, cars and people, which both cities have."""
    stick = -light.sun[:2] / light.sun[2]
    for form in houses:
        yield house_shadow(form, stick)
    for thing in things:
        distance = camera.distance(thing.x, thing.y)
        if thing.kind == "car" and distance < 60:
            yield cast_shadow(thing.x0, thing.x1, thing.y0, thing.y1, 1.3, stick)
        elif thing.kind == "tree" and distance < 45:
            tall, radius, crown = tree_form(streams, thing)
            x, y, side = thing.x + crown * stick[0], thing.y + crown * stick[1], radius * 0.7
            yield cast_shadow(x - side, x + side, y - side, y + side, tall - crown, stick)
        elif thing.kind == "person" and distance < 30:
            yield cast_shadow(thing.x - 0.2, thing.x + 0.2, thing.y - 0.2, thing.y + 0.2, 1.7, stick)


def _develop(picture: Floats, film: Film, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Blur, tone and grain (H, W, 3) uint8 of a picture (H, W, 3) float32."""
    blurred = cv2.GaussianBlur(picture, (3, 3), film.blur)
    mixing = (np.eye(3) * film.saturation + (1 - film.saturation) / 3) * film.gains[:, None]
    mixing = np.column_stack([mixing, np.full(3, film.lift + 0.5)])
    toned = np.asarray(cv2.transform(blurred, mixing.astype(np.float32)), np.float32)
    grain = np.frombuffer(rng.bytes(toned.size), np.uint8).reshape(toned.shape)
    toned += (_NORMAL * np.float32(film.noise))[grain]
    return np.clip(toned, 0, 255, out=toned).astype(np.uint8)
