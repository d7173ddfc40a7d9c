"""Segmentation: the labels that come with the data, and ONNX networks of either layout."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from configured import mapping as profile
from configured import settings as settings_of
from onnx import TensorProto, helper

from citylens.errors import InputError
from citylens.io import files, images
from citylens.segment import csail_networks, onnx_parser, transformers_parser
from citylens.segment import stage as segment
from citylens.segment.object_names import short_names
from citylens.segment.parser import ranked
from citylens.settings import parser
from citylens.settings.schema import Settings, Transformers

MODELS = Path(__file__).parents[2] / "shared" / "models"
STREETS = Path(__file__).parents[2] / "shared" / "streets"


def network(
    path: Path,
    layout: str,
    classes: int = 3,
    *,
    value: float = 1,
    shape: Sequence[int | str] = (),
    takes: int = TensorProto.FLOAT,
    gives: str = "",
) -> None:
    """A scene parser of one matrix product: the classes' logits are the channels, more classes than three repeat them.

    `gives` is the layout of its logits, by default that of its input, or "argmax", "argmax 1" or "argmax float": the likeliest
    class alone, with or without an axis of length 1, or as floats.
    """
    matrix = np.where(np.eye(3, classes) > 0, value, 0).astype(np.float32)
    shape = shape or ([1, 8, 8, 3] if layout == "NHWC" else [1, 3, 8, 8])
    gives = gives or layout
    steps = [helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT)]
    steps += [helper.make_node("Transpose", ["pixels"], ["last"], perm=[0, 2, 3, 1])] if layout == "NCHW" else []
    steps += [helper.make_node("MatMul", ["last" if layout == "NCHW" else "pixels", "matrix"], ["scores"])]
    axis = 3
    if gives == "NCHW" or gives.endswith("1"):
        steps += [helper.make_node("Transpose", ["scores"], ["first"], perm=[0, 3, 1, 2])]
        axis = 1
    steps[-1].output[0], kind = "logits", TensorProto.FLOAT
    if gives.startswith("argmax"):
        steps += [helper.make_node("ArgMax", ["logits"], ["found"], axis=axis, keepdims=int(gives.endswith("1")))]
        kind = TensorProto.FLOAT if gives.endswith("float") else TensorProto.INT64
        steps += [helper.make_node("Cast", ["found"], ["labels"], to=kind)]
    graph = helper.make_graph(
        steps,
        "parser",
        [helper.make_tensor_value_info("image", takes, shape)],
        [helper.make_tensor_value_info(steps[-1].output[0], kind, None)],
        [helper.make_tensor("matrix", TensorProto.FLOAT, matrix.shape, matrix.ravel())],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def configured(segmenter: str, **changes: object) -> Settings:
    mapping = profile("photos")
    mapping["prepare"]["size"] = 64
    mapping["segment"] |= {"segmenter": segmenter, "path": "parser"}
    mapping["segment"]["onnx"] |= {"size": 8, "offset": 1} | changes
    return parser.parse(mapping)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two test images, the left half red and the right half blue, with their label maps; one training image."""
    monkeypatch.chdir(tmp_path)
    image = np.zeros((64, 128, 3), np.uint8)
    image[:, :64, 0], image[:, 64:, 2] = 250, 250
    rows = []
    for number, split in enumerate(["test", "training", "test"]):
        images.write_png(f"data/acquire/{number}.png", image)
        images.write_png(
            f"data/acquire/labels/{number}.png", np.where(image[..., 0] > 0, 7 + number, 0).astype(np.uint8)
        )
        rows.append(
            {"id": f"i{number}", "city": "a", "path": f"{number}.png", "labels": f"labels/{number}.png", "split": split}
        )
    table = pd.DataFrame(rows)
    files.write_table("data/acquire/manifest.csv", table[["id", "city", "path", "labels"]].assign(sha256="0"))
    files.write_table("data/prepare/index.csv", table[["id", "city", "split"]])
    files.write_text("parser/objects.csv", "index,name\n1,red thing;crimson\n2,green thing\n3,blue thing\n")
    return tmp_path


