"""Training: resumed runs, what is kept, what it starts from; and the stages around it on a small prepared set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from configured import mapping as profile

from citylens.compare import stage as compare
from citylens.embed import embedding
from citylens.embed import stage as embed
from citylens.errors import InputError
from citylens.explain import stage as explain
from citylens.io import files
from citylens.measure import stage as measure
from citylens.nets import checkpoints, masks, memory, networks
from citylens.settings import parser
from citylens.settings.schema import Settings
from citylens.train import stage as train
from citylens.train import training

SIZE = 64


def configured(**changes: object) -> Settings:
    mapping = profile("smoke")
    mapping["train"] |= {"epochs": 3} | changes
    mapping["prepare"]["size"] = SIZE
    return parser.parse(mapping)


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
    index = pd.DataFrame({"id": ids, "city": names, "label": labels, "spot": ids, "heading": np.nan, "split": split})
    files.write_table("data/prepare/index.csv", index)
    return tmp_path


def weights(network: str = "simpler", seed: int = 0) -> bytes:
    return Path(f"models/train/{network}-{seed}/network.safetensors").read_bytes()


class Stopped(Exception):
    pass


def stop_at_three(epoch: int, values: dict[str, float]) -> None:
    """End the stage when the third epoch has been trained, before its state is saved."""
    if epoch == 3:
        raise Stopped


@pytest.mark.parametrize("network", ["simpler", "resnet18"])
def test_a_stopped_run_goes_on_and_gives_the_same_bytes(prepared: Path, network: str) -> None:
    plan = configured(augment="flip")
    train.run(plan, network, 0)
    undisturbed, history = weights(network), Path(f"reports/train/{network}-0/history.csv").read_bytes()
    Path(f"models/train/{network}-0/network.safetensors").unlink()
    with pytest.raises(Stopped):
        train.run(plan, network, 0, stop_at_three)
    assert Path(f".citylens/train/{network}-0/state.safetensors").is_file()
    seen: dict[int, dict[str, float]] = {}
    train.run(plan, network, 0, seen.__setitem__)
    assert list(seen) == [3], "only the epoch that was left is trained"
    assert seen[3]["training_speed"] > 0 and set(seen[3]) == {"training_speed"} | set(
        files.read_table(f"reports/train/{network}-0/history.csv").columns
    ) - {"epoch", "learning_rate"}
    assert weights(network) == undisturbed
    assert Path(f"reports/train/{network}-0/history.csv").read_bytes() == history
    assert not Path(f".citylens/train/{network}-0").exists()


def test_of_two_processes_that_train_one_network_the_later_goes_on(prepared: Path) -> None:
    """So it is when a cluster loses its head: its workers live on for a while, beside those of the next run."""
    plan = configured()
    train.run(plan, "simpler", 0)
    undisturbed = weights()
    seen: list[int] = []

    def another(epoch: int, values: dict[str, float]) -> None:
        if epoch == 2:
            train.run(plan, "simpler", 0, lambda epoch, values: seen.append(epoch))

    with pytest.raises(InputError, match=r"^simpler-0: another process has begun to train it"):
        train.run(plan, "simpler", 0, another)
    assert seen == [2, 3], "the later goes on from the state that was saved"
    assert weights() == undisturbed
    assert not Path(".citylens/train/simpler-0").exists()


def test_a_state_of_other_settings_is_not_taken_up(prepared: Path) -> None:
    with pytest.raises(Stopped):
        train.run(configured(), "simpler", 0, stop_at_three)
    train.run(configured(learning_rate=0.001), "simpler", 0)
    resumed = weights()
    train.run(configured(learning_rate=0.001), "simpler", 0)
    assert weights() == resumed


def test_it_learns_and_says_how_well(prepared: Path) -> None:
    train.run(configured(epochs=6, batch_size=4, learning_rate=0.0003), "simpler", 0)
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


def test_a_network_with_shuffled_labels_learns_no_cities(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training images change cities among each other, each seed in its own way; validation and test images keep theirs."""
    learnt: list[np.ndarray] = []
    images = training.Images
    monkeypatch.setattr(
        training, "Images", lambda pixels, labels, *rows: learnt.append(labels) or images(pixels, labels, *rows)
    )
    plan = configured(labels="shuffled", epochs=6, batch_size=4, learning_rate=0.0003)
    for seed in (0, 1):
        train.run(plan, "simpler", seed)
    first, second = learnt
    actual = np.tile([0, 1], 15)
    for labels in learnt:
        assert (labels[18:] == actual[18:]).all() and labels[:18].sum() == 9 and (labels[:18] != actual[:18]).any()
    assert (first != second).any()
    assert files.read_json("reports/train/simpler-0/scores.json")["accuracy"] < 0.9


