"""params.yaml as frozen dataclasses, one a section; whatever cannot be meant is refused with its key.

A section has the name of its stage. `study` names the networks and seeds every stage runs over, `tracking` says where
runs go, and `gate` what may not become worse; these are no stages.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import itertools
import re
import reprlib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin

import yaml

NETWORKS = ("vgg11", "resnet18", "simple", "simpler")
MOST_VALUES = 1_000_000  # of a YAML file, what its aliases stand for counted each time
# Control characters, what turns the direction of writing, and bytes of a file name that are no UTF-8.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_FORMULA = re.compile(r"[=+\-@].")
_PASSWORD = re.compile(r"https?://[^/\s]*@|//[^/\s]*:[^/\s]*@|[?&;]\w*(?:password|secret|token)\w*=", re.IGNORECASE)


class InputError(ValueError):
    """What the user gave cannot be used; the message says what came, where, and what is allowed."""

    status = 1  # the command's exit status


class Incomparable(InputError):
    """Two sides that were to be compared cannot be; the message says why."""

    status = 2


def printable(text: str, where: str) -> str:
    """The text, if it can stand in tables and messages.

    Raises:
        InputError: it has a control character (a line end would add a row to a table, an escape steer a terminal), or is a file
            name whose bytes are no UTF-8.
    """
    found = _UNPRINTABLE.search(text)
    if found:
        raise InputError(f"{where}: {shown(text)} has the character {found[0]!a}; allowed: printable text in UTF-8")
    return text


def label(text: str, where: str) -> str:
    """The name of a city or an object, if tables, spreadsheets and figures take it for one.

    Raises:
        InputError: not printable, or what a spreadsheet takes for a formula or a figure for mathematics.
    """
    if _FORMULA.match(printable(text, where)) or "$" in text:
        raise InputError(f"{where}: {shown(text)} is no name; allowed: a first character other than = + - @, and no $")
    return text


def shown(value: object) -> str:
    """The value in a message, however long or deep it is."""
    try:
        return _BRIEF.repr(value)
    except ValueError:  # a whole number of more than 4300 digits
        return "a number too long to show"


_BRIEF = reprlib.Repr()
_BRIEF.maxlevel, _BRIEF.maxstring, _BRIEF.maxother, _BRIEF.maxlong = 3, 200, 200, 100
_BRIEF.maxlist = _BRIEF.maxtuple = _BRIEF.maxdict = 20


@dataclass(frozen=True)
class Range:
    """Closed interval of allowed numbers; `None` leaves a side open."""

    low: float | None = None
    high: float | None = None

    def __contains__(self, value: object) -> bool:
        number = typing.cast(float, value)
        return (self.low is None or number >= self.low) and (self.high is None or number <= self.high)

    def __str__(self) -> str:
        if self.high is None:
            return f"{self.low:g} or more"
        return f"{self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Study:
    """The networks and the seeds each is trained with; the first seed is the paper's network, the second its retrained twin."""

    networks: tuple[str, ...]
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        _listed("study.networks", self.networks, NETWORKS)
        if len(self.trained) == 1:
            raise InputError("params.yaml: study names one network and one seed; allowed: two or more to compare")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise InputError(
                f"params.yaml: study.seeds is {list(self.seeds)}; allowed: one or more different whole numbers from 0"
            )

    @property
    def trained(self) -> list[tuple[str, int]]:
        """Every (network, seed)."""
        return [(network, seed) for network in self.networks for seed in self.seeds]


def key(network: str, seed: int) -> str:
    """The name of a trained network: its stages' item, its folders, its column in tables."""
    return f"{network}-{seed}"


@dataclass(frozen=True)
class Rendered:
    """How much of the made-up world `acquire` draws."""

    spots: Annotated[int, Range(5, 100_000)]
    headings: Annotated[int, Range(1, 360)]
    width: Annotated[int, Range(32, 4096)]
    height: Annotated[int, Range(32, 4096)]
    seed: Annotated[int, Range(0)]
    quality: Annotated[int, Range(1, 100)]


