"""What users get wrong: the error names the file, row or key and what is allowed, and what was there stays."""

from __future__ import annotations

import csv
import os
import struct
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
from PIL import Image
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
        (bomb, "megapixels"),
        (lambda path: path.unlink(), "no such file"),
    ],
    ids=["truncated", "zero bytes", "text", "10,000 x 30,000 px", "missing"],
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


def test_a_colour_label_map_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="label map of mode RGB; allowed: one byte a pixel"):
        images.read_labels(picture(tmp_path / "labels.png"))


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


def manifest(root: Path, rows: list[dict[str, str]], columns: tuple[str, ...] = ("path", "city", "spot")) -> Path:
    with (root / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return root


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
            "is no name; allowed: a first character other than = + - @, and no $",
        ),
    ],
    ids=["a row more", "escape sequence", "link to itself", "no file", "formula", "mathematics"],
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
        ("train.learning_rate", "fast", "train.learning_rate is 'fast'; allowed: a number"),
        ("train.epochs", True, "train.epochs is True; allowed: a whole number"),
        ("measure.threshold", 1.5, "measure.threshold is 1.5; allowed: 0 to 1"),
        ("measure.threshold", float("nan"), "measure.threshold is NaN"),
        ("prepare.split", "street", "prepare.split is 'street'; allowed: random, spot"),
        ("prepare.shares", [0.6, 0.2], "prepare.shares is [0.6, 0.2]; allowed: three positive shares"),
        ("study.networks", ["vgg12"], "study.networks is ['vgg12']; allowed: vgg11, resnet18, simple, simpler"),
        ("study.seeds", [1, 1], "study.seeds is [1, 1]; allowed: one or more different whole numbers"),
        ("train.epoch", 3, "unknown key train.epoch; did you mean epochs? Allowed: epochs, batch_size"),
        ("acquire", None, "acquire is None; allowed: a mapping of settings"),
        ("study.networks", ["vgg11; touch x"], "study.networks is ['vgg11; touch x']; allowed: vgg11, resnet18"),
        ("segment.csail.encoder", "../../.bashrc", "segment.csail.encoder is '../../.bashrc'; allowed: a path inside"),
        ("segment.onnx.model", "/etc/passwd", "segment.onnx.model is '/etc/passwd'; allowed: a path inside"),
        ("register.prefix", "a\x1b[2J", "register.prefix: 'a\\x1b[2J' has the character '\\x1b'"),
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
    ],
    ids=["itself", "nine of nine of nine", "deep", "code", "no time"],
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


# Weights and arrays


def test_weights_that_are_no_safetensors_are_refused_and_never_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "vgg11.safetensors"
    torch.save({"weight": torch.zeros(1)}, path)
    with pytest.raises(InputError, match=r"vgg11\.safetensors: no safetensors file"):
        checkpoints.read_tensors(path)


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