def test_labels_that_come_with_the_data(project: Path) -> None:
    segment.run(configured("oracle"))
    labels = files.open_array("data/segment/labels.npy")
    assert labels.shape == (2, 64, 64) and labels.dtype == np.uint8
    assert (labels[0, :, :32] == 7).all() and (labels[1, :, :32] == 9).all() and (labels[:, :, 32:] == 0).all()
    index = files.read_table("data/segment/index.csv")
    assert index["id"].tolist() == ["i0", "i2"] and index["coverage"].tolist() == [0.5, 0.5]
    assert files.read_table("data/segment/objects.csv").set_index("label")["name"][7] == "road"


def test_images_without_labels_are_named(project: Path) -> None:
    table = files.read_table("data/acquire/manifest.csv")
    files.write_table("data/acquire/manifest.csv", table.assign(labels=["labels/0.png", None, None]))
    with pytest.raises(InputError, match=r"1 of 2 test images come without a label map; first: 2\.png\. Allowed: onnx"):
        segment.run(configured("oracle"))


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/passwd", "link.bin"])
def test_an_onnx_network_reads_no_file_outside_its_folder(project: Path, location: str) -> None:
    """Weights may lie in a file of their own, and a network could name any."""
    Path("secret.bin").write_bytes(np.eye(3, dtype=np.float32).tobytes())
    Path("parser/link.bin").symlink_to("../secret.bin")
    network(Path("parser/segmenter.onnx"), "NHWC")
    whole = onnx.load("parser/segmenter.onnx")
    matrix = whole.graph.initializer[0]
    matrix.ClearField("float_data")
    matrix.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": "0", "length": "36"}.items():
        matrix.external_data.add(key=key, value=value)
    Path("parser/segmenter.onnx").write_bytes(whole.SerializeToString())
    with pytest.raises(InputError, match=r"parser/segmenter\.onnx: not an ONNX network: .*xternal data"):
        onnx_parser.open_parser(configured("onnx").segment)


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize(("channels", "left", "right"), [("RGB", 1, 3), ("BGR", 3, 1)])
def test_an_onnx_network_names_objects(project: Path, layout: str, channels: str, left: int, right: int) -> None:
    network(Path("parser/segmenter.onnx"), layout)
    segment.run(configured("onnx", layout=layout, channels=channels))
    labels = files.open_array("data/segment/labels.npy")
    assert (labels[:, :, :24] == left).all() and (labels[:, :, 40:] == right).all()
    assert files.read_table("data/segment/objects.csv")["name"].tolist() == ["red thing", "green thing", "blue thing"]


AS_THEY_ARE = {"scale": 1, "mean": [0, 0, 0], "std": [1, 1, 1]}


@pytest.mark.parametrize(
    ("made", "changes"),
    [
        ({"gives": "argmax"}, {}),
        ({"gives": "argmax 1"}, {}),
        ({"gives": "argmax float"}, {}),
        ({"gives": "NCHW"}, {}),
        ({"takes": TensorProto.FLOAT16}, {}),
        ({"takes": TensorProto.DOUBLE}, {}),
        ({"takes": TensorProto.UINT8, "gives": "argmax"}, AS_THEY_ARE),
        ({"shape": [1, 8, 16, 3]}, {"size": [8, 16]}),
        ({"shape": [3, 8, 8, 3]}, {}),
        ({"shape": [3, 8, 8, 3], "gives": "argmax"}, {}),
        ({"shape": ["batch", 3, "height", "width"], "gives": "argmax 1"}, {"size": [16, 8], "layout": "NCHW"}),
    ],
)
def test_onnx_networks_as_converters_make_them(project: Path, made: dict[str, Any], changes: dict[str, object]) -> None:
    """The likeliest class alone; other types of numbers; images that are no squares; several images at once."""
    network(Path("parser/segmenter.onnx"), str(changes.get("layout", "NHWC")), **made)
    plan = configured("onnx", **changes)
    segment.run(plan)
    labels = files.open_array("data/segment/labels.npy")
    assert (labels[:, :, :24] == 1).all() and (labels[:, :, 40:] == 3).all()
    if "argmax" in made.get("gives", ""):
        with pytest.raises(InputError, match=r"segment\.probabilities: top3: .* likeliest class only; allowed: none"):
            segment.run(with_segment(plan, probabilities="top3"))


