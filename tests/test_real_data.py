"""The paper's profile on both releases' layouts, made small: rendered images in the real trees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from clones import ROOT, Clone
from test_releases import pittsburgh, tokyo

from citylens.io import images
from citylens.io.files import write_text
from citylens.io.yaml_files import parse_yaml
from citylens.segment import csail_networks
from streetscenes.view import Scene
from streetscenes.world import read_world

SPOTS = 5
MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])


class Drawing:
    """Draws the views of a made-up city, in the order in which their paths come."""

    def __init__(self, city: str, views: int) -> None:
        world = read_world(parse_yaml((ROOT / "worlds/default.yaml").read_text(), "worlds/default.yaml"))
        self.scenes = [Scene(world, city, spot, width=160, height=120, seed=0) for spot in range(SPOTS + 1)]
        self.views, self.drawn = views, 0

    def __call__(self, path: Path) -> None:
        spot, view = divmod(self.drawn, self.views)
        image, _ = self.scenes[spot].view(view * 360 / self.views)
        (images.write_png(path, image) if path.suffix == ".png" else images.write_jpeg(path, image, 92))
        self.drawn += 1


def _random_parser(folder: Path) -> None:
    """A scene parser of random weights; its batch statistics are those of two images, or one object would be everywhere."""
    torch.manual_seed(0)
    network = csail_networks.build("mobilenetv2dilated-c1_deepsup")
    batch = np.stack([Drawing(city, 12).scenes[0].view(0)[0] for city in ("birch", "alder")]) / np.float32(255)
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None  # the mean of what is seen
    with torch.no_grad():
        network.train()(torch.from_numpy((batch - MEAN) / STD).permute(0, 3, 1, 2))
    folder.mkdir()
    for name, part in zip(("encoder", "decoder"), network, strict=True):
        torch.save(part.state_dict(), folder / f"{name}_epoch_20.pth")


@pytest.mark.integration
def test_the_papers_profile_runs_on_the_papers_layouts(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    tokyo(photos / "tokyo247", SPOTS, "tokyo247/tokyo247", Drawing("birch", 12))
    pittsburgh(photos / "pitts250k", SPOTS, "", Drawing("alder", 24))
    _random_parser(photos / "parser")
    clone = Clone(
        tmp_path / "study",
        "paper",
        *(
            f"acquire.path={photos}",
            f"segment.path={photos / 'parser'}",
            "segment.csail.parser=mobilenetv2dilated-c1_deepsup",
        ),
        *("segment.csail.scales=[96]", "validate.splits.tolerance=0.05", "study.networks=[simpler]"),
        *("prepare.size=64", "train.epochs=1", "report.thumbnail_network=simpler", "embed.iterations=250"),
    )
    params = clone.folder / "params.yaml"
    write_text(params, params.read_text().replace("images: 75984", f"images: {SPOTS * 12}"))
    clone.reproduce()
    manifest = pd.read_csv(clone.folder / "data/acquire/manifest.csv", dtype=str)
    assert manifest["city"].value_counts().to_dict() == {"tokyo": 60, "pittsburgh": 60}
    assert set(manifest.groupby("city")["codec"].first().items()) == {("tokyo", "png"), ("pittsburgh", "jpeg")}
    assert manifest["utm_east"].notna().all() and manifest["heading"].notna().all()
    assert manifest.loc[manifest["city"] == "pittsburgh", "path"].str.contains("pitch1").all()
    first = manifest.iloc[0]["path"]
    assert (clone.folder / "data/acquire" / first).read_bytes() == (photos / first).read_bytes()
    assert (clone.folder / "reports/index.html").is_file()
    assert clone.ran(clone.run("dvc", "repro")) == []