@dataclass(frozen=True)
class Dataset:
    """A city's data set as its authors gave it out: its folder in `acquire.path`, its layout, and which views to take."""

    city: str
    layout: Literal["pitts250k", "tokyo247", "vpr"]
    path: str
    choose: Literal["all", "pitch-matched", "whole-spots", "random"]
    images: Annotated[int, Range(0)]
    seed: Annotated[int, Range(0)]
    names: Literal["fail", "skip"]

    def __post_init__(self) -> None:
        label(self.city, "params.yaml: acquire.datasets: city")
        _inside("acquire.datasets: path", self.path)


@dataclass(frozen=True)
class Acquire:
    """Where the images come from."""

    source: Literal["render", "folder", "manifest", "datasets"]
    path: str
    manifest: str
    datasets: tuple[Dataset, ...]
    cities: tuple[str, ...]
    max_megapixels: Annotated[float, Range(0.01, 178)]
    render: Rendered

    def __post_init__(self) -> None:
        _inside("acquire.manifest", self.manifest)
        cities = [dataset.city for dataset in self.datasets]
        if self.source == "datasets" and (len(cities) < 2 or len(set(cities)) < len(cities)):
            raise InputError(
                f"params.yaml: acquire.datasets has {', '.join(cities) or 'nothing'}; allowed: two or more different cities"
            )


@dataclass(frozen=True)
class ValidateImages:
    """Bounds of the images' contract, in pixels and images."""

    min_side: Annotated[int, Range(1)]
    max_side: Annotated[int, Range(1)]
    min_images: Annotated[int, Range(5)]


@dataclass(frozen=True)
class ValidateSplits:
    """Allowed distance of each split's share from the one asked for."""

    tolerance: Annotated[float, Range(0, 1)]


@dataclass(frozen=True)
class ValidateMasks:
    """Largest share of dead masks: above the first a warning, above the second a stop."""

    dead_share_warning: Annotated[float, Range(0, 1)]
    dead_share_critical: Annotated[float, Range(0, 1)]


@dataclass(frozen=True)
class ValidateSegmentation:
    """Least share of an image's pixels that carry a label, and least mean share over all images."""

    min_coverage: Annotated[float, Range(0, 1)]
    mean_coverage: Annotated[float, Range(0, 1)]


@dataclass(frozen=True)
class Validate:
    """The data contracts, one a data set."""

    images: ValidateImages
    splits: ValidateSplits
    masks: ValidateMasks
    segmentation: ValidateSegmentation


@dataclass(frozen=True)
class Prepare:
    """The working size in pixels, and how images are split."""

    size: Annotated[int, Range(48, 1024)]
    resize: Literal["stretch", "crop"]
    split: Literal["random", "spot"]
    shares: tuple[float, ...]
    seed: Annotated[int, Range(0)]

    def __post_init__(self) -> None:
        if len(self.shares) != 3 or min(self.shares) <= 0 or abs(sum(self.shares) - 1) > 1e-6:
            raise InputError(
                f"params.yaml: prepare.shares is {list(self.shares)}; allowed: three positive shares "
                "(training, validation, test) that sum to 1"
            )


@dataclass(frozen=True)
class Train:
    """How a network is trained; `path` is the folder whose NETWORK.safetensors a pretrained start takes."""

    epochs: Annotated[int, Range(1, 10_000)]
    batch_size: Annotated[int, Range(1, 4096)]
    learning_rate: Annotated[float, Range(1e-8, 1)]
    decay: Annotated[float, Range(0, 1)]
    decay_every: Annotated[int, Range(1)]
    padding: Literal["none", "same"]
    augment: Literal["none", "flip"]
    keep: Literal["last", "best"]
    start: Literal["random", "pretrained"]
    path: str


@dataclass(frozen=True)
class Explain:
    """Which score Grad-CAM explains."""

    score: Literal["true", "predicted"]
    batch_size: Annotated[int, Range(1, 4096)]


