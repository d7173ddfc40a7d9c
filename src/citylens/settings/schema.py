"""The settings of params.yaml as frozen dataclasses, one class per section.

A section has the name of its stage. Four sections belong to no stage: `study` (networks and seeds), `tracking` (where runs are
logged), `engine` (where work runs) and `gate` (metrics that must not become worse). Docstrings explain what names and types do not say.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from citylens.errors import InputError
from citylens.io.texts import alike, label, shown
from citylens.nets.names import NETWORKS

SPLITS = ("training", "validation", "test")
"""The parts of the images, in the order of `prepare.shares`."""
LEFT_OUT = "left out of "
"""Stands before the split of an image that no stage uses, because it lies near an image of another split."""

_PASSWORD = re.compile(r"https?://[^/\s]*@|//[^/\s]*:[^/\s]*@|[?&;]\w*(?:password|secret|token)\w*=", re.IGNORECASE)


@dataclass(frozen=True)
class Allowed:
    """The values that pass a test, and a text that describes them."""

    test: Callable[[Any], object]
    text: str

    def __contains__(self, value: object) -> bool:
        return bool(self.test(value))

    def __str__(self) -> str:
        return self.text


def within(low: float, high: float = math.inf) -> Allowed:
    """Return the numbers of a closed interval."""
    text = f"{low:g} or more" if high == math.inf else f"{low:g} to {high:g}"
    return Allowed(lambda value: low <= value <= high, text)


def _differ(values: Sequence[object]) -> bool:
    """Return whether there is a value, and none twice."""
    return 0 < len(values) == len(set(values))


Positive = Annotated[int, within(1)]
Seed = Annotated[int, within(0)]
Share = Annotated[float, within(0, 1)]
Rate = Annotated[float, within(1e-8, 1)]
Inside = Allowed(lambda path: not path.startswith("/") and ".." not in path.split("/"), "a path inside the folder")
File = Annotated[str, Inside]
WrittenOut = Allowed(lambda path: not path.startswith("~"), "a path without ~, which DVC does not know: /data/photos")
Folder = Annotated[str, WrittenOut]
NotHtml = Allowed(lambda text: not {*text} & {*"<>&"}, "a text without < > and &, which pages take for HTML")
Title = Annotated[str, NotHtml]
Split = Allowed(
    lambda shares: len(shares) == len(SPLITS) and min(shares) > 0 and abs(sum(shares) - 1) <= 1e-6,
    "three positive shares (training, validation, test) that sum to 1",
)
Known = Allowed(lambda names: _differ(names) and {*names} <= {*NETWORKS}, f"{', '.join(NETWORKS)}, each once")
OfNetworks = Allowed(lambda values: {*values} <= {*NETWORKS}, f"a value for each of some of {', '.join(NETWORKS)}")
Different = Allowed(_differ, "one or more different whole numbers from 0")
Some = Allowed(len, "one or more")
PerChannel = Allowed(lambda values: len(values) == 3, "three numbers, one per channel")
OneOrMore = Allowed(lambda value: value is None or value >= 1, "null, or 1 or more")
Sides = Allowed(
    lambda size: (
        8 <= size <= 4096 if isinstance(size, int) else len(size) == 2 and all(8 <= side <= 4096 for side in size)
    ),
    "8 to 4096, or [height, width] of such numbers",
)


@dataclass(frozen=True)
class Study:
    """The networks, and the seeds that each is trained with: the first gives the paper's network, the second its retrained twin."""

    networks: Annotated[tuple[str, ...], Known]
    seeds: Annotated[tuple[Seed, ...], Different]

    def __post_init__(self) -> None:
        if len(self.trained) == 1:
            raise InputError("params.yaml: study names one network and one seed; allowed: two or more to compare")

    @property
    def trained(self) -> list[tuple[str, int]]:
        """Return every (network, seed), in the order of the networks, then of the seeds."""
        return [(network, seed) for network in self.networks for seed in self.seeds]


@dataclass(frozen=True)
class Rendered:
    """How many images of the made-up world `acquire` draws (spots per city, headings per spot), and their size in pixels."""

    spots: Annotated[int, within(5, 100_000)]
    headings: Annotated[int, within(1, 360)]
    width: Annotated[int, within(32, 4096)]
    height: Annotated[int, within(32, 4096)]
    seed: Seed
    quality: Annotated[int, within(1, 100)]


