"""What users get wrong: the error names the file, row or key and what is allowed, and what was there stays."""

from __future__ import annotations

import csv
import os
import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import configured
import hypothesis
import numpy as np
import pyarrow as pa
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin
from pyarrow import parquet

from citylens import cli
from citylens.acquire import sources
from citylens.errors import InputError
from citylens.io import files, images
from citylens.nets import checkpoints, networks
from citylens.settings import parser

PROFILES = Path(__file__).parents[1] / "profiles"
DEMO = (PROFILES / "demo.yaml").read_text()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def picture(path: Path, mode: str = "RGB", size: tuple[int, int] = (8, 6)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size).save(path)
    return path


def two_cities(root: Path, each: int = 6) -> Path:
    for city in ("a", "b"):
        for number in range(each):
            picture(root / city / f"{number}.png")
    return root


def acquire(root: Path, source: str, capsys: pytest.CaptureFixture[str], **changes: object) -> tuple[int, str]:
    """Exit status and error text of `citylens acquire`."""
    mapping = yaml.safe_load(DEMO)
    mapping["acquire"] |= {"source": source, "path": str(root)} | changes
    files.write_text("params.yaml", yaml.safe_dump(mapping))
    return cli.main(["acquire"]), capsys.readouterr().err


# Images


def truncated(path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 60, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-4000])