@dataclass(frozen=True)
class Onnx:
    """An ONNX scene parser and its label list, by their names in `segment.path`.

    Its input is (pixel / scale - mean) / std, the whole image resized to `size` x `size`.
    """

    model: str
    objects: str
    layout: Literal["NHWC", "NCHW"]
    size: Annotated[int, Range(8, 4096)]
    channels: Literal["RGB", "BGR"]
    scale: Annotated[float, Range(1e-6, 1e6)]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    offset: Annotated[int, Range(0, 150)]

    def __post_init__(self) -> None:
        _inside("segment.onnx.model", self.model)
        _inside("segment.onnx.objects", self.objects)
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != 3 or (name == "std" and min(values) <= 0):
                raise InputError(
                    f"params.yaml: segment.onnx.{name} is {list(values)}; allowed: three numbers, one a channel (std above 0)"
                )


@dataclass(frozen=True)
class Csail:
    """One of the scene parsers of ADE20K's authors, by its files' names in `segment.path`, and the sizes it looks at."""

    parser: Literal["resnet50dilated-ppm_deepsup", "resnet18dilated-ppm_deepsup", "mobilenetv2dilated-c1_deepsup"]
    encoder: str
    decoder: str
    preprocessing: Literal["rgb", "bgr"]
    scales: tuple[int, ...]
    longest: Annotated[int, Range(8, 10_000)]

    def __post_init__(self) -> None:
        _inside("segment.csail.encoder", self.encoder)
        _inside("segment.csail.decoder", self.decoder)
        if not self.scales or min(self.scales) < 8:
            raise InputError(
                f"params.yaml: segment.csail.scales is {list(self.scales)}; allowed: one or more short sides from 8 pixels"
            )


@dataclass(frozen=True)
class Transformers:
    """A checkpoint of the transformers library: its folder inside `segment.path`, or else its name on the hub."""

    checkpoint: str


@dataclass(frozen=True)
class Segment:
    """Who names the objects: the labels that come with the data, or a network; and which objects count as one."""

    segmenter: Literal["oracle", "onnx", "csail", "transformers"]
    path: str
    batch_size: Annotated[int, Range(1, 256)]
    merge: dict[str, str]
    probabilities: Literal["none", "top3"]
    onnx: Onnx
    csail: Csail
    transformers: Transformers


@dataclass(frozen=True)
class Measure:
    """A pixel is explained where the mask is at least `threshold`; objects need `min_pixels` a mean image at 224 x 224."""

    threshold: Annotated[float, Range(0, 1)]
    min_pixels: Annotated[float, Range(0, 224 * 224)]


@dataclass(frozen=True)
class Embed:
    """PCA, then t-SNE, of the masks."""

    components: Annotated[int, Range(2, 1000)]
    perplexity: Annotated[float, Range(1, 1000)]
    iterations: Annotated[int, Range(250, 100_000)]
    seed: Annotated[int, Range(0)]


@dataclass(frozen=True)
class Report:
    """What the figures show."""

    examples: Annotated[int, Range(1, 8)]
    thumbnails: Annotated[int, Range(1, 2000)]
    thumbnail_network: str
    seed: Annotated[int, Range(0)]

    def __post_init__(self) -> None:
        _listed("report.thumbnail_network", (self.thumbnail_network,), NETWORKS)


@dataclass(frozen=True)
class Register:
    """Prefix of the registered models' names: PREFIX-NETWORK."""

    prefix: str


@dataclass(frozen=True)
class Metric:
    """A number that the gate compares: a key of JSON files, dots between its levels, or a column of a CSV file.

    `file` and `key` may hold {network} and {seed}. Each value of the columns named in `rows` (of JSON files: `network`) is
    compared by itself; over what is not named, networks and seeds, means are taken. Of a table whose lines are pairs of
    networks, with columns `first` and `second`, pairs are taken in which each network stands once. Only lines with a 1 in
    the column `only` count. `noise` says whether the spread of the seeds is allowed beside the tolerance.
    """

    name: str
    file: str
    key: str
    rows: tuple[str, ...]
    only: str | None
    direction: Literal["higher", "lower", "same"]
    tolerance: Annotated[float, Range(0)]
    noise: Literal["seeds", "none"]