@dataclass(frozen=True)
class Dataset:
    """A city's data set as its authors released it: its folder inside `acquire.path`, its layout, and which views to take.

    `note` takes only files of layout vpr whose note has this name, alone or between underscores, such as a city's name.
    """

    city: str
    layout: Literal["pitts250k", "tokyo247", "vpr"]
    path: File
    choose: Literal["all", "pitch-matched", "whole-spots", "random"]
    images: Annotated[int, within(0)]
    seed: Seed
    names: Literal["fail", "skip"]
    note: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "city", label(self.city, "params.yaml: acquire.datasets: city"))


@dataclass(frozen=True)
class Acquire:
    """Where the images come from, the largest image to decode, in megapixels, and how label maps lie on photographs.

    A label map belongs to the pixels of its photograph as they are shown, turned upright by EXIF, or as they are stored. `traits` are
    further columns of a manifest that should not tell cities apart, such as the season.
    """

    source: Literal["render", "folder", "manifest", "datasets"]
    path: Folder
    manifest: File
    datasets: tuple[Dataset, ...]
    cities: tuple[str, ...]
    max_megapixels: Annotated[float, within(0.01, 178)]
    render: Rendered
    labels_orientation: Literal["shown", "stored"] = "shown"
    traits: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "traits", tuple(alike(name) for name in self.traits))
        if self.traits and self.source != "manifest":
            raise InputError(
                f"params.yaml: acquire.traits: source {self.source} has no such columns; allowed: [], or source manifest"
            )
        object.__setattr__(self, "cities", tuple(label(city, "params.yaml: acquire.cities") for city in self.cities))
        cities = [dataset.city for dataset in self.datasets]
        if self.source == "datasets" and not (len(cities) > 1 and _differ([*map(alike, cities)])):
            raise InputError(
                f"params.yaml: acquire.datasets has {', '.join(cities) or 'nothing'}; allowed: two or more different cities"
            )


@dataclass(frozen=True)
class ValidateImages:
    """Bounds of the contract of images: sides in pixels, and images per city."""

    min_side: Positive
    max_side: Positive
    min_images: Annotated[int, within(5)]


@dataclass(frozen=True)
class ValidateSplits:
    """Largest difference between a split's share and the one in `prepare.shares`."""

    tolerance: Share


@dataclass(frozen=True)
class ValidateMasks:
    """Largest shares of dead masks: above the first, a warning; above the second, the study stops."""

    dead_share_warning: Share
    dead_share_critical: Share


@dataclass(frozen=True)
class ValidateSegmentation:
    """Least share of labelled pixels in any image, and least mean share over all images."""

    min_coverage: Share
    mean_coverage: Share


@dataclass(frozen=True)
class Validate:
    """The data contracts, one per data set."""

    images: ValidateImages
    splits: ValidateSplits
    masks: ValidateMasks
    segmentation: ValidateSegmentation


@dataclass(frozen=True)
class Prepare:
    """Side of the square images in pixels, and how images are split into training, validation and test.

    `by_city` divides each city by `shares`; without it, the images of all cities together. If near_copies are "together", images of
    one city that show almost the same count as one spot when spots are dealt to splits (see `nets.near_copies`). The split "block"
    deals squares of `block` metres, and leaves out training and validation images within `buffer` metres of another split. For
    `decode` "reduced" see `io.images.read_rgb`.
    """

    size: Annotated[int, within(48, 1024)]
    resize: Literal["stretch", "crop"]
    decode: Literal["whole", "reduced"]
    split: Literal["random", "spot", "block"]
    block: Annotated[float, within(1)]
    buffer: Annotated[float, within(0)]
    near_copies: Literal["together", "apart"]
    by_city: bool
    shares: Annotated[tuple[float, ...], Split]
    seed: Seed

    @property
    def least_decoded(self) -> int:
        """Pixels per side that a decoded JPEG must keep; 0: it is decoded whole."""
        return self.size if self.decode == "reduced" else 0


