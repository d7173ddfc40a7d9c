"""The rendered cities: fixed by their seed, one scene per spot, exact labels, and honest differences."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from citylens.science.rendering.view import Scene, render_view
from citylens.science.rendering.world import LABELS, MOST, World, read_world

MAPPING: dict[str, Any] = yaml.safe_load((Path(__file__).parents[1] / "worlds" / "default.yaml").read_text())
WORLD = read_world(MAPPING)
SHARED = ("sky", "building", "road", "sidewalk", "tree", "car", "person")
OF_ALDER, OF_BIRCH = ("skyscraper", "earth"), ("signboard", "fence", "pole")


def view(
    city: str, spot: int, heading: float, size: int = 160, **options: Any
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    return render_view(WORLD, city, spot, heading, width=size, height=size * 3 // 4, seed=7, **options)


@pytest.fixture(scope="module")
def shares() -> dict[str, NDArray[np.float64]]:
    """Share of the pixels of 30 views, by label, of each city, had the cities drawn the same streets and lots."""
    objects = {name: {"alder": often["birch"], "birch": often["alder"]} for name, often in MAPPING["objects"].items()}
    worlds = {"alder": WORLD, "birch": read_world({"cities": MAPPING["cities"], "objects": objects})}
    found = {}
    for city, world in worlds.items():
        views = [render_view(world, "alder", spot, 30 * spot, width=160, height=120, seed=7) for spot in range(30)]
        labels = np.stack([labels for _, labels in views])
        found[city] = np.bincount(labels.ravel(), minlength=151) / labels.size
    return found


def test_same_arguments_give_same_bytes_and_another_seed_does_not() -> None:
    first, again = view("alder", 3, 60), view("alder", 3, 60)
    assert first[0].tobytes() == again[0].tobytes() and first[1].tobytes() == again[1].tobytes()
    other, _ = render_view(WORLD, "alder", 3, 60, width=160, height=120, seed=8)
    assert not np.array_equal(first[0], other)


def test_headings_turn_one_camera_in_one_scene() -> None:
    picture, labels = view("birch", 5, 0)
    turned = view("birch", 5, 360)
    assert np.array_equal(picture, turned[0]) and np.array_equal(labels, turned[1])
    assert not np.array_equal(labels, view("birch", 5, 180)[1])
    # Near the horizon, the column at 15 degrees right of one heading is the column 15 degrees left of the next.
    focal = 80 / np.tan(np.radians(35))
    reach = round(focal * np.tan(np.radians(15)))
    agree = [
        np.mean(view("birch", spot, 0)[1][60:100, 80 + reach] == view("birch", spot, 30)[1][60:100, 79 - reach])
        for spot in range(5)
    ]
    assert np.mean(agree) > 0.85


def test_views_of_a_scene_are_the_same_alone_and_in_any_order() -> None:
    scene = Scene(WORLD, "birch", 4, width=160, height=120, seed=7)
    bare = scene.view(30, {"tree"})
    seen = {heading: scene.view(heading) for heading in (90, 60, 30)}
    for heading, (picture, labels) in seen.items():
        alone = view("birch", 4, heading)
        assert np.array_equal(picture, alone[0]) and np.array_equal(labels, alone[1])
    assert not np.array_equal(bare[1], seen[30][1])


@pytest.mark.parametrize(("width", "height"), [(16, 16), (400, 16), (16, 400)])
def test_pictures_of_any_shape_are_drawn(width: int, height: int) -> None:
    picture, labels = render_view(WORLD, "alder", 0, 10, width=width, height=height, seed=7)
    assert picture.shape == (height, width, 3) and labels.shape == (height, width)


def test_pixels_have_the_sizes_types_and_labels_promised() -> None:
    picture, labels = view("alder", 1, 90)
    assert picture.shape == (120, 160, 3) and picture.dtype == np.uint8
    assert labels.shape == (120, 160) and labels.dtype == np.uint8
    assert set(np.unique(labels)) <= set(LABELS.values())


@pytest.mark.parametrize("name", sorted(MOST))
def test_leaving_an_object_out_changes_only_its_own_pixels(name: str) -> None:
    city = "birch" if name in OF_BIRCH else "alder"
    seen = 0
    for spot in range(3):
        picture, labels = view(city, spot, 60.0 * spot)
        bare, bare_labels = view(city, spot, 60.0 * spot, without={name})
        was_there = labels == LABELS[name]
        seen += int(was_there.sum())
        assert not (bare_labels == LABELS[name]).any()
        assert np.array_equal(labels[~was_there], bare_labels[~was_there])
        near = cv2.dilate(was_there.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        # Specks smaller than a pixel, behind leaves for example, can be left without a label.
        assert np.mean(picture[~near] != bare[~near]) < 0.002
    assert seen > 0


def test_shared_objects_are_as_frequent_in_both_cities(shares: dict[str, NDArray[np.float64]]) -> None:
    for name in SHARED:
        alder, birch = (shares[city][LABELS[name]] for city in ("alder", "birch"))
        assert abs(alder - birch) < 0.2 * (alder + birch) / 2, name


def test_each_citys_own_objects_are_seen_there_only(shares: dict[str, NDArray[np.float64]]) -> None:
    for names, home, away in ((OF_ALDER, "alder", "birch"), (OF_BIRCH, "birch", "alder")):
        for name in names:
            assert shares[home][LABELS[name]] > 0.008, name
            assert shares[away][LABELS[name]] == 0, name


def test_frequencies_of_zero_empty_the_street() -> None:
    objects = {name: dict.fromkeys(WORLD.cities, 0) for name in MOST}
    empty = read_world({"cities": list(WORLD.cities), "objects": objects})
    _, labels = render_view(empty, "birch", 0, 0, width=160, height=120, seed=7)
    assert set(np.unique(labels)) <= {LABELS["sky"], LABELS["road"], LABELS["grass"]}


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("cities",), ["alder"], "cities must be a list of two or more"),
        (("weather",), 1, "unknown key 'weather'"),
        (("objects", "castle"), {}, "unknown key 'castle' in objects"),
        (("objects", "tree"), {"alder": 1}, "missing key 'birch' in objects.tree"),
        (("objects", "tree"), {"alder": 1, "birch": -1}, "objects.tree.birch must be a number from 0 to 25"),
        (("objects", "pole"), {"alder": 0, "birch": "many"}, "objects.pole.birch must be a number"),
        (("objects", "earth"), {"alder": 0.9, "birch": 0}, "may sum to 1 at most"),
    ],
)
def test_bad_worlds_are_refused_by_key(path: tuple[str, ...], value: Any, message: str) -> None:
    mapping = deepcopy(MAPPING)
    place = mapping
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(ValueError, match=message):
        read_world(mapping)


@pytest.mark.parametrize(
    ("city", "without", "message"),
    [
        ("oak", (), "unknown city 'oak': the world has alder, birch"),
        ("alder", ("castle",), "unknown object 'castle'"),
        ("alder", ("sky",), "'sky' is background"),
    ],
)
def test_bad_views_are_refused(city: str, without: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        view(city, 0, 0, without=without)


def test_world_is_a_value() -> None:
    assert isinstance(WORLD, World) and read_world(MAPPING) == WORLD