@pytest.mark.parametrize(
    ("made", "changes", "said"),
    [
        ({"value": np.nan}, {}, r"segment\.segmenter: onnx: 0\.png: the network gives NaN or infinity"),
        ({"value": np.inf}, {}, r"segment\.segmenter: onnx: 0\.png: the network gives NaN or infinity"),
        ({"takes": TensorProto.INT32}, {}, "takes int32; allowed: float, float16, double, uint8"),
        ({"takes": TensorProto.UINT8}, {}, r"allowed: scale 1, mean \[0, 0, 0\] and std \[1, 1, 1\]"),
        ({"gives": "argmax"}, {"offset": 0}, None),
        ({"gives": "argmax"}, {"offset": 2}, "the class 2, with offset 2 the label 4, which objects.csv does not name"),
        ({"classes": 1}, {}, "allowed: the number of the likeliest class, or the scores of two or more classes"),
    ],
)
def test_an_onnx_network_whose_numbers_name_nothing_is_refused(
    project: Path, made: dict[str, Any], changes: dict[str, object], said: str | None
) -> None:
    network(Path("parser/segmenter.onnx"), "NHWC", **made)
    if said is None:  # The first class names nothing.
        segment.run(configured("onnx", **changes))
        assert set(np.unique(files.open_array("data/segment/labels.npy"))) == {0, 2}
        return
    with pytest.raises(InputError, match=said):
        segment.run(configured("onnx", **changes))
    assert not Path("data/segment").exists()


def test_probabilities_are_not_levelled_by_a_second_softmax() -> None:
    scores = np.random.default_rng(0).normal(size=(2, 4, 6, 150)).astype(np.float32) * 5
    once = onnx_parser._softmax(onnx_parser._classes_first(scores, 3)[1])
    torch.testing.assert_close(once, torch.softmax(torch.from_numpy(scores[1]), 2).permute(2, 0, 1))
    for kind in (np.float32, np.float16):
        (again,) = map(onnx_parser._softmax, onnx_parser._classes_first(once.numpy()[None].astype(kind), 1))
        assert (again - once).abs().max() < 1e-3 and once.max() > 0.9


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((1, 1, 1, 3), "gives one class for a whole image of 48 x 64"),
        ((1, 1, 1), "gives one class for a whole image of 48 x 64"),
        ((1, 64, 48, 3), "gives 64 x 48 cells for an image of 48 x 64; allowed: height before width in both"),
        ((1, 8, 6, 3), "gives 8 x 6 cells"),
        ((1, 6, 8, 3), ""),
        ((1, 7, 9), ""),
        ((1, 1, 2, 3), ""),
    ],
)
def test_an_onnx_network_whose_output_is_no_map_of_the_image_is_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], said: str
) -> None:
    """A classifier of whole images; exchanged axes, which resizing would hide."""
    network(Path("parser/segmenter.onnx"), "NHWC", shape=[1, 48, 64, 3])
    monkeypatch.setattr(
        onnx_parser, "_outputs", lambda *given: iter([np.zeros(shape, np.int64 if len(shape) == 3 else None)])
    )
    plan = configured("onnx", size=[48, 64]).segment
    if said:
        with pytest.raises(InputError, match=said):
            onnx_parser.open_parser(plan)
    else:
        onnx_parser.open_parser(plan)


def test_one_of_several_outputs_is_named(project: Path) -> None:
    """The first output is that of a layer used in training alone."""
    path = Path("parser/segmenter.onnx")
    network(path, "NHWC")
    whole = onnx.load(path)
    whole.graph.node.append(helper.make_node("Neg", ["logits"], ["auxiliary"]))
    whole.graph.output.insert(0, helper.make_tensor_value_info("auxiliary", TensorProto.FLOAT, None))
    onnx.save(whole, path)
    for output in (None, "logit"):
        said = rf"segment\.onnx\.output: {output}: segmenter\.onnx has the outputs auxiliary, logits; allowed: .* one of them"
        with pytest.raises(InputError, match=said):
            segment.run(configured("onnx", output=output))
    segment.run(configured("onnx", output="logits"))
    assert (files.open_array("data/segment/labels.npy")[:, :, :24] == 1).all()


