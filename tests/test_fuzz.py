"""Any bytes are a value, or an error that names the file: the readers of what strangers may have written.

Here a few seconds of the same examples each time. `make fuzz SECONDS=60` looks on for as long, at others.
"""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pyarrow import parquet
from scipy.io import savemat

from citylens.acquire import mat_lists, releases, sources
from citylens.errors import InputError
from citylens.io import images
from citylens.nets import checkpoints
from citylens.segment import csail_parser, downloads, onnx_parser
from citylens.settings import parser
from citylens.settings.schema import Dataset
from citylens.versions import pipeline

ROOT = Path(__file__).parents[1]
SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))
PATIENCE = 30  # seconds for one example; none takes one
MEMORY = 1 << 30  # bytes for all examples of a reader
LOOK = settings(
    max_examples=100 if SECONDS else 60,
    deadline=None,
    derandomize=not SECONDS,
    database=None,
    suppress_health_check=list(HealthCheck),
)
DEMO = (ROOT / "profiles/demo.yaml").read_text()
DATASETS = [Dataset("city", layout, layout, "all", 0, 0, "fail") for layout in ("tokyo247", "pitts250k", "vpr")]
PIECES = [
    b"\0" * 4,
    b"\xff" * 4,
    b"\xff\xff\xff\x7f",
    b"\x01\0\0\0",
    b"\r",
    b"\n",
    b'"',
    b",",
    b"../",
    b"/",
    b"\x1b[2J",
    b"\xed\xa0\x80",
]
YAML = [
    "a: ",
    "&a ",
    "*a",
    "- ",
    "\n",
    "\n  ",
    "[",
    "]",
    "{",
    "}",
    "!!int ",
    "!!bool ",
    "!!timestamp ",
    "!!binary ",
    "!!omap ",
    "<<: ",
    "? ",
    "'",
    '"',
    "0x1f",
    "1e999",
    ".nan",
    "${",
    "}",
    "${item.x}",
    "1.2",
]
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)


def damaged(*whole: bytes) -> st.SearchStrategy[bytes]:
    """Whole files with up to six places written over, cut out or put in; and bytes out of nowhere."""

    def change(content: bytes, edits: list[tuple[float, bool, int, bytes]]) -> bytes:
        for where, over, gone, put in edits:
            at = int(where * len(content))
            content = content[:at] + put + content[at + (len(put) if over else gone) :]
        return content

    piece = st.sampled_from(PIECES) | st.binary(max_size=6)
    edits = st.lists(st.tuples(st.floats(0, 1), st.booleans(), st.integers(0, 12), piece), max_size=6)
    return st.builds(change, st.sampled_from(whole), edits) | st.binary(max_size=300)


def yaml_texts(*whole: str) -> st.SearchStrategy[bytes]:
    tokens = st.lists(st.sampled_from(YAML) | st.text(max_size=3), max_size=30).map("".join)
    encoded = tokens.map(lambda text: text.encode(errors="surrogatepass"))
    return encoded | damaged(*(text.encode() for text in whole))


def stages(file: str) -> st.SearchStrategy[bytes]:
    """YAML that has the keys of dvc.yaml and dvc.lock, and any values there."""
    keys = ("cmd", "matrix", "deps", "outs", "params", "metrics", "plots")
    paths = st.lists(
        st.sampled_from(["a", "${study.seeds}", {"path": "a", "md5": "b"}, {"a": {"cache": False}}]) | VALUES
    )
    stage = st.fixed_dictionaries({}, optional=dict.fromkeys(keys, paths | VALUES)) | VALUES
    whole = st.fixed_dictionaries({"stages": st.dictionaries(st.text(max_size=4), stage, max_size=3) | VALUES})
    return whole.map(lambda value: yaml.safe_dump(value).encode()) | yaml_texts((ROOT / file).read_text())


def lists() -> st.SearchStrategy[bytes]:
    names = np.empty((3, 1), object)
    names[:, 0] = ["000/a.jpg", "b.jpg", "../c.jpg"]
    whole = []
    for packed in (False, True):
        file = io.BytesIO()
        savemat(
            file, {"dbStruct": {"whichSet": "test", "dbImage": names, "utmDb": np.ones((2, 3))}}, do_compression=packed
        )
        whole.append(file.getvalue())
    return damaged(*whole)