@dataclass(frozen=True)
class Train:
    """How a network is trained; a pretrained start reads NETWORK.safetensors in the folder `path`.

    For padding, dense_relu, last_pooling, dropout and initialisation see `nets.networks.build`. With shuffled labels, the training
    images change their cities among each other, each seed in its own way: a network that has nothing to learn. `learning_rates` has
    the rates of networks that need another one than `learning_rate`.
    """

    labels: Literal["actual", "shuffled"]
    epochs: Annotated[int, within(1, 10_000)]
    batch_size: Annotated[int, within(1, 4096)]
    learning_rate: Rate
    learning_rates: Annotated[dict[str, Rate], OfNetworks]
    decay: Share
    decay_every: Positive
    input: Literal["imagenet", "half", "unit"]
    padding: Literal["none", "same"]
    dense_relu: bool
    last_pooling: bool
    dropout: Annotated[float, within(0, 0.99)]
    initialisation: Literal["library", "xavier"]
    augment: Literal["none", "flip"]
    keep: Literal["last", "best"]
    start: Literal["random", "pretrained"]
    path: Folder

    def of(self, network: str) -> Train:
        """Return the settings of one network, with its own learning rate."""
        return replace(self, learning_rate=self.learning_rates.get(network, self.learning_rate))


@dataclass(frozen=True)
class Explain:
    """Which score Grad-CAM explains, and how its maps become masks between 0 and 1 (see `nets.masks.normalise`).

    Networks whose maps have fewer cells per side than `least_cells` are refused: such masks cannot tell objects apart. `checked` is
    how many test images the checks of single masks take.
    """

    score: Literal["actual", "predicted"]
    layer: Literal["relu", "convolution"]
    normalise: Literal["minmax", "max"]
    least_cells: Positive
    checked: Annotated[int, within(2)]
    batch_size: Annotated[int, within(1, 4096)]


@dataclass(frozen=True)
class Onnx:
    """An ONNX scene parser and its list of objects, by their names in `segment.path`.

    Its input is the whole image, resized to `size`, the side of a square or (height, width): (pixel / scale - mean) / std.
    `offset` is added to its classes. `output` is the name of the output that gives them, where the network has several.
    """

    model: File
    objects: File
    layout: Literal["NHWC", "NCHW"]
    size: Annotated[int | tuple[int, ...], Sides]
    channels: Literal["RGB", "BGR"]
    scale: Annotated[float, within(1e-6, 1e6)]
    mean: Annotated[tuple[float, ...], PerChannel]
    std: Annotated[tuple[Annotated[float, within(1e-9)], ...], PerChannel]
    offset: Annotated[int, within(0, 150)]
    output: str | None = None

    @property
    def sides(self) -> tuple[int, int]:
        """Return the height and the width of the network's input."""
        return (self.size, self.size) if isinstance(self.size, int) else (self.size[0], self.size[1])


@dataclass(frozen=True)
class Csail:
    """A scene parser of ADE20K's authors: its files in `segment.path`, and the short sides that it averages over, in pixels."""

    parser: Literal["resnet50dilated-ppm_deepsup", "resnet18dilated-ppm_deepsup", "mobilenetv2dilated-c1_deepsup"]
    encoder: File
    decoder: File
    preprocessing: Literal["rgb", "bgr"]
    scales: Annotated[tuple[Annotated[int, within(8)], ...], Some]
    longest: Annotated[int, within(8, 10_000)]


@dataclass(frozen=True)
class Transformers:
    """A checkpoint of the transformers library: a folder inside `segment.path`, or a name on the Hugging Face hub."""

    checkpoint: Title


@dataclass(frozen=True)
class Segment:
    """What names the objects: the labels that come with the data, or a network; `merge` counts an object as another.

    The network sees the whole images, and its labels are resized by nearest neighbour; or it sees the prepared images.
    """

    segmenter: Literal["oracle", "onnx", "csail", "transformers"]
    path: Folder
    batch_size: Annotated[int, within(1, 256)]
    merge: dict[str, str]
    probabilities: Literal["none", "top3"]
    images: Literal["whole", "prepared"]
    onnx: Onnx
    csail: Csail
    transformers: Transformers


@dataclass(frozen=True)
class Measure:
    """A pixel is explained where the mask is at least `threshold`, or above it; an object is kept from `min_pixels` at 224 x 224.

    `min_pixels` counts the mean over all images of a city, or over those that show the object.
    Chance levels of R come from `swaps` swaps of masks between the images of a city.
    """

    threshold: Share
    explained: Literal["at least", "above"]
    min_pixels: Annotated[float, within(0, 224 * 224)]
    mean_over: Literal["all images", "images with it"]
    swaps: Annotated[int, within(20, 1_000_000)]


