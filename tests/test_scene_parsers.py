"""The scene parsers of ADE20K's authors against their own code, on made-up weights; and the labels that come of them."""

from __future__ import annotations

import subprocess
import sys
import warnings
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from citylens.errors import InputError
from citylens.nets import checkpoints
from citylens.segment import csail_networks, csail_parser, object_names, scores
from citylens.segment.parser import ranked

RELEASED = ("resnet50dilated-ppm_deepsup", "resnet18dilated-ppm_deepsup", "mobilenetv2dilated-c1_deepsup")


def reference(name: str) -> tuple[torch.nn.Module, torch.nn.Module]:
    """The same parser, built by the authors' package, with random weights and statistics of normalisation."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mit_semseg.models import mobilenet, models, resnet
    body, head = name.split("-")
    torch.manual_seed(0)
    if body == "mobilenetv2dilated":
        encoder, channels = models.MobileNetV2Dilated(mobilenet.mobilenetv2(), dilate_scale=8), 320
    else:
        encoder = models.ResnetDilated(getattr(resnet, body.removesuffix("dilated"))(), dilate_scale=8)
        channels = 2048 if body.startswith("resnet50") else 512
    decoder = models.ModelBuilder.build_decoder(head, channels, 150, use_softmax=True)
    for network in (encoder.eval(), decoder.eval()):
        for part in network.modules():
            if isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
                part.running_mean.normal_(0, 0.1)
                part.running_var.uniform_(0.5, 1.5)
    return encoder, decoder


@pytest.mark.parametrize("name", RELEASED)
def test_they_give_the_authors_numbers_at_one_scale_and_at_several(name: str, tmp_path: Path) -> None:
    theirs, ours = reference(name), csail_networks.build(name)
    for part, (their, our) in enumerate(zip(theirs, ours, strict=True)):
        torch.save(their.state_dict(), tmp_path / f"{part}.pth")
        tensors = csail_parser.read_pth(tmp_path / f"{part}.pth")
        checkpoints.load_weights(our, csail_parser.fitting(tensors, our), f"{part}.pth")
    image, size = np.random.default_rng(0).integers(0, 256, (70, 93, 3), dtype=np.uint8), (70, 93)
    scales = [
        csail_parser.prepared(image, csail_parser.scaled_size(*size, short, 1000), "rgb") for short in (64, 90, 120)
    ]
    expected = []
    with torch.no_grad():
        for scale in scales:  # as in the authors' eval.py
            expected.append(theirs[1](theirs[0](scale, return_feature_maps=True), segSize=size))
    found = csail_parser.probabilities(ours, scales[:1], size)
    assert found.shape == (1, 150, *size)
    torch.testing.assert_close(found, expected[0], atol=1e-4, rtol=0)
    torch.testing.assert_close(csail_parser.probabilities(ours, scales, size), sum(expected) / 3, atol=1e-4, rtol=0)
    assert found.amax() > 2 / 150  # some class stands out, so that equality says something


def test_images_are_prepared_as_the_authors_do() -> None:
    from mit_semseg.dataset import BaseDataset, imresize
    from PIL import Image
    from torchvision import transforms

    image = np.random.default_rng(1).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    dataset = BaseDataset.__new__(BaseDataset)
    dataset.normalize = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    for short, longest in ((300, 1000), (375, 1000), (600, 700)):
        scale = min(short / 480, longest / 640)  # ValDataset.__getitem__
        width, height = (dataset.round2nearest_multiple(int(side * scale), 8) for side in (640, 480))
        assert csail_parser.scaled_size(480, 640, short, longest) == (height, width)
        expected = dataset.img_transform(imresize(Image.fromarray(image), (width, height)))
        found = csail_parser.prepared(image, (height, width), "rgb")
        torch.testing.assert_close(found[0], expected, atol=1e-5, rtol=0)
    old = csail_parser.prepared(np.full((8, 8, 3), (10, 20, 30), np.uint8), (8, 8), "bgr")
    np.testing.assert_allclose(old[0, :, 0, 0], [30 - 102.9801, 20 - 115.9465, 10 - 122.7717], rtol=1e-6)


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("exploded"),)


def test_a_pickle_with_code_is_refused_and_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": Bomb()}, "bomb.pth")
    with pytest.raises(InputError, match=r"bomb.pth: refused: .*a state_dict of tensors and nothing else"):
        csail_parser.read_pth(Path("bomb.pth"))
    assert not Path("exploded").exists()
    torch.save([torch.zeros(1)], "list.pth")
    with pytest.raises(InputError, match=r"list.pth: no state_dict"):
        csail_parser.read_pth(Path("list.pth"))
    Path("text.pth").write_text("no weights")
    with pytest.raises(InputError, match=r"text.pth: refused"):
        csail_parser.read_pth(Path("text.pth"))


def test_packed_weights_are_not_unpacked_into_memory(tmp_path: Path) -> None:
    """40 KB that say 40 MB; with the limit of a gigabyte it would be gigabytes. In a process that has no memory to spare yet."""
    torch.save({"weight": torch.zeros(10_000_000)}, tmp_path / "whole.pth")
    with zipfile.ZipFile(tmp_path / "whole.pth") as whole, zipfile.ZipFile(tmp_path / "bomb.pth", "w") as bomb:
        for name in whole.namelist():
            bomb.writestr(name, whole.read(name), zipfile.ZIP_DEFLATED)
    assert (tmp_path / "bomb.pth").stat().st_size < 100_000
    command = [sys.executable, "-c", READS, tmp_path / "whole.pth", tmp_path / "bomb.pth"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout == "(10000000,)\n"
    assert "InputError" in done.stderr and "bomb.pth: " in done.stderr


READS = """
import pathlib, sys
from citylens.segment import csail_parser
csail_parser.SPARE = 20 << 20
for path in sys.argv[1:]:
    print(tuple(csail_parser.read_pth(pathlib.Path(path))["weight"].shape), flush=True)