def pictures(kind: str, mode: str = "RGB") -> st.SearchStrategy[bytes]:
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (9, 12, 3), np.uint8)).convert(mode)
    noise.save(
        file,
        kind,
        **({} if kind == "BMP" else {"exif": exif}),
        **({"compression": "tiff_lzw"} if kind == "TIFF" else {}),
    )
    return damaged(file.getvalue())


def tensors(kind: str) -> st.SearchStrategy[bytes]:
    import torch
    from safetensors.torch import save

    value = {"weight": torch.ones(2, 3), "bias": torch.zeros(1, dtype=torch.int64)}
    if kind == "safetensors":
        whole = [save(value, {"card": "{}"})]
        headers = st.dictionaries(
            st.text(max_size=3) | st.just("__metadata__"),
            st.fixed_dictionaries(
                {
                    "dtype": st.sampled_from(["F32", "F4", "F8_E8M0", "BOOL", "C64", "U16"]) | st.text(max_size=4),
                    "shape": st.lists(st.integers(0, 1 << 65), max_size=3),
                    "data_offsets": st.lists(st.integers(0, 64), min_size=2, max_size=2) | VALUES,
                }
            )
            | VALUES,
        )
        written = headers.map(lambda header: json.dumps(header).encode())
        return damaged(*whole) | written.map(lambda head: struct.pack("<Q", len(head)) + head + bytes(64))
    whole = []
    for zipped in (True, False):
        file = io.BytesIO()
        torch.save(value, file, _use_new_zipfile_serialization=zipped)
        whole.append(file.getvalue())
    return damaged(*whole)


def tables() -> st.SearchStrategy[bytes]:
    """Parquet tables with columns of every kind under the manifest's names, whole and damaged."""

    def written(columns: dict[str, Any], packed: str) -> bytes:
        file = io.BytesIO()
        parquet.write_table(pa.table(columns), file, compression=packed)
        return file.getvalue()

    kinds = [
        pa.array(["a/0.png", "b/0.png"]),
        pa.array([b"\xff\xfe", b"a"]),
        pa.array([1.5, None]),
        pa.array([10**18, -(10**18)], pa.timestamp("us", "UTC")),
        pa.array([2**31 - 1, -(2**31)], pa.date32()),
        pa.array([[1], []]),
        pa.array([{"a": 1}, None]),
        pa.array(["x\r../y", "\x1b[2J"]),
        pa.array([0, 0]).dictionary_encode(),
    ]
    names = st.sampled_from([*sources.REQUIRED, *sources.OPTIONAL])
    columns = st.dictionaries(names, st.sampled_from(kinds), min_size=1)
    sound = written({"path": kinds[0], "city": kinds[0], "lat": kinds[2]}, "snappy")
    return st.builds(written, columns, st.sampled_from(["snappy", "none"])) | damaged(sound)


def refusal(read: Callable[..., object], *arguments: object, default: str) -> str:
    """What an InputError says, or the default where there is none; any other exception is raised."""
    try:
        with soon():
            read(*arguments)
    except InputError as error:
        return str(error)
    return default


def _manifest(path: Path) -> None:
    for photograph in sources.from_manifest(path.parent, path.name):
        assert photograph.city.isprintable() and (path.parent / photograph.path).resolve().is_relative_to(path.parent)


def _picture(path: Path) -> None:
    for read in (images.read_header, images.read_rgb, images.read_labels):
        assert path.name in refusal(read, path, 1, default=path.name)


@dataclass
class Reader:
    """A file's name, what may be in it, who reads it, and how many a quick look takes."""

    file: str
    contents: Callable[[], st.SearchStrategy[bytes]]
    read: Callable[[Path], object]
    examples: int = 60


