"""The loop's own parts: learning rate, loss, the device's set-up, the best weights."""

import logging
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.optim import SGD

from service.errors import BadConfig
from service.imaging.policy import InputPolicy
from service.store.card import Normalisation
from service.training.augment import VIEWS, TrainingItems
from service.training.config import Config, configure
from service.training.fit import (
    BEST,
    best_predictor,
    load_best,
    make_fabric,
    prepare_fitting,
    scoring_precision,
    set_learning_rate,
)
from service.training.losses import make_loss

PLAIN = Normalisation(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def _config(preset: str = "paper", **changes: object) -> Config:
    grid = InputPolicy(kind="stretch", height=32, width=32)
    return configure("data", "retina", preset, {"input": grid, "precision": "float32"} | changes)


def _rates(config: Config) -> list[float]:
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    rates = [set_learning_rate(optimizer, config, epoch) for epoch in range(config.epochs)]
    assert optimizer.param_groups[0]["lr"] == rates[-1]
    return rates


def test_the_papers_learning_rate_falls_by_a_twentieth_after_each_epoch() -> None:
    rates = _rates(_config())
    assert rates[:3] == pytest.approx([5e-3, 5e-3 * 0.95, 5e-3 * 0.95**2])
    assert rates[149] == pytest.approx(5e-3 * 0.95**149)


def test_the_cosine_rises_over_a_tenth_of_the_epochs_and_falls_towards_zero() -> None:
    rates = _rates(_config("quick", epochs=50, learning_rate=1.0))
    peak = rates.index(max(rates))
    assert peak == 4
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert 0 < rates[-1] < 0.01


def test_the_loss_is_dice_plus_binary_cross_entropy() -> None:
    """Eqs. 4 to 6 of the paper, one value an image, then the mean."""
    random = np.random.default_rng(0)
    logits, masks = random.normal(size=(2, 1, 9, 9)), random.integers(0, 2, (2, 1, 9, 9)).astype(float)
    p = 1 / (1 + np.exp(-logits))
    entropy = -(masks * np.log(p) + (1 - masks) * np.log(1 - p)).mean()
    axes = (1, 2, 3)
    dice = 1 - 2 * (p * masks).sum(axes) / (p.sum(axes) + masks.sum(axes))
    loss = make_loss(_config())(torch.from_numpy(logits), torch.from_numpy(masks))
    assert float(loss) == pytest.approx(entropy + dice.mean(), rel=1e-5)


def test_fabric_is_quiet(recwarn: pytest.WarningsRecorder) -> None:
    fabric = make_fabric(_config(precision="bfloat16"))
    assert (fabric.world_size, fabric.is_global_zero) == (1, True)
    assert not logging.getLogger("lightning_fabric.utilities.rank_zero").isEnabledFor(logging.INFO)
    assert not recwarn.list


def _items(images: int, config: Config) -> TrainingItems:
    blank = np.zeros((32, 32, 3), np.uint8), np.zeros((32, 32), np.uint8)
    return TrainingItems(lambda _: blank, images, config)


@pytest.mark.parametrize(
    ("steps", "batches"),
    [(None, math.ceil(3 * VIEWS / 5)), (2, 2)],
    ids=["whole pass", "two steps"],
)
def test_an_epoch_has_as_many_batches_as_it_should(steps: int | None, batches: int) -> None:
    config = _config(batch_size=5, steps_per_epoch=steps)
    fitting = prepare_fitting(config, make_fabric(config), nn.Conv2d(3, 1, 1), _items(3, config), PLAIN)
    sizes = [len(images) for images, _ in fitting.batches]
    assert sizes == [5] * batches


def test_convolutions_are_trained_channels_last() -> None:
    config = _config()
    fitting = prepare_fitting(config, make_fabric(config), nn.Conv2d(3, 4, 3), _items(1, config), PLAIN)
    weight = next(fitting.network.parameters())
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_a_predictor_leaves_the_network_in_training() -> None:
    network = nn.Sequential(nn.Conv2d(3, 1, 1), nn.BatchNorm2d(1)).train()
    predictor = best_predictor(network, PLAIN, torch.device("cpu"))
    predictor.predict([np.zeros((32, 32, 3), np.uint8)])
    assert network.training
    assert next(network.parameters()).dtype == torch.float32


def test_the_best_weights_are_read_back(tmp_path: Path) -> None:
    network = nn.Linear(2, 2)
    save_file({"weight": torch.ones(2, 2), "bias": torch.zeros(2)}, tmp_path / BEST)
    assert bool((load_best(tmp_path, network).get_parameter("weight") == 1).all())


@pytest.mark.parametrize("content", [None, b"damaged"])
def test_best_weights_that_are_gone_are_named(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / BEST).write_bytes(content)
    with pytest.raises(BadConfig, match=BEST):
        load_best(tmp_path, nn.Linear(2, 2))


def test_a_network_half_trained_on_a_gpu_is_not_scored_in_float16_which_it_may_overflow() -> None:
    assert scoring_precision(torch.device("cuda")) == "bfloat16"
    assert scoring_precision(torch.device("cpu")) in {"bfloat16", "float32"}
