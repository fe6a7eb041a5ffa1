"""What a run begins with: the network of its seed, settled if it was published, and a batch it can normalise by."""

from typing import cast

import pytest
import torch
from torch import Tensor, nn

from service.errors import BadConfig
from service.imaging.policy import InputPolicy
from service.network import build
from service.store.card import Normalisation
from service.training.augment import TrainingItems
from service.training.config import Config, configure
from service.training.initial import begin_with, build_network, check_batch, settle_beginning
from tests.checkpoints import TINY
from tests.network.as_if_trained import as_if_trained

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


SIX_STAGES: dict[str, object] = {"network": {"widths": [4] * 6, "blocks": [1] * 6}, "batch_size": 4}


@pytest.mark.parametrize(
    "changes", [{}, {"crop_px": 64, "epochs": 2, "coarse_epochs": 1}, {"batch_size": 1}], ids=["crop", "coarse", "one"]
)
def test_halving_one_pixel_is_refused_in_bfloat16_on_a_cpu(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, object]
) -> None:
    """The sixth stage's weights would get what memory held for a gradient."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = _config(**SIX_STAGES | {"precision": "bfloat16"} | changes)
    with pytest.raises(BadConfig, match="of 32 × 32 pixels are too small"):
        check_batch(build_network(config), config)


@pytest.mark.parametrize(
    ("changes", "cuda"),
    [({"precision": "float32"}, False), ({"crop_px": 64}, False), ({}, True), ({"network": {}}, False)],
    ids=["float32", "two pixels", "GPU", "five stages"],
)
def test_where_gradients_are_sound_nothing_is_refused(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], *, cuda: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    config = _config(**SIX_STAGES | {"precision": "bfloat16"} | changes)
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


def test_a_seed_makes_one_network_whatever_was_drawn_before() -> None:
    one, again, other = (build_network(_config(seed=seed)).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(tensor, one[name]) for name, tensor in again.items())
    assert not all(torch.equal(tensor, one[name]) for name, tensor in other.items())


def test_a_run_that_begins_with_an_encoder_needs_its_file() -> None:
    with pytest.raises(BadConfig, match="give it with --encoder-weights"):
        begin_with(build_network(_config()), [])


USUAL = Normalisation(mean=(0.2, 0.4, 0.6), std=(0.25, 0.25, 0.25))


class Views:
    """As many views of one colour, of `side` × `side` pixels, as told; it remembers which were asked for."""

    def __init__(self, count: int, side: int) -> None:
        self.count, self.asked = count, list[int]()
        self._view = torch.tensor(USUAL.mean).mul(255).view(3, 1, 1).expand(3, side, side)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, key: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
        self.asked.append(key[2])
        return self._view, self._view[:1]


def settled(views: Views, *, whole: bool = True) -> nn.Module:
    """Return a network whose batch norms knew something else before they were settled by `views`."""
    network = as_if_trained(build("al-net", **TINY))
    settle_beginning(network, cast("TrainingItems", views), USUAL, whole=whole)
    return network


@pytest.mark.parametrize(
    ("count", "side", "shown"),
    [
        (5, 32, [0, 1, 2, 3, 4]),
        (800, 32, list(range(0, 800, 25))),
        (800, 512, [0, 200, 400, 600]),
        (800, 1040, [0]),
    ],
    ids=["few", "many", "large", "larger than all should be"],
)
def test_views_from_all_images_settle_a_network_as_many_as_memory_allows(
    count: int, side: int, shown: list[int]
) -> None:
    views = Views(count, side)
    settled(views)
    assert views.asked[1:] == shown  # the first tells how large they are


def test_a_network_is_settled_by_pixels_as_it_sees_them() -> None:
    """Normalised, the usual colour is 0 everywhere, and so is what a convolution without a bias makes of it."""
    means = [norm.running_mean for norm in settled(Views(2, 32)).modules() if isinstance(norm, nn.BatchNorm2d)]
    assert means[0] is not None
    assert float(means[0].abs().max()) < 1e-5


def test_an_encoder_that_still_has_its_batch_norms_is_not_settled() -> None:
    views = Views(2, 32)
    settled(views, whole=False)
    assert views.asked == []
