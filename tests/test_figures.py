"""Figures from tables and arrays: what is drawn is what the tables say."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from citylens.nets.names import split_key
from citylens.report import fonts, mask_figures, network_figures
from citylens.report.figure_style import city_colours, network_colours, png

CITIES = ("a", "b", "c")


def ratios(cities: tuple[str, ...] = CITIES, keys: tuple[str, ...] = ("vgg11-0", "simple-0")) -> pd.DataFrame:
    """Tree everywhere; fence is kept in the last city alone."""
    rows = []
    for place, city in enumerate(cities):
        for key in keys:
            network, seed = split_key(key)
            for name, total, kept in (("tree;plant", 400, 1), ("fence", 100, int(place == len(cities) - 1))):
                inside = total // (2 if network == "vgg11" else 4)
                row = {"city": city, "network": network, "seed": seed, "object": name, "ratio": inside / total}
                row |= {"low": inside / total - 0.1, "high": inside / total + 0.1, "chance": 0.375}
                rows.append(row | {"mean_pixels": total / 4, "kept": kept})
    return pd.DataFrame(rows)


def example(mask: np.ndarray, *, dead: bool = False, predicted: str = "a") -> mask_figures.Example:
    image = np.full((*mask.shape, 3), 90, np.uint8)
    explained = mask_figures.Explained(mask[::4, ::4], mask, predicted, 0.75, dead)
    return mask_figures.Example(image, "a", {"vgg11": explained})


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text)]


def test_bars_have_the_height_of_r_beside_its_interval_and_chance() -> None:
    panel = network_figures.object_ratio(ratios(), CITIES, ["vgg11-0", "simple-0"]).axes[2]
    assert [bar.get_height() for bar in panel.patches[:4]] == [0.5, 0.5, 0.25, 0.25]
    lines = [line for line in panel.collections if isinstance(line, LineCollection)]
    ends = {tuple(np.round(segment[:, 1], 3)) for line in lines for segment in line.get_segments()}
    assert ends == {(0.4, 0.6), (0.15, 0.35), (0.375, 0.375)}


def test_objects_are_in_order_of_frequency_and_named_by_their_first_name() -> None:
    panel = network_figures.object_ratio(ratios(), CITIES, ["vgg11-0", "simple-0"]).axes[2]
    assert [label.get_text() for label in panel.get_xticklabels()] == ["tree", "fence"]


def test_an_object_of_one_city_is_marked_there_and_in_the_others() -> None:
    panels = network_figures.object_ratio(ratios(), CITIES, ["vgg11-0", "simple-0"]).axes
    assert [[text.get_text() for text in panel.texts] for panel in panels] == [
        ["too rare"],
        ["too rare"],
        ["only\nhere"],
    ]


@pytest.mark.parametrize("cities", [2, 6])
@pytest.mark.parametrize("seeds", [1, 5])
def test_any_number_of_cities_and_seeds_is_drawn(cities: int, seeds: int) -> None:
    names, keys = tuple("abcdef"[:cities]), tuple(f"vgg11-{seed}" for seed in range(seeds))
    figure = network_figures.object_ratio(ratios(names, keys), names, keys)
    assert len(figure.axes) == cities and png(figure).startswith(b"\x89PNG")


def test_colours_of_cities_and_networks_differ() -> None:
    keys = [f"{network}-{seed}" for network in ("vgg11", "resnet18", "simple", "simpler") for seed in (0, 4, 9)]
    assert len(set(network_colours(keys).values())) == 12
    assert len(set(city_colours("abcdef").values())) == 6


def test_scatter_shows_living_masks_in_their_city_s_colour() -> None:
    table = pd.DataFrame({"city": ["a", "b", "b"], "x": [0.0, 1.0, np.nan], "y": [0.0, 2.0, np.nan], "dead": [0, 0, 1]})
    panel = mask_figures.scatter({"vgg11-0": table}, CITIES).axes[0]
    (points,) = (artist for artist in panel.collections if isinstance(artist, PathCollection))
    seen = {
        tuple(place): tuple(colour[:3])
        for place, colour in zip(points.get_offsets(), points.get_facecolors(), strict=True)
    }
    colours = city_colours(CITIES)
    assert seen == {(0.0, 0.0): to_rgb(colours["a"]), (1.0, 2.0): to_rgb(colours["b"])}
    assert panel.get_xlabel() == "1 dead, not shown"


def test_the_matrix_holds_each_pair_twice() -> None:
    table = pd.DataFrame({"first": ["vgg11-0"], "second": ["simple-0"], "residual": [0.25]})
    panel = network_figures.all_pairs(table, ["vgg11-0", "simple-0"]).axes[0]
    assert [(text.get_position(), text.get_text()) for text in panel.texts] == [((1, 0), ".250"), ((0, 1), ".250")]


def test_confusion_counts_the_pairs_that_never_occur_as_zero() -> None:
    table = pd.DataFrame({"actual": ["a", "b"], "predicted": ["a", "a"], "images": [3, 2]})
    panel = network_figures.confusion({"vgg11-0": table}, ("a", "b")).axes[0]
    assert [text.get_text() for text in panel.texts] == ["3", "0", "2", "0"]


def test_the_explanation_is_the_image_where_the_mask_reaches_the_threshold() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    shown = mask_figures.explanation(image, np.array([[0.5, 0.49], [0.0, 1.0]]), 0.5)
    assert (shown[[0, 1], [0, 1]] == image[[0, 1], [0, 1]]).all()
    assert (shown[[0, 1], [1, 0]] == mask_figures.BLANK).all()


def test_a_dead_mask_and_a_wrong_city_are_said() -> None:
    mask = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    wrong = mask_figures.masks([example(mask, predicted="b")], ["vgg11"], 0.5)
    assert "b 0.75 ✗" in texts(wrong) and "dead mask" not in texts(wrong)
    gone = mask_figures.masks([example(np.zeros((8, 8), np.float32), dead=True)], ["vgg11"], 0.5)
    assert "dead mask" in texts(gone)


def test_a_city_s_name_is_not_taken_for_mathematics() -> None:
    mask = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    assert png(mask_figures.pipeline(example(mask, predicted="$\\frac{$"), "vgg11", 0.5))


def test_cells_are_taken_once_and_by_the_nearest() -> None:
    rows, columns = mask_figures.grid_shape(8)
    assert rows * columns >= 12
    places = np.array([[0.0, 0.0], [columns - 1, rows - 1], [columns - 1, 0.0], [0.0, rows - 1]])
    corners = mask_figures.grid_cells(places, rows, columns).tolist()
    assert corners == [[rows - 1, 0], [0, columns - 1], [rows - 1, columns - 1], [0, 0]]
    heap = mask_figures.grid_cells(np.zeros((8, 2)), rows, columns)
    assert len(np.unique(heap, axis=0)) == 8


def test_explanations_keep_their_pixels() -> None:
    """One pixel of the canvas is one of the PNG, so that nothing is blurred twice."""
    pictures = np.full((1, 16, 16, 3), (10, 200, 30), np.uint8)
    figure = mask_figures.explanations(pictures, np.zeros((1, 2)), ["a"], ("a", "b"))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    shown = (np.asarray(canvas.buffer_rgba())[..., :3] == (10, 200, 30)).all(axis=2)
    assert shown.sum() == (126 - 2 * (126 // 24)) ** 2


def test_png_has_the_same_bytes_twice_and_a_white_ground() -> None:
    mask = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    first, second = (png(mask_figures.masks([example(mask)], ["vgg11"], 0.5), palette=True) for _ in range(2))
    assert first == second and b"tIME" not in first
    image = Image.open(io.BytesIO(first))
    assert image.mode == "P" and image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)


def named(city: str) -> bytes:
    table = pd.DataFrame({"actual": [city], "predicted": [city], "images": [3]})
    return png(network_figures.confusion({"vgg11-0": table}, (city,)))


def test_names_in_any_script_are_letters_and_not_boxes(capfd: pytest.CaptureFixture[str]) -> None:
    """Two names of one length differ, which two rows of boxes would not."""
    for names in (
        ("東京", "大阪"),
        ("서울", "부산"),
        ("ไทย", "เลย"),
        ("दिल्ली", "पुणे"),
        ("አዲስ", "ጎንደር"),
        ("القاهرة", "الرباط"),
    ):
        assert len({named(name) for name in names}) == 2
    assert capfd.readouterr() == ("", "")
    assert fonts.stand_ins(frozenset("São Paulo, Москва, תל אביב, 0.5 ✗\n")) == ()


def test_a_name_that_no_font_shows_is_said_once(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fonts, "_font_files", list)
    named("ㄅㄆ"), named("ㄅㄆ")
    said = "citylens report: warning: no font here shows ㄅ ㄆ; figures have boxes there. Fonts for most scripts: `apt install"
    assert capfd.readouterr().err.count(said) == 1