def bomb(path: Path) -> None:
    """A PNG that says it has 10,000 x 30,000 px, and holds none of them."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 10_000, 30_000, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (truncated, "cannot be decoded"),
        (lambda path: path.write_bytes(b""), r"empty \(0 bytes\)"),
        (lambda path: path.write_text("no image"), "not an image; allowed: JPEG, PNG"),
        (
            lambda path: path.write_bytes(b"\0\0\0\x18ftypheic" + bytes(60)),
            "HEIC, whatever its name ends with; convert it; allowed: JPEG",
        ),
        (lambda path: path.write_bytes(b"8BPS" + bytes(64)), "a Photoshop file, whatever its name ends with"),
        (bomb, "megapixels"),
        (lambda path: path.unlink(), "no such file"),
    ],
    ids=["truncated", "zero bytes", "text", "HEIC", "Photoshop", "10,000 x 30,000 px", "missing"],
)
def test_a_spoilt_image_is_named(tmp_path: Path, spoil: Callable[[Path], object], said: str) -> None:
    path = picture(tmp_path / "street.png")
    spoil(path)
    with pytest.raises(InputError, match=rf"street\.png: .*{said}"):
        images.read_rgb(path, max_megapixels=100)


def test_a_small_tiff_made_of_one_huge_tile_is_not_decoded(tmp_path: Path) -> None:
    """8 x 8 px in a tile of 2000 x 2000, which decoding would need memory for."""
    pixels = zlib.compress(bytes(2000 * 2000))
    tags = [(256, 8), (257, 8), (258, 8), (259, 8), (262, 1), (277, 1), (322, 2000), (323, 2000)]
    tags += [(324, 8 + 2 + 12 * 10 + 4), (325, len(pixels))]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    path = tmp_path / "street.tif"
    path.write_bytes(struct.pack("<4sIH", b"II*\0", 8, len(tags)) + entries + bytes(4) + pixels)
    assert images.read_rgb(path, max_megapixels=5).shape == (8, 8, 3)
    with pytest.raises(InputError, match=r"street\.tif: 2000 x 2000 px; allowed: 1 megapixels"):
        images.read_rgb(path, max_megapixels=1)


def test_an_image_with_megabytes_of_text_is_read_and_a_bomb_of_text_is_named(tmp_path: Path) -> None:
    path, image = tmp_path / "street.png", Image.new("RGB", (8, 6))
    for megabytes, fault in ((20, None), (33, "MAX_TEXT_CHUNK; allowed: texts and colour profiles of 32 MB each")):
        history = PngImagePlugin.PngInfo()
        history.add_itxt("history", " " * (megabytes << 20), zip=True)
        for options in ({"pnginfo": history}, {"icc_profile": bytes(megabytes << 20)}):
            image.save(path, **options)
            assert path.stat().st_size < 100_000
            if fault:
                with pytest.raises(InputError, match=rf"street\.png: cannot be opened: .*{fault}"):
                    images.read_header(path)
            else:
                assert images.read_rgb(path).shape == (6, 8, 3)


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "RGBA", "LA", "1", "I;16"])
def test_every_common_mode_is_read_as_8_bit_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("street.jpg" if mode == "CMYK" else "street.png")
    grey = np.full((6, 8), 128, np.uint8)
    if mode == "I;16":
        Image.fromarray(grey.astype(np.uint16) << 8).save(path)
    else:
        colour = Image.fromarray(np.full((6, 8), 255, np.uint8) if mode == "1" else grey).convert("RGB")
        (colour.quantize() if mode == "P" else colour.convert(mode)).save(path)
    image = images.read_rgb(path)
    assert image.shape == (6, 8, 3) and image.dtype == np.uint8
    assert abs(image.astype(int) - (255 if mode == "1" else 128)).max() <= 3


def test_an_image_is_turned_upright(tmp_path: Path) -> None:
    path, stored = tmp_path / "street.png", np.zeros((4, 9, 3), np.uint8)
    stored[:, :3] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # stored a quarter turn counter-clockwise
    Image.fromarray(stored).save(path, exif=exif)
    upright = images.read_rgb(path)
    header = images.read_header(path)
    assert upright.shape[:2] == (header.height, header.width) == (9, 4)
    assert (upright[:3] == 255).all() and (upright[3:] == 0).all()


def test_a_float_image_is_refused_by_name(tmp_path: Path) -> None:
    Image.new("F", (4, 4)).save(tmp_path / "street.tif")
    with pytest.raises(InputError, match=r"street\.tif: pixels of mode F; allowed: 8 or 16 bits"):
        images.read_rgb(tmp_path / "street.tif")


@pytest.mark.parametrize(("kind", "bits"), [(np.uint16, 12), (np.uint16, 8), (np.int32, 8), (np.int32, 16)])
def test_pixels_that_are_not_scaled_to_16_bits_are_refused(tmp_path: Path, kind: type, bits: int) -> None:
    """They would all be black."""
    path, grey = tmp_path / "street.tif", np.linspace(0, (1 << bits) - 1, 48).reshape(6, 8).astype(kind)
    Image.fromarray(grey).save(path)
    if bits == 16:
        assert images.read_rgb(path).max() == 255
    else:
        with pytest.raises(
            InputError, match=rf"street\.tif: no pixel above {grey.max()} of 65535.*; allowed: pixels scaled"
        ):
            images.read_rgb(path)


def test_a_colour_label_map_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="label map of mode RGB; allowed: one byte a pixel"):
        images.read_labels(picture(tmp_path / "labels.png"))


@pytest.mark.parametrize(
    ("ending", "options", "said"),
    [
        ("png", {}, ""),
        ("bmp", {}, ""),
        ("tif", {}, ""),
        ("tif", {"compression": "tiff_lzw"}, ""),
        ("tif", {"compression": "tiff_adobe_deflate"}, ""),
        ("tif", {"compression": "jpeg"}, "a label map as TIFF jpeg, which may change labels"),
        ("jpg", {"quality": 100}, "a label map as JPEG, which may change labels; allowed: PNG, BMP, or TIFF"),
        ("webp", {"quality": 90}, "a label map as WEBP, which may change labels"),
        ("gif", {}, "a label map as GIF, which may change labels"),
        ("pgm", {}, "a label map as PPM, which may change labels"),
        ("jp2", {}, "a label map as JPEG2000, which may change labels"),
    ],
)
def test_label_maps_are_read_from_formats_that_change_no_pixel(
    tmp_path: Path, ending: str, options: dict[str, object], said: str
) -> None:
    labels, path = np.random.default_rng(0).integers(0, 151, (24, 32), np.uint8), tmp_path / f"labels.{ending}"
    Image.fromarray(labels).save(path, **options)
    if said:
        with pytest.raises(InputError, match=said):
            images.read_labels(path)
    else:
        assert (images.read_labels(path) == labels).all()


def test_a_palette_shows_labels_as_colours_and_no_other_greys(tmp_path: Path) -> None:
    """Tools that shrink files number the greys of a label map anew."""
    indices = np.arange(4, dtype=np.uint8).repeat(8).reshape(4, 8)
    for name, palette in (
        ("colours", [[9, 9, 9], [200, 0, 0], [0, 0, 9], [1, 2, 3]]),
        ("greys", [[n] * 3 for n in (0, 2, 3, 7)]),
    ):
        image = Image.fromarray(indices, "P")
        image.putpalette(np.array(palette, np.uint8).tobytes())
        image.save(tmp_path / f"{name}.png")
    assert (images.read_labels(tmp_path / "colours.png") == indices).all()
    with pytest.raises(InputError, match=r"greys\.png: a label map with a palette of greys other than their indices"):
        images.read_labels(tmp_path / "greys.png")


# Sources


def test_folders_become_cities_and_spots(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = two_cities(project / "photographs")
    picture(root / "a" / "square" / "north.png")
    picture(root / "a" / "square" / "south.png")
    for hidden in (root / "a" / "._0.png", root / "a" / ".trash" / "0.png", root / ".trash" / "0.png"):
        picture(hidden)
    assert acquire(root, "folder", capsys) == (0, "")
    table = files.read_table("data/acquire/manifest.csv", ["id", "city", "spot", "path", "sha256"])
    assert table["city"].value_counts().to_dict() == {"a": 8, "b": 6}
    assert (table["spot"] == "a/square").sum() == 2 and table["spot"].nunique() == 13
    assert all((Path("data/acquire") / path).is_file() for path in table["path"])
    assert set(zip(table["width"], table["height"], table["codec"], strict=True)) == {(8, 6, "png")}


def emptied(path: Path) -> None:
    """An empty file in the place of another, which may have a second name."""
    path.unlink()
    path.touch()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda root: [path.unlink() for path in (root / "b").iterdir()], "one city only (a); allowed: two or more"),
        (
            lambda root: [path.unlink() for path in list((root / "b").iterdir())[:2]],
            "city b has 4 image(s); allowed: 5 or more",
        ),
        (lambda root: emptied(root / "a" / "0.png"), "0.png: empty (0 bytes)"),
        (
            lambda root: picture(root / "0.png"),
            "photographs/0.png lies in no city's folder; allowed: one folder a city",
        ),
        (lambda root: (root / "a" / "9.png").symlink_to(picture(root.parent / "9.png")), "a/9.png leaves the folder"),
    ],
    ids=["one city", "four images", "zero bytes", "no city", "link out"],
)
def test_a_bad_folder_is_refused_and_nothing_lost(
    project: Path, capsys: pytest.CaptureFixture[str], change: Callable[[Path], object], said: str
) -> None:
    root = two_cities(project / "photographs")
    assert acquire(root, "folder", capsys)[0] == 0
    before = sorted(path.read_bytes() for path in Path("data/acquire").rglob("*") if path.is_file())
    change(root)
    status, error = acquire(root, "folder", capsys)
    assert status == 1 and said in error and error.startswith("citylens acquire: ")
    assert sorted(path.read_bytes() for path in Path("data/acquire").rglob("*") if path.is_file()) == before
    assert [path.name for path in Path("data").iterdir()] == ["acquire"], "no draft is left behind"


@pytest.mark.parametrize(
    ("root", "said"),
    [
        ("data/acquire", "lies in data/acquire"),
        ("data/acquire/a", "lies in data/acquire"),
        ("data", "holds data/acquire"),
        (".", "holds data/acquire"),
        ("link", "holds data/acquire"),
    ],
)
def test_photographs_in_the_folder_that_acquire_replaces_stay(
    project: Path, capsys: pytest.CaptureFixture[str], root: str, said: str
) -> None:
    """A choice of cities would delete the photographs of the others."""
    two_cities(project / "data" / "acquire")
    (project / "link").symlink_to("data")
    for source in ("folder", "manifest"):
        status, error = acquire(Path(root), source, capsys, cities=["a"])
        assert status == 1 and f"acquire.path: {root} {said}, which this stage replaces" in error
    assert len(list(Path("data/acquire").glob("*/*.png"))) == 12


def manifest(root: Path, rows: list[dict[str, str]], columns: tuple[str, ...] = ("path", "city", "spot")) -> Path:
    with (root / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return root


def test_columns_that_should_not_tell_cities_apart_go_with_the_images(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = two_cities(project / "photos")
    rows = [{"path": f"{city}/{row}.png", "city": city, "Season": "summer"} for city in "ab" for row in range(6)]
    manifest(root, rows, ("path", "city", "Season"))
    assert acquire(root, "manifest", capsys, traits=["season"]) == (0, "")
    assert files.read_table("data/acquire/manifest.csv")["season"].tolist() == ["summer"] * 12
    for trait, said in (
        ("weather", "allowed: columns of .*manifest.csv without another use: season"),
        ("city", "allowed: other names than id, city, spot"),
    ):
        status, error = acquire(root, "manifest", capsys, traits=[trait])
        assert status == 1 and re.search(rf"acquire\.traits: {trait}; {said}", error), error
    status, error = acquire(root, "folder", capsys, traits=["season"])
    assert status == 1 and "acquire.traits: source folder has no such columns" in error


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"path": "a/9.png", "city": "a"}, "row 14: a/9.png: no such file"),
        ({"path": "a/0.png", "city": "a"}, "1 path(s) stand in several rows; first: a/0.png"),
        ({"path": "../secret.png", "city": "a"}, "row 14: ../secret.png leaves the folder"),
        ({"path": "/etc/hostname", "city": "a"}, "row 14: /etc/hostname leaves the folder"),
        ({"path": "a/link.png", "city": "a"}, "row 14: a/link.png leaves the folder"),
        ({"path": "away/secret.png", "city": "a"}, "row 14: away/secret.png leaves the folder"),
        ({"path": "a/0.png", "city": ""}, "row 14: city is empty"),
        ({"path": "a/0.png", "city": "a", "heading": "north"}, "row 14: heading is 'north'; allowed: degrees"),
    ],
    ids=["unknown file", "doubled", "climbs out", "absolute", "link out", "linked folder", "no city", "heading"],
)
def test_a_bad_manifest_row_is_named(
    project: Path, capsys: pytest.CaptureFixture[str], row: dict[str, str], said: str
) -> None:
    root = two_cities(project / "photographs")
    (root / "a" / "link.png").symlink_to(picture(project / "secret.png"))
    (root / "away").symlink_to(project)
    rows = [{"path": f"{city}/{number}.png", "city": city} for city in "ab" for number in range(6)]
    manifest(root, [*rows, row], ("path", "city", "spot", "heading"))
    status, error = acquire(root, "manifest", capsys)
    assert status == 1 and said in error and "manifest.csv" in error
    assert not Path("data").exists() or not list(Path("data").iterdir())


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"path": "a/0.png", "city": "a\rx,b,c,../../etc/passwd"}, "../../etc/passwd' has the character '\\r'"),
        ({"path": "a/\x1b[2J.png", "city": "a"}, "row 2: path: 'a/\\x1b[2J.png' has the character '\\x1b'"),
        ({"path": "a/loop.png", "city": "a"}, "row 2: 'a/loop.png' is no path: Too many levels of symbolic links"),
        ({"path": ".", "city": "a"}, "row 2: .: no such file"),
        (
            {"path": "a/0.png", "city": "=cmd|' /C calc'!A0"},
            "is no name; allowed: a first character other than = + - @",
        ),
        (
            {"path": "a/0.png", "city": "$\\frac$"},
            "is no name; allowed: a first character other than = + - @, and none of $ < > &",
        ),
        ({"path": "a/0.png", "city": "a</script><script>alert(1)</script>"}, "is no name; allowed:"),
        ({"path": "a/0.png", "city": "a&lt;img src=x onerror=alert(1)&gt;"}, "is no name; allowed:"),
        ({"path": "a/0.png", "city": "\u200b\u3164"}, "is no name; allowed:"),
    ],
    ids=[
        "a row more",
        "escape",
        "link to itself",
        "no file",
        "formula",
        "mathematics",
        "HTML",
        "encoded HTML",
        "blank",
    ],
)
def test_a_manifest_that_means_harm_is_refused(
    project: Path, capsys: pytest.CaptureFixture[str], row: dict[str, str], said: str
) -> None:
    root = two_cities(project / "photographs")
    (root / "a" / "loop.png").symlink_to("loop.png")
    status, error = acquire(manifest(root, [row]), "manifest", capsys)
    assert status == 1 and said in error


def test_a_manifest_elsewhere_is_not_read(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = two_cities(project / "photographs")
    (project / "secret.csv").write_text("password\n")
    (root / "manifest.csv").symlink_to(project / "secret.csv")
    status, error = acquire(root, "manifest", capsys)
    assert status == 1 and "acquire.manifest: manifest.csv leaves the folder" in error and "password" not in error
    status, error = acquire(root, "manifest", capsys, manifest="../secret.csv")
    assert status == 1 and "acquire.manifest is '../secret.csv'; allowed: a path inside the folder" in error


ODD = [
    "; touch x",
    "$(touch x)",
    "`touch x`",
    "-rf",
    "a'b\"c",
    "ü €",
    "<img src=x onerror=alert(1)>",
    "%s{0}${x}",
]


def test_a_file_name_is_never_a_command(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CITYLENS_TRACKING", "off")
    root = two_cities(project / "photographs")
    for name in ODD:
        picture(root / "a" / f"{name}.png")
    assert acquire(root, "folder", capsys) == (0, "")
    assert {f"a/{name}.png" for name in ODD} < set(files.read_table("data/acquire/manifest.csv")["path"])
    assert cli.main(["prepare"]) == 0
    assert not list(project.rglob("x")) and {path.name for path in project.iterdir()} >= {"data", "photographs"}


@pytest.mark.parametrize(
    "name", [b"\xff\xfe", b"two\nlines", b"\xe2\x80\xaegnp"], ids=["no UTF-8", "line end", "turned"]
)
def test_a_file_name_that_cannot_be_shown_is_refused(
    project: Path, capsys: pytest.CaptureFixture[str], name: bytes
) -> None:
    root = two_cities(project / "photographs")
    (root / "b" / os.fsdecode(name)).mkdir()
    for image in (root / "a" / f"{os.fsdecode(name)}.png", root / "b" / os.fsdecode(name) / "spot.png"):
        image.hardlink_to(root / "a" / "0.png")
        status, error = acquire(root, "folder", capsys)
        assert status == 1 and "allowed: printable text in UTF-8" in error and error.count("\n") == 1
        image.unlink()


def test_a_packed_manifest_is_not_unpacked_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two kilobytes of Parquet that name one city of a megabyte in 20,000 rows."""
    monkeypatch.setattr(sources, "MEMORY", 300 << 20)
    many = pa.DictionaryArray.from_arrays(pa.array(np.zeros(20_000, np.int32)), pa.array(["x" * 1_000_000]))
    for as_categories in (True, False):
        table = pa.table({"path": many, "city": many})
        parquet.write_table(table, tmp_path / "m.parquet", compression="zstd", store_schema=as_categories)
        assert (tmp_path / "m.parquet").stat().st_size < 100_000
        with pytest.raises(InputError, match=r"m\.parquet: takes more than 0.29 GB of memory to read"):
            sources.from_manifest(tmp_path, "m.parquet")