@dataclass(frozen=True)
class Compare:
    """Chance levels of AR come from `swaps` swaps of one network's masks between the images of a city."""

    swaps: Annotated[int, within(1, 10_000)]


@dataclass(frozen=True)
class Embed:
    """PCA of the masks to `components`, then t-SNE; of `most` masks per network, drawn by chance, where there are more."""

    components: Annotated[int, within(2, 1000)]
    perplexity: Annotated[float, within(1, 1000)]
    iterations: Annotated[int, within(250, 100_000)]
    start: Literal["pca", "random"]
    most: Annotated[int, within(4, 10_000_000)]
    seed: Seed


@dataclass(frozen=True)
class Report:
    """What the figures show: images per city in figure 6, explanations and network in figure 4."""

    examples: Annotated[int, within(1, 8)]
    thumbnails: Annotated[int, within(1, 2000)]
    thumbnail_network: str
    seed: Seed


@dataclass(frozen=True)
class Register:
    """The registered models are named PREFIX-NETWORK."""

    prefix: Title


@dataclass(frozen=True)
class Rule:
    """What counts as worse for a metric; noise of the `seeds` is added to the tolerance.

    `above`: a metric that is above the tolerance must stay so. `other seeds`: runs of the same seed have no noise. `any`:
    training anew may change it by any amount.
    """

    name: str
    direction: Literal["higher", "lower", "same", "above"]
    tolerance: Annotated[float, within(0)]
    noise: Literal["seeds", "other seeds", "any", "none"]


@dataclass(frozen=True)
class Gate:
    """The metrics that may not become worse: those of reports/report/metrics.csv, and for `promote` those of training runs.

    `false_alarms` is the chance that other seeds alone turn the gate red.
    """

    false_alarms: Annotated[float, within(1e-9, 0.5)]
    metrics: tuple[Rule, ...]
    promote: tuple[Rule, ...]

    def __post_init__(self) -> None:
        for key, rules in (("metrics", self.metrics), ("promote", self.promote)):
            names = [rule.name for rule in rules]
            if not _differ(names):
                said = ", ".join(names) or "nothing"
                raise InputError(f"params.yaml: gate.{key} names {said}; allowed: one or more, each once")


@dataclass(frozen=True)
class Tracking:
    """The MLflow experiment, and the server's address; null: a database in the project's folder."""

    experiment: Title
    address: str | None

    def __post_init__(self) -> None:
        if self.address and _PASSWORD.search(self.address):
            raise InputError(
                "params.yaml: tracking.address has a password in it, and params.yaml is in git; allowed: no password there, "
                "but the whole address in CITYLENS_TRACKING, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            )


@dataclass(frozen=True)
class Engine:
    """Where maps over shards run (see `citylens.engine`): threads of a stage's process, processes, or tasks of a Ray cluster.

    `workers` is how many at most; null: as many as there are cores and memory for. On Ray, `address` is `auto` (the cluster of this
    machine), `local` (one that ends with the stage) or a head's HOST:PORT, and a worker with a network takes `gpus_per_worker`.
    """

    kind: Literal["local", "processes", "ray"]
    workers: Annotated[int | None, OneOrMore]
    address: Title
    gpus_per_worker: Annotated[float, within(0, 64)]


@dataclass(frozen=True)
class Settings:
    """All of params.yaml."""

    study: Study
    tracking: Tracking
    engine: Engine
    acquire: Acquire
    validate: Validate
    prepare: Prepare
    train: Train
    explain: Explain
    segment: Segment
    measure: Measure
    compare: Compare
    embed: Embed
    report: Report
    register: Register
    gate: Gate

    def __post_init__(self) -> None:
        named, networks, images = self.report.thumbnail_network, self.study.networks, self.validate.images
        if named not in networks:
            raise refused("report.thumbnail_network", named, ", ".join(networks))
        if images.max_side < images.min_side:
            raise refused("validate.images.max_side", images.max_side, f"min_side, {images.min_side}, or more")


def refused(key: str, value: object, allowed: object) -> InputError:
    """Return the error for a value that is not allowed."""
    return InputError(f"params.yaml: {key} is {shown(value)}; allowed: {allowed}")