@dataclass(frozen=True)
class Promotion:
    """A metric of training runs, by its name in MLflow, by which a challenger is held against the champion."""

    metric: str
    direction: Literal["higher", "lower", "same"]
    tolerance: Annotated[float, Range(0)]


@dataclass(frozen=True)
class Gate:
    """What may not become worse; `false_alarms` is the chance that training with other seeds alone turns the gate red."""

    false_alarms: Annotated[float, Range(1e-9, 0.5)]
    metrics: tuple[Metric, ...]
    promote: tuple[Promotion, ...]

    def __post_init__(self) -> None:
        for key, names in (
            ("metrics", [metric.name for metric in self.metrics]),
            ("promote", [metric.metric for metric in self.promote]),
        ):
            if not names or len(set(names)) < len(names):
                raise InputError(
                    f"params.yaml: gate.{key} names {', '.join(names) or 'nothing'}; allowed: one or more, each once"
                )


@dataclass(frozen=True)
class Tracking:
    """The MLflow experiment and the server's address; without one, a database in the project's folder."""

    experiment: str
    address: str | None

    def __post_init__(self) -> None:
        if self.address and _PASSWORD.search(self.address):
            raise InputError(
                "params.yaml: tracking.address has a password in it, and params.yaml is in git; allowed: no password there, "
                "but the whole address in CITYLENS_TRACKING, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            )


@dataclass(frozen=True)
class Settings:
    """All of params.yaml."""

    study: Study
    tracking: Tracking
    acquire: Acquire
    validate: Validate
    prepare: Prepare
    train: Train
    explain: Explain
    segment: Segment
    measure: Measure
    embed: Embed
    report: Report
    register: Register
    gate: Gate

    def __post_init__(self) -> None:
        named, images = self.report.thumbnail_network, self.validate.images
        if named not in self.study.networks:
            raise InputError(
                f"params.yaml: report.thumbnail_network is {named!r}; allowed: {', '.join(self.study.networks)}"
            )
        if images.max_side < images.min_side:
            raise InputError(
                f"params.yaml: validate.images.max_side is {images.max_side}; allowed: min_side, {images.min_side}, or more"
            )


_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(yaml.composer.Composer, _Base):
    """YAML 1.2's plain values, as DVC reads them: 1e-05 is a number, `no` and 12:30 are texts.

    Composed by Python, which ends at its limit of recursion where libyaml's own composer overruns the stack.
    """

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}

    def __init__(self, text: str) -> None:
        _Base.__init__(self, text)
        yaml.composer.Composer.__init__(self)

    def construct_document(self, node: yaml.Node) -> Any:
        if _values(node, {}) > MOST_VALUES:
            raise yaml.YAMLError(f"its aliases stand for more than {MOST_VALUES:,} values")
        return super().construct_document(node)


