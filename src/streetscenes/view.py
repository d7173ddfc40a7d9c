"""A scene: one spot of a made-up city, and its views with the ADE20K label of every pixel."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from statistics import NormalDist

import cv2
import numpy as np

from streetscenes.backdrop import Ground, Sky, noise_tile
from streetscenes.buildings import add_building, add_skyscraper, cast_shadow, house_form, house_shadow
from streetscenes.camera import Camera, Floats, Pixels
from streetscenes.canvas import Canvas
from streetscenes.furniture import add_fence, add_pole, add_signboard, add_streetlight
from streetscenes.light import Film, Light, draw_film, draw_light
from streetscenes.living import add_person, add_tree, tree_form
from streetscenes.model import Model
from streetscenes.scene import LOT, Streams, Thing, draw_street, place_things
from streetscenes.vehicles import add_car
from streetscenes.world import LABELS, World, check_removable

_BUILDERS: dict[str, Callable[[Model, Light, Streams, Thing], None]] = {
    "building": add_building,
    "skyscraper": add_skyscraper,
    "tree": add_tree,
    "car": add_car,
    "person": add_person,
    "pole": add_pole,
    "streetlight": add_streetlight,
    "fence": add_fence,
    "signboard": add_signboard,
}
_NORMAL = np.array([NormalDist().inv_cdf((step + 0.5) / 256) for step in range(256)], np.float32)
_MARGIN = {"tree": 3.0, "pole": 2.0, "streetlight": 2.5, "signboard": 1.5, "building": 0.6}


class Scene:
    """All objects at `spot` of `city` in one light, to be seen in pictures of `width` x `height` pixels.

    The scene is drawn once: each object when a view first shows it, everything else at the start. All headings of
    a spot show the same objects in the same light.

    Raises ValueError for an unknown city, a size below 16 pixels, and a spot or seed outside 0 to 2**32 - 1.
    """

    def __init__(self, world: World, city: str, spot: int, *, width: int, height: int, seed: int) -> None:
        if city not in world.cities:
            raise ValueError(f"unknown city {city!r}: the world has {', '.join(world.cities)}")
        if min(width, height) < 16 or not 0 <= spot < 2**32 or not 0 <= seed < 2**32:
            raise ValueError(f"need 16 pixels or more and 0 <= spot, seed < 2**32: {width} x {height}, {spot}, {seed}")
        self._camera = Camera(0.0, width, height)
        self._streams = streams = Streams(seed, city, spot)
        self._street = street = draw_street(world, streams)
        self._light, self._film = draw_light(streams.of("light")), draw_film(streams.of("film"))
        things, tile = place_things(world, streams, street), noise_tile(streams.of("noise tile"))
        self._sky = Sky(self._camera, self._light, tile)
        lots = [thing for thing in things if thing.slab == LOT]
        self._ground = Ground(self._camera, self._light, streams, street, lots, tile)
        self._shadows = self._model(LABELS["road"], street.camera_x, 0.0)
        self._shadows.polygons(list(_shadows(self._light, streams, things, street.camera_x)), np.zeros(3))
        self._things = sorted((thing for thing in things if thing.kind in _BUILDERS), key=self._order)
        reach = [thing.radius + _MARGIN.get(thing.kind, 0.3) for thing in self._things]
        self._x = np.array([thing.x - street.camera_x for thing in self._things])
        self._y = np.array([thing.y for thing in self._things])
        self._reach = np.where([thing.link is not None for thing in self._things], np.inf, reach)
        self._models: dict[int, Model] = {}

    def view(self, heading: float, without: Collection[str] = ()) -> tuple[Pixels, Pixels]:
        """Return what a camera sees: picture (height, width, 3) RGB and label map (height, width), both uint8.

        The picture shows what the objects named in `without` hid. All other objects stay, and so do all shadows on
        the ground, because they belong to the light. No pixel changes outside the removed objects, apart from a rim
        of two pixels (smoothing) and specks smaller than a pixel.

        Args:
            heading: viewing direction, in degrees clockwise from north.
            without: objects to remove, by name.

        Raises:
            ValueError: `without` has an unknown object, or one of the background (sky, road, grass).
        """
        check_removable(without)
        turn = math.radians(heading % 360 - self._street.bearing)
        canvas = Canvas(Camera(turn, self._camera.width, self._camera.height))
        self._sky.paint(canvas)
        self._ground.paint(canvas, self._shadows, without)
        seen = np.flatnonzero(canvas.camera.sees(self._x, self._y, self._reach)).tolist()
        canvas.add(self._built(number) for number in seen if self._things[number].kind not in without)
        noise = self._streams.of("sensor", round(heading % 360 * 1000) % 360000)
        return _develop(canvas.picture(), self._film, noise), canvas.labels()

    def _order(self, thing: Thing) -> tuple[int, float]:
        """Return a sort key that puts slabs from back to front, and things in a slab from far to near."""
        far = abs(thing.y) if thing.slab == LOT else math.hypot(thing.x - self._street.camera_x, thing.y)
        return thing.slab, -far

    def _built(self, number: int) -> Model:
        """Return the model of a thing, and build it at the first call."""
        if number not in self._models:
            thing = self._things[number]
            model = self._model(LABELS[thing.kind], thing.x, thing.y)
            _BUILDERS[thing.kind](model, self._light, self._streams, thing)
            self._models[number] = model
        return self._models[number]

    def _model(self, label: int, x: float, y: float) -> Model:
        return Model(self._street.camera_x, self._camera.focal, label, x, y)


def _shadows(light: Light, streams: Streams, things: list[Thing], eye_x: float) -> Iterator[Floats]:
    """Yield the ground polygons (K, 3) that houses, trees, cars and people shade.

    Objects that only some cities have cast no shadow, so that the ground does not tell the cities apart.
    """
    stick = -light.sun[:2] / light.sun[2]
    for thing in things:
        distance = math.hypot(thing.x - eye_x, thing.y)
        if thing.kind == "building" and thing.slab == LOT:
            yield house_shadow(house_form(streams, thing), stick)
        elif thing.kind == "car" and distance < 60:
            yield cast_shadow(thing.x0, thing.x1, thing.y0, thing.y1, 1.3, stick)
        elif thing.kind == "tree" and distance < 45:
            tall, radius, crown = tree_form(streams, thing)
            x, y, side = thing.x + crown * stick[0], thing.y + crown * stick[1], radius * 0.7
            yield cast_shadow(x - side, x + side, y - side, y + side, tall - crown, stick)
        elif thing.kind == "person" and distance < 30:
            yield cast_shadow(thing.x - 0.2, thing.x + 0.2, thing.y - 0.2, thing.y + 0.2, 1.7, stick)


def _develop(picture: Pixels, film: Film, rng: np.random.Generator) -> Pixels:
    """Return a picture (H, W, 3) with blur, tone and grain, without the fourth channel of `picture` (H, W, 4)."""
    blurred = cv2.GaussianBlur(picture, (3, 3), film.blur)
    mixing = np.zeros((3, 5), np.float32)
    mixing[:, :3] = (np.eye(3) * film.saturation + (1 - film.saturation) / 3) * film.gains[:, None]
    mixing[:, 4] = film.lift
    toned = cv2.transform(blurred.astype(np.float32), mixing)
    grain = np.frombuffer(rng.bytes(toned.size), np.uint8).reshape(toned.shape)
    return np.asarray(cv2.add(toned, cv2.LUT(grain, _NORMAL * np.float32(film.noise)), dtype=cv2.CV_8U), np.uint8)