def test_a_network_sees_whole_or_prepared_images(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network(Path("parser/segmenter.onnx"), "NHWC")
    seen: list[tuple[int, ...]] = []
    prepared = onnx_parser._prepared
    monkeypatch.setattr(onnx_parser, "_prepared", lambda image, plan: seen.append(image.shape) or prepared(image, plan))
    for which, shape in (("whole", (64, 128, 3)), ("prepared", (64, 64, 3))):
        segment.run(with_segment(configured("onnx"), images=which))
        assert seen[-2:] == [shape] * 2
        assert (files.open_array("data/segment/labels.npy")[:, :, :24] == 1).all()


def test_the_authors_list_of_objects(project: Path) -> None:
    """It has semicolons between synonyms and between the words of one name."""
    rows = "1,.1,9,1,1,wall\n45,.1,9,1,0,chest;of;drawers;chest;bureau;dresser\n57,.1,9,1,0,pool;table;billiard;table\n"
    files.write_text("parser/objects.csv", "Idx,Ratio,Train,Val,Stuff,Name\n" + rows + "131,.1,9,1,0,screen;silver\n")
    names = short_names(onnx_parser.read_objects(Path("parser/objects.csv")))
    assert names == {1: "wall", 45: "chest of drawers", 57: "pool table", 131: "screen"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"size": 16}, r"takes \[\[1, 8, 8, 3\]\]; layout NHWC and size 16 give \[1, 16, 16, 3\]"),
        ({"layout": "NCHW"}, r"layout NCHW and size 8 give \[1, 3, 8, 8\]"),
        ({"offset": 148}, "3 classes, with offset 148 148 to 150"),
        ({"offset": 149}, "3 classes with offset 149 give labels 149 to 151; allowed: 0 to 150"),
        ({"model": "other.onnx"}, r"parser/other\.onnx: no such file"),
        ({"model": "objects.csv"}, r"parser/objects\.csv: not an ONNX network"),
        ({"objects": "none.csv"}, r"parser/none\.csv: no such file"),
    ],
)
def test_an_onnx_network_that_does_not_fit_is_refused(project: Path, changes: dict[str, object], said: str) -> None:
    network(Path("parser/segmenter.onnx"), "NHWC")
    with pytest.raises(InputError, match=said):
        segment.run(configured("onnx", **changes))
    assert not Path("data/segment").exists()


@pytest.mark.parametrize("count", [2, 4])
def test_a_label_list_of_another_length_than_the_network(project: Path, count: int) -> None:
    network(Path("parser/segmenter.onnx"), "NHWC")
    files.write_text("parser/objects.csv", "index,name\n" + "".join(f"{n},thing {n}\n" for n in range(1, count + 1)))
    with pytest.raises(InputError, match=rf"names {count} objects, 1 to {count}; .* 3 classes, with offset 1 1 to 3"):
        segment.run(configured("onnx"))


def with_segment(whole: Settings, **changes: object) -> Settings:
    return dataclasses.replace(whole, segment=dataclasses.replace(whole.segment, **changes))


def test_merged_objects_and_probabilities(project: Path) -> None:
    network(Path("parser/segmenter.onnx"), "NHWC")
    plan = with_segment(configured("onnx"), merge={"blue thing": "red thing"}, probabilities="top3")
    segment.run(plan)
    assert set(np.unique(files.open_array("data/segment/labels.npy"))) == {1}
    assert files.read_table("data/segment/objects.csv")["name"].tolist() == ["red thing", "green thing"]
    likeliest = files.open_array("data/segment/likeliest.npy")
    shares = files.open_array("data/segment/probabilities.npy")
    assert likeliest.shape == shares.shape == (2, 3, 64, 64)
    assert (likeliest[:, 0] == 1).all() and (likeliest[:, 1] == 2).all() and (likeliest[:, 2] == 0).all()
    logits = (np.array([250, 0, 0]) - 127.5) / 127.5
    expected = np.exp(logits) / np.exp(logits).sum()
    assert shares[0, :, 0, 0].tolist() == [round(255 * (expected[0] + expected[2])), round(255 * expected[1]), 0]
    with pytest.raises(InputError, match=r"segment.merge: no object is called 'pink'"):
        segment.run(with_segment(plan, merge={"pink": "red thing"}))


