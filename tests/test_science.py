"""R, AR, masks, splits, labels and the embedding, on arrays counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from torch.nn import functional

from citylens.compare import residual
from citylens.embed import embedding
from citylens.measure import object_ratio
from citylens.nets import label_maps, masks, resizing
from citylens.prepare import splits


def test_object_ratio_is_pooled_over_images() -> None:
    """Image 1 shows four pixels of object 2, one explained; image 2 two, both explained: 3 of 6, not the mean of 1/4 and 1."""
    labels = np.array([[[2, 2], [2, 2]], [[2, 2], [3, 0]]], np.uint8)
    weighted = np.array([[[0.5, 0.4], [0.1, 0.0]], [[1.0, 0.6], [0.2, 0.9]]])
    counts = object_ratio.count_regions(labels, {"inside": masks.inside(weighted, 0.5)})
    assert counts["inside"][:, 2].tolist() == [1, 2] and counts["total"][:, 2].tolist() == [4, 2]
    assert (counts["inside"][1, 0], counts["total"][1, 0]) == (1, 1)
    ratio = object_ratio.object_ratio(counts["inside"].sum(axis=0), counts["total"].sum(axis=0))
    assert ratio[2] == 0.5 and ratio[3] == 0.0
    assert np.isnan(ratio[4]), "nothing seen is not zero seen"


def test_threshold_is_included() -> None:
    assert masks.inside(np.array([0.5]), 0.5).all() and not masks.inside(np.array([0.5]), 0.5, "above").any()


def test_pixel_counts_refuse_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="label 151 found; allowed: 0 to 150"):
        object_ratio.count_regions(np.array([[[151]]], np.uint8), {"inside": np.zeros((1, 1, 1), bool)})
    with pytest.raises(ValueError, match="allowed: the same"):
        object_ratio.count_regions(np.zeros((1, 2, 2), np.uint8), {"inside": np.zeros((1, 1, 1), bool)})
    with pytest.raises(ValueError, match="more pixels inside"):
        object_ratio.object_ratio(np.array([2]), np.array([1]))


def test_objects_are_kept_above_the_criterion_scaled_by_area() -> None:
    labels, pixels = np.array([0, 1, 2, 3]), np.array([9999.0, 25.0, 25.1, 24.9])
    assert object_ratio.is_kept(labels, pixels, 100, 112).tolist() == [False, False, True, False]


def test_residual_is_the_mean_absolute_difference() -> None:
    first = np.array([[[0.0, 1.0], [0.5, 0.25]], [[1.0, 1.0], [1.0, 1.0]]])
    second = np.array([[[1.0, 1.0], [0.0, 0.25]], [[0.0, 0.0], [0.0, 0.0]]])
    assert residual.residual(first, second).tolist() == [0.375, 1.0]
    with pytest.raises(ValueError, match="allowed: the same"):
        residual.residual(first, second[:1])


def test_table_2_has_the_papers_ten_rows() -> None:
    names = ("vgg11", "resnet18", "simple", "simpler")
    rows = residual.table2_pairs(names, (7, 8))
    assert len(rows) == 10 and rows[0] == (("vgg11", 7), ("resnet18", 7)) and rows[6] == (("vgg11", 7), ("vgg11", 8))
    assert [residual.kind(*row) for row in rows] == ["architecture"] * 6 + ["initialisation"] * 4
    assert len(residual.table2_pairs(names, (7,))) == 6


def test_masks_are_relu_bilinear_min_max() -> None:
    maps = np.array([[[-3.0, 2.0], [0.0, 4.0]]], np.float32)
    expected = functional.interpolate(
        torch.from_numpy(np.maximum(maps, 0))[None], size=(7, 7), mode="bilinear", align_corners=False
    )[0]
    expected = (expected - expected.min()) / (expected.max() - expected.min())
    mask = masks.normalise(maps, 7)
    np.testing.assert_allclose(mask, expected.numpy(), atol=1e-6)
    assert mask.min() == 0 and mask.max() == 1


def test_masks_can_be_divided_by_their_maximum_alone() -> None:
    maps = np.array([[[1.0, 2.0], [3.0, 4.0]]], np.float32)
    mask = masks.normalise(maps, 8, "max")
    assert mask.max() == 1 and mask.min() == 0.25


@pytest.mark.parametrize("values", [[[-1.0, -2.0], [-3.0, 0.0]], [[2.0, 2.0], [2.0, 2.0]], [[0.0, 0.0], [0.0, 0.0]]])
def test_dead_masks_are_flagged_and_zero(values: list[list[float]]) -> None:
    maps = np.array([values, [[0.0, 1.0], [0.0, 0.0]]], np.float32)
    assert masks.dead(maps).tolist() == [True, False]
    assert masks.normalise(maps, 8)[0].max() == 0
    assert residual.residual(masks.normalise(maps, 8)[:1], np.ones((1, 8, 8)))[0] == 1


def test_masks_are_stretched_after_the_upsampling() -> None:
    """VGG11's map at 112 px, one bright cell of 7 x 7: no pixel is at its centre, the nearest are 1/32 of a cell off in x and y."""
    bright = np.zeros((1, 7, 7), np.float32)
    bright[0, 3, 3] = 5
    stretched_before = masks.upsample(bright[0] / 5, 112)
    assert stretched_before.max() == (31 / 32) ** 2
    assert masks.normalise(bright, 112).max() == 1