CSV = "path,city,lat\na/0.png,a,1\nb/0.png,b,\n"
READERS = [
    Reader("manifest.csv", lambda: damaged(CSV.encode()), _manifest),
    Reader("manifest.parquet", tables, _manifest),
    Reader("params.yaml", lambda: yaml_texts(DEMO), parser.load),
    Reader("dvc.yaml", lambda: stages("dvc.yaml"), lambda path: pipeline.declared(path.parent)),
    Reader("dvc.lock", lambda: stages("dvc.lock"), lambda path: pipeline.recorded(path.parent)),
    Reader("list.mat", lists, mat_lists.read_list, examples=10),
    Reader("objects.csv", lambda: damaged(b"index,name\n1,wall\n2,sky;air\n"), onnx_parser.read_objects),
    Reader("SHA256SUMS", lambda: damaged(b"0123  a.pth\n"), lambda path: downloads.read_sums(path.parent)),
    Reader("weights.safetensors", lambda: tensors("safetensors"), checkpoints.read_tensors),
    Reader("weights.pth", lambda: tensors("pth"), csail_parser.read_pth),
    Reader("photo.png", lambda: pictures("PNG"), _picture),
    Reader("palette.png", lambda: pictures("PNG", "P"), _picture),
    Reader("photo.jpg", lambda: pictures("JPEG"), _picture),
    Reader("photo.tif", lambda: pictures("TIFF"), _picture),
    Reader("photo.webp", lambda: pictures("WEBP"), _picture),
    Reader("photo.bmp", lambda: pictures("BMP"), _picture),
    Reader("photo.gif", lambda: pictures("GIF", "P"), _picture),
    Reader("photo.ppm", lambda: pictures("PPM"), _picture),
    Reader("photo.jp2", lambda: pictures("JPEG2000"), _picture),
]


class Hangs(BaseException):
    """An example took too long; not an Exception, which a reader might take for the file's fault."""


@contextmanager
def soon() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise Hangs

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def lasting(holds: Callable[[], None], share: int) -> None:
    """Once, and again until this property's share of the seconds is over."""
    until = time.monotonic() + SECONDS / share
    holds()
    while time.monotonic() < until:
        holds()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.file)
def test_any_bytes_are_a_value_or_an_error_that_names_the_file(reader: Reader, tmp_path: Path) -> None:
    for city in "ab":
        images.write_png(tmp_path / city / "0.png", np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "params.yaml").write_text(DEMO)
    path = tmp_path / reader.file

    @settings(LOOK, max_examples=reader.examples * (2 if SECONDS else 1))
    @given(reader.contents())
    def holds(content: bytes) -> None:
        path.write_bytes(content)
        assert path.name in refusal(reader.read, path, default=path.name)

    before = _most_memory()
    lasting(holds, len(READERS) + 2)
    assert _most_memory() - before < MEMORY


def _most_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _keys(mapping: dict[str, Any], prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, value in mapping.items():
        yield (*prefix, name)
        if isinstance(value, dict):
            yield from _keys(value, (*prefix, name))


def test_any_values_are_settings_or_an_error_that_names_the_file() -> None:
    huge = st.sampled_from([10**400, -(1 << 99999), float("inf"), "a\rb", "\ud800", "../../a", [[[]]] * 9])
    keys = st.sampled_from(list(_keys(yaml.safe_load(DEMO))))

    @LOOK
    @given(st.lists(st.tuples(keys, VALUES | huge), min_size=1, max_size=3))
    def holds(changes: list[tuple[tuple[str, ...], object]]) -> None:
        mapping = yaml.safe_load(DEMO)
        for (*path, name), value in changes:
            inner: Any = mapping
            for section in path:
                inner = inner[section] if isinstance(inner, dict) and section in inner else {}
            if isinstance(inner, dict):
                inner[name] = value
        said = refusal(parser.parse, mapping, default="params.yaml")
        assert "params.yaml" in said and len(said) < 10_000

    lasting(holds, len(READERS) + 2)


def test_any_file_name_is_a_photograph_or_unreadable() -> None:
    odd = st.sampled_from(["²", "٣", "nan", "1e999", "-1", "9" * 60, "17", "56.5", "a\rb"])
    field = st.just("") | odd | st.text(st.characters(exclude_characters="/\0@"), max_size=5)
    common = st.lists(field, min_size=13, max_size=15).map(lambda fields: "@" + "@".join(fields) + "@.jpg")
    pittsburgh = st.builds("{}_pitch{}_yaw{}.jpg".format, odd, st.sampled_from("1²٣"), odd)
    tokyo = st.builds("{:22.22}_{}_{}.png".format, st.text(max_size=30), odd, odd)

    @LOOK
    @given(common | pittsburgh | tokyo | st.text(max_size=40))
    def holds(name: str) -> None:
        for dataset in DATASETS:
            try:
                found = releases._photograph(f"a/b/{name}", (1.0, 2.0), dataset)
            except releases.Unreadable:
                continue
            assert found.city == "city" and found.spot and (not found.utm_east or abs(float(found.utm_east)) < 1e7)

    lasting(holds, len(READERS) + 2)