def test_a_manifest_without_a_column_is_refused(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = manifest(two_cities(project / "photographs"), [], ("path", "spot"))
    status, error = acquire(root, "manifest", capsys)
    assert status == 1 and "column city is missing; required: path, city; found: path, spot" in error


def test_names_that_look_alike_are_one_city_or_refused(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = two_cities(project / "photographs")
    cities = ["K\u00f6ln", "Ko\u0308ln", "K\u00f6\u200bln", "K\u00f6ln\u00a0", " K\u00f6ln", "Ko\u0308ln"]
    rows = [{"path": f"a/{number}.png", "city": city, "spot": city[:3]} for number, city in enumerate(cities)]
    rows += [{"path": f"b/{number}.png", "city": "S\u00e3o  Paulo"} for number in range(6)]
    chosen = ["Ko\u0308ln", "Sa\u0303o Paulo"]
    assert acquire(manifest(root, rows), "manifest", capsys, cities=chosen) == (0, "")
    table = files.read_table("data/acquire/manifest.csv")
    assert table["city"].tolist() == ["K\u00f6ln"] * 6 + ["S\u00e3o Paulo"] * 6
    assert "K\u00f6l" in set(table["spot"]) and "Ko\u0308" not in set(table["spot"])
    for first, second in (("boston", "Boston"), ("Boston", "B\u043eston"), ("Coeur d'Alene", "Coeur d\u2019Alene")):
        rows = [{"path": f"{city}/{number}.png", "city": first} for city in "ab" for number in range(6)]
        rows[-1]["city"] = second
        status, error = acquire(manifest(root, rows), "manifest", capsys)
        assert status == 1 and f"city: {first!a} and {second!a} look alike; allowed: one spelling" in error


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["path,city,spot,city", "a/0.png,a,s,USA"], "column city stands there 2 times; allowed: once"),
        (["path,city,City ", "a/0.png,a,USA"], "column city stands there 2 times; allowed: once"),
        (["path,city,spot", "a/0.png,Boston, USA,s"], "row 2: 4 fields, and 3 in the header; allowed: as many"),
        (["path;city;spot", "a/0.png;a"], "row 2: 2 fields, and 3 in the header; allowed: as many"),
        (
            ["path;city;lat", "a/0.png;a;41,4"],
            "row 2: lat is '41,4'; allowed: degrees from -90 to 90 with a decimal point",
        ),
    ],
)
def test_a_manifest_whose_columns_are_not_clear_is_refused(tmp_path: Path, lines: list[str], said: str) -> None:
    picture(tmp_path / "a" / "0.png")
    (tmp_path / "m.csv").write_text("\n".join(lines))
    with pytest.raises(InputError, match=re.escape(said)):
        sources.from_manifest(tmp_path, "m.csv")


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_manifests_that_other_programs_wrote_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, separator: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    root = tmp_path / "photographs"
    top = root if separator == "," else tmp_path / "link"
    (tmp_path / "link").symlink_to(root)
    for name in ("0", "1", "2", "ru\u00e9 3", "4"):
        picture(root / "cafe\u0301" / f"{name}.png")
    nfc = "caf\u00e9"
    given = [f"{nfc}\\0.png", f"{root}/{nfc}/1.png", f"{top}/{nfc}/2.png", f"{nfc}/rue\u0301 3.png"]
    given.append(f"~/photographs/{nfc}/4.png")
    lines = [separator.join(row) for row in (["Path", " City"], *([path, '"a, b; c"'] for path in given))]
    (root / "m.csv").write_text("\n".join(lines), encoding="utf-8-sig")
    found = sources.from_manifest(top, "m.csv")
    assert [photograph.path for photograph in found] == [
        f"cafe\u0301/{name}.png" for name in ("0", "1", "2", "ru\u00e9 3", "4")
    ]
    assert {photograph.city for photograph in found} == {"a, b; c"}


