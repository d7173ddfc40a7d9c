"""Near-copies across splits, and probes for shortcuts, on small images with planted faults."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from configured import mapping as profile
from threadpoolctl import threadpool_limits

from citylens.errors import InputError
from citylens.nets import near_copies
from citylens.prepare import splits
from citylens.prepare import stage as prepare
from citylens.settings import parser
from citylens.settings.schema import SPLITS
from citylens.validate import facts, probes

SIZE = 96


def photograph(seed: int, height: int = 240, width: int = 320) -> np.ndarray:
    """Smooth random shapes of many sizes, as photographs have."""
    generator = np.random.default_rng(seed)
    layers = [
        generator.normal(0, 12 * 24 / cells, (cells, cells, 3)).astype(np.float32) for cells in (3, 6, 12, 24, 48)
    ]
    image = sum(cv2.resize(layer, (width, height), interpolation=cv2.INTER_CUBIC) for layer in layers)
    return np.clip(128 + image, 0, 255).astype(np.uint8)


def packed(image: np.ndarray) -> np.ndarray:
    return cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_AREA)


def through_jpeg(image: np.ndarray) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 50])[1], cv2.IMREAD_COLOR)


def smaller(image: np.ndarray) -> np.ndarray:
    return cv2.resize(image, None, fx=0.97, fy=0.97, interpolation=cv2.INTER_AREA)


def described(images: list[np.ndarray], splits: list[str], files: list[str] | None = None) -> pd.Series:
    names = [f"{place}.jpg" for place in range(len(images))]
    table = pd.DataFrame({"row": range(len(images)), "split": splits, "manifest_path": names})
    found = near_copies.described(
        *near_copies.hashed(table.assign(manifest_sha256=files or names), np.stack(images)), "split"
    )
    return found.reindex(table.index)


def bits(first: np.ndarray, second: np.ndarray) -> int:
    (one, other), _ = near_copies.hashes([packed(first), packed(second)])
    return int(np.bitwise_count(one ^ other))


@pytest.mark.parametrize("change", [through_jpeg, smaller])
def test_a_changed_copy_of_a_photograph_is_near_and_another_photograph_is_not(
    change: Callable[[np.ndarray], np.ndarray],
) -> None:
    for seed in range(20):
        image = photograph(seed)
        assert bits(image, change(image)) <= near_copies.FURTHEST
        assert bits(image, photograph(seed + 1)) > 2 * near_copies.FURTHEST


def test_copies_are_found_across_splits_and_not_within() -> None:
    images = [packed(photograph(seed)) for seed in range(4)]
    images += [packed(through_jpeg(photograph(1))), packed(smaller(photograph(2)))]
    found = described(images, ["training", "training", "test", "test", "test", "test"])
    assert found.notna().tolist() == [False, True, False, False, True, False]
    both = described(images, ["training", "training", "test", "test", "test", "validation"])
    assert both.notna().tolist() == [False, True, True, False, True, True]
    assert re.fullmatch(r"here in training; in test: 4.jpg \([024] of 64 bits differ\); such pairs in all: 2", both[1])


def test_images_with_the_same_file_are_left_to_another_expectation() -> None:
    images = [packed(photograph(0))] * 2
    assert described(images, ["training", "test"]).notna().all()
    assert described(images, ["training", "test"], ["same", "same"]).isna().all()


def test_flat_images_have_no_near_copies() -> None:
    """A grey image, a sky that becomes brighter, and both with noise."""
    grey = np.full((SIZE, SIZE, 3), 130, np.uint8)
    sky = grey + np.arange(SIZE, dtype=np.uint8)[:, None, None]
    noise = np.random.default_rng(0).integers(0, 5, (SIZE, SIZE, 3), np.uint8)
    images = [grey, sky, grey + noise, sky + noise]
    assert near_copies.hashes(images)[1].all()
    assert described([*images, *images], ["training"] * 4 + ["test"] * 4).isna().all()
    assert not near_copies.hashes([packed(photograph(0))])[1].any()


def test_rows_without_pixels_or_split_and_arrays_of_another_kind_are_left_out() -> None:
    table = pd.DataFrame({"row": [0.0, 1.0, 2.0, None], "split": ["training", None, "test", "test"]})
    table["manifest_path"] = table["manifest_sha256"] = ["a", "b", "c", "d"]
    image = packed(photograph(0))
    for rows, pixels in (
        (table, np.stack([image, image])),
        (table, np.zeros((4, SIZE, SIZE), np.uint8)),
        (table[:0], np.stack([image])),
    ):
        assert near_copies.described(*near_copies.hashed(rows, pixels), "split").isna().all()


def test_neighbours_equal_a_comparison_of_all_pairs() -> None:
    generator = np.random.default_rng(0)
    codes = generator.integers(0, 2**63, 60, np.uint64).repeat(10)
    for _ in range(3):
        codes ^= np.uint64(1) << generator.integers(0, 64, len(codes), np.uint64)
    splits, files = generator.integers(0, 3, len(codes)), generator.integers(0, 300, len(codes))
    distances = np.bitwise_count(codes[:, None] ^ codes).astype(int)
    near = (distances <= near_copies.FURTHEST) & (splits[:, None] != splits) & (files[:, None] != files)
    counts, nearest, apart = near_copies.neighbours(codes, splits, files)
    assert (counts == near.sum(axis=1)).all() and counts.sum() > 100
    some, best = counts > 0, np.where(near, distances, 65)
    assert (nearest == best.argmin(axis=1))[some].all() and (apart == best.min(axis=1))[some].all()


def test_near_copies_count_as_one_spot_when_spots_are_dealt() -> None:
    """Image 0 is near 4 and 5 by their file, 2 and 6 share a spot, and a near-copy in the other city changes nothing."""
    images = [packed(photograph(seed)) for seed in range(4)]
    images += [packed(through_jpeg(photograph(0))), packed(smaller(photograph(0))), packed(photograph(9))]
    flat = np.full((SIZE, SIZE, 3), 130, np.uint8)
    copies = near_copies.copies([*images, flat, flat])
    assert copies[0] == copies[4] == copies[5] and len(set(copies)) == 7
    spots = pd.Series([f"a/{name}" for name in ("k", "l", "m", "n", "b", "o", "m")])
    found = splits.joined(spots, "a/" + pd.Series(copies[:7]).astype(str))
    assert found.tolist() == ["a/b", "a/l", "a/m", "a/n", "a/b", "a/b", "a/m"]
    cities = pd.Series(list("aaaabab"))
    apart = splits.joined(cities + "/" + spots, cities + "/" + pd.Series(copies[:7]).astype(str))
    assert apart[0] == apart[5] != apart[4]


CITIES = np.array(["east", "west"]).repeat(120)


def index() -> pd.DataFrame:
    splits = np.tile(["training", "training", "training", "validation", "test", "test"], 40)
    return pd.DataFrame({"city": CITIES, "spot": np.arange(240).astype(str), "split": splits})


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(40, 200, (240, 32, 32, 3), np.uint8)


def files(codecs: np.ndarray) -> pd.DataFrame:
    sizes = np.random.default_rng(1).integers(20_000, 60_000, 240)
    return pd.DataFrame({"bytes": sizes, "width": 320, "height": 240, "codec": codecs})


def test_probes_are_at_chance_on_noise() -> None:
    """An interval of 95 % misses chance once in 20 times, so three of the four probes must cover it."""
    traits = {"file": probes.file_traits(files(np.full(240, "jpeg")))} | probes.pixel_traits(noise())
    result = probes.probed(index(), traits)
    assert (result["images"], result["largest_city"]) == (80, 0.5)
    assert list(result["probes"]) == ["file", "colour", "border", "low_pass"]
    assert [probe["features"] for probe in result["probes"].values()] == [5, 6, 132, 192]
    assert sum(probe["low"] < 0.5 < probe["high"] for probe in result["probes"].values()) >= 3
    assert all(abs(probe["accuracy"] - 0.5) < 0.2 for probe in result["probes"].values())


def test_the_colour_probe_finds_a_cast_and_the_border_probe_a_frame() -> None:
    cast, framed = noise(), noise()
    cast[CITIES == "west", :, :, 2] += 6
    framed[CITIES == "west", :2] = 20
    found = probes.probed(index(), probes.pixel_traits(cast))["probes"]
    assert found["colour"]["accuracy"] > 0.95 and found["colour"]["low"] > 0.85
    assert probes.probed(index(), probes.pixel_traits(framed))["probes"]["border"]["accuracy"] == 1


def test_the_file_probe_finds_a_codec_and_a_size() -> None:
    codecs = np.where(CITIES == "west", "png", "jpeg")
    sizes = files(np.full(240, "jpeg"))
    sizes.loc[CITIES == "west", "bytes"] *= 4
    for table in (files(codecs), sizes):
        found = probes.probed(index(), {"file": probes.file_traits(table)})
        assert found["probes"]["file"]["accuracy"] > 0.95


def test_the_border_trait_sees_the_outermost_cells_only() -> None:
    image = photograph(0, 96, 96)
    middle, edge = image.copy(), image.copy()
    middle[8:88, 8:88] = 0
    edge[:8] = 0
    traits = probes.pixel_traits([image, middle, edge])["border"]
    assert (traits[0] == traits[1]).all() and (traits[0] != traits[2]).any()


def test_probes_do_not_depend_on_the_number_of_threads() -> None:
    results = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            results.append(probes.probed(index(), probes.pixel_traits(noise(3))))
    assert results[0] == results[1]


def test_blocks_and_their_border_by_hand() -> None:
    """Places on a line, 100 m apart: squares of 250 m, and 150 m around test images without training images."""
    places = np.column_stack([np.arange(8) * 100.0, np.zeros(8)])
    assert splits.blocks(places - 1, 250).tolist() == ["-1 -1"] + ["0 -1"] * 2 + ["1 -1"] * 3 + ["2 -1"] * 2
    split = np.array(["training"] * 3 + ["test"] * 2 + ["validation"] * 2 + ["training"])
    found = splits.without_border(split, places, 150)
    assert found[[2, 5, 7]].tolist() == ["left out of training", "left out of validation", "left out of training"]
    assert (np.delete(found, [2, 5, 7]) == np.delete(split, [2, 5, 7])).all()
    assert (splits.without_border(split, places, 0) == split).all()


def test_a_split_by_blocks_meets_its_contract_and_names_what_has_no_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    cities = np.repeat(["a", "b"], 300)
    manifest = pd.DataFrame({"city": cities, "spot": np.arange(600).astype(str), "heading": 0.0, "path": "x.jpg"})
    manifest["id"] = manifest.index.astype(str)
    manifest["lat"], manifest["lon"] = 60 + generator.random(600) / 50, 10 + generator.random(600) / 25
    manifest[["utm_east", "utm_north", "sha256"]] = np.nan
    mapping = profile("demo")
    mapping["prepare"] |= {"split": "block", "block": 300, "buffer": 100, "shares": [0.6, 0.2, 0.2]}
    plan, pixels = parser.parse(mapping), np.zeros((600, SIZE, SIZE, 3), np.uint8)
    index = prepare._index(manifest, pixels, plan.prepare)
    assert index["together"].nunique() < 200 and (index.groupby("together")["city"].nunique() == 1).all()
    metres = np.column_stack([manifest["lon"] * np.cos(np.deg2rad(60.01)), manifest["lat"]]) * 111_195
    test, training = (metres[(index["split"] == name).to_numpy()] for name in ("test", "training"))
    assert len(test) > 100 and len(training) > 100
    for city in ("a", "b"):
        own = [metres[((index["split"] == name) & (index["city"] == city)).to_numpy()] for name in ("test", "training")]
        assert np.linalg.norm(own[0][:, None] - own[1], axis=2).min() > 99
    table = facts.split_facts(index, manifest, pixels, dict(zip(SPLITS, (0.6, 0.2, 0.2), strict=True)), by_spot=True)
    assert (table["spot_splits"] <= 1).all() and (table["city_splits"] == 3).all()
    assert table[["city_share_excess", "share_excess"]].max().max() <= 0.05
    for lat, lon in ((manifest["lon"][7], manifest["lat"][7]), (0, 0)):
        wrong = manifest.assign(lat=manifest["lat"].where(manifest.index != 7, lat))
        wrong["lon"] = wrong["lon"].where(manifest.index != 7, lon)
        with pytest.raises(
            InputError, match=r"1 image\(s\) lie more than 100 km from .*; first: x\.jpg \(lat .*swapped"
        ):
            prepare._index(wrong, pixels, plan.prepare)
    manifest.loc[7, "lat"] = np.nan
    with pytest.raises(InputError, match=r"1 of 600 images have no coordinates; first: x\.jpg; allowed: lat and lon"):
        prepare._index(manifest, pixels, plan.prepare)


def test_a_column_of_the_manifest_is_probed() -> None:
    index = pd.DataFrame({"city": ["a", "b"] * 40, "spot": [str(row) for row in range(80)]})
    index["split"] = ["training"] * 40 + ["test"] * 40
    season = pd.Series(np.where(index["city"] == "a", "summer", "winter"), name="season")
    season[:8] = season[:8].to_numpy()[::-1]  # not always
    traits = probes.column_traits(season)
    assert traits.shape == (80, 2) and (traits.sum(axis=1) == 1).all()
    found = probes.probed(index, {"column season": traits})["probes"]["column season"]
    assert found["accuracy"] == 1.0
    with pytest.raises(InputError, match=r"acquire\.traits: season has 80 values; allowed: 50 or fewer"):
        probes.column_traits(pd.Series(map(str, range(80)), name="season"))


def test_a_city_of_one_film_has_one_spot_and_the_message_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    manifest = pd.DataFrame({"city": ["a"] * 4 + ["b"] * 4, "spot": [str(row) for row in range(8)]})
    manifest = manifest.assign(id=manifest.index.astype(str), heading=0.0, path="x.jpg")
    images = np.stack([packed(photograph(0))] * 4 + [packed(photograph(seed)) for seed in range(1, 5)])
    with pytest.raises(InputError, match=r"city a has 1 spots; .*; near-copies, and images of one block, count as one"):
        prepare._index(manifest, images, parser.parse(profile("demo")).prepare)
    mapping = profile("demo")
    mapping["prepare"]["near_copies"] = "apart"
    assert len(prepare._index(manifest, images, parser.parse(mapping).prepare)) == 8
