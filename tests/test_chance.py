"""Chance levels of R, tests of groups and intervals: counted by hand, beside independent references, and in simulations."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import combinations, permutations

import configured
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import stats
from skbio import DistanceMatrix
from skbio.stats.distance import permanova as skbio_permanova

from citylens.compare import mask_grids, pairs, residual
from citylens.embed import purity
from citylens.embed import stage as embed_stage
from citylens.measure import chance, object_ratio, reference_masks, tables
from citylens.nets import masks
from citylens.nets.names import key
from citylens.stats import pairings
from citylens.stats.intervals import mean_interval, ratio_interval, share_interval
from citylens.stats.swaps import swapper


def images(spots: int, views: int, cities: int = 2) -> tuple[NDArray[np.str_], NDArray[np.str_], NDArray[np.float64]]:
    """City, spot and heading of each image."""
    city = np.repeat([f"c{place}" for place in range(cities)], spots * views)
    spot = np.tile(np.repeat([f"s{place}" for place in range(spots)], views), cities)
    return city, spot, np.tile(np.arange(views) * 360.0 / views, spots * cities)


def test_swaps_stay_in_the_city_and_keep_the_heading() -> None:
    city, spot, heading = images(5, 3)
    rows = swapper(city, spot, heading)(np.random.default_rng(0))
    assert sorted(rows) == list(range(30))
    assert (city[rows] == city).all() and (heading[rows] == heading).all()
    of_spot = pd.DataFrame({"city": city, "spot": spot, "there": spot[rows]}).groupby(["city", "spot"])["there"]
    assert (of_spot.nunique() == 1).all()  # whole spots change places


def test_swaps_without_headings_take_images_of_one_other_spot() -> None:
    city, spot, heading = images(4, 3)
    rows = swapper(city[:-1], spot[:-1], heading[:-1] * np.nan)(np.random.default_rng(0))
    table = pd.DataFrame({"city": city[:-1], "spot": spot[:-1], "there": spot[rows]})
    assert (city[rows] == city[:-1]).all() and (table.groupby(["city", "spot"])["there"].nunique() == 1).all()


def smooth(images: int, seed: int, side: int = 6, size: int = 96) -> NDArray[np.float32]:
    maps = np.random.default_rng(seed).normal(size=(images, side, side)).astype(np.float32)
    return masks.normalise(maps, size)


def blocks(images: int, seed: int, size: int = 96) -> NDArray[np.uint8]:
    """Label maps of a few large objects."""
    cells = np.random.default_rng(seed).integers(0, 4, (images, 4, 4), dtype=np.uint8)
    return np.kron(cells, np.ones((size // 4, size // 4), np.uint8))


def poles(images: int, seed: int, size: int = 96) -> NDArray[np.uint8]:
    """Label maps of objects 2 pixels wide, in no step with the grid's cells, which are 6 wide."""
    labels, generator = np.zeros((images, size, size), np.uint8), np.random.default_rng(seed)
    for image, label in np.ndindex(images, 9):
        left = generator.integers(0, size - 2)
        labels[image, :, left : left + 2] = label % 3 + 1
    return labels


@pytest.mark.parametrize("side", [4, 13, 24])
def test_the_grid_gives_r_as_the_pixels_do(side: int) -> None:
    weighted, labels = smooth(144, 0, side), poles(144, 1)
    counts = object_ratio.count_regions(labels, {"inside": weighted >= 0.5})
    inside, total = (counts[name].sum(axis=0) for name in ("inside", "total"))
    where = chance.objects(labels)
    covered = np.bincount(where.label, chance.inside(masks.cells(weighted >= 0.5), where), minlength=4)
    shown = np.bincount(where.label, where.pixels.sum(axis=1), minlength=4)
    np.testing.assert_allclose(covered[1:] / shown[1:], object_ratio.object_ratio(inside, total)[1:4], atol=0.005)