@pytest.mark.parametrize("before", ["sep=;\n", "\ufeffsep=;\r\n", "\n\n", "\ufeff\r\nSEP=;\r\n"])
def test_lines_before_the_header_that_excel_writes_are_passed_over(tmp_path: Path, before: str) -> None:
    picture(tmp_path / "a" / "0.png")
    (tmp_path / "m.csv").write_bytes(f"{before}path;city\na/0.png;K\u00f6ln\n".encode())
    (found,) = sources.from_manifest(tmp_path, "m.csv")
    assert (found.path, found.city) == ("a/0.png", "K\u00f6ln")


def test_bytes_in_a_parquet_manifest_are_text_or_refused(tmp_path: Path) -> None:
    def read(**columns: object) -> list[sources.Photograph]:
        parquet.write_table(pa.table(columns), tmp_path / "m.parquet")
        return sources.from_manifest(tmp_path, "m.parquet")

    picture(tmp_path / "0.png")
    (found,) = read(path=pa.array([b"0.png"]), city=pa.array(["K\u00f6ln".encode()]).dictionary_encode(), heading=[90])
    assert (found.path, found.city, found.heading) == ("0.png", "K\u00f6ln", "90")
    for value in (b"\xff", ["a"], {"a": 1}, True):
        with pytest.raises(InputError, match=r"row 2: city is .*; allowed: text in UTF-8, or a number"):
            read(path=["0.png"], city=[value])