def test_a_network_is_measured_where_people_have_labelled(project: Path) -> None:
    """People call the left half road in one image and window in the other, and the right half nothing."""
    network(Path("parser/segmenter.onnx"), "NHWC")
    files.write_text("parser/objects.csv", "index,name\n1,road;route\n2,sky\n3,wall\n")
    segment.run(configured("onnx"))
    scores = files.read_json("reports/segment/scores.json")
    assert scores["labelled_images"] == 2 and scores["pixel_accuracy"] == pytest.approx(0.5, abs=0.01)
    counts = files.read_table("reports/segment/confusion.csv").set_index(["actual", "predicted"])["pixels"]
    assert counts.sum() == 2 * 64 * 32 and counts["windowpane", "road"] == counts["road", "road"]


def test_a_stopped_run_goes_on_where_it_was(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network(Path("parser/segmenter.onnx"), "NHWC")
    plan = with_segment(configured("onnx"), batch_size=1)
    segment.run(plan)
    whole = Path("data/segment/labels.npy").read_bytes()
    second = Path("data/acquire/2.png").read_bytes()
    Path("data/acquire/2.png").write_bytes(second[:50])
    with pytest.raises(InputError, match=r"2\.png"):
        segment.run(plan)
    assert Path("data/segment/labels.npy").read_bytes() == whole
    Path("data/acquire/2.png").write_bytes(second)
    Path("data/acquire/0.png").unlink()  # the first image is done and not read again
    segment.run(plan)
    assert Path("data/segment/labels.npy").read_bytes() == whole and not segment.STATE.exists()


def test_a_stopped_run_of_other_code_starts_anew(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(Path(segment.__file__).parent, "code")
    monkeypatch.setattr(segment, "__file__", str(project / "code/stage.py"))
    test = files.read_table("data/acquire/manifest.csv")
    before = segment._fingerprint(configured("oracle"), test)
    assert segment._fingerprint(configured("oracle"), test) == before
    with Path("code/parser.py").open("a") as file:
        file.write("changed = True\n")
    assert segment._fingerprint(configured("oracle"), test) != before


def test_the_authors_parser_with_made_up_weights(project: Path) -> None:
    """Weights that see nothing but a bias: every pixel is a car, label 21, whatever the image's size."""
    encoder, decoder = csail_networks.build("mobilenetv2dilated-c1_deepsup")
    tensors = {name: torch.zeros_like(value) for name, value in decoder.state_dict().items()}
    tensors["conv_last.bias"][20] = 5
    torch.save(encoder.state_dict(), "parser/encoder_epoch_20.pth")
    torch.save(tensors, "parser/decoder_epoch_20.pth")
    whole = configured("csail")
    csail = dataclasses.replace(whole.segment.csail, parser="mobilenetv2dilated-c1_deepsup", scales=(64, 96))
    segment.run(with_segment(whole, csail=csail))
    assert (files.open_array("data/segment/labels.npy") == 21).all()
    assert files.read_table("data/segment/objects.csv").set_index("label")["name"][21] == "car"
    tensors["conv_last.bias"][20] = torch.inf
    torch.save(tensors, "parser/decoder_epoch_20.pth")
    with pytest.raises(
        InputError, match=r"decoder_epoch_20\.pth .*: NaN or infinity in 1 weight\(s\): conv_last\.bias"
    ):
        segment.run(with_segment(whole, csail=csail))
    with pytest.raises(
        InputError,
        match=r"encoder_epoch_20.pth \(segment.csail.parser: resnet18.*\): \d+ weight\(s\) do not fit .*: conv1.weight is missing",
    ):
        segment.run(with_segment(whole, csail=dataclasses.replace(csail, parser="resnet18dilated-ppm_deepsup")))


def test_a_checkpoint_of_the_transformers_library(project: Path) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    names = {0: "wall", 1: "sky, heaven", 2: "tree"}
    config = transformers.SegformerConfig(
        depths=[1] * 4, hidden_sizes=[8] * 4, decoder_hidden_size=8, num_attention_heads=[1] * 4, id2label=names
    )
    model = transformers.SegformerForSemanticSegmentation(config)
    torch.nn.init.zeros_(model.decode_head.classifier.weight)
    model.decode_head.classifier.bias.data = torch.tensor([0.0, 3.0, 1.0])
    model.save_pretrained("parser/segformer")
    transformers.SegformerImageProcessor(size={"height": 64, "width": 64}).save_pretrained("parser/segformer")
    segment.run(with_segment(configured("transformers"), probabilities="top3"))
    assert (files.open_array("data/segment/labels.npy") == 2).all()
    assert files.open_array("data/segment/likeliest.npy")[0, :, 0, 0].tolist() == [2, 3, 1]
    assert files.read_table("data/segment/objects.csv")["name"].tolist() == ["wall", "sky", "tree"]
    labels = Path("data/segment/labels.npy").read_bytes()
    model.half().save_pretrained("parser/segformer")
    segment.run(configured("transformers"))
    assert Path("data/segment/labels.npy").read_bytes() == labels
    model.decode_head.classifier.bias.data[1] = torch.nan
    model.save_pretrained("parser/segformer")
    with pytest.raises(InputError, match=r"segformer: NaN or infinity in 1 weight\(s\): decode_head.classifier.bias"):
        segment.run(configured("transformers"))
    model.segformer.save_pretrained("parser/segformer")  # without the part that names objects
    with pytest.raises(InputError, match=r"segformer: weights of a segmentation network that it lacks: decode_head"):
        segment.run(configured("transformers"))
    plan = configured("transformers")
    missing = with_segment(plan, transformers=Transformers("parser/none"))
    with pytest.raises(InputError, match=r"segment.transformers.checkpoint: parser/none"):
        segment.run(missing)


SWIN = {
    "embed_dim": 8,
    "depths": [1] * 4,
    "num_heads": [1] * 4,
    "window_size": 4,
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}
QUERIES = {
    "num_queries": 9,
    "hidden_dim": 32,
    "encoder_layers": 1,
    "encoder_feedforward_dim": 16,
    "decoder_layers": 2,
    "dim_feedforward": 16,
    "num_attention_heads": 2,
}
THINGS = {number: f"thing {number}" for number in range(7)}
SQUARE = {"height": 64, "width": 64}


def upernet(transformers: ModuleType) -> tuple[Any, Any]:
    config = transformers.UperNetConfig(
        backbone_config=transformers.SwinConfig(**SWIN), hidden_size=16, auxiliary_in_channels=32, id2label=THINGS
    )
    return transformers.UperNetForSemanticSegmentation(config), transformers.SegformerImageProcessor(size=SQUARE)


def mask2former(transformers: ModuleType) -> tuple[Any, Any]:
    backbone = transformers.SwinConfig(**SWIN)
    config = transformers.Mask2FormerConfig(
        backbone_config=backbone, feature_size=32, mask_feature_size=32, id2label=THINGS, **QUERIES
    )
    processor = transformers.Mask2FormerImageProcessor(size=SQUARE, num_labels=len(THINGS))
    model = transformers.Mask2FormerForUniversalSegmentation(config)
    torch.nn.init.normal_(model.class_predictor.weight, std=3)  # else one class has the whole image
    return model, processor


def oneformer(transformers: ModuleType) -> tuple[Any, Any]:
    """Its task is a text, so it comes with a tokenizer: here, one of single letters."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    files.write_json("vocab.json", {word: number for number, word in enumerate(words)})
    files.write_text("merges.txt", "#version: 0.2\n")
    files.write_json("classes.json", {str(number): {"name": name, "isthing": 0} for number, name in THINGS.items()})
    text = {"text_encoder_width": 32, "text_encoder_context_length": 16, "text_encoder_num_layers": 1}
    config = transformers.OneFormerConfig(
        backbone_config=transformers.SwinConfig(**SWIN),
        conv_dim=32,
        mask_dim=32,
        id2label=THINGS,
        is_training=False,
        text_encoder_vocab_size=len(words),
        task_seq_len=16,
        max_seq_len=16,
        **text,
        **QUERIES,
    )
    processor = transformers.OneFormerProcessor(
        image_processor=transformers.OneFormerImageProcessor(
            size=SQUARE, num_labels=len(THINGS), repo_path=".", class_info_file="classes.json"
        ),
        tokenizer=transformers.CLIPTokenizer("vocab.json", "merges.txt", model_max_length=16),
        max_seq_length=16,
        task_seq_length=16,
    )
    return transformers.OneFormerForUniversalSegmentation(config), processor


@pytest.mark.parametrize("made", [upernet, mask2former, oneformer])
def test_checkpoints_give_what_the_transformers_library_itself_makes_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: Callable[[ModuleType], tuple[Any, Any]]
) -> None:
    transformers = pytest.importorskip("transformers")
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    model, processor = made(transformers)
    model.save_pretrained("checkpoint")
    processor.save_pretrained("checkpoint")
    plan = dataclasses.replace(settings_of("photos").segment, path=".", transformers=Transformers("checkpoint"))
    parser = transformers_parser.open_parser(plan)
    photos = list(np.random.default_rng(0).integers(0, 256, (2, 60, 90, 3), dtype=np.uint8))
    found = parser.parse(photos)
    assert parser.names == {number + 1: name for number, name in THINGS.items()} and found.shape == (2, 7, 60, 90)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(2, 60, 90))
    task = {"task_inputs": ["semantic"] * 2} if made is oneformer else {}
    with torch.inference_mode():
        outputs = model.eval()(**processor(images=photos, return_tensors="pt", **task))
    theirs = torch.stack(processor.post_process_semantic_segmentation(outputs, target_sizes=[(60, 90)] * 2))
    assert (found.argmax(dim=1) == theirs).float().mean() > 0.999  # but for ties
    assert len(theirs.unique()) > 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("index,label\n1,a\n", "column name is missing"),
        ("index,name\n151,a\n", "index 151; allowed: 1 to 150"),
        ("index,name\n1,a\n1,b\n", "stands in several rows"),
        ("index,name\none,a\n", "allowed: whole numbers"),
        ("index,name\ninf,a\n", "allowed: whole numbers"),
        ("index,name\n1.5,a\n2.5,b\n", "1.5 is no whole number; allowed: whole numbers"),
        ("index,name\n1,=1+1\n", "'=1[+]1' is no name"),
        ("index,name\n1,</script><script>alert(1)</script>\n", "is no name"),
        ("index,name,name\n1,a,b\n", "column name stands there twice"),
    ],
)
def test_a_bad_label_list_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "objects.csv").write_text(text)
    with pytest.raises(InputError, match=rf"objects\.csv: .*{said}"):
        onnx_parser.read_objects(tmp_path / "objects.csv")


@pytest.mark.skipif(not MODELS.is_dir() or not STREETS.is_dir(), reason="needs the real photographs and scene parser")
def test_a_real_scene_parser_agrees_with_people() -> None:
    """A real photograph's sky and road, as people outlined them."""
    (model,) = MODELS.glob("*.onnx")
    plan = settings_of("photos").segment
    fitting = dataclasses.replace(plan.onnx, model=model.name, objects="ade20k-150.csv")
    parser = onnx_parser.open_parser(dataclasses.replace(plan, path=str(MODELS), onnx=fitting))
    right = 0
    for name in sorted(path.stem for path in (STREETS / "labels").iterdir())[:40:10]:
        (probabilities,) = parser.parse([images.read_rgb(STREETS / "images" / f"{name}.jpg")])
        truth = images.read_labels(STREETS / "labels" / f"{name}.png")
        guess = ranked(probabilities, parser.labels, 1, truth.shape)[0][0]
        known = np.isin(truth, [2, 3])
        right += (guess[known] == truth[known]).mean() > 0.6
    assert right >= 3