def test_the_best_epoch_is_kept_where_that_is_asked(prepared: Path) -> None:
    train.run(configured(keep="best", learning_rate=0.01, epochs=4), "simpler", 0)
    history = files.read_table("reports/train/simpler-0/history.csv")
    tensors, card = checkpoints.read_network("models/train/simpler-0/network.safetensors")
    network = networks.build("simpler", classes=2, size=SIZE)
    checkpoints.load_weights(network, tensors, "network.safetensors")
    index = files.read_table("data/prepare/index.csv")
    rows = np.flatnonzero(index["split"] == "validation")
    pixels = files.open_array("data/prepare/images.npy")
    logits = training.predict(network, pixels, rows, 16, torch.device("cpu"), training.INPUTS["imagenet"])
    loss, _ = training.score(logits, index["label"].to_numpy()[rows])
    assert loss == pytest.approx(history["validation_loss"].min(), rel=1e-5)
    scaling = training.INPUTS["imagenet"]
    assert card == checkpoints.Card("simpler", ("alder", "birch"), SIZE, "stretch", "none", *scaling)


def test_learning_rate_falls_by_the_papers_steps(prepared: Path) -> None:
    train.run(configured(decay_every=2, decay=0.1), "simpler", 0)
    assert files.read_table("reports/train/simpler-0/history.csv")["learning_rate"].tolist() == pytest.approx(
        [2e-4, 2e-4, 2e-5]
    )


def test_a_network_may_have_a_learning_rate_of_its_own(prepared: Path) -> None:
    train.run(configured(epochs=1, learning_rates={"simpler": 0.0005, "vgg11": 0.1}), "simpler", 0)
    assert files.read_table("reports/train/simpler-0/history.csv")["learning_rate"].tolist() == [0.0005]


def test_a_pretrained_start_keeps_its_own_head_for_other_cities(prepared: Path) -> None:
    given = networks.build("simpler", classes=7, size=SIZE, seed=5).state_dict()
    checkpoints.write_tensors("models/pretrained/simpler.safetensors", given, {})
    fresh = networks.build("simpler", classes=2, size=SIZE, seed=0)
    started = networks.with_own_head(fresh, given)
    assert (started["features.0.weight"] == given["features.0.weight"]).all()
    assert (started["classifier.4.weight"] == fresh.state_dict()["classifier.4.weight"]).all()
    train.run(configured(start="pretrained", epochs=1, learning_rate=1e-8), "simpler", 0)
    tensors, _ = checkpoints.read_network("models/train/simpler-0/network.safetensors")
    torch.testing.assert_close(tensors["features.0.weight"], given["features.0.weight"], atol=1e-4, rtol=1e-3)


def test_a_missing_pretrained_start_is_named(prepared: Path) -> None:
    with pytest.raises(InputError, match=r"models/pretrained/simpler\.safetensors: no such file"):
        train.run(configured(start="pretrained"), "simpler", 0)


def test_a_diverging_loss_stops_with_epoch_and_batch(prepared: Path) -> None:
    pixels = np.zeros((30, SIZE, SIZE, 3), np.uint8)
    network = networks.build("simpler", classes=2, size=SIZE)
    with torch.no_grad():
        network.get_parameter("classifier.4.bias")[:] = torch.nan
    plan = configured(epochs=1, batch_size=4).train
    images = training.Images(pixels, np.zeros(30, np.int64), np.arange(20), np.arange(20, 30))
    with pytest.raises(training.Diverged, match="epoch 1, batch 1"):
        list(training.Training(network, images, plan, 0, torch.device("cpu")).epochs())


@pytest.mark.parametrize("score", ["actual", "predicted"])
def test_explain_names_what_it_explains(prepared: Path, score: str) -> None:
    plan = configured(epochs=1)
    train.run(plan, "simpler", 0)
    mapping = profile("smoke")
    mapping["explain"] |= {"score": score, "batch_size": 4}
    explain.run(parser.parse(mapping), "simpler", 0)
    index = files.read_table("data/explain/simpler-0/index.csv")
    assert index["id"].tolist() == [f"i{number}" for number in range(24, 30)]
    assert (index["explained"] == index["city" if score == "actual" else "predicted"]).all()
    maps = files.open_array("data/explain/simpler-0/masks.npy")
    assert maps.shape == (6, 2, 2) and maps.dtype == np.float32
    untrained = files.open_array("data/explain/simpler-0/untrained.npy")
    assert untrained.shape == maps.shape and not np.allclose(untrained, maps)
    assert (index["dead_untrained"] == masks.dead(untrained)).all()
    assert index["probability"].between(0.5, 1).all()


def test_a_network_whose_maps_are_not_finite_is_not_explained(prepared: Path) -> None:
    """All its weights are finite, but their products are not."""
    train.run(configured(epochs=1), "simpler", 0)
    path = "models/train/simpler-0/network.safetensors"
    network, card = checkpoints.load_network(path)
    with torch.no_grad():
        network.get_parameter("classifier.0.weight").fill_(1e38)
    checkpoints.write_network(path, network, card)
    with pytest.raises(InputError, match=r"simpler-0: .* NaN or infinity for 6 of 6 test images; first: i24; allowed"):
        explain.run(parser.parse(profile("smoke")), "simpler", 0)
    assert not Path("data/explain/simpler-0").exists()