def test_all_bad_files_are_named_at_once(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = two_cities(project / "photographs", each=9)
    for number in range(7):
        emptied(root / "a" / f"{number}.png")
    status, error = acquire(root, "folder", capsys)
    assert (
        status == 1 and error.count("empty (0 bytes)") == 5 and "a/4.png: empty" in error and "7 faults in all" in error
    )
    rows = [{"path": f"a/{number}.png", "city": "a" * (number != 8)} for number in range(8, 11)]
    status, error = acquire(manifest(root, rows), "manifest", capsys)
    assert "row 2: city is empty" in error and "row 3: a/9.png: no such" in error and "row 4: a/10.png" in error
    assert status == 1 and "3 faults in all" in error and not list(Path("data").iterdir())


def test_a_world_whose_cities_name_no_folders_is_refused(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = (PROFILES.parent / "worlds" / "default.yaml").read_text()
    first = yaml.safe_load(world)["cities"][0]
    for name in ("<b>", "../../b", ".b"):
        Path("world.yaml").write_text(world.replace(first, f'"{name}"'))
        status, error = acquire(project / "world.yaml", "render", capsys)
        assert status == 1 and f"world.yaml: city: '{name}' " in error


def test_cities_can_be_chosen(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = two_cities(project / "photographs")
    for number in range(5):
        picture(root / "c" / f"{number}.png")
    assert acquire(root, "folder", capsys, cities=["a", "c"])[0] == 0
    assert set(files.read_table("data/acquire/manifest.csv")["city"]) == {"a", "c"}
    status, error = acquire(root, "folder", capsys, cities=["a", "d"])
    assert status == 1 and "acquire.cities: no images of d; found: a, b, c" in error


@given(st.binary(max_size=200))
def test_any_bytes_make_a_manifest_or_a_named_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    root = tmp_path_factory.mktemp("manifest")
    (root / "manifest.csv").write_bytes(b"path,city\n" + content)
    try:
        found = sources.from_manifest(root, "manifest.csv")
    except InputError as error:
        said = str(error)
    else:
        said = "" if all(photograph.city for photograph in found) else "an image without a city"
    assert not said or "manifest.csv" in said


# Settings


@pytest.mark.parametrize("profile", sorted(path.stem for path in PROFILES.glob("*.yaml")))
def test_every_profile_is_allowed(profile: str) -> None:
    assert configured.settings(profile).study.networks


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("train.epochs", 0, "train.epochs is 0; allowed: 1 to 10000"),
        (
            "train.learning_rates",
            {"vgg16": 0.1},
            "train.learning_rates is {'vgg16': 0.1}; allowed: a value for each of some of vgg11",
        ),
        ("train.learning_rates", {"vgg11": 2}, "train.learning_rates.vgg11 is 2.0; allowed: 1e-08 to 1"),
        ("train.learning_rate", "fast", "train.learning_rate is 'fast'; allowed: a number"),
        ("train.epochs", True, "train.epochs is True; allowed: a whole number"),
        ("measure.threshold", 1.5, "measure.threshold is 1.5; allowed: 0 to 1"),
        ("measure.threshold", float("nan"), "measure.threshold is NaN"),
        ("prepare.split", "street", "prepare.split is 'street'; allowed: random, spot"),
        ("prepare.shares", [0.6, 0.2], "prepare.shares is [0.6, 0.2]; allowed: three positive shares"),
        ("study.networks", ["vgg12"], "study.networks is ['vgg12']; allowed: vgg11, resnet18, simple, simpler"),
        ("study.seeds", [1, 1], "study.seeds is [1, 1]; allowed: one or more different whole numbers"),
        ("train.epoch", 3, "unknown key train.epoch; did you mean epochs? Allowed: labels, epochs, batch_size"),
        ("acquire", None, "acquire is None; allowed: a mapping of settings"),
        ("study.networks", ["vgg11; touch x"], "study.networks is ['vgg11; touch x']; allowed: vgg11, resnet18"),
        ("segment.csail.encoder", "../../.bashrc", "segment.csail.encoder is '../../.bashrc'; allowed: a path inside"),
        ("segment.onnx.model", "/etc/passwd", "segment.onnx.model is '/etc/passwd'; allowed: a path inside"),
        ("register.prefix", "a\x1b[2J", "register.prefix: 'a\\x1b[2J' has the character '\\x1b'"),
        ("register.prefix", "a&lt;b", "register.prefix is 'a&lt;b'; allowed: a text without < > and &"),
        ("tracking.experiment", "<b>", "tracking.experiment: '<b>' has a character of HTML"),
        ("segment.merge", {"<b>": "wall"}, "segment.merge: '<b>' has a character of HTML"),
        (
            "acquire.cities",
            [7],
            "acquire.cities[0] is 7; allowed: text, in quotes where YAML would read something else",
        ),
        ("acquire.cities", ["a&b"], "acquire.cities: 'a&b' is no name"),
        ("acquire.path", "~/photographs", "acquire.path is '~/photographs'; allowed: a path without ~"),
        ("tracking.address", "http://me:hunter2@example.org", "tracking.address has a password in it"),
    ],
)
def test_a_wrong_setting_is_named(key: str, value: object, said: str) -> None:
    mapping = yaml.safe_load(DEMO)
    *sections, name = key.split(".")
    inner = mapping
    for section in sections:
        inner = inner[section]
    inner[name] = value
    with pytest.raises(InputError) as caught:
        parser.parse(mapping)
    assert said in str(caught.value) and "hunter2" not in str(caught.value)


def test_a_number_too_long_to_show_is_refused() -> None:
    for key, said in (
        ("decay_every", "is a number too long to show"),
        ("learning_rate", "is inf; allowed: 1e-08 to 1"),
    ):
        mapping = yaml.safe_load(DEMO)
        mapping["train"][key] = 10**5000
        with pytest.raises(InputError, match=f"train.{key} {said}"):
            parser.parse(mapping)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: &a [*a, *a]", "its aliases stand for more than"),
        ("".join(f"k{n}: &k{n} [{', '.join([f'*k{n - 1}' if n else '0'] * 9)}]\n" for n in range(9)), "aliases"),
        ("[" * 200_000 + "]" * 200_000, "RecursionError"),
        ("!!python/object/apply:os.system [touch x]", "ConstructorError"),
        ("!!timestamp x", "AttributeError"),
        ("a: {b: 1, c: 2, b: 3}", "line 1: key 'b' stands twice in one mapping"),
    ],
    ids=["itself", "nine of nine of nine", "deep", "code", "no time", "a key twice"],
)
def test_yaml_that_means_harm_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(InputError, match=rf"params\.yaml: not YAML: .*{said}"):
        parser.load(tmp_path / "params.yaml")


