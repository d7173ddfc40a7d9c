"""The rendered cities: same seed same bytes, one scene per spot, exact labels, and differences in frequency only."""

from __future__ import annotations

import ast
import doctest
from copy import deepcopy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

import streetscenes
from streetscenes.__main__ import main
from streetscenes.view import Scene
from streetscenes.world import LABELS, MOST, World, read_world

ROOT = Path(__file__).parents[1]
MAPPING: dict[str, Any] = yaml.safe_load((ROOT / "worlds/subtle.yaml").read_text())
WORLD = read_world(MAPPING)
SHARED = ("sky", "building", "road", "sidewalk", "tree", "car", "person")
OF_ALDER, OF_BIRCH = ("skyscraper", "earth"), ("signboard", "fence", "pole")


def scene(city: str, spot: int, world: World = WORLD, *, width: int = 160, height: int = 120, seed: int = 7) -> Scene:
    return Scene(world, city, spot, width=width, height=height, seed=seed)


@pytest.fixture(scope="module")
def shares() -> dict[str, NDArray[np.float64]]:
    """Share of the pixels of 30 views, by label, for the frequencies of each city on the same streets and lots."""
    objects = {name: {"alder": often["birch"], "birch": often["alder"]} for name, often in MAPPING["objects"].items()}
    worlds = {"alder": WORLD, "birch": read_world({"cities": MAPPING["cities"], "objects": objects})}
    found = {}
    for city, world in worlds.items():
        labels = np.stack([scene("alder", spot, world).view(30 * spot)[1] for spot in range(30)])
        found[city] = np.bincount(labels.ravel(), minlength=151) / labels.size
    return found


def test_same_arguments_give_same_bytes_and_another_seed_does_not() -> None:
    first, again = scene("alder", 3).view(60), scene("alder", 3).view(60)
    assert first[0].tobytes() == again[0].tobytes() and first[1].tobytes() == again[1].tobytes()
    other, _ = scene("alder", 3, seed=8).view(60)
    assert not np.array_equal(first[0], other)


def test_headings_turn_one_camera_in_one_scene() -> None:
    picture, labels = scene("birch", 5).view(0)
    turned = scene("birch", 5).view(360)
    assert np.array_equal(picture, turned[0]) and np.array_equal(labels, turned[1])
    assert not np.array_equal(labels, scene("birch", 5).view(180)[1])
    # Near the horizon, the column at 15 degrees right of one heading is the column 15 degrees left of the next.
    focal = 80 / np.tan(np.radians(35))
    reach = round(focal * np.tan(np.radians(15)))
    pairs = [[scene("birch", spot).view(heading)[1][60:100] for heading in (0, 30)] for spot in range(5)]
    agree = [left[:, 80 + reach] == right[:, 79 - reach] for left, right in pairs]
    assert np.mean(agree) > 0.85


def test_views_of_a_scene_are_the_same_alone_and_in_any_order() -> None:
    shared = scene("birch", 4)
    bare = shared.view(30, {"tree"})
    seen = {heading: shared.view(heading) for heading in (90, 60, 30)}
    for heading, (picture, labels) in seen.items():
        alone = scene("birch", 4).view(heading)
        assert np.array_equal(picture, alone[0]) and np.array_equal(labels, alone[1])
    assert not np.array_equal(bare[1], seen[30][1])


@pytest.mark.parametrize(("width", "height"), [(16, 16), (400, 16), (16, 400)])
def test_pictures_of_any_shape_are_drawn(width: int, height: int) -> None:
    picture, labels = scene("alder", 0, width=width, height=height).view(10)
    assert picture.shape == (height, width, 3) and labels.shape == (height, width)


def test_pixels_have_the_sizes_types_and_labels_promised() -> None:
    picture, labels = scene("alder", 1).view(90)
    assert picture.shape == (120, 160, 3) and picture.dtype == np.uint8
    assert labels.shape == (120, 160) and labels.dtype == np.uint8
    assert set(np.unique(labels)) <= set(LABELS.values())


@pytest.mark.parametrize("name", sorted(MOST))
def test_removing_an_object_changes_only_its_own_pixels(name: str) -> None:
    city = "birch" if name in OF_BIRCH else "alder"
    seen = 0
    for spot in range(3):
        picture, labels = scene(city, spot).view(60 * spot)
        bare, bare_labels = scene(city, spot).view(60 * spot, {name})
        was_there = labels == LABELS[name]
        seen += int(was_there.sum())
        assert not (bare_labels == LABELS[name]).any()
        assert np.array_equal(labels[~was_there], bare_labels[~was_there])
        near = cv2.dilate(was_there.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        # A speck smaller than a pixel, seen between leaves for example, can have no pixel in the label map.
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
    _, labels = scene("birch", 0, empty).view(0)
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


@pytest.mark.parametrize("wrong", [{"spot": -1}, {"seed": 2**32}, {"width": 15}])
def test_bad_scenes_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="need 16 pixels or more"):
        scene("alder", **{"spot": 0, **wrong})


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
        scene(city, 0).view(0, without)


def test_world_is_a_value() -> None:
    assert isinstance(WORLD, World) and read_world(MAPPING) == WORLD


def test_the_example_of_the_package_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    found = doctest.testmod(streetscenes)
    assert found.attempted == 8 and found.failed == 0


def test_contact_sheet_shows_each_city_and_its_label_maps(tmp_path: Path) -> None:
    sheets = {}
    for name, spots, options in (("one", 1, []), ("two", 2, []), ("bare", 1, ["--without", "building"])):
        path = tmp_path / "sheet.png"
        main([str(ROOT / "worlds/subtle.yaml"), str(path), "--spots", str(spots), *options])
        sheets[name] = cv2.imread(str(path))
    assert sheets["two"].shape[0] > sheets["one"].shape[0]
    red = np.array([92, 92, 205])  # "indianred", the colour of buildings, in blue, green, red
    labelled = {name: np.all(sheet == red, axis=-1) for name, sheet in sheets.items()}
    left, right = np.array_split(labelled["one"], 2, axis=1)
    assert left.sum() > 5000 and right.sum() > 5000
    assert not labelled["bare"].any()


def test_contact_sheet_names_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world, sheet = str(ROOT / "worlds/default.yaml"), str(tmp_path / "sheet.png")
    for arguments, message in (
        ([str(tmp_path / "none.yaml"), sheet], "No such file"),
        ([world, sheet, "--without", "castle"], "unknown object 'castle'"),
        ([world, sheet, "--spots", "0"], "--spots must be 1 or more"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(arguments)
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("module", sorted(Path(streetscenes.__path__[0]).glob("*.py")), ids=lambda path: path.stem)
def test_the_renderer_stands_alone(module: Path) -> None:
    tree = ast.parse(module.read_text())
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    imported |= {
        f"{'.' * node.level}{node.module or ''}" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
    }
    assert not {name for name in imported if name.split(".")[0] in {"", "citylens"}}
    assert module.stem != "__init__" or not imported