def test_results_do_not_depend_on_the_size_of_shards(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mapping = profile("smoke") | {"study": {"networks": ["simpler"], "seeds": [0, 1]}}
    mapping["report"]["thumbnail_network"] = "simpler"
    mapping["prepare"]["size"] = SIZE
    plan = parser.parse(mapping)
    generator = np.random.default_rng(1)
    images = files.read_table("data/prepare/index.csv").iloc[24:][["id", "city", "spot", "heading"]]
    for seed in (0, 1):
        maps = generator.normal(size=(6, 4, 4)).astype(np.float32)
        maps[seed] = -1
        files.write_array(f"data/explain/simpler-{seed}/masks.npy", maps)
        files.write_array(f"data/explain/simpler-{seed}/untrained.npy", maps[::-1].copy())
        dead = {"dead": masks.dead(maps).astype(int), "dead_untrained": masks.dead(maps[::-1]).astype(int)}
        files.write_table(f"data/explain/simpler-{seed}/index.csv", images.assign(predicted="alder", **dead))
    files.write_array("data/segment/labels.npy", generator.integers(0, 4, (6, SIZE, SIZE), dtype=np.uint8))
    files.write_table("data/segment/objects.csv", pd.DataFrame({"label": [1, 2, 3], "name": ["wall", "sky", "tree"]}))

    def results(size: int) -> list[pd.DataFrame]:
        for module in (measure, compare, embed, embedding):
            monkeypatch.setattr(module, "SHARD", size)
        for stage in (measure, compare, embed):
            stage.run(plan)
        tables = (
            "reports/measure/object_ratio.csv",
            "reports/compare/all_pairs.csv",
            "data/embed/simpler-1/embedding.csv",
        )
        pixels = files.read_table("data/measure/pixels.parquet").sort_values(["seed", "id", "label"], ignore_index=True)
        return [pixels, *(files.read_table(path) for path in (*tables, "data/compare/residuals.parquet"))]

    for one, several in zip(results(6), results(2), strict=True):
        pd.testing.assert_frame_equal(one, several, rtol=1e-14, atol=0)
    ratios = files.read_table("reports/measure/object_ratio.csv")
    assert (ratios["images"] == 3).all() and ratios.groupby(["city", "seed"])["dead"].first().sum() == 2

    labels = np.ones((6, SIZE, SIZE), np.uint8)
    labels[0, 0, :20] = 2  # The criterion is 8.2 pixels per image; 20 pixels in one image of three are 6.7.
    files.write_array("data/segment/labels.npy", labels)
    kept = {}
    for mapping["measure"]["mean_over"] in ("all images", "images with it"):
        measure.run(parser.parse(mapping))
        ratios = files.read_table("reports/measure/object_ratio.csv")
        kept[mapping["measure"]["mean_over"]] = set(ratios.loc[ratios["kept"] == 1, "object"])
    assert kept == {"all images": {"wall"}, "images with it": {"wall", "sky"}}


def limited(network: torch.nn.Module, images: int) -> None:
    """A GPU with room for so many images: torch's own error beyond."""

    def check(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if len(inputs[0]) > images:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    network.register_forward_pre_hook(check)


def test_a_batch_that_is_too_large_goes_in_halves() -> None:
    """Once, with the gradient of the whole batch; and no further.

    Gradients are compared, not weights: Adam's first step is the gradient's sign, which flips near zero by rounding alone.
    """
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (8, 64, 64, 3), dtype=np.uint8), rng.integers(0, 2, 8)
    images = training.Images(pixels, labels, np.arange(6), np.arange(6, 8))

    def trained(room: int) -> tuple[training.Training, training.Epoch, torch.Tensor]:
        network = networks.build("simpler", classes=2, size=64, seed=0)
        limited(network, room)
        work = training.Training(network, images, configured(epochs=1, batch_size=6).train, 0, torch.device("cpu"))
        (epoch,) = work.epochs()
        gradients = [parameter.grad.flatten() for parameter in network.parameters() if parameter.grad is not None]
        return work, epoch, torch.cat(gradients)

    (whole, one, gradient), (halves, two, summed) = trained(6), trained(3)
    assert (whole.at_once, halves.at_once) == (6, 3)
    assert two.training_loss == pytest.approx(one.training_loss, rel=1e-5)
    assert (summed - gradient).norm() <= 1e-4 * gradient.norm() and gradient.norm() > 0
    with pytest.raises(memory.OutOfMemory, match="3 image"):
        trained(2)


def test_a_batch_to_explain_goes_in_halves() -> None:
    def explained(batch: slice) -> list[int]:
        if batch.stop - batch.start > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return list(range(8)[batch])

    assert list(memory.in_batches(explained, 8, 6)) == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert list(memory.in_batches(explained, 0, 6)) == []
    with pytest.raises(memory.OutOfMemory, match=r"4 image\(s\) at once; asked for: 8"):
        list(memory.in_batches(explained, 8, 8))
    with pytest.raises(ZeroDivisionError):
        list(memory.in_batches(lambda batch: 1 // 0, 8, 8))