def test_a_setting_is_never_a_command(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """dvc.yaml puts study.networks into shell commands: `make repro` checks the settings before it starts DVC."""
    recipe = (PROFILES.parent / "Makefile").read_text().partition("\nrepro:")[2]
    assert recipe.index("citylens check") < recipe.index("dvc repro")
    files.write_text("params.yaml", DEMO.replace("    - simpler", "    - simpler; touch x"))
    assert cli.main(["check"]) == 1 and "'simpler; touch x'" in capsys.readouterr().err and not Path("x").exists()


def test_a_missing_setting_is_named() -> None:
    mapping = yaml.safe_load(DEMO)
    del mapping["explain"]["score"]
    with pytest.raises(InputError, match=r"missing key explain\.score"):
        parser.parse(mapping)


@hypothesis.settings(max_examples=30, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_value_is_settings_or_a_named_error(value: object) -> None:
    mapping = yaml.safe_load(DEMO)
    for section in mapping:
        with pytest.raises(InputError, match=r"params\.yaml"):
            parser.parse(mapping | {section: value})


def test_use_writes_a_profile_with_changes(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "profiles").mkdir()
    (project / "profiles" / "demo.yaml").write_text(DEMO)
    assert cli.main(["use", "demo"]) == 0 and Path("params.yaml").read_text() == DEMO
    assert cli.main(["use", "demo", "train.epochs=7", "acquire.cities=[a, b]"]) == 0
    assert parser.load().train.epochs == 7 and parser.load().acquire.cities == ("a", "b")
    assert cli.main(["use", "demo", "acquire.path=~/photos"]) == 0
    assert parser.load().acquire.path == str(Path("~/photos").expanduser())
    before = Path("params.yaml").read_text()
    for wrong in (
        ["dem"],
        ["demo", "train.epochs=x"],
        ["demo", "train.epoch=1"],
        ["demo", "train"],
        ["demo", "study.seeds.x=1"],
    ):
        assert cli.main(["use", *wrong]) == 1
        assert "allowed" in capsys.readouterr().err and Path("params.yaml").read_text() == before


def test_a_terminal_that_lacks_a_letter_is_no_fault(project: Path) -> None:
    (project / "profiles").symlink_to(PROFILES)
    command = [sys.executable, "-m", "citylens.cli", "use", "photos", "acquire.path=\u0141\u00f3d\u017a"]
    for encoding, shown in (("ascii", b"\\u0141\\xf3d\\u017a"), ("latin-1", b"\\u0141\xf3d\\u017a")):
        done = subprocess.run(command, capture_output=True, env=os.environ | {"PYTHONIOENCODING": encoding}, check=True)
        assert b"acquire.path=" + shown in done.stdout and not done.stderr


# Weights and arrays


def test_weights_that_are_no_safetensors_are_refused_and_never_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "vgg11.safetensors"
    torch.save({"weight": torch.zeros(1)}, path)
    with pytest.raises(InputError, match=r"vgg11\.safetensors: no safetensors file"):
        checkpoints.read_tensors(path)


def test_weights_are_finite_and_of_the_networks_type() -> None:
    network = networks.build("simpler", classes=2, size=64)
    tensors = {name: value.half() for name, value in network.state_dict().items()}
    checkpoints.load_weights(network, tensors, "given.safetensors")
    assert {value.dtype for value in network.state_dict().values()} == {torch.float32}
    for number in (torch.nan, torch.inf):
        tensors["features.0.bias"][0] = number
        said = r"given\.safetensors: NaN or infinity in 1 weight\(s\): features\.0\.bias"
        with pytest.raises(InputError, match=said):
            checkpoints.load_weights(network, tensors, "given.safetensors")


@pytest.mark.parametrize("kind", [torch.int8, torch.uint8, torch.complex64])
def test_weights_that_are_no_floats_are_refused(kind: torch.dtype) -> None:
    """A quantised network's whole numbers mean nothing without their scale."""
    network = torch.nn.BatchNorm2d(2)
    weights = network.state_dict() | {"weight": torch.tensor([100, 27]).to(kind)}
    said = str(kind).removeprefix("torch.")
    with pytest.raises(InputError, match=rf"w: 1 weight.*: weight holds {said}, without the scale of a quantised"):
        checkpoints.load_weights(network, weights, "w")


def test_weights_that_do_not_fit_are_listed(tmp_path: Path) -> None:
    network = networks.build("simpler", classes=2, size=64)
    tensors = dict(network.state_dict())
    tensors["more"] = tensors.pop("features.0.bias")
    tensors["classifier.4.weight"] = torch.zeros(3, 100)
    with pytest.raises(InputError) as caught:
        checkpoints.load_weights(network, tensors, "given.safetensors")
    for said in (
        "3 weight(s)",
        "features.0.bias is missing",
        "more is unknown",
        "classifier.4.weight is (3, 100), not (2, 100)",
    ):
        assert said in str(caught.value)


def test_a_halved_array_is_named(tmp_path: Path) -> None:
    path = tmp_path / "masks.npy"
    files.write_array(path, np.zeros((9, 9)))
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(InputError, match=r"masks\.npy: not a whole \.npy array"):
        files.open_array(path)


def test_what_the_disk_refuses_is_said_in_one_line(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A label map's name leaves no room for the draft of its turned copy."""
    root, labels = two_cities(project / "photographs"), f"{'n' * 250}.png"
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.new("RGB", (8, 6)).save(root / "a" / "0.png", exif=exif)
    picture(root / labels, "L")
    rows = [{"path": f"{city}/{n}.png", "city": city, "labels": labels * (n == 0)} for city in "ab" for n in range(6)]
    status, error = acquire(
        manifest(root, rows, ("path", "city", "labels")), "manifest", capsys, labels_orientation="stored"
    )
    assert status == 1 and "citylens acquire: File name too long: " in error and error.count("\n") == 1


def test_nothing_is_half_written(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "old").write_text("old")
    with pytest.raises(RuntimeError), files.whole_folder(tmp_path / "kept") as draft:
        (draft / "new").write_text("new")
        raise RuntimeError
    with pytest.raises(RuntimeError), files.whole_file(tmp_path / "table.csv") as draft:
        draft.write_text("half")
        raise RuntimeError
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["kept", "old"]


def test_drafts_of_killed_processes_are_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in (".a.csv.0123abcd.draft.csv", ".a.csv.mine.draft-notes", ".a.csv.0123abcd.draft-notes"):
        (tmp_path / name).touch()
    files.write_text(tmp_path / "a.csv", "")
    assert {path.name for path in tmp_path.iterdir()} == {
        "a.csv",
        ".a.csv.mine.draft-notes",
        ".a.csv.0123abcd.draft-notes",
    }


def test_a_folder_stays_if_the_new_one_cannot_take_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = Path.replace

    def replace(path: Path, target: Path) -> Path:
        if path.name.endswith(".draft"):
            raise KeyboardInterrupt
        return known(path, target)

    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "old").touch()
    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(KeyboardInterrupt), files.whole_folder(tmp_path / "kept"):
        pass
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["kept", "old"]


def test_a_link_in_the_place_of_a_folder_is_replaced_and_its_target_stays(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "own").touch()
    (tmp_path / "made").symlink_to("disk")
    with files.whole_folder(tmp_path / "made"):
        pass
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["disk", "made", "own"]


def test_a_large_jpeg_is_decoded_at_a_part_of_its_size_that_is_enough(tmp_path: Path) -> None:
    height, width = np.mgrid[:480, :640]
    smooth = np.stack([height / 2, width / 3, height / 4 + width / 8], axis=-1).astype(np.uint8)
    images.write_jpeg(tmp_path / "a.jpg", smooth, 95)
    images.write_png(tmp_path / "a.png", smooth)
    assert images.read_rgb(tmp_path / "a.jpg").shape == (480, 640, 3)
    quarter = images.read_rgb(tmp_path / "a.jpg", least=97)
    assert quarter.shape == (120, 160, 3)
    assert np.abs(quarter.astype(int) - smooth[2::4, 2::4]).mean() < 2
    assert images.read_rgb(tmp_path / "a.jpg", least=241).shape == (480, 640, 3)
    assert images.read_rgb(tmp_path / "a.png", least=97).shape == (480, 640, 3)
