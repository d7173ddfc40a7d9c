"""Training: resumed runs, what is kept, what it starts from; and the stages around it on a small prepared set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from citylens import settings
from citylens.adapters import checkpoints, files
from citylens.adapters.tracker import Silent
from citylens.science import memory, networks, training
from citylens.settings import InputError, Settings
from citylens.stages import explain, train
from citylens.tidy import tidy

SMOKE = Path(__file__).parents[1] / "profiles" / "smoke.yaml"
SIZE = 64


def configured(**changes: object) -> Settings:
    mapping = yaml.safe_load(SMOKE.read_text())
    mapping["train"] |= {"epochs": 3} | changes
    mapping["prepare"]["size"] = SIZE
    return settings.parse(mapping)


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two cities of 15 images each: dark above and bright below, or the other way round."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    labels = np.tile([0, 1], 15)
    rows = np.linspace(-60, 60, SIZE)[None, :, None, None] * np.where(labels, 1, -1)[:, None, None, None]
    pixels = 128 + rows + generator.normal(0, 10, (30, SIZE, SIZE, 3))
    files.write_array("data/prepare/images.npy", pixels.clip(0, 255).astype(np.uint8))
    split = np.repeat(["training", "validation", "test"], [18, 6, 6])
    names = np.array(["alder", "birch"])[labels]
    ids = [f"i{number}" for number in range(30)]
    index = pd.DataFrame({"id": ids, "city": names, "label": labels, "spot": ids, "split": split})
    files.write_table("data/prepare/index.csv", index)
    return tmp_path


def weights(network: str = "simpler", seed: int = 0) -> bytes:
    return Path(f"models/train/{network}-{seed}/network.safetensors").read_bytes()


class Stopped(Exception):
    pass


class StopsAfterTwo(Silent):
    """A tracker that ends the stage as it logs the third epoch."""

    def metrics(self, values: object, step: int | None = None) -> None:
        if step == 3:
            raise Stopped


@pytest.mark.parametrize("network", ["simpler", "resnet18"])
def test_a_stopped_run_goes_on_and_gives_the_same_bytes(prepared: Path, network: str) -> None:
    plan = configured(augment="flip")
    train.run(plan, Silent(), network, 0)
    undisturbed, history = weights(network), Path(f"reports/train/{network}-0/history.csv").read_bytes()
    Path(f"models/train/{network}-0/network.safetensors").unlink()
    with pytest.raises(Stopped):
        train.run(plan, StopsAfterTwo(), network, 0)
    assert Path(f".citylens/train/{network}-0/state.safetensors").is_file()
    seen: list[int] = []
    tracker = Silent()
    tracker.metrics = lambda values, step=None: seen.append(step)  # type: ignore[method-assign]
    train.run(plan, tracker, network, 0)
    assert seen == [3], "only the epoch that was left is trained"
    assert weights(network) == undisturbed
    assert Path(f"reports/train/{network}-0/history.csv").read_bytes() == history
    assert not Path(f".citylens/train/{network}-0").exists()


def test_a_state_of_other_settings_is_not_taken_up(prepared: Path) -> None:
    with pytest.raises(Stopped):
        train.run(configured(), StopsAfterTwo(), "simpler", 0)
    train.run(configured(learning_rate=0.001), Silent(), "simpler", 0)
    resumed = weights()
    train.run(configured(learning_rate=0.001), Silent(), "simpler", 0)
    assert weights() == resumed


def test_it_learns_and_says_how_well(prepared: Path) -> None:
    train.run(configured(epochs=6, batch_size=4, learning_rate=0.0003), Silent(), "simpler", 0)
    scores = files.read_json("reports/train/simpler-0/scores.json")
    assert (
        scores["accuracy"] == 1.0
        and scores["majority_accuracy"] == 0.5
        and scores["recall"] == {"alder": 1.0, "birch": 1.0}
    )
    confusion = files.read_table("reports/train/simpler-0/confusion.csv")
    assert confusion["images"].tolist() == [3, 0, 0, 3]
    history = files.read_table("reports/train/simpler-0/history.csv")
    assert history["training_loss"].iloc[-1] < history["training_loss"].iloc[0]


def test_the_best_epoch_is_kept_where_that_is_asked(prepared: Path) -> None:
    train.run(configured(keep="best", learning_rate=0.01, epochs=4), Silent(), "simpler", 0)
    history = files.read_table("reports/train/simpler-0/history.csv")
    tensors, card = checkpoints.read_network("models/train/simpler-0/network.safetensors")
    network = networks.build("simpler", classes=2, size=SIZE)
    checkpoints.load_weights(network, tensors, "network.safetensors")
    index = files.read_table("data/prepare/index.csv")
    rows = np.flatnonzero(index["split"] == "validation")
    pixels = files.open_array("data/prepare/images.npy")
    logits = training.predict(network, pixels, rows, 16, torch.device("cpu"))
    loss, _ = training.score(logits, index["label"].to_numpy()[rows])
    assert loss == pytest.approx(history["validation_loss"].min(), rel=1e-5)
    assert card == checkpoints.Card("simpler", ("alder", "birch"), SIZE, "stretch", "none", training.MEAN, training.STD)


def test_learning_rate_falls_by_the_papers_steps(prepared: Path) -> None:
    train.run(configured(decay_every=2, decay=0.1), Silent(), "simpler", 0)
    assert files.read_table("reports/train/simpler-0/history.csv")["learning_rate"].tolist() == pytest.approx(
        [1e-4, 1e-4, 1e-5]
    )


def test_a_pretrained_start_keeps_its_own_head_for_other_cities(prepared: Path) -> None:
    given = networks.build("simpler", classes=7, size=SIZE, seed=5).state_dict()
    checkpoints.write_tensors("models/pretrained/simpler.safetensors", given, {})
    fresh = networks.build("simpler", classes=2, size=SIZE, seed=0)
    started = networks.with_own_head(fresh, given)
    assert (started["features.0.weight"] == given["features.0.weight"]).all()
    assert (started["classifier.4.weight"] == fresh.state_dict()["classifier.4.weight"]).all()
    train.run(configured(start="pretrained", epochs=1, learning_rate=1e-8), Silent(), "simpler", 0)
    tensors, _ = checkpoints.read_network("models/train/simpler-0/network.safetensors")
    torch.testing.assert_close(tensors["features.0.weight"], given["features.0.weight"], atol=1e-4, rtol=1e-3)


def test_a_missing_pretrained_start_is_named(prepared: Path) -> None:
    with pytest.raises(InputError, match=r"models/pretrained/simpler\.safetensors: no such file"):
        train.run(configured(start="pretrained"), Silent(), "simpler", 0)


def test_a_diverging_loss_stops_with_epoch_and_batch(prepared: Path) -> None:
    pixels = np.zeros((30, SIZE, SIZE, 3), np.uint8)
    network = networks.build("simpler", classes=2, size=SIZE)
    with torch.no_grad():
        network.get_parameter("classifier.4.bias")[:] = torch.nan
    plan = training.Plan(1, 4, 1e-4, 0.1, 10, False, 0)
    images = training.Images(pixels, np.zeros(30, np.int64), np.arange(20), np.arange(20, 30))
    with pytest.raises(training.Diverged, match="epoch 1, batch 1"):
        list(training.Training(network, images, plan, torch.device("cpu")).epochs())


@pytest.mark.parametrize("score", ["true", "predicted"])
def test_explain_names_what_it_explains(prepared: Path, score: str) -> None:
    plan = configured(epochs=1)
    train.run(plan, Silent(), "simpler", 0)
    mapping = yaml.safe_load(SMOKE.read_text())
    mapping["explain"] |= {"score": score, "batch_size": 4}
    explain.run(settings.parse(mapping), Silent(), "simpler", 0)
    index = files.read_table("data/explain/simpler-0/index.csv")
    assert index["id"].tolist() == [f"i{number}" for number in range(24, 30)]
    assert (index["explained"] == index["city" if score == "true" else "predicted"]).all()
    maps = files.open_array("data/explain/simpler-0/masks.npy")
    assert maps.shape == (6, 2, 2) and maps.dtype == np.float32
    assert index["probability"].between(0.5, 1).all()


def test_tidy_takes_away_networks_alone_and_only_unnamed_ones(prepared: Path) -> None:
    for folder in (
        "models/train/vgg11-0",
        "models/train/simpler-0",
        "data/explain/resnet18-7",
        "reports/train/my-notes",
    ):
        (prepared / folder).mkdir(parents=True)
    assert sorted(map(str, tidy(configured()))) == ["data/explain/resnet18-7", "models/train/vgg11-0"]
    assert (prepared / "reports/train/my-notes").is_dir() and (prepared / "models/train/simpler-0").is_dir()


def limited(network: torch.nn.Module, images: int) -> None:
    """A GPU with room for so many images: torch's own error beyond."""

    def check(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if len(inputs[0]) > images:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    network.register_forward_pre_hook(check)


def test_a_batch_that_is_too_large_goes_in_halves() -> None:
    """Once, with the gradient of the whole batch; and no further."""
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (8, 64, 64, 3), dtype=np.uint8), rng.integers(0, 2, 8)
    images = training.Images(pixels, labels, np.arange(6), np.arange(6, 8))

    def trained(room: int) -> training.Training:
        network = networks.build("simpler", classes=2, size=64, padding="none", seed=0)
        limited(network, room)
        plan = training.Plan(1, 6, 1e-3, 0.1, 10, False, 0)
        work = training.Training(network, images, plan, torch.device("cpu"))
        list(work.epochs())
        return work

    whole, halves = trained(6), trained(3)
    assert (whole.at_once, halves.at_once) == (6, 3)
    for name, value in whole.network.state_dict().items():
        torch.testing.assert_close(halves.network.state_dict()[name], value, rtol=1e-4, atol=1e-5)
    with pytest.raises(memory.OutOfMemory, match="3 image"):
        trained(2)
