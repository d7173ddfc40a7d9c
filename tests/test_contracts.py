"""The four contracts on small hand-made data: sound data pass, and each expectation fails once."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from PIL.Image import Resampling

from citylens.acquire import stage as acquire
from citylens.errors import InputError
from citylens.io import files, images
from citylens.nets import masks
from citylens.prepare import splits
from citylens.settings import parser
from citylens.settings.schema import Settings
from citylens.validate import facts, inspection
from citylens.validate import stage as validate

ROOT = Path(__file__).parents[1]
SIZE, CITIES = 32, ("east", "west")
SPOTS, VIEWS = 5, 2
SHARES = {"training": 0.6, "validation": 0.2, "test": 0.2}


def drawn(generator: np.random.Generator) -> np.ndarray:
    """A label map of squares of 8 px, half of them building or sky."""
    labels = generator.choice([2, 2, 2, 3, 3, 5, 7, 13, 21, 44, 126], (8, 10)).astype(np.uint8)
    return labels.repeat(8, axis=0).repeat(8, axis=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of every stage that has a contract, for two cities with five spots of two views."""
    root = tmp_path_factory.mktemp("study")
    shutil.copytree(ROOT / "suites", root / "suites")
    generator = np.random.default_rng(0)
    rows = []
    for city in CITIES:
        for place in range(SPOTS * VIEWS):
            name = f"{city}-{place}"
            path, labels = f"images/{city}/{place}.jpg", f"labels/{city}/{place}.png"
            images.write_jpeg(root / "data/acquire" / path, generator.integers(0, 256, (64, 80, 3), np.uint8), 90)
            images.write_png(root / "data/acquire" / labels, drawn(generator))
            header = images.read_header(root / "data/acquire" / path)
            rows.append(
                {
                    "id": name,
                    "city": city,
                    "spot": f"spot{place // VIEWS}",
                    "heading": place,
                    "pitch": None,
                    "path": path,
                }
            )
            rows[-1] |= dataclasses.asdict(header) | {"labels": labels}
    manifest = pd.DataFrame(rows)
    files.write_table(root / "data/acquire/manifest.csv", manifest)
    _prepare(root, manifest)
    _explain(root, generator)
    _segment(root, generator)
    return root


def _prepare(root: Path, manifest: pd.DataFrame) -> None:
    index = manifest[["id", "city"]].assign(label=manifest["city"].map(CITIES.index), spot=manifest["spot"])
    index["split"] = splits.split(list(index["city"]), list(index["spot"]), list(SHARES.values()), 0)
    files.write_table(root / "data/prepare/index.csv", index)
    files.write_array(root / "data/prepare/images.npy", np.zeros((len(index), SIZE, SIZE, 3), np.uint8))


def _test(root: Path) -> pd.DataFrame:
    index = files.read_table(root / "data/prepare/index.csv")
    return index.loc[index["split"] == "test", ["id", "city"]]


def _explain(root: Path, generator: np.random.Generator) -> None:
    test = _test(root)
    for run in ("vgg11-0", "simple-0"):
        maps = generator.normal(size=(len(test), 3, 4)).astype(np.float32)
        index = test.assign(predicted="east", explained="east", probability=0.75, dead=masks.dead(maps).astype(int))
        files.write_array(root / "data/explain" / run / "masks.npy", maps)
        files.write_table(root / "data/explain" / run / "index.csv", index)


def _segment(root: Path, generator: np.random.Generator) -> None:
    test = _test(root)
    labels = generator.integers(0, 4, (len(test), SIZE, SIZE), np.uint8)
    names = pd.DataFrame({"label": [1, 2, 3], "name": ["wall", "building", "sky"]})
    files.write_array(root / "data/segment/labels.npy", labels)
    files.write_table(root / "data/segment/index.csv", test.assign(coverage=(labels > 0).mean(axis=(1, 2))))
    files.write_table(root / "data/segment/objects.csv", names)