def test_chance_is_the_mean_over_all_swaps_to_other_spots() -> None:
    city, spot, heading = images(4, 2, cities=1)
    cover, where = masks.cells(smooth(8, 2) >= 0.5), chance.objects(blocks(8, 3))
    expected = chance.inside(chance.expected_cells(cover, city, spot, heading), where)
    rows = []
    for order in permutations(range(4)):
        if all(there != here for here, there in enumerate(order)):
            rows.append([2 * order[image // 2] + image % 2 for image in range(8)])
    every = np.mean([chance.inside(cover[list(swap)], where) for swap in rows], axis=0)
    np.testing.assert_allclose(expected, every, atol=1e-4)


def test_chance_needs_a_second_spot() -> None:
    city, spot, heading = images(1, 3, cities=1)
    assert np.isnan(chance.expected_cells(np.ones((3, 256), np.float32), city, spot, heading)).all()


def test_swapped_sums_are_those_of_each_swap() -> None:
    cover, where = masks.cells(smooth(6, 4) >= 0.4), chance.objects(blocks(6, 5))
    rows = np.stack([np.random.default_rng(seed).permutation(6) for seed in range(3)])
    sums = chance.swapped_inside(cover, rows, where, where.label, 4)
    for swap, own in zip(rows, sums, strict=True):
        np.testing.assert_allclose(own, np.bincount(where.label, chance.inside(cover[swap], where), 4), rtol=1e-5)


def test_p_is_uniform_where_masks_know_nothing_of_the_image() -> None:
    """Masks and labels are drawn apart, so every p between 0 and 1 is equally likely."""
    found = []
    for seed in range(200):
        city, spot, heading = images(8, 1, cities=1)
        generator = np.random.default_rng(seed)
        cover = generator.random((8, 256)).astype(np.float32) * generator.random((8, 1)).astype(np.float32)
        where = chance.Objects(np.arange(8), np.zeros(8, np.int64), generator.random((8, 256)).astype(np.float32) ** 4)
        rows = np.stack([swapper(city, spot, heading)(generator) for _ in range(99)])
        observed = np.array([chance.inside(cover, where).sum()]) / where.pixels.sum()
        drawn = chance.swapped_inside(cover, rows, where, where.label, 1) / where.pixels.sum()
        found.append(float(chance.tail(observed, drawn)[1][0]))
    assert stats.kstest(np.array(found) - 0.005, "uniform").pvalue > 0.01


def test_a_mask_that_follows_its_object_is_found() -> None:
    city, spot, heading = images(12, 1, cities=1)
    labels = blocks(12, 6)
    cover, where = masks.cells(labels == 1), chance.objects(labels)
    rows = np.stack([swapper(city, spot, heading)(np.random.default_rng(seed)) for seed in range(200)])
    drawn = (
        chance.swapped_inside(cover, rows, where, where.label, 4)[:, 1:]
        / np.bincount(where.label, where.pixels.sum(axis=1))[1:]
    )
    z, p = chance.tail(np.array([1.0, 0.0, 0.0]), drawn)
    assert p[0] <= 2 / 201 and z[0] > 3 and (z[1:] < 0).all()


def test_of_many_masks_some_are_shown_and_of_few_all() -> None:
    wanted, demo = pd.Series([True, False] * 50), configured.settings("demo")
    few = embed_stage._some(wanted, replace(demo, embed=replace(demo.embed, most=7)))
    assert len(few) == 7 and (np.diff(few) > 0).all() and wanted[few].all()
    assert embed_stage._some(wanted, demo).tolist() == list(range(0, 100, 2))


def test_thresholds_agree_with_counting_each() -> None:
    weighted, labels = smooth(5, 7), blocks(5, 8)
    weighted[0, 0, :9] = np.float32([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
    counts = object_ratio.count_thresholds(labels, weighted)
    for step, threshold in enumerate((0.0, *object_ratio.THRESHOLDS)):
        inside = masks.inside(weighted.astype(np.float64), threshold)
        assert (counts[:, step] == object_ratio.count_regions(labels, {"inside": inside})["inside"].sum(axis=0)).all()


def test_reference_regions_have_the_area_asked_for() -> None:
    picture = np.zeros((1, 40, 40, 3), np.uint8)
    picture[:, :, 20:] = 200
    found = reference_masks.strongest(reference_masks.edges(picture), np.array([0.1]))
    assert found.sum() == 160 and np.flatnonzero(found[0].any(axis=0)).mean() == pytest.approx(19.5, abs=0.6)
    centre = reference_masks.strongest(reference_masks.nearness(5)[None], np.array([0.2]))
    assert np.argwhere(centre[0]).tolist() == [[1, 2], [2, 1], [2, 2], [2, 3], [3, 2]]


def test_strongest_pixels_are_the_highest_and_equal_ones_are_drawn() -> None:
    generator = np.random.default_rng(0)
    values, shares = generator.integers(0, 4, (30, 6, 6)).astype(np.float32), np.linspace(0, 1, 30)
    found = reference_masks.strongest(values, shares)
    for own, share, region in zip(values, shares, found, strict=True):
        assert region.sum() == round(share * 36)
        assert not region.any() or own[region].min() >= own[~region].max(initial=0)
    empty = reference_masks.strongest(np.zeros((1, 40, 40), np.float32), np.array([0.5]))[0]
    assert empty[:20].mean() == pytest.approx(0.5, abs=0.05)  # the upper half has no more of them than the lower one
    different = generator.permutation(36 * 30).reshape(30, 6, 6).astype(np.float32)
    drawn = reference_masks.strongest(different, shares)
    assert (reference_masks.first(reference_masks.ranks(different), shares) == drawn).all()


def test_residual_has_bounds_and_iou() -> None:
    first, second = np.zeros((1, 2, 2)), np.zeros((1, 2, 2))
    first[0, 0], second[0, :, 0] = 1, 1
    found = residual.values(first, second, first >= 0.5, second >= 0.5)
    assert {name: value[0] for name, value in found.items()} == {"residual": 0.5, "least": 0, "most": 1, "iou": 1 / 3}
    empty = np.zeros((1, 2, 2))
    assert np.isnan(residual.values(empty, empty, empty > 0, empty > 0)["iou"][0])


def test_swapped_residual_leaves_out_the_own_spot() -> None:
    grids = np.repeat(np.float32([[0.0], [0.2], [0.6]]), 256, axis=1)
    swaps, places = [np.array([0, 2, 1]), np.array([1, 0, 2])], np.arange(3)
    np.testing.assert_allclose(mask_grids.swapped_residual(grids, grids, swaps, places), [0.2, 0.3, 0.4], atol=1e-7)
    assert np.isnan(mask_grids.swapped_residual(grids, grids, [np.arange(3)], places)).all()


def test_rank_correlation_is_spearmans() -> None:
    first, second = (masks.cells(smooth(4, seed)) for seed in (9, 10))
    found = (masks.ranks(first) * masks.ranks(second)).sum(axis=1)
    wanted = [stats.spearmanr(one, other).statistic for one, other in zip(first, second, strict=True)]
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_variance_goes_where_it_comes_from() -> None:
    generator = np.random.default_rng(0)
    spreads = 1.0, 2.0, 0.5, 0.8, 0.6
    image, architecture, seed, both, rest = (
        spread * generator.normal(size=size).astype(np.float32)
        for spread, size in zip(
            spreads,
            [(50, 256), (120, 1, 1), (120, 3, 1, 1), (120, 50, 256), (120, 3, 50, 256)],
            strict=True,
        )
    )
    grids = {
        (str(one), two): image + architecture[one] + seed[one, two] + both[one] + rest[one, two]
        for one in range(120)
        for two in range(3)
    }
    shares = mask_grids.variance_shares(grids)
    wanted = np.square([image.std(), architecture.std(ddof=1), seed.std(), both.std(), rest.std()])
    np.testing.assert_allclose(list(shares.values()), wanted / wanted.sum(), atol=0.01)


@pytest.mark.parametrize(("networks", "seeds"), [(1, 2), (2, 1)])
def test_variance_of_one_architecture_or_one_seed_has_no_components(networks: int, seeds: int) -> None:
    grids = {(str(one), two): np.eye(256, dtype=np.float32)[:9] for one in range(networks) for two in range(seeds)}
    assert np.isnan(list(mask_grids.variance_shares(grids).values())).all()


@pytest.mark.parametrize(
    ("sizes", "ways"), [((2, 2, 2, 2), 105), ((2, 2), 3), ((3, 3), 10), ((2, 3), 10), ((2, 2, 2), 15)]
)
def test_groupings_are_counted_and_each_comes_once(sizes: tuple[int, ...], ways: int) -> None:
    groups = np.repeat(range(len(sizes)), sizes)
    found = pairings.groupings(groups)
    assert pairings.count(sizes) == len(found) == ways and (found[0] == groups).all()
    assert (
        len({tuple(tuple(np.flatnonzero(row == group)) for group in dict.fromkeys(row.tolist())) for row in found})
        == ways
    )


def test_too_many_groupings_are_drawn() -> None:
    assert len(pairings.groupings(np.repeat(range(8), 2))) == 1 + pairings.DRAWN


@pytest.mark.parametrize("p", [1 / 3, None])
def test_networks_with_equal_masks_are_tested_or_left(p: float | None) -> None:
    """Twins with the same masks give an infinite F; masks that are all the same give no test."""
    trained = [(network, seed) for network in ("simple", "simpler") for seed in (0, 1)]
    names = [key(*one) for one in trained]
    lines = [
        (first, second, 0.2 * (p is not None and first.split("-")[0] != second.split("-")[0]))
        for first, second in combinations(names, 2)
    ]
    table = pd.DataFrame(lines, columns=["first", "second", "residual_grid"]).assign(untrained=0.1)
    grids = {kind: {name: np.eye(3, 256, dtype=np.float32) for name in names} for kind in ("masks", "untrained")}
    grids["masks"]["simple-0"] = grids["masks"]["simple-1"] = np.ones((3, 256), np.float32)
    found = pairs.tests(table, grids, trained)["trained"]
    if p is None:
        assert found == {}
    else:
        assert found["permanova"]["value"] == 1 and found["permanova"]["p"] == pytest.approx(p)
    json.dumps(found, allow_nan=False)


def test_permanova_is_anova_in_one_dimension() -> None:
    values, groups = np.array([1.0, 2, 4, 5, 9, 7]), np.repeat([0, 1, 2], 2)
    f, explained = pairings.permanova(np.abs(values[:, None] - values), pairings.groupings(groups))
    anova = stats.f_oneway(*(values[groups == group] for group in range(3)))
    assert f[0] == pytest.approx(anova.statistic)
    means = np.repeat([1.5, 4.5, 8], 2)
    assert explained == pytest.approx(((means - values.mean()) ** 2).sum() / ((values - values.mean()) ** 2).sum())


def test_permanova_is_scikit_bios() -> None:
    """Its pseudo-F for any grouping, and with it the order of the groupings that p counts."""
    points = np.random.default_rng(3).normal(size=(8, 5))
    distances = np.linalg.norm(points[:, None] - points, axis=2)
    ways = pairings.groupings(np.repeat(range(4), 2))
    f, _ = pairings.permanova(distances, ways)
    for way in (0, 17, 104):
        wanted = skbio_permanova(DistanceMatrix(distances), ways[way], permutations=0)["test statistic"]
        assert f[way] == pytest.approx(wanted, rel=1e-9)
    theirs = skbio_permanova(DistanceMatrix(distances), ways[0], permutations=1999, seed=0)["p-value"]
    assert pairings.p_value(f) == pytest.approx(theirs, abs=0.04)  # theirs draws permutations, ours lists all groupings


def test_twins_are_found_and_p_is_the_share_of_groupings() -> None:
    places = np.repeat([0.0, 1, 2, 3], 2)[:, None]
    distances = np.abs(places - places.T)
    ways = pairings.groupings(np.repeat(range(4), 2))
    assert pairings.p_value(pairings.gap(distances, ways)) == 1 / 105
    assert pairings.p_value(pairings.gap(np.ones((8, 8)) - np.eye(8), ways)) == 1


def test_p_of_groupings_is_uniform_where_nothing_differs() -> None:
    ways, gaps, shares = pairings.groupings(np.repeat(range(4), 2)), [], []
    for seed in range(200):
        points = np.random.default_rng(seed).normal(size=(8, 3))
        distances = np.linalg.norm(points[:, None] - points, axis=2)
        gaps.append(pairings.p_value(pairings.gap(distances, ways)))
        shares.append(pairings.p_value(pairings.permanova(distances, ways)[0]))
    for found in (gaps, shares):
        assert stats.kstest(np.array(found) - 0.5 / 105, "uniform").pvalue > 0.01


def test_p_of_purity_is_uniform_where_cities_do_not_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purity, "PERMUTATIONS", 199)
    cities, spots, _ = images(8, 3)
    spots, found = np.char.add(cities, spots), []
    for seed in range(200):
        generator = np.random.default_rng(seed)
        points = np.repeat(generator.normal(size=(16, 2)), 3, axis=0) + generator.normal(size=(48, 2)) / 5
        found.append(purity.purity(points, cities, spots)["p"])
    assert stats.kstest(np.array(found) - 0.0025, "uniform").pvalue > 0.01


def test_false_discoveries_are_counted_over_known_p_alone() -> None:
    p = pd.Series([0.01, np.nan, 0.04, 0.03], [7, 5, 3, 1])
    # Benjamini and Hochberg: the smallest of p x 3 / rank over this rank and all above.
    assert tables._adjusted(p).to_dict() == pytest.approx({7: 0.03, 5: np.nan, 3: 0.04, 1: 0.04}, nan_ok=True)
    assert tables._adjusted(p[[5]]).isna().all()


def test_purity_leaves_out_the_own_spot() -> None:
    """Views of a spot coincide; the nearest other spots are of the other city."""
    vectors = np.repeat([[0.0], [10], [0.1], [10.1]], 3, axis=0)
    cities, spots = np.repeat(["a", "a", "b", "b"], 3), np.repeat(["a0", "a1", "b0", "b1"], 3)
    assert purity.purity(vectors, cities, spots, 3)["purity"] == 0
    assert purity.purity(vectors[:6], cities[:6], spots[:6])["purity"] == 1
    assert purity.purity(vectors[:9], cities[:9], spots[:9]) == {}  # b has one spot


def test_purity_finds_clusters_and_nothing_in_noise() -> None:
    cities, spots, _ = images(20, 3)
    spots = np.char.add(cities, spots)
    generator = np.random.default_rng(0)
    noise = np.repeat(generator.normal(size=(40, 2)), 3, axis=0) + generator.normal(size=(120, 2)) / 10
    clear = purity.purity(noise + 3 * (cities == "c1")[:, None], cities, spots)
    assert clear["purity"] > 0.9 and clear["p"] == 0.001 and clear["chance"] == pytest.approx(0.49, abs=0.02)
    assert purity.purity(noise, cities, spots)["p"] > 0.05


def test_mean_interval_is_the_t_interval_of_spots() -> None:
    values = np.array([1.0, 2, 4, 8])
    low, high = mean_interval(np.repeat(values, 3), ["a"] * 12, np.repeat(list("wxyz"), 3))
    wanted = stats.t.interval(0.95, 3, values.mean(), values.std(ddof=1) / 2)
    assert (low, high) == pytest.approx(wanted)
    assert np.isnan(mean_interval(values, ["a", "a", "a", "b"], list("wxyz"))).all()


@pytest.mark.parametrize("cities", [["a"] * 24, ["a"] * 12 + ["b"] * 12])
def test_ratio_interval_covers_95_percent(cities: list[str]) -> None:
    """Of one city, as for R, and of two whose ratios are .4 and .6, as for kappa."""
    covered, generator = 0, np.random.default_rng(0)
    shift = 2.0 * (np.array(cities) == "b")
    truth = 0.4 + 0.1 * (shift.max() > 0)
    for _ in range(1000):
        size = generator.integers(5, 20, 24).astype(float)
        above = size * generator.beta(4 + shift, 6 - shift, 24)
        low, high = ratio_interval(above[:, None], size[:, None], cities)
        covered += low[0] <= truth <= high[0]
    assert 0.93 <= covered / 1000 <= 0.97


@pytest.mark.parametrize("recalls", [(0.30, 0.99), (0.70, 0.84), (0.95, 0.97)])
def test_intervals_of_accuracies_cover(recalls: tuple[float, float]) -> None:
    """8 + 8 spots with 12 views, whose recalls differ from spot to spot."""
    city, spot, _ = images(8, 12)
    covered, generator = 0, np.random.default_rng(0)
    for _ in range(1000):
        chances = [generator.beta(recall * 5, (1 - recall) * 5, 8) for recall in recalls]
        right = generator.random(192) < np.repeat(np.concatenate(chances), 12)
        low, high = share_interval(right, city, spot)
        covered += low <= np.mean(recalls) <= high
    assert 0.93 <= covered / 1000 <= 0.975


def test_intervals_of_accuracies_are_never_empty() -> None:
    city, spot, _ = images(8, 12)
    low, high = share_interval(np.ones(192, bool), city, spot)
    assert 0.6 < low < 0.9 and high == 1
    assert share_interval(np.ones(24, bool), city[:24], ["a"] * 24) == (0, 1)
    assert np.isnan(share_interval([], [], [])).all()
