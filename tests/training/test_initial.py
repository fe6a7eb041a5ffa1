"""What a run begins with: a batch that its network's batch norms can learn from."""

import pytest

from service.errors import BadConfig
from service.imaging.policy import InputPolicy
from service.training.config import Config, configure
from service.training.initial import build_network, check_batch

ARCHITECTURES = ["al-net", "repvgg-unet", "deeplabv3plus", "cenet", "unetplusplus", "pyconvunet"]


def _config(**changes: object) -> Config:
    grid = InputPolicy(kind="stretch", height=64, width=96)
    return configure("data", "own", "quick", {"input": grid, "batch_size": 1, "crop_px": 32} | changes)


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({}, "32 × 32"),
        ({"crop_px": 64, "epochs": 2, "coarse_epochs": 1}, "32 × 32"),
        ({"crop_px": None, "input": InputPolicy(kind="stretch", height=32, width=32)}, "32 × 32"),
        ({"crop_px": 256, "input": InputPolicy(kind="stretch", height=32, width=32)}, "32 × 32"),
        ({"crop_px": 64, "network": {"widths": [4] * 6, "blocks": [1] * 6}}, "64 × 64"),
    ],
    ids=["crop", "coarse", "grid", "crop larger than the grid", "six stages"],
)
def test_one_image_that_leaves_one_pixel_in_a_stage_is_refused(changes: dict[str, object], size: str) -> None:
    config = _config(**changes)
    with pytest.raises(BadConfig, match=f"of {size} pixels are too small.*--batch-size 2, or a larger --crop"):
        check_batch(build_network(config), config)


@pytest.mark.parametrize(
    "changes",
    [
        {"batch_size": 2},
        {"crop_px": 64},
        {"crop_px": None},
        {"crop_px": 32, "network": {"widths": [4] * 4, "blocks": [1] * 4}},
    ],
    ids=["two images", "larger crop", "oblong grid", "four stages"],
)
def test_a_batch_that_can_be_normalised_by_is_not(changes: dict[str, object]) -> None:
    config = _config(**changes)
    check_batch(build_network(config), config)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_can_be_asked(architecture: str) -> None:
    config = _config(architecture=architecture, crop_px=64)
    check_batch(build_network(config), config)


def test_the_network_is_left_as_it_was() -> None:
    config = _config(crop_px=64)
    network = build_network(config).eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    check_batch(network, config)
    assert not network.training
    assert all(tensor.equal(before[name]) for name, tensor in network.state_dict().items())