"""


def test_classes_that_share_a_label_add_up_before_they_are_ranked() -> None:
    probabilities = torch.tensor([0.4, 0.25, 0.35]).view(3, 1, 1)
    labels, shares = ranked(probabilities, np.array([7, 9, 9], np.uint8), 3, (1, 1))
    assert labels.ravel().tolist() == [9, 7, 0]
    assert shares.ravel().tolist() == [153, 102, 0]
    labels, shares = ranked(probabilities, np.array([7, 9, 5], np.uint8), 2, (1, 1))
    assert labels.ravel().tolist() == [7, 5] and shares.ravel().tolist() == [102, 89]
    cells = torch.tensor([[[0.9, 0.2]], [[0.1, 0.8]]])
    labels, _ = ranked(cells, np.array([7, 9], np.uint8), 1, (2, 4))
    assert labels.tolist() == [[[7, 7, 9, 9], [7, 7, 9, 9]]]
    scores = torch.tensor([2.0, 1.9, 1.8]).view(3, 1, 1)
    softmax = partial(torch.softmax, dim=0)  # 7 has the highest score, 9 the highest probability: .36 against .64
    for parts, want in ((np.array([7, 9, 9], np.uint8), 9), (np.array([7, 9, 5], np.uint8), 7)):
        labels, shares = ranked(scores, parts, 1, (1, 1), softmax)
        assert labels.tolist() == [[[want]]] and shares is None
    with pytest.raises(ValueError, match="3 classes, but 2 labels"):
        ranked(probabilities, np.array([7, 9], np.uint8), 1, (1, 1))


def test_objects_are_merged_by_name() -> None:
    names = {2: "building", 26: "house", 49: "skyscraper", 3: "sky"}
    table, left = object_names.merged(names, {"house": "building", "skyscraper": "building"})
    assert table[[2, 26, 49, 3, 255]].tolist() == [2, 2, 2, 3, 255] and left == {2: "building", 3: "sky"}
    with pytest.raises(InputError, match="no object is called 'huose'"):
        object_names.merged(names, {"huose": "building"})
    with pytest.raises(InputError, match="'house' takes another object in and is merged itself"):
        object_names.merged(names, {"skyscraper": "house", "house": "building"})


def test_a_label_is_called_by_its_first_name_that_is_free() -> None:
    assert object_names.short_names({2: "screen; CRT screen", 1: "screen;display"}) == {1: "screen", 2: "CRT screen"}
    assert object_names.short_names({1: "Wall", 2: "wa\u200bll ;brick"}) == {1: "Wall", 2: "brick"}
    with pytest.raises(InputError, match="label 2, 'screen;', has the name of an earlier label"):
        object_names.short_names({1: "screen", 2: "screen;"})


def test_pixel_accuracy_and_miou_counted_by_hand() -> None:
    truth = np.array([[1, 1, 1, 2], [2, 0, 0, 3]], np.uint8)
    found = np.array([[1, 1, 2, 2], [4, 1, 2, 3]], np.uint8)
    counts = scores.confusion(truth, found)
    assert counts.sum() == 6 and counts[1, 2] == 1 and counts[2, 4] == 1
    assert scores.pixel_accuracy(counts) == pytest.approx(4 / 6)
    assert scores.mean_iou(counts) == pytest.approx((2 / 3 + 1 / 3 + 1) / 3)
    nothing = scores.confusion(np.zeros((2, 2), np.uint8), np.ones((2, 2), np.uint8))
    assert np.isnan(scores.pixel_accuracy(nothing)) and np.isnan(scores.mean_iou(nothing))
