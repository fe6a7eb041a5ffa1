"""Pre-training: what is imitated, that it is learnt, and that `alnet train` begins with it."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from service.errors import BadConfig
from service.imaging.policy import InputPolicy
from service.network import build
from service.training.config import Config, configure, file_identity
from service.training.dataset import check, open_dataset
from service.training.imitation import Imitation, Model
from service.training.initial import begin_with, build_network
from service.training.job import run as train
from service.training.leak import check_encoder_unseen
from service.training.pretraining import RECIPE, pretrain
from service.training.run_folder import EPOCHS, RunFolder
from service.training.state import BEST
from tests.network.published_efficientnet import LITE0, LITE2, Blocks, features, random_weights
from tests.training.folders import images_and_masks, picture, write

GRID = InputPolicy(kind="stretch", height=64, width=64)
SMALL = {"blocks": [1] * 5, "widths": [8] * 5}
TINY = {"steps_per_epoch": 4, "batch_size": 2, "crop_px": 64, "precision": "float32", "workers": 0}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as an EfficientNet-Lite0's is published."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "lite0.pth"
    torch.save(random_weights(LITE0), file)
    return file


def _config(**changes: object) -> Config:
    own: dict[str, object] = {"input": GRID, "network": SMALL, "epochs": 3}
    return configure("drawn:retina:9", "retina", "quick", RECIPE | TINY | own | changes)


@pytest.mark.parametrize(("blocks", "ends"), [(LITE0, (1, 3, 5, 11, 16)), (LITE2, (1, 4, 7, 15, 21))])
def test_the_model_is_the_published_network_on_its_own_pixels(
    blocks: Blocks, ends: tuple[int, ...], tmp_path: Path
) -> None:
    torch.manual_seed(1)
    published = random_weights(blocks)
    torch.save(published, tmp_path / "lite.pth")
    pixels = torch.randint(0, 256, (2, 3, 64, 96)).float()
    found = Model.of(tmp_path / "lite.pth")(pixels)
    expected = features(published, blocks, (pixels.double() - 127) / 128)
    for ours, end in zip(found, ends, strict=True):
        torch.testing.assert_close(ours.double(), _standardised(expected[end]), rtol=1e-3, atol=1e-3)


def _standardised(features: Tensor) -> Tensor:
    mean, variance = features.mean((0, 2, 3), keepdim=True), features.var((0, 2, 3), correction=0, keepdim=True)
    return (features - mean) / (variance + 1e-5).sqrt()


def test_the_models_own_encoder_can_be_imitated_without_error(weights: Path) -> None:
    """With the same weights, what remains is to scale and shift channels, which the 1×1s can."""
    model = Model.of(weights)
    imitation = Imitation(_ready(build("al-net", encoder="efficientnet-lite0"), weights), model.encoder.widths).eval()
    pixels = torch.randint(0, 256, (2, 3, 64, 64)).float()
    normalised = (pixels - 127) / 128
    with torch.no_grad():
        for tell, stage in zip(imitation.tell, imitation.encoder(normalised), strict=True):
            assert isinstance(tell, torch.nn.Conv2d)
            scale = 1 / (stage.var((0, 2, 3), correction=0) + 1e-5).sqrt()
            tell.weight.copy_(torch.diag(scale)[..., None, None])
            assert tell.bias is not None
            tell.bias.copy_(-stage.mean((0, 2, 3)) * scale)
        assert float(imitation(normalised, model(pixels)).max()) < 1e-4


def test_who_tells_the_same_of_everything_is_wrong_by_1_at_each_stage(weights: Path) -> None:
    model = Model.of(weights)
    imitation = Imitation(build("al-net", **SMALL), model.encoder.widths)
    for parameter in imitation.tell.parameters():
        torch.nn.init.zeros_(parameter)
    pixels = torch.randint(0, 256, (2, 3, 64, 64)).float()
    torch.testing.assert_close(imitation(pixels / 255, model(pixels)), torch.ones(5), rtol=0.01, atol=0)


def _ready(network: torch.nn.Module, weights: Path) -> torch.nn.Module:
    begin_with(network, [weights])
    return network


def test_the_encoder_comes_to_see_as_the_model_does(weights: Path, tmp_path: Path) -> None:
    config = _config(epochs=8, steps_per_epoch=8, learning_rate=0.01)
    said: list[str] = []
    assert pretrain(config, tmp_path / "run", weights, said.append) == tmp_path / "run" / BEST
    with (tmp_path / "run" / EPOCHS).open() as file:
        losses = [float(line["loss"]) for line in csv.DictReader(file)]
    assert losses[-1] < 0.8 * losses[0]
    assert losses[-1] < 1
    assert said[-1].startswith("epoch 8/8  unlike the model 0.")


def test_training_begins_with_what_came_of_it(weights: Path, tmp_path: Path) -> None:
    file = pretrain(_config(), tmp_path / "encoder", weights, print)
    config = _config(epochs=1, encoder_weights=file_identity(file))
    network = build_network(config)
    assert begin_with(network, [file]).endswith("from a network of ours")
    kept = load_file(file)
    assert all(torch.equal(network.state_dict()[name], tensor) for name, tensor in kept.items())
    said: list[str] = []
    assert train(config, tmp_path / "run", None, said.append, encoder_weights=file) is not None
    assert said[0].startswith(f"encoder weights from {BEST}")


def test_images_that_are_to_judge_must_not_have_been_imitated_on(weights: Path, tmp_path: Path) -> None:
    file = pretrain(_config(epochs=1), tmp_path / "encoder", weights, print)
    other = _config(epochs=1, seed=1, encoder_weights=file_identity(file))
    for job in (
        lambda: train(other, tmp_path / "run", None, print, encoder_weights=file),
        lambda: pretrain(other, tmp_path / "next", weights, print, encoder_weights=file),
    ):
        with pytest.raises(BadConfig, match=r"the encoder in .* knows"):
            job()


def test_validation_images_that_were_not_looked_at_may_test_later(weights: Path, tmp_path: Path) -> None:
    file = pretrain(_config(epochs=1, imitates=file_identity(weights)), tmp_path / "encoder", weights, print)
    split = RunFolder(file.parent).recorded_split().split
    images = check(open_dataset("drawn:retina:9"), progress=False).contents
    check_encoder_unseen(file, _config(), replace(split, test=split.validation, validation=split.test), images)
    with pytest.raises(BadConfig, match="knows"):
        check_encoder_unseen(file, _config(), replace(split, test=split.train), images)


def test_of_images_without_masks_all_are_learnt_from_and_none_may_judge_later(weights: Path, tmp_path: Path) -> None:
    labelled = images_and_masks(tmp_path / "labelled", [f"eye{number}" for number in range(5)], size=(64, 64))
    alone = tmp_path / "alone"
    alone.mkdir()
    for number, image in enumerate(sorted((labelled / "images").iterdir())):
        (alone / f"{number}-renamed.png").write_bytes(image.read_bytes())
    said: list[str] = []
    file = pretrain(_config(data=str(alone), epochs=1), tmp_path / "encoder", weights, said.append)
    assert said[0] == "alone: 5 train, 0 validation, 0 test"
    config = _config(data=str(labelled), epochs=1, encoder_weights=file_identity(file))
    with pytest.raises(BadConfig, match=r"the encoder in .* knows"):
        train(config, tmp_path / "run", None, print, encoder_weights=file)
    write(alone / "late.png", picture(99, height=64, width=64))
    with pytest.raises(BadConfig, match="the data changed"):
        pretrain(_config(data=str(alone), epochs=1), tmp_path / "encoder", weights, print)


def test_an_interrupted_run_goes_on_as_if_nothing_had_been(weights: Path, tmp_path: Path) -> None:
    def interrupt(line: str) -> None:
        if line.startswith("epoch 2/3"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(_config(), tmp_path / "broken", weights, interrupt)
    said: list[str] = []
    broken = load_file(pretrain(_config(), tmp_path / "broken", weights, said.append))
    assert [line.split()[1] for line in said if line.startswith("epoch")] == ["3/3"]
    whole = load_file(pretrain(_config(), tmp_path / "whole", weights, print))
    assert all(torch.equal(broken[name], tensor) for name, tensor in whole.items())


def test_a_folder_with_another_run_is_refused(weights: Path, tmp_path: Path) -> None:
    pretrain(_config(epochs=1), tmp_path / "run", weights, print)
    with pytest.raises(BadConfig, match="holds another run"):
        pretrain(_config(epochs=2), tmp_path / "run", weights, print)


def test_weights_of_something_else_are_refused(tmp_path: Path) -> None:
    torch.save({"stage0.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(BadConfig, match=r"other\.pth is none of efficientnet-lite0"):
        pretrain(_config(), tmp_path / "run", tmp_path / "other.pth", print)
    assert not (tmp_path / "run").exists()


def test_the_network_of_a_run_is_refused_since_it_may_know_what_is_to_judge(tmp_path: Path) -> None:
    ours = build("al-net", encoder="efficientnet-lite0")
    torch.save(ours.state_dict(), tmp_path / "best.pth")
    with pytest.raises(BadConfig, match=r"best\.pth is of a run of ours"):
        Model.of(tmp_path / "best.pth")


def test_an_encoder_that_was_moved_away_is_there_again(weights: Path, tmp_path: Path) -> None:
    best = pretrain(_config(epochs=1), tmp_path / "run", weights, print)
    expected = load_file(best)
    best.unlink()
    found = load_file(pretrain(_config(epochs=1), tmp_path / "run", weights, print))
    assert found.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())


def test_epochs_that_were_not_written_before_a_run_was_killed_are_told_when_it_is_asked_again(
    weights: Path, tmp_path: Path
) -> None:
    epochs = pretrain(_config(epochs=2), tmp_path / "run", weights, print).parent / EPOCHS
    whole = epochs.read_text()
    epochs.write_text("".join(whole.splitlines(keepends=True)[:-1]))
    pretrain(_config(epochs=2), tmp_path / "run", weights, print)
    assert epochs.read_text() == whole


def test_batches_that_are_too_small_are_refused_before_the_data_are_read(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="--batch-size 2"):
        pretrain(_config(data="no folder", batch_size=1, crop_px=32), tmp_path / "run", weights, print)


def test_a_network_without_an_encoder_of_five_stages_cannot_imitate(weights: Path) -> None:
    model = Model.of(weights)
    with pytest.raises(BadConfig, match="has no encoder"):
        Imitation(torch.nn.Conv2d(3, 1, 1), model.encoder.widths)
    with pytest.raises(BadConfig, match="5 stages cannot imitate one of 4"):
        Imitation(build("al-net", **SMALL), model.encoder.widths[:4])