def _values(node: yaml.Node, known: dict[int, float]) -> float:
    """How many values a node stands for; those of an alias count each time, and without end where it names itself."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in known:
        known[id(node)] = float("inf")
        parts = itertools.chain(*node.value) if isinstance(node, yaml.MappingNode) else node.value
        known[id(node)] = 1 + sum(_values(part, known) for part in parts)
    return known[id(node)]


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", "~nN"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), [*_first, ""] if _tag == "null" else list(_first)
    )


def parse_yaml(text: str, where: Path | str) -> Any:
    """The value of a YAML text, read as DVC reads it.

    Raises:
        InputError: no YAML; names the place given.
    """
    try:
        return yaml.load(text, _Loader)  # noqa: S506 (a safe loader)
    except Exception as error:  # PyYAML's constructors fail on a spoilt value with whatever it trips
        raise InputError(f"{where}: not YAML: {type(error).__name__}: {error}") from None


def read_yaml(path: Path | str) -> Any:
    """The value of a YAML file.

    Raises:
        InputError: no YAML in UTF-8.
        FileNotFoundError: no such file.
    """
    try:
        return parse_yaml(Path(path).read_text(encoding="utf-8"), path)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8: {error}") from None
    except (IsADirectoryError, PermissionError) as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None


def load(path: Path | str = "params.yaml") -> Settings:
    """The settings in a YAML file.

    Raises:
        InputError: no such file, no YAML, or a key that is unknown, missing or has an impossible value.
    """
    try:
        mapping = read_yaml(path)
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file; run citylens in the project's folder, or write it with `citylens use demo`"
        ) from None
    return parse(mapping)


def parse(mapping: object) -> Settings:
    """The settings in a parsed params.yaml.

    Raises:
        InputError: a key is unknown, missing or has an impossible value; the message names it.
    """
    return typing.cast(Settings, _section(Settings, mapping, ""))


def _section(kind: type, mapping: object, where: str) -> Any:
    if not isinstance(mapping, Mapping):
        raise InputError(
            f"params.yaml: {where.rstrip('.') or 'the file'} is {shown(mapping)}; allowed: a mapping of settings"
        )
    fields = {field.name: field for field in dataclasses.fields(kind)}
    hints = _hints(kind)
    for key in mapping:
        if key not in fields:
            name = key[:100] if isinstance(key, str) else shown(key)
            close = difflib.get_close_matches(name, fields, n=1)
            meant = f"; did you mean {close[0]}? Allowed" if close else "; allowed"
            raise InputError(f"params.yaml: unknown key {where}{name}{meant}: {', '.join(fields)}")
    missing = [name for name in fields if name not in mapping]
    if missing:
        raise InputError(
            f"params.yaml: missing key {where}{missing[0]}; `citylens use demo` writes one with all of them"
        )
    return kind(**{name: _value(hints[name], mapping[name], where + name) for name in fields})


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)


def _value(hint: Any, value: object, key: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return _section(typing.cast(type, hint), value, key + ".")
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        if value not in arguments:
            raise InputError(f"params.yaml: {key} is {shown(value)}; allowed: {', '.join(map(str, arguments))}")
        return value
    if origin in (typing.Union, types.UnionType):
        return None if value is None else _value(arguments[0], value, key)
    if origin is tuple:
        if not isinstance(value, list):
            raise InputError(f"params.yaml: {key} is {shown(value)}; allowed: a list")
        return tuple(_value(arguments[0], item, f"{key}[{place}]") for place, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
            raise InputError(f"params.yaml: {key} is {shown(value)}; allowed: a mapping of texts")
        return {
            printable(name, f"params.yaml: {key}"): _value(arguments[1], item, f"{key}.{name}")
            for name, item in value.items()
        }
    if origin is Annotated:
        return _number_or_text(arguments[0], value, key, arguments[1])
    return _number_or_text(hint, value, key, None)


def _number_or_text(hint: type, value: object, key: str, allowed: Range | None) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < 1 << 1000 else float("inf")
    if not isinstance(value, hint) or isinstance(value, bool):
        names = {int: "a whole number", float: "a number", str: "text"}
        raise InputError(f"params.yaml: {key} is {shown(value)}; allowed: {names.get(hint, hint.__name__)}")
    if isinstance(value, float) and value != value:
        raise InputError(f"params.yaml: {key} is NaN; allowed: {allowed or 'a number'}")
    if isinstance(value, int) and abs(value) >= 1 << 63:
        raise InputError(f"params.yaml: {key} is {shown(value)}; allowed: {allowed or 'a whole number of 64 bits'}")
    if isinstance(value, str):
        return printable(value, f"params.yaml: {key}")
    if allowed is not None and value not in allowed:
        raise InputError(f"params.yaml: {key} is {shown(value)}; allowed: {allowed}")
    return value


def _inside(key: str, file: str) -> None:
    path = PurePosixPath(file)
    if path.is_absolute() or ".." in path.parts:
        raise InputError(f"params.yaml: {key} is {shown(file)}; allowed: a path inside the folder")


def _listed(key: str, values: tuple[str, ...], allowed: tuple[str, ...]) -> None:
    wrong = [value for value in values if value not in allowed]
    if wrong or not values or len(set(values)) < len(values):
        raise InputError(f"params.yaml: {key} is {shown(list(values))}; allowed: {', '.join(allowed)}, each once")
