"""Folders in the layouts of the released data sets, whole and damaged."""

from __future__ import annotations

import base64
import dataclasses
import os
import shutil
import struct
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import configured
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.io import savemat

from citylens import cli
from citylens.acquire import links, mat_lists, releases, sources
from citylens.acquire import stage as acquire
from citylens.acquire.sources import Photograph
from citylens.errors import InputError
from citylens.io import files, images
from citylens.settings.schema import Dataset

PIXELS = np.zeros((48, 64, 3), np.uint8)
TOKYO = Dataset("tokyo", "tokyo247", "tokyo", "all", 0, 0, "fail")
PITTSBURGH = Dataset("pittsburgh", "pitts250k", "pittsburgh", "all", 0, 0, "fail")
COMMON = Dataset("lucia", "vpr", "vpr", "all", 0, 0, "fail")


def write_list(path: Path, names: list[str], places: np.ndarray, **extra: object) -> None:
    """Write a .mat file as NetVLAD releases them; `extra` fields lie between the others, as in TokyoTM's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = np.empty((len(names), 1), object)
    cells[:, 0] = names
    query = np.empty((1, 1), object)
    query[:, 0] = ["000/query.jpg"]
    fields = {"whichSet": "test", "dbImage": cells, "utmDb": places} | extra
    fields |= {"qImage": query, "utmQ": np.zeros((2, 1)), "numDb": len(names), "numQ": 1, "posDistThr": 25.0}
    fields |= {"posDistSqrThr": 625.0, "nonTrivPosDistSqrThr": 100.0}
    savemat(path, {"dbStruct": fields})


def pittsburgh(
    top: Path, spots: int = 6, root: str = "", draw=lambda path: images.write_jpeg(path, PIXELS, 90)
) -> None:
    """Write spots of 24 views (two pitches by twelve yaws) in three lists, and a query beside them."""
    names = [
        f"{spot // 3:03d}/{spot:06d}_pitch{pitch}_yaw{yaw}.jpg"
        for spot in range(spots)
        for pitch in (1, 2)
        for yaw in range(1, 13)
    ]
    for name in [*names, "queries_real/000/000000_pitch1_yaw1.jpg"]:
        draw(top / root / name)
    spot = np.arange(len(names)) // 24
    places = np.stack([585_000.0 + 20 * spot, 4_477_000.0 + 5 * spot])
    for part, rows in zip(("train", "val", "test"), np.array_split(np.arange(len(names)), 3), strict=True):
        write_list(top / f"datasets/pitts250k_{part}.mat", [names[row] for row in rows], places[:, rows])


def tokyo(top: Path, spots: int = 6, root: str = "", draw=lambda path: images.write_png(path, PIXELS)) -> None:
    """Write spots of twelve headings, and a query beside them; the list says .jpg, the files are .png."""
    names, places = [], []
    for spot in range(spots):
        east, north = 381_418.231 + 10 * spot, 3_946_450.428 + 10 * spot
        for heading in range(0, 360, 30):
            names.append(
                f"{3814 + spot % 2:05d}/{east:.3f}_{north:.3f}/JHVdmPpMNQcjBfR7qsWE{spot:02d}_012_{heading:03d}"
            )
            places.append((east, north))
    for name in [*names, "247query_v3/00001"]:
        draw(top / root / f"{name}.png")
    write_list(top / "tokyo247.mat", [f"{name}.jpg" for name in names], np.array(places).T, timestamp=np.zeros(1))


@pytest.mark.parametrize("root", ["", "images", "pitts250k/pitts250k"])
def test_pittsburgh_wherever_its_root_is(tmp_path: Path, root: str) -> None:
    pittsburgh(tmp_path / "pittsburgh", root=root)
    found = releases.from_dataset(tmp_path, PITTSBURGH)
    assert Counter(photograph.spot for photograph in found) == {f"{spot:06d}": 24 for spot in range(6)}
    first = next(one for one in found if one.path.endswith("000001_pitch2_yaw4.jpg"))
    assert (first.city, first.heading, first.pitch, first.view) == ("pittsburgh", "90", "", "pitch2")
    assert (first.utm_east, first.utm_north) == ("585020.000", "4477005.000")
    assert not any("quer" in photograph.path for photograph in found)


@pytest.mark.parametrize("root", ["", "tokyo247/tokyo247"])
def test_tokyo_whose_list_says_jpg_where_the_files_are_png(tmp_path: Path, root: str) -> None:
    tokyo(tmp_path / "tokyo", root=root)
    found = releases.from_dataset(tmp_path, TOKYO)
    assert len(found) == 72 and all((tmp_path / photograph.path).suffix == ".png" for photograph in found)
    assert set(Counter(photograph.spot for photograph in found).values()) == {12}
    one = found[1]
    assert (one.spot, one.heading, one.utm_east) == ("03814/381418.231_3946450.428", "30", "381418.231")


def common(top: Path, **changes: str) -> Path:
    fields = dict.fromkeys(releases.FIELDS, "")
    fields |= {
        "east": "512345.60",
        "north": "6958123.40",
        "zone": "56",
        "letter": "J",
        "lat": "-27.49",
        "lon": "153.01",
    }
    fields |= {"pano_id": "abc", "heading": "90", "pitch": "4"} | changes
    path = top / ("@" + "@".join(fields.values()) + "@.jpg")
    images.write_jpeg(path, PIXELS, 90)
    return path


def test_common_names_with_fields_left_empty(tmp_path: Path) -> None:
    top = tmp_path / "vpr/images/train/database"
    common(top)
    common(top, pano_id="", heading="", pitch="", zone="", lat="", lon="")
    common(tmp_path / "vpr/images/train/queries", pano_id="query")
    (top / "._photograph.jpg").write_bytes(b"what a Mac keeps beside a file")
    found = {photograph.spot: photograph for photograph in releases.from_dataset(tmp_path, COMMON)}
    assert set(found) == {"abc", "512345.60_6958123.40"}
    assert (found["abc"].heading, found["abc"].pitch, found["abc"].utm_north) == ("90", "4", "6958123.40")
    assert (found["abc"].lat, found["abc"].lon) == ("-27.49", "153.01")
    assert found["512345.60_6958123.40"].heading == found["512345.60_6958123.40"].lat == ""


def released(top: Path, name: str) -> None:
    """Write an image with a name as VPR-datasets-downloader gives it."""
    images.write_jpeg(top / name, PIXELS, 90)


def mapillary(top: Path) -> None:
    """Write what format_mapillary.py makes: all cities of a part in one folder, the city in the note, val again as a link test."""
    places = {
        "zurich": (465040.0, 5247001.0, "32@T", "047.37", "0008.54"),
        "boston": (329000.0, 4690000.0, "19@T", "042.35", "-071.07"),
    }
    places |= {"sf": (550000.0, 4180000.0, "10@S", "037.77", "-122.42")}
    for city, (east, north, zone, lat, lon) in places.items():
        part = "val" if city == "sf" else "train"
        for number in range(6):
            place = f"@{east + number:010.2f}@{north:010.2f}@{zone}@{lat}000@{lon}000"
            for folder in ("database", "queries"):
                released(top / part / folder, f"{place}@{city}{folder}{number}@@@@@@20160801@day_forward_{city}@.jpg")
    (top / "test").symlink_to((top / "val").absolute())


def test_a_city_of_mapillary_is_chosen_by_its_note(tmp_path: Path) -> None:
    mapillary(tmp_path / "vpr")
    with pytest.raises(
        InputError, match=r"several cities in one folder\? notes end with: boston, sf, zurich; allowed: note: NAME"
    ):
        releases.from_dataset(tmp_path, COMMON)
    for city in ("zurich", "boston", "sf"):
        found = releases.from_dataset(tmp_path, dataclasses.replace(COMMON, note=city))
        assert len(found) == 6 and all(f"{city}database" in photograph.spot for photograph in found)
    with pytest.raises(InputError, match="no file has a note with 'bos'; notes end with: boston, sf, zurich"):
        releases.from_dataset(tmp_path, dataclasses.replace(COMMON, note="bos"))


@pytest.mark.parametrize(
    ("folder", "form", "spots"),
    [
        # Nordland and AmsterTime have made-up coordinates: a line of 2.38 m steps, and 1 km per pair of up to 1,231.
        ("nordland/images/test/database", lambda n: f"0@{n * 2.38:07.1f}@@@@@{n}@@@@@@@", 12),
        ("amstertime/images/test/database", lambda n: f"0@{n * 100_000}@@@@@{n}@@@@@@@", 12),
        ("st_lucia/images/test/gallery", lambda n: f"05123{n:02d}.60@6958123.40@56@J@-27.49@0153.01@a_{n:05d}@@@@@@@", 12),
        ("eynsham/images/test/database", lambda n: f"61280{n // 5}@5738000@30@U@051.78@-1.36@{n // 5:04d}@{n % 5:02d}@@@@@20080107@", 3),
        ("sf_xl/processed/train/37.70", lambda n: f"0543256.96@4178906.70@10@S@037.75@-122.50@aZ-_x@@{n * 30}@@@@201311@", 1),
        ("san_francisco/images/test/database", lambda n: f"550000.00@4180000.00@10@S@037.77@-122.42@{n // 4}@{n % 4:02d}@{n}@-05@@@@", 3),
        ("tokyo247/images/test/database", lambda n: f"0381418.23@3946450.42@54@S@035.65@0139.69@JHVdmPpMNQcjBfR7qsWE_0@{n:02d}@@@@@@", 1),
        ("pitts/images/val/database", lambda n: f"0585000.00@4477000.00@17@T@040.44@-080.00@000001@{n:02d}@@@@@@pitch1_yaw{n}", 1),
        # Unknown panoramas are written as None; a town on the border of two zones has two kinds of UTM coordinates.
        ("svox/images/train", lambda n: f"{300000 + n % 2 * 399000 + n}@5738000@{31 - n % 2}@U@51.7@{1 - n % 2 * 2}e-3@None@@@@@@@", 12),
    ],
)  # fmt: skip
def test_every_layout_of_vpr_datasets_downloader(
    tmp_path: Path, folder: str, form: Callable[[int], str], spots: int, capfd: pytest.CaptureFixture[str]
) -> None:
    name = folder.partition("/")[0]
    for number in range(12):
        released(tmp_path / folder, f"@{form(number)}@.jpg")
    for other in (f"images/test/queries/@{form(0)}@.jpg", f"map_{name}.png", "raw_data/summer/images-00001.png"):
        released(tmp_path / name, other)
    found = releases.from_dataset(tmp_path, dataclasses.replace(COMMON, path=name))
    assert len(found) == 12 and len({photograph.spot for photograph in found}) == spots
    assert capfd.readouterr().err == ""


def two_cities(top: Path) -> Path:
    for number in range(12):
        images.write_png(top / f"{'ab'[number % 2]}/{number}.png", PIXELS)
    return top


def test_what_is_left_out_of_a_folder_is_counted_and_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    top = two_cities(tmp_path / "photos")
    for name in ("a/1.HEIC", "a/2.heic", "b/notes.txt", "b/README", "a/Thumbs.db", "a/.DS_Store"):
        (top / name).write_bytes(b"x")
    for name in ("a/@eaDir/0.png/SYNOPHOTO_THUMB_M.jpg", "__MACOSX/a/0.png", ".AppleDouble/0.png"):
        images.write_jpeg(top / name, PIXELS, 90)
    Image.fromarray(PIXELS).save(top / "a/3.jfif", "JPEG")
    Image.fromarray(PIXELS).save(top / "a/4.avif")
    for name in ("b/5.gif", "b/6.ppm", "b/7.jp2"):
        Image.fromarray(PIXELS).save(top / name)
    found = sources.from_folder(top)
    assert Counter(photograph.city for photograph in found) == {"a": 8, "b": 9}
    codecs = {images.read_header(top / photograph.path).codec for photograph in found}
    assert codecs == {"png", "jpeg", "avif", "gif", "ppm", "jpeg2000"}
    told = capfd.readouterr().err
    assert (
        told.startswith(f"citylens acquire: left out of {top}: 2 .heic (convert these to JPEG), ")
        and told.count("\n") == 1
    )
    for said in (
        "1 .txt (no photographs)",
        "1 without an ending",
        "1 folder(s) @eaDir",
        "1 folder(s) __MACOSX",
        "read are .jpg, ",
    ):
        assert said in told
    assert "hidden" not in told and "Thumbs" not in told


@pytest.mark.parametrize("target", ["a", "..", "."])
def test_a_linked_city_folder_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], target: str
) -> None:
    top = two_cities(tmp_path / "photos")
    (top / "c").symlink_to(target)
    for name in ("profiles", "dvc.yaml"):
        (tmp_path / name).symlink_to(Path(__file__).parents[1] / name)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["use", "smoke", "acquire.source=folder", "acquire.path=photos"]) == 0
    assert cli.main(["acquire"]) == 1
    assert "photos/c is a link to a folder, which is not followed; allowed: the folder itself" in capfd.readouterr().err


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "Testing"), ("images", "labels")])
def test_parts_of_a_data_set_are_no_cities(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        images.write_png(tmp_path / name / "boston/0.png", PIXELS)
    with pytest.raises(InputError, match=r"\) are parts of a data set, not cities; allowed: one folder a city"):
        sources.from_folder(tmp_path)
    images.write_png(tmp_path / "boston/0.png", PIXELS)
    assert len(sources.from_folder(tmp_path)) == len(names) + 1


def test_names_that_do_not_parse_are_counted_or_skipped(tmp_path: Path) -> None:
    common(tmp_path / "vpr")
    for number in range(7):
        images.write_jpeg(tmp_path / f"vpr/holiday{number}.jpg", PIXELS, 90)
    with pytest.raises(
        InputError, match=r"7 name\(s\) do not parse; first: holiday0.jpg .*holiday4.jpg.*names: skip"
    ) as error:
        releases.from_dataset(tmp_path, COMMON)
    assert "holiday5" not in str(error.value)
    assert len(releases.from_dataset(tmp_path, dataclasses.replace(COMMON, names="skip"))) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"zone": "17"}, "zone 17, but longitude 153.01 lies in zone 56"),
        ({"east": "x"}, "east is 'x'; allowed: numbers from"),
        ({"east": ""}, "no coordinates"),
        ({"north": "nan"}, "north is 'nan'; allowed: numbers from"),
        ({"lat": "91"}, "lat is '91'; allowed: numbers from -90 to 90"),
        ({"zone": "²"}, "zone ², but longitude 153.01 lies in zone 56"),
    ],
)
def test_coordinates_that_cannot_be(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    common(tmp_path / "vpr", **changes)
    with pytest.raises(InputError, match=message):
        releases.from_dataset(tmp_path, COMMON)


def test_two_places_of_one_spot(tmp_path: Path) -> None:
    common(tmp_path / "vpr")
    common(tmp_path / "vpr", east="512399.60")
    with pytest.raises(InputError, match=r"spot abc lies at 512346 east, .* and at 512400 east, .*one place a spot"):
        releases.from_dataset(tmp_path, COMMON)


def test_coordinates_of_another_zone(tmp_path: Path) -> None:
    tokyo(tmp_path / "tokyo")
    names = [
        f"{path.relative_to(tmp_path / 'tokyo').with_suffix('.jpg')}" for path in (tmp_path / "tokyo").glob("038*/*/*")
    ]
    write_list(tmp_path / "tokyo/tokyo247.mat", names, np.tile([[585_000.0], [4_477_000.0]], len(names)))
    with pytest.raises(InputError, match=r"72 image\(s\) lie more than 100 km from .* another zone\?"):
        releases.from_dataset(tmp_path, TOKYO)


def test_a_wrong_root_and_half_a_data_set(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="pittsburgh: no such folder"):
        releases.from_dataset(tmp_path, PITTSBURGH)
    pittsburgh(tmp_path / "pittsburgh")
    top = tmp_path / "pittsburgh"
    shutil.rmtree(top / "001")
    with pytest.raises(
        InputError, match=r"72 of 144 images of pitts250k are missing .*; first: 001/000003_pitch1_yaw1.jpg"
    ):
        releases.from_dataset(tmp_path, PITTSBURGH)
    shutil.rmtree(top / "000")
    with pytest.raises(InputError, match="none of the images that pitts250k's lists name"):
        releases.from_dataset(tmp_path, PITTSBURGH)
    (top / "datasets/pitts250k_val.mat").unlink()
    with pytest.raises(InputError, match=r"comes with .*found: pitts250k_test.mat, pitts250k_train.mat"):
        releases.from_dataset(tmp_path, PITTSBURGH)


def test_acquire_links_what_the_releases_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tokyo(tmp_path / "photos/tokyo")
    pittsburgh(tmp_path / "photos/pittsburgh")
    whole = configured.settings("paper")
    halved = dataclasses.replace(PITTSBURGH, choose="pitch-matched", images=48)
    plan = dataclasses.replace(whole.acquire, path="photos", datasets=(TOKYO, halved))
    acquire.run(dataclasses.replace(whole, acquire=plan))
    manifest = files.read_table("data/acquire/manifest.csv")
    assert manifest["city"].value_counts().to_dict() == {"tokyo": 72, "pittsburgh": 48}
    assert manifest.groupby("city")["spot"].nunique().to_dict() == {"tokyo": 6, "pittsburgh": 4}
    assert manifest["utm_north"].between(3.9e6, 4.5e6).all() and (manifest["width"] == 64).all()
    path = manifest["path"][0]
    assert Path("data/acquire", path).read_bytes() == Path("photos", path).read_bytes()
    with pytest.raises(InputError, match=r"acquire.datasets has tokyo; allowed: two or more different cities"):
        dataclasses.replace(plan, datasets=(TOKYO,))


def test_a_manifest_in_parquet(tmp_path: Path) -> None:
    rows = pd.DataFrame({"path": ["a/1.jpg", "b/2.jpg"], "city": ["a", "b"], "heading": [90.0, np.nan]})
    for name in rows["path"]:
        images.write_jpeg(tmp_path / name, PIXELS, 90)
    rows.assign(lat=[40.4, -33.9], lon=[-80.0, 151.2], spot=[None, "s"]).to_parquet(tmp_path / "list.parquet")
    first, second = sources.from_manifest(tmp_path, "list.parquet")
    assert (first.spot, first.heading, first.lat, first.lon) == ("a/1", "90.0", "40.4", "-80.0")
    assert (second.spot, second.heading) == ("s", "")
    rows.assign(lat=[95.0, 0.0]).to_parquet(tmp_path / "far.parquet")
    with pytest.raises(InputError, match=r"far.parquet, row 2: lat is '95.0'; allowed: degrees from -90 to 90"):
        sources.from_manifest(tmp_path, "far.parquet")
    rows[["path"]].to_parquet(tmp_path / "half.parquet")
    with pytest.raises(InputError, match=r"half.parquet: column city is missing; required: path, city"):
        sources.from_manifest(tmp_path, "half.parquet")
    (tmp_path / "text.parquet").write_text("path,city")
    with pytest.raises(InputError, match=r"text.parquet: not a Parquet table"):
        sources.from_manifest(tmp_path, "text.parquet")


@pytest.mark.parametrize("content", [b"", b"no mat", b"MATLAB 5.0 MAT-file" + bytes(200)])
def test_damaged_lists(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "damaged.mat").write_bytes(content)
    with pytest.raises(InputError, match=r"damaged.mat: no list of a data set .*dbImage and utmDb"):
        mat_lists.read_list(tmp_path / "damaged.mat")


def test_lists_with_other_fields(tmp_path: Path) -> None:
    path = tmp_path / "list.mat"
    savemat(path, {"dbStruct": {"images": np.zeros(3)}})
    with pytest.raises(InputError, match="fields dbImage and utmDb"):
        mat_lists.read_list(path)
    write_list(path, ["a/b.jpg", "a/c.jpg"], np.zeros((2, 3)))
    with pytest.raises(InputError, match=r"utmDb has shape \(2, 3\) for 2 images"):
        mat_lists.read_list(path)
    write_list(path, [], np.zeros((2, 0)))
    with pytest.raises(InputError, match=r"list.mat"):
        mat_lists.read_list(path)
    write_list(path, ["../b.jpg"], np.zeros((2, 1)))
    with pytest.raises(InputError, match=r"'../b.jpg' leaves the data set's folder"):
        mat_lists.read_list(path)


def test_a_list_of_a_few_bytes_does_not_cost_hours_or_memory(tmp_path: Path) -> None:
    """The file names four billion structs without fields, or cells, which take no bytes in it."""

    def tagged(kind: int, body: bytes) -> bytes:
        return struct.pack("<II", kind, len(body)) + body + bytes(-len(body) % 8)

    head = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM"
    name, fields = tagged(1, b"dbStruct"), struct.pack("<HHi", 5, 4, 32) + tagged(1, b"")
    for kind, rest in ((2, name + fields), (1, name)):
        array = tagged(6, struct.pack("<II", kind, 0)) + tagged(5, struct.pack("<ii", 2**31 - 1, 2)) + rest
        (tmp_path / "list.mat").write_bytes(head + tagged(14, array))
        with pytest.raises(InputError, match=r"list\.mat"):
            mat_lists.read_list(tmp_path / "list.mat")


def test_a_pipe_is_no_list_and_folders_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "tokyo247.mat")
    with pytest.raises(InputError, match=r"comes with tokyo247.mat.*found: none of them"):
        releases.from_dataset(tmp_path, dataclasses.replace(TOKYO, path="."))
    (tmp_path / ("a/" * 200)).mkdir(parents=True)
    with pytest.raises(InputError, match="folders within folders, 100 deep"):
        releases.from_dataset(tmp_path, dataclasses.replace(COMMON, path="."))


def test_a_link_inside_the_folder_is_brought_as_the_file_it_leads_to(tmp_path: Path) -> None:
    images.write_png(tmp_path / "photos/a.png", PIXELS)
    (tmp_path / "photos/b.png").symlink_to("../photos/a.png")  # from another folder, this leads elsewhere
    (tmp_path / "brought/in").mkdir(parents=True)
    links.link(tmp_path / "photos/b.png", tmp_path / "brought/in/b.png")
    brought = tmp_path / "brought/in/b.png"
    assert not brought.is_symlink() and brought.read_bytes() == (tmp_path / "photos/a.png").read_bytes()


def test_a_list_that_crashes_its_reader_is_named(tmp_path: Path) -> None:
    """The file lacks eight bytes; scipy 1.17 ends with a segmentation fault."""
    packed = (
        "c%1Wf4DoSvQZUssQ1EpO(M`+DNmU5QNi0drFUqx2D9A6)tk6+#E=o--Nlj76&$ChpF3nT$%P&(fGEy)yure~VGPMLUjLaCw0F0i#"
        "d_d|4BLf2)kmdklCa4rEl+TESLHv}Y;F6-!<Puf}76wkJxHJ%#XJjU41gDk&6?o<*rl&G6l$PYWB*Co$*<-+fu!jZH9<Y!AkSa+n"
        "E&-|kfTW%gO+7P`yI|%!;5Q%cUWh#qzJY;(exhDhK{}E-76i;;MKcG)PlB33jD8L@{UE-co_;dO2$22+B>ik?`k9dY&H(cRJd{7!"
        "6H5aCyv#NA"
    )
    (tmp_path / "list.mat").write_bytes(zlib.decompress(base64.b85decode(packed)))
    with pytest.raises(InputError, match=r"list\.mat: (damaged, such that its reader crashes|no list of a data set)"):
        mat_lists.read_list(tmp_path / "list.mat")


@given(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), max_size=60))
def test_any_name_is_read_or_refused(name: str) -> None:
    for dataset in (TOKYO, PITTSBURGH, COMMON):
        try:
            found = releases._photograph(f"a/b/{name}.jpg", None, dataset)
        except releases.Unreadable:
            continue
        assert found.city == dataset.city and found.spot


def view_choice(choose: str, images: int, seed: int = 0) -> Dataset:
    return Dataset("p", "pitts250k", "p", choose, images, seed, "fail")  # type: ignore[arg-type]


def views() -> list[Photograph]:
    return [
        Photograph(f"{spot}/{pitch}/{yaw}", "p", f"s{spot}", view=f"pitch{pitch}")
        for spot in range(10)
        for pitch in (1, 2)
        for yaw in range(12)
    ]


@pytest.mark.parametrize(
    ("choose", "images", "spots", "sizes"),
    [
        ("pitch-matched", 48, 4, {12}),
        ("whole-spots", 48, 2, {24}),
        ("pitch-matched", 0, 10, {12}),
        ("all", 0, 10, {24}),
    ],
)
def test_views_are_chosen_by_whole_spots(choose: str, images: int, spots: int, sizes: set[int]) -> None:
    chosen = releases.choose_views(views(), view_choice(choose, images))
    counts = Counter(photograph.spot for photograph in chosen)
    assert len(counts) == spots and set(counts.values()) == sizes
    assert choose != "pitch-matched" or {photograph.view for photograph in chosen} == {"pitch1"}
    assert chosen == releases.choose_views(views(), view_choice(choose, images))


def test_random_views_and_too_many() -> None:
    chosen = releases.choose_views(views(), view_choice("random", 50))
    assert len(chosen) == 50 and chosen != releases.choose_views(views(), view_choice("random", 50, seed=1))
    with pytest.raises(InputError, match="p: 121 images asked for, pitch-matched; there are 120"):
        releases.choose_views(views(), view_choice("pitch-matched", 121))