@pytest.fixture
def study(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the data, to change, as the working directory."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def plan() -> Settings:
    base = parser.load(ROOT / "profiles/demo.yaml")
    study = dataclasses.replace(base.study, networks=("vgg11", "simple"), seeds=(0,))
    prepare = dataclasses.replace(base.prepare, size=SIZE, split="spot", shares=tuple(SHARES.values()))
    return dataclasses.replace(base, study=study, prepare=prepare)


def check(plan: Settings, suite: str) -> None:
    (data,) = [data for data, suites in validate.DATA.items() if suite in suites]
    validate.run(plan, data)


def refused(plan: Settings, suite: str, *parts: str) -> str:
    """Return the message of a critical failure; check that it has these parts and that no verdict is written."""
    with pytest.raises(InputError) as caught:
        check(plan, suite)
    message = str(caught.value)
    for part in parts:
        assert part in message, message
    assert not Path("reports/validate").exists()
    assert (Path(".citylens/data_docs") / suite / "index.html").exists()
    return message


def change(file: str, row: int, **values: Any) -> None:
    table = files.read_table(file)
    for name, value in values.items():
        table[name] = table[name].astype(object)
        table.loc[row, name] = value
    files.write_table(file, table)


def with_bounds(plan: Settings, **bounds: object) -> Settings:
    return dataclasses.replace(plan, validate=dataclasses.replace(plan.validate, **bounds))  # type: ignore[arg-type]


MANIFEST, INDEX = "data/acquire/manifest.csv", "data/prepare/index.csv"
MASKS, MASK_INDEX = "data/explain/simple-0/masks.npy", "data/explain/simple-0/index.csv"
LABELS, SEGMENT_INDEX = "data/segment/labels.npy", "data/segment/index.csv"


@pytest.mark.parametrize("suite", ["images", "splits", "masks", "segmentation"])
def test_sound_data_pass(study: Path, plan: Settings, suite: str, capfd: pytest.CaptureFixture[str]) -> None:
    check(plan, suite)
    assert capfd.readouterr() == ("", "")
    result = json.loads((study / "reports/validate" / f"{suite}.json").read_text())
    described = json.loads((study / "suites" / f"{suite}.json").read_text())["expectations"]
    assert (result["suite"], result["success"]) == (suite, True)
    names = ("expectation", "type", "severity")
    assert [tuple(found[name] for name in names) for found in result["expectations"]] == [
        (said["description"], said["type"], said["severity"]) for said in described
    ]
    assert all(found["success"] and found["unexpected"] == 0 and not found["first"] for found in result["expectations"])
    assert all(found["rows"] for found in result["expectations"])


def test_a_warning_is_told_and_written_and_two_runs_are_equal(
    study: Path, plan: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    copied = files.read_table(MANIFEST).loc[0, ["path", "width", "height", "codec", "sha256", "labels"]]
    shutil.copy("data/acquire/images/east/0.jpg", "data/acquire/images/east/1.jpg")
    change(MANIFEST, 1, sha256=copied["sha256"])
    written = []
    for _ in range(2):
        check(plan, "images")
        written.append(Path("reports/validate/images.json").read_bytes())
    assert written[0] == written[1]
    (warned,) = [found for found in json.loads(written[0])["expectations"] if not found["success"]]
    assert (warned["expectation"], warned["rows"], warned["unexpected"]) == ("no file is there twice", 20, 2)
    assert [row["path"] for row in warned["first"]] == ["images/east/0.jpg", "images/east/1.jpg"]
    line = 'images: expectation "no file is there twice" (expect_column_values_to_be_null on copy) failed'
    told = f"citylens validate images: warning: {line} for 2 of 20 rows; first: images/east/0.jpg (copy: images/east/1.jpg)"
    assert told in capfd.readouterr().err


def test_a_file_of_two_cities_is_critical_and_both_are_named(study: Path, plan: Settings) -> None:
    first = files.read_table(MANIFEST).loc[3]
    for row, city, place in ((12, "west", 2), (4, "east", 4)):
        shutil.copy("data/acquire/images/east/3.jpg", f"data/acquire/images/{city}/{place}.jpg")
        change(MANIFEST, row, sha256=first["sha256"])
    message = refused(
        plan,
        "images",
        '"no file is of two cities" (expect_column_values_to_be_null on copy_elsewhere) failed for 3 of 20 rows',
        "first: images/east/3.jpg (copy_elsewhere: here of east; of west: images/west/2.jpg)",
    )
    assert len(message.splitlines()) == 2


def turned(path: Path, image: np.ndarray, orientation: int) -> None:
    """Write an image and a tag by which viewers turn it."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, exif=exif)


@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
def test_a_map_is_turned_with_its_photograph_or_the_question_is_open(
    study: Path, plan: Settings, capfd: pytest.CaptureFixture[str], orientation: int
) -> None:
    drawn = np.zeros((64, 96), np.uint8)
    drawn[:8, :40] = 150  # in a corner, so that every turn shows
    for city, place in product(CITIES, range(5)):
        own = np.full_like(drawn, 10 * place + CITIES.index(city))  # No two photographs are alike.
        turned(study / f"photos/{city}{place}.png", np.dstack([drawn, own, own]), orientation)
        images.write_png(study / f"photos/map-{city}{place}.png", drawn)
    rows = [
        {"path": f"{city}{place}.png", "city": city, "labels": f"map-{city}{place}.png"}
        for city in CITIES
        for place in range(5)
    ]
    files.write_table(study / "photos/manifest.csv", pd.DataFrame(rows))
    settings = dataclasses.replace(plan.acquire, source="manifest", path=str(study / "photos"))
    said, quarter = "EXIF orientation", orientation > 4
    for convention in ("stored", "shown"):
        whole = dataclasses.replace(plan, acquire=dataclasses.replace(settings, labels_orientation=convention))
        acquire.run(whole)
        if convention == "shown" and quarter:
            refused(whole, "images", "label maps are as wide as their images")
        else:
            validate.run(whole, "images")
        told = capfd.readouterr().err
        assert (f"{said} {orientation}: its map is taken as one of the image turned upright" in told) == (
            convention == "shown" and orientation > 1
        )
        shown, labels = (
            read(study / f"data/acquire/{name}")
            for read, name in ((images.read_rgb, "east0.png"), (images.read_labels, "map-east0.png"))
        )
        fits = shown.shape[:2] == labels.shape and ((shown[..., 0] == 150) == (labels == 150)).all()
        assert fits == (convention == "stored" or orientation == 1)
        shutil.rmtree("reports/validate", ignore_errors=True)


def test_a_map_with_a_tag_of_its_own_is_turned_by_it(tmp_path: Path) -> None:
    drawn = np.arange(48, dtype=np.uint8).reshape(6, 8)
    for name in ("map.png", "map.tiff"):
        turned(tmp_path / name, drawn, 6)
        for photograph in (1, 3):
            assert (images.read_labels(tmp_path / name, orientation=photograph) == np.rot90(drawn, -1)).all()
        header = images.read_header(tmp_path / name)
        assert (header.width, header.height, header.orientation) == (6, 8, 6)


def test_a_truncated_file_is_named_and_the_earlier_result_stays(study: Path, plan: Settings) -> None:
    check(plan, "images")
    before = Path("reports/validate/images.json").read_bytes()
    file = study / "data/acquire/images/west/3.jpg"
    file.write_bytes(file.read_bytes()[:-400])
    with pytest.raises(InputError) as caught:
        check(plan, "images")
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(
        'images: expectation "every image decodes" (expect_column_values_to_be_in_set on decodes) failed for 1 of 20 '
        "rows; first: images/west/3.jpg (decodes: cannot be decoded: "
    )
    # The fault is reported once, because nothing else is known of a file that does not decode.
    assert lines[1:] == ["Nothing was written; all of it is in .citylens/data_docs/images/index.html"]
    assert Path("reports/validate/images.json").read_bytes() == before


def test_files_that_are_not_as_the_manifest_says(study: Path, plan: Settings) -> None:
    """Each row has one fault, which exactly one expectation reports."""
    shutil.copy("data/acquire/images/east/0.jpg", "data/outside.jpg")
    Path("data/acquire/link.jpg").symlink_to("../outside.jpg")
    rows: list[tuple[dict[str, Any], str | None, str]] = [
        ({"path": "../outside.jpg"}, "no path leaves the data root", "../outside.jpg (inside: climbs with ..)"),
        ({"path": "/etc/hostname"}, None, ""),
        ({"path": "link.jpg"}, None, ""),
        ({"path": "images/none.jpg"}, "every image decodes", "images/none.jpg (decodes: no such file)"),
        ({"sha256": "0" * 64}, "files are as the manifest says", "images/east/4.jpg (sha256: "),
        ({"codec": "png"}, "codecs are as the manifest says", "images/east/5.jpg (codec: jpeg, manifest_codec: png)"),
        ({"width": 81}, "widths are as the manifest says", "images/east/6.jpg (width: 80, manifest_width: 81)"),
        ({"id": "east-0"}, "no id is given twice", "../outside.jpg (id: east-0)"),
        ({"city": None}, "every city has enough images", "../outside.jpg (city_images: 9)"),
        (
            {"labels": "../x.png"},
            "no label map's path leaves the data root",
            "images/east/9.jpg (labels_inside: climbs with ..)",
        ),
        ({"labels": "labels/none.png"}, "every label map decodes", "images/west/0.jpg (labels_decode: no such file)"),
        ({}, "no label is above 150", "images/west/1.jpg (labels_highest: 151)"),
        ({}, "label maps are as wide as their images", "images/west/2.jpg (labels_width: 79, width: 80)"),
        ({}, "no image is too narrow or too wide", "images/west/3.jpg (width: 50)"),
        ({"labels": None}, None, ""),
    ]
    for row, (values, _, _) in enumerate(rows):
        change(MANIFEST, row, **values)
    images.write_png("data/acquire/labels/west/1.png", np.full((64, 80), 151, np.uint8))
    images.write_png("data/acquire/labels/west/2.png", np.zeros((64, 79), np.uint8))
    images.write_jpeg("data/acquire/images/west/3.jpg", np.zeros((64, 50, 3), np.uint8), 90)
    bounds = dataclasses.replace(plan.validate.images, min_side=51, min_images=10)
    message = refused(with_bounds(plan, images=bounds), "images")
    told = {line.split('"')[1]: line.partition("first: ")[2] for line in message.splitlines()[:-1]}
    for _, expectation, first in rows:
        assert expectation is None or told.pop(expectation).startswith(first)
    assert set(told) == {"every image has a city"}
    assert (
        '"no path leaves the data root" (expect_column_values_to_be_in_set on inside) failed for 3 of 20 rows'
        in message
    )
    assert (
        '"no label is above 150" (expect_column_values_to_be_between on labels_highest) failed for 1 of 17 rows'
        in message
    )


def test_a_link_is_inside_where_it_leads_into_a_dvc_cache(study: Path) -> None:
    root, cached = study / "data/acquire", study / "cache/files/md5/ab" / ("0" * 30)
    cached.parent.mkdir(parents=True)
    shutil.copy(root / "images/east/0.jpg", cached)
    for name, target in (("cached.jpg", cached), ("other.jpg", Path("/etc/hostname"))):
        (root / name).symlink_to(target)
    found = [inspection.inspect(root, 1, path, None) for path in ("cached.jpg", "other.jpg", "/etc/hostname", None)]
    assert [facts["inside"] for facts in found] == ["yes", "a link leads out of it", "absolute", "no path is given"]
    assert [facts["decodes"] for facts in found] == ["yes", None, None, None]


def test_a_value_or_a_note_in_the_pages_is_text_and_runs_no_script(study: Path, plan: Settings) -> None:
    harm, text = '<img src=x onerror="alert(1)"> R&D', '&lt;img src=x onerror="alert(1)"&gt; R&amp;D'
    change(MANIFEST, 0, codec=harm)
    suite = json.loads(Path("suites/images.json").read_text())
    for one in suite["expectations"]:
        one["notes"] = f"{harm} {one['notes']}"
        one["description"] += " <b>"
    suite["meta"]["rows"] += " <b>"
    Path("suites/images.json").write_text(json.dumps(suite))
    refused(plan, "images", "codecs are as the manifest says")
    pages = [path.read_text() for path in sorted(Path(".citylens/data_docs/images").rglob("*.html"))]
    assert all("<img src=x" not in page and "<b>" not in page and "&amp;lt;" not in page for page in pages)
    assert [(text in page, text.replace('"', "&quot;") in page) for page in pages] == [(False, True), (True, False)]
    for page in pages:
        head = page.partition("<head>")[2]
        assert head.startswith('<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; style-src')
        assert "script-src" not in head


def test_known_cities(study: Path, plan: Settings) -> None:
    named = dataclasses.replace(plan.acquire, source="folder", cities=("east", "north"))
    refused(
        dataclasses.replace(plan, acquire=named), "images", '"every city is known"', "10 of 20 rows", "(city: west)"
    )
    files.write_table(MANIFEST, files.read_table(MANIFEST)[:10])
    refused(plan, "images", '"there are two cities or more"', "10 of 10 rows (observed 1); first: images/east/0.jpg")


def test_an_empty_manifest(study: Path, plan: Settings) -> None:
    files.write_table(MANIFEST, files.read_table(MANIFEST)[:0])
    said = '"there are images" (expect_table_row_count_to_be_between) failed for 0 of 0 rows (observed 0)'
    refused(plan, "images", said)


def test_a_spot_and_a_file_in_two_splits(study: Path, plan: Settings) -> None:
    index = files.read_table(INDEX)
    first, second, *_ = index.index[(index["city"] == "east") & (index["split"] == "training")]
    assert index.loc[first, "spot"] == index.loc[second, "spot"]
    training, test = (
        index.index[(index["city"] == "west") & (index["split"] == name)][0] for name in ("training", "test")
    )
    change(INDEX, first, split="test")
    change(MANIFEST, test, sha256=files.read_table(MANIFEST).loc[training, "sha256"])
    message = refused(
        plan,
        "splits",
        '"no spot is in two splits"',
        f"2 of 20 rows; first: row {first} {index.loc[first, 'id']} (spot_splits: 2)",
    )
    assert (
        '"no file is in two splits" (expect_column_values_to_be_between on file_splits) failed for 2 of 20 rows'
        in message
    )
    by_image = dataclasses.replace(plan, prepare=dataclasses.replace(plan.prepare, split="random"))
    assert len(refused(by_image, "splits", '"no file is in two splits"').splitlines()) == 2


def test_a_near_copy_in_another_city_is_warned_of(
    study: Path, plan: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    index = files.read_table(INDEX)
    first, second = (index.index[(index["city"] == city) & (index["split"] == "training")][0] for city in CITIES)
    pixels = np.zeros((20, SIZE, SIZE, 3), np.uint8)
    pixels[first] = np.random.default_rng(0).integers(0, 250, pixels.shape[1:])
    pixels[second] = pixels[first] + 5
    files.write_array("data/prepare/images.npy", pixels)
    check(plan, "splits")
    said = capfd.readouterr().err
    assert '"no image has a near-copy in another city"' in said and "failed for 2 of 20 rows" in said
    assert f"here in {CITIES[0]}; in {CITIES[1]}: images/{CITIES[1]}/" in said


def test_a_near_copy_in_another_split_stops_a_study_by_spot_and_is_told_of_a_random_one(
    study: Path, plan: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    index = files.read_table(INDEX)
    training, test = (index.index[index["split"] == name][0] for name in ("training", "test"))
    pixels = np.zeros((20, SIZE, SIZE, 3), np.uint8)
    pixels[training] = np.random.default_rng(0).integers(0, 250, pixels.shape[1:])
    pixels[test] = pixels[training] + 5
    files.write_array("data/prepare/images.npy", pixels)
    first, second = sorted((training, test))
    path = f"images/{index.loc[second, 'city']}/{second % 10}.jpg"
    told = f"here in {index.loc[first, 'split']}; in {index.loc[second, 'split']}: {path} (0 of 64 bits differ)"
    failed = f"failed for 2 of 20 rows; first: row {first} {index.loc[first, 'id']}"
    cities = index["city"].tolist()
    assert cities[first] == cities[second]
    which = '"no image has a near-copy in another split" (expect_column_values_to_be_null on near_copy)'
    refused(plan, "splits", f"{which} {failed} (near_copy: {told}; such pairs in all: 1)")
    check(dataclasses.replace(plan, prepare=dataclasses.replace(plan.prepare, split="random")), "splits")
    assert f"{failed} (near_copy_random: {told}; such pairs in all: 1)" in capfd.readouterr().err
    assert json.loads(Path("reports/validate/splits.json").read_text())["success"]


def test_probes_are_written_and_logged_with_the_splits_and_need_every_file(study: Path, plan: Settings) -> None:
    check(plan, "splits")
    written = json.loads(Path("reports/validate/probes.json").read_text())
    test = _test(study)
    assert (written["images"], written["largest_city"]) == (len(test), 0.5)
    logged = validate.logged("splits")
    assert Path("reports/validate/probes.json") in logged.files
    for name in ("file", "colour", "border", "low_pass"):
        assert logged.metrics[f"probe_{name}"] == written["probes"][name]["accuracy"]
    missing = Path("data/acquire/images") / f"{test['city'].iloc[0]}" / f"{test['id'].iloc[0].split('-')[1]}.jpg"
    missing.unlink()
    with pytest.raises(InputError, match=f"{missing}: no such file"):
        check(plan, "splits")


def test_a_city_without_test_images_and_shares_that_are_off(study: Path, plan: Settings) -> None:
    index = files.read_table(INDEX)
    moved = (index["city"] == "west") & (index["split"] != "training")
    files.write_table(INDEX, index.assign(split=index["split"].where(~moved, "training")))
    message = refused(plan, "splits", '"every city is in every split"', "10 of 20 rows", "(city_splits: 1)")
    assert '"each city\'s shares are as asked for"' in message
    assert "(city_share_excess: 0.2)" in message  # 1.0 instead of 0.6, less the fifth that one spot of five makes


def test_pixels_and_images_that_do_not_match(study: Path, plan: Settings) -> None:
    files.write_array("data/prepare/images.npy", np.zeros((19, SIZE, SIZE, 3), np.uint8))
    refused(plan, "splits", '"every image has its pixels"', "failed for 1 of 20 rows; first: row 19 west-9")
    files.write_array("data/prepare/images.npy", np.zeros((20, SIZE, SIZE + 1, 3), np.uint8))
    files.write_table(INDEX, files.read_table(INDEX).assign(label=1)[:-1])
    message = refused(
        plan, "splits", '"every image is in a split"', "failed for 2 of 21 rows; first: row 19 (split: missing)"
    )
    assert '"every row of pixels has its image"' in message
    assert '"pixels have the working size"' in message and "first: row 0 east-0 (pixels: 32 x 33 x 3 uint8)" in message
    assert (
        '"labels are the cities\' places in the alphabet"' in message
        and "10 of 19 rows; first: row 0 east-0" in message
    )


def test_nan_in_a_mask(study: Path, plan: Settings) -> None:
    maps = np.load(MASKS)
    maps[2, 0, :2] = np.nan, np.inf
    files.write_array(MASKS, maps)
    first = f"failed for 1 of 8 rows; first: simple-0 row 2 {_test(study)['id'].iloc[2]} (not_finite: 2)"
    message = refused(plan, "masks", '"no mask holds NaN or infinity"', first)
    assert len(message.splitlines()) == 2


def test_masks_of_other_images(study: Path, plan: Settings) -> None:
    maps, index = np.load(MASKS), files.read_table(MASK_INDEX)
    files.write_array(MASKS, maps[:-1])
    files.write_table(MASK_INDEX, index[::-1])
    message = refused(plan, "masks", '"every test image has a mask"', "failed for 1 of 8 rows; first: simple-0 row 3 ")
    ordered = '"masks are in the order of the test images" (expect_column_pair_values_to_be_equal on mask_id, id)'
    assert f"{ordered} failed for 4 of 8 rows" in message
    files.write_array(MASKS, np.concatenate([maps, maps[:1]]).astype(np.float64))
    files.write_table(MASK_INDEX, index[:-1])
    message = refused(
        plan, "masks", '"every mask has its test image"', "failed for 1 of 9 rows; first: simple-0 row 4\n"
    )
    assert '"every test image is in the masks\' index"' in message
    assert '"masks are 32-bit floats"' in message and "5 of 9 rows; first: simple-0 row 0 " in message


def test_dead_masks(study: Path, plan: Settings, capfd: pytest.CaptureFixture[str]) -> None:
    maps = np.load(MASKS)
    maps[:3] = -1
    files.write_array(MASKS, maps)
    message = refused(plan, "masks", '"dead masks are flagged"', "failed for 3 of 8 rows", "(dead: 0, found_dead: 1)")
    assert '"few masks of a network are dead"' not in message
    assert '"few masks of a network are dead"' in capfd.readouterr().err
    files.write_table(MASK_INDEX, files.read_table(MASK_INDEX).assign(dead=[1, 1, 1, 0]))
    strict = with_bounds(plan, masks=dataclasses.replace(plan.validate.masks, dead_share_critical=0.5))
    refused(
        strict, "masks", '"not too many masks of a network are dead"', "failed for 4 of 8 rows", "(dead_share: 0.75)"
    )


def test_an_index_that_makes_no_sense(study: Path, plan: Settings) -> None:
    change(MASK_INDEX, 0, predicted="north")
    change(MASK_INDEX, 1, probability=1.5)
    change(MASK_INDEX, 2, dead=None, city="none")
    files.write_array(MASKS, np.linspace(-1, 1, 4, dtype=np.float32).reshape(4, 1, 1))
    message = refused(plan, "masks")
    told = {line.split('"')[1]: line.partition("first: ")[2] for line in message.splitlines()[:-1]}
    assert told["predicted cities are known"].endswith("(predicted: north)")
    assert told["probabilities are between 0 and 1"].endswith("(probability: 1.5)")
    assert told["every mask says whether it is dead"].startswith("simple-0 row 2 ")
    assert "(mask_city: none, city: " in told["cities are the test images' own"]
    assert told["masks are two cells high or more"].endswith("(height: 1)")


def test_labels_without_a_name(study: Path, plan: Settings) -> None:
    labels = np.load(LABELS)
    labels[1, 0, :2] = 4, 151
    files.write_array(LABELS, labels)
    table = files.read_table(SEGMENT_INDEX)
    files.write_table(SEGMENT_INDEX, table.assign(coverage=(labels > 0).mean(axis=(1, 2))))
    first = f"failed for 1 of 4 rows; first: row 1 {table['id'].iloc[1]} (unknown_label: 151)"
    assert len(refused(plan, "segmentation", '"every label is known"', first).splitlines()) == 2


def test_coverage(study: Path, plan: Settings) -> None:
    labels = np.load(LABELS)
    labels[:3] = 0
    files.write_array(LABELS, labels)
    bounds = dataclasses.replace(plan.validate.segmentation, min_coverage=0.5)
    message = refused(with_bounds(plan, segmentation=bounds), "segmentation", '"images are labelled enough on average"')
    assert "failed for 4 of 4 rows (observed 0.1" in message
    assert '"every image is labelled enough"' in message and "failed for 3 of 4 rows" in message
    assert '"coverage is as the label maps have it"' in message


def test_one_object_everywhere(study: Path, plan: Settings) -> None:
    """As a network gives it whose numbers are broken; a few pixels differ."""
    labels = np.ones_like(np.load(LABELS))
    labels[0, 0] = 2
    files.write_array(LABELS, labels)
    files.write_table(SEGMENT_INDEX, files.read_table(SEGMENT_INDEX).assign(coverage=1.0))
    message = refused(plan, "segmentation", '"no object is nearly everywhere"', "(largest_share: 0.99")
    assert len(message.splitlines()) == 2


def blurred(labels: np.ndarray, factor: float, how: Resampling) -> np.ndarray:
    """Resize a label map as if it were a photograph, and back."""
    height, width = labels.shape
    resized = Image.fromarray(labels).resize((round(width * factor), round(height * factor)), how)
    return np.asarray(resized.resize((width, height), Resampling.NEAREST))


def through_jpeg(labels: np.ndarray) -> np.ndarray:
    stream = BytesIO()
    Image.fromarray(np.roll(labels, 3, axis=(0, 1))).save(stream, "JPEG")  # its blocks have 8 px too
    return np.minimum(np.asarray(Image.open(stream)), 150)


def cityscapes(labels: np.ndarray) -> np.ndarray:
    """The shares of a street: road, sidewalk, building, vegetation, sky, person, car."""
    ids = np.repeat([7, 8, 11, 21, 23, 24, 26], [40, 6, 23, 17, 4, 2, 8]).astype(np.uint8)
    return np.resize(np.repeat(ids, labels.size // 100 + 1), labels.shape)


@pytest.mark.parametrize(
    ("spoil", "expectation", "said"),
    [
        (lambda labels: labels - 1, "labels are ADE20K's numbers", "numbered from 0, not from 1"),
        (lambda labels: labels + 1, "labels are ADE20K's numbers", "numbered from 2, not from 1"),
        (lambda labels: labels * 0, "labels are ADE20K's numbers", "nobody had labelled anything: all pixels are 0"),
        (cityscapes, "labels are ADE20K's numbers", "as if Cityscapes' labelIds"),
        (lambda labels: labels % 20 + 60, "labels are ADE20K's numbers", "as if from another list: 0% of the labelled"),
        (lambda labels: blurred(labels, 0.7, Resampling.BILINEAR), "no label map looks resampled", "only as edges"),
        (lambda labels: blurred(labels, 1.6, Resampling.BICUBIC), "no label map looks resampled", "only as edges"),
        (through_jpeg, "no label map looks resampled", "labels only as edges thinner than 2 px"),
        (lambda labels: blurred(labels, 0.7, Resampling.NEAREST), "", ""),
    ],
)
def test_label_maps_that_look_wrong_are_warned_of(
    study: Path,
    plan: Settings,
    capfd: pytest.CaptureFixture[str],
    spoil: Callable[[np.ndarray], np.ndarray],
    expectation: str,
    said: str,
) -> None:
    """In one city only; the other city's label maps are right."""
    for path in Path("data/acquire/labels/west").iterdir():
        images.write_png(path, spoil(images.read_labels(path)))
    check(plan, "images")
    told = capfd.readouterr().err.splitlines()
    assert [line.split('"')[1] for line in told] == [expectation] * bool(said)
    assert all("failed for 10 of 20 rows; first: images/west/0.jpg" in line and said in line for line in told)


def test_one_label_map_for_several_images_is_warned_of(
    study: Path, plan: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    table = files.read_table(MANIFEST)
    table.loc[2:4, "labels"] = table.loc[2, "labels"]
    table.loc[8:, "labels"] = None
    files.write_table(MANIFEST, table)
    check(plan, "images")
    (told,) = [line for line in capfd.readouterr().err.splitlines() if "every label map is of one image" in line]
    paths = table["path"]
    assert f"failed for 3 of 20 rows; first: {paths[2]} (labels_shared: {paths[4]})" in told


def test_a_label_map_as_jpeg_is_refused(study: Path, plan: Settings) -> None:
    path = Path("data/acquire/labels/east/1.png")
    Image.open(path).save(path, "JPEG", quality=100)
    said = "a label map as JPEG, which may change labels; allowed: PNG, BMP, or TIFF"
    refused(
        plan, "images", '"every label map decodes"', f"1 of 20 rows; first: images/east/1.jpg (labels_decode: {said}"
    )


def test_label_maps_of_other_images(study: Path, plan: Settings) -> None:
    table = files.read_table(SEGMENT_INDEX)
    files.write_table(SEGMENT_INDEX, table.assign(id=table["id"].to_numpy()[::-1]))
    files.write_array(LABELS, np.ones((3, SIZE, SIZE - 1), np.uint8))
    message = refused(
        plan, "segmentation", '"label maps are in the order of the test images"', "failed for 4 of 4 rows"
    )
    assert '"label maps have the working size"' in message and "(pixels: 32 x 31 uint8)" in message
    assert '"every test image has a label map"' in message and "failed for 1 of 4 rows; first: row 3 " in message


def test_share_excess_by_hand() -> None:
    # Ten images in spots of 4, 2, 2, 1, 1: the largest spot is worth 0.4, so that 0.9 instead of 0.6 is no excess.
    table = pd.DataFrame({"city": "east", "spot": list("aaaabbccde"), "split": ["training"] * 9 + ["test"]})
    within, across = facts.share_excess(table, SHARES, by_spot=True)
    assert within.tolist() == across.tolist() == [0.0] * 10
    # Over images one is worth 0.1: 0.9 is 0.2 too much, 0.1 instead of 0.2 is met.
    within, _ = facts.share_excess(table, SHARES, by_spot=False)
    assert within.tolist() == [0.2] * 9 + [0.0]


@pytest.mark.parametrize("by_spot", [True, False])
def test_no_split_that_is_made_exceeds_the_shares(by_spot: bool) -> None:
    generator = np.random.default_rng(1)
    for trial in range(20):
        sizes = [generator.geometric(0.2, generator.integers(3, 30)) for _ in CITIES]
        rows = [
            (city, str(spot))
            for city, counts in zip(CITIES, sizes, strict=True)
            for spot in np.repeat(range(len(counts)), counts)
        ]
        table = pd.DataFrame(rows, columns=["city", "spot"])
        spots = list(table["spot"]) if by_spot else None
        table["split"] = splits.split(list(table["city"]), spots, list(SHARES.values()), trial)
        within, across = facts.share_excess(table, SHARES, by_spot=by_spot)
        assert max(within.max(), across.max()) == 0, trial


def test_complaints_of_two_suites_are_told_together(study: Path, plan: Settings) -> None:
    change(MASK_INDEX, 0, predicted="north")
    labels = np.load(LABELS)
    labels[0, 0, 0] = 151
    files.write_array(LABELS, labels)
    message = refused(plan, "masks", 'masks: expectation "predicted cities are known"')
    assert 'segmentation: expectation "every label is known"' in message
    assert (
        ".citylens/data_docs/masks/index.html" in message and ".citylens/data_docs/segmentation/index.html" in message
    )
    Path(MASKS).unlink()
    message = refused(plan, "segmentation", 'segmentation: expectation "every label is known"')
    assert message.startswith(f"{MASKS}: no such file")


def test_what_is_logged(study: Path, plan: Settings) -> None:
    check(plan, "masks")
    logged = validate.logged("results")
    assert logged.metrics == {
        "masks_expectations": 23,
        "masks_warnings": 0,
        "segmentation_expectations": 13,
        "segmentation_warnings": 0,
    }
    reports = [f"reports/validate/{suite}.json" for suite in ("masks", "segmentation")]
    assert [str(path) for path in logged.files] == [
        *reports,
        "reports/data_docs/masks",
        "reports/data_docs/segmentation",
    ]
    assert all(path.exists() for path in logged.files)


def test_pages_are_the_same_bytes_each_time_and_fetch_nothing(study: Path, plan: Settings) -> None:
    index = files.read_table(INDEX)
    files.write_table(INDEX, index.assign(split="test", spot=index["spot"].where(index["spot"] != "spot0", "spot1")))
    written = []
    for _ in range(2):
        refused(plan, "splits", '"every city is in every split"')
        written.append({path.name: path.read_bytes() for path in Path(".citylens/data_docs/splits").rglob("*.*")})
    assert written[0] == written[1]
    assert sorted(written[0]) == ["expectations.html", "index.html"]
    for page in (content.decode() for content in written[0].values()):
        assert "no spot is in two splits" in page
        assert not re.search(r'<script|<link|src="|url\(', page) and len(page) < 100_000
        assert set(re.findall(r'href="([^#"]*)"', page)) <= {"index.html", "expectations.html", NEWSLETTER}


NEWSLETTER = (
    "https://greatexpectations.io/newsletter"
    "?utm_source=datadocs&utm_medium=product&utm_campaign=newsletter&utm_content=form"
)


@pytest.mark.parametrize(
    ("spoil", "part"),
    [
        (lambda suite: suite.pop("meta"), "'meta' is missing"),
        (lambda suite: suite["expectations"][0].update(type="expect_nothing"), "expect_nothing"),
        (lambda suite: suite["expectations"][0]["kwargs"].update(colum="id"), "colum"),
        (lambda suite: suite["expectations"][1]["kwargs"].update(column="none"), "none"),
        (lambda suite: suite["expectations"].append(suite["expectations"][0]), "two expectations have one description"),
        (lambda suite: suite["expectations"][0]["kwargs"].update(min_value={"$PARAMETER": "fewest"}), "fewest"),
    ],
)
def test_a_spoilt_suite(study: Path, plan: Settings, spoil, part: str) -> None:  # type: ignore[no-untyped-def]
    suite = json.loads(Path("suites/splits.json").read_text())
    spoil(suite)
    Path("suites/splits.json").write_text(json.dumps(suite))
    with pytest.raises(InputError) as caught:
        check(plan, "splits")
    assert str(caught.value).startswith("suites/splits.json: ")
    assert part in str(caught.value)


def test_every_expectation_is_described() -> None:
    for suite in ("images", "splits", "masks", "segmentation"):
        described = json.loads((ROOT / "suites" / f"{suite}.json").read_text())
        assert described["name"] == suite
        for said in described["expectations"]:
            assert list(said) == ["description", "type", "severity", "kwargs", "notes"]
            assert said["severity"] in ("critical", "warning")
            assert said["notes"].endswith(".")