def test_masks_refuse_nan() -> None:
    with pytest.raises(ValueError, match="NaN"):
        masks.normalise(np.array([[[np.nan, 1.0]]]), 4)


def test_split_by_image_is_6_2_2_in_each_city() -> None:
    cities = ["a"] * 50 + ["b"] * 20
    chosen = splits.split(cities, None, (0.6, 0.2, 0.2), seed=1)
    assert [(chosen[:50] == name).sum() for name in splits.SPLITS] == [30, 10, 10]
    assert [(chosen[50:] == name).sum() for name in splits.SPLITS] == [12, 4, 4]
    assert (chosen == splits.split(cities, None, (0.6, 0.2, 0.2), seed=1)).all()
    assert (chosen != splits.split(cities, None, (0.6, 0.2, 0.2), seed=2)).any()


@given(st.lists(st.integers(1, 9), min_size=3, max_size=40), st.integers(0, 99))
def test_split_by_spot_keeps_spots_together_and_near_the_shares(sizes: list[int], seed: int) -> None:
    spots = [f"s{number}" for number, size in enumerate(sizes) for _ in range(size)]
    chosen = splits.split(["a"] * len(spots), spots, (0.6, 0.2, 0.2), seed)
    assert all(
        len({split for split, other in zip(chosen, spots, strict=True) if other == spot}) == 1 for spot in set(spots)
    )
    counts = {name: (chosen == name).sum() for name in splits.SPLITS}
    assert all(counts.values())
    if len(sizes) > 9:
        for name, share in zip(splits.SPLITS, (0.6, 0.2, 0.2), strict=True):
            assert abs(counts[name] - share * len(spots)) <= max(sizes)


def test_too_few_spots_are_refused() -> None:
    with pytest.raises(ValueError, match="city b has 2 spots; allowed: 3 or more"):
        splits.split(["a"] * 9 + ["b"] * 4, [*map(str, range(9)), "x", "x", "y", "y"], (0.6, 0.2, 0.2), 0)


def test_coverage_is_the_share_of_labelled_pixels() -> None:
    assert label_maps.coverage(np.array([[[0, 3], [1, 0]]], np.uint8)).tolist() == [0.5]


def test_images_and_labels_shrink_by_one_geometry() -> None:
    labels = np.zeros((60, 80), np.uint8)
    labels[:, 40:] = 9
    image = np.repeat(labels[..., None], 3, axis=2)
    for how in ("stretch", "crop"):
        small, names = resizing.resize_image(image, 20, how), resizing.resize_labels(labels, 20, how)
        assert (small[..., 0] == names).all() and (names == 9).sum() == 200


def test_a_mask_goes_back_where_it_came_from() -> None:
    mask = np.ones((4, 4), np.float32)
    assert resizing.spread(mask, 6, 10, "stretch").min() == 1
    cropped = resizing.spread(mask, 6, 10, "crop")
    assert cropped[:, 2:8].min() == 1 and cropped.sum() == 36


@pytest.mark.parametrize("how", ["minmax", "max"])
def test_descriptors_have_the_distances_of_full_size_masks(how: str) -> None:
    maps = np.random.default_rng(0).normal(size=(20, 5, 6)).astype(np.float32)
    short = embedding.descriptors(maps, 40, how)
    large = masks.normalise(maps, 40, how).reshape(20, -1).astype(np.float64)
    assert short.shape == (20, 30)
    for left, right in ((0, 1), (3, 17)):
        assert np.linalg.norm(short[left] - short[right]) == pytest.approx(
            np.linalg.norm(large[left] - large[right]), rel=1e-4
        )
    ours, full = (PCA(5, svd_solver="full").fit_transform(values) for values in (short, large))
    np.testing.assert_allclose(np.abs(ours), np.abs(full), atol=1e-3)


def test_neighbour_agreement_knows_chance() -> None:
    points = np.array([[0.0, 0], [0, 1], [1, 0], [9, 9], [9, 8], [8, 9]])
    assert embedding.neighbour_agreement(points, np.array(list("aaabbb")), 2) == (1.0, pytest.approx(12 / 30))
    assert embedding.neighbour_agreement(points, np.array(list("ababab")), 2)[0] < 1


def test_embedding_separates_two_kinds_of_masks_and_repeats_itself() -> None:
    generator = np.random.default_rng(0)
    vectors = np.concatenate([generator.normal(size=(30, 8)), generator.normal(size=(30, 8)) + 6])
    options = {"components": 50, "perplexity": 10, "iterations": 300, "seed": 1}
    points = embedding.embed(vectors, **options)
    assert embedding.neighbour_agreement(points, np.repeat(["a", "b"], 30))[0] > 0.95
    assert (points == embedding.embed(vectors, **options)).all()
    assert embedding.embed(vectors[:3], **options).shape == (3, 2)


def test_no_living_mask_embeds_to_nothing() -> None:
    vectors = embedding.descriptors(np.empty((0, 5, 6), np.float32), 40)
    assert vectors.shape == (0, 30)
    assert embedding.embed(vectors, components=50, perplexity=10, iterations=300, seed=1).shape == (0, 2)
    assert np.isnan(embedding.neighbour_agreement(np.empty((0, 2)), np.empty(0, str))).all()
