"""Encoder weights of EfficientNet-Lite checkpoints and of runs of our own."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from service.errors import BadConfig
from service.network import build
from service.network.repvgg import Encoder
from service.training.encoder_weights import load_encoder_weights
from tests.network.as_if_trained import as_if_trained
from tests.network.published_efficientnet import LITE0, LITE2, Blocks, Weights, features, random_weights

TINY = {"blocks": [1] * 5, "widths": [6] * 5}


@pytest.fixture(scope="module")
def lite0() -> Weights:
    torch.manual_seed(0)
    return random_weights(LITE0)


@pytest.mark.parametrize(
    ("kind", "blocks", "ends"),
    [("efficientnet-lite0", LITE0, (1, 3, 5, 11, 16)), ("efficientnet-lite2", LITE2, (1, 4, 7, 15, 21))],
)
@pytest.mark.parametrize("size", [(64, 96), (45, 33)], ids=["even", "odd"])
def test_the_encoder_computes_what_the_published_network_computes(
    kind: str, blocks: Blocks, ends: tuple[int, ...], size: tuple[int, int], tmp_path: Path
) -> None:
    torch.manual_seed(1)
    weights = random_weights(blocks)
    torch.save(weights, tmp_path / "lite.pth")
    network = build("al-net", encoder=kind)
    assert load_encoder_weights(network, tmp_path / "lite.pth") == "encoder weights from lite.pth: all of its blocks"
    image = torch.randn(1, 3, *size, dtype=torch.double)
    with torch.inference_mode():
        found = _encoder(network).double()(image)
        expected = features(weights, blocks, image)
    for ours, end in zip(found, ends, strict=True):
        torch.testing.assert_close(ours, expected[end], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_blocks.3._bn1.weight": None}, r"lacks _blocks\.3\._bn1\.weight"),
        ({"_blocks.3._bn1.weight": torch.zeros(5)}, r"_blocks\.3\._bn1\.weight is \(5,\), not \(144,\)"),
        ({"_conv_stem.weight": torch.full([32, 3, 3, 3], torch.nan)}, "holds NaN"),
        ({"_blocks.16._bn1.weight": torch.zeros(5)}, r"has _blocks\.16\._bn1\.weight: .* another size"),
    ],
)
def test_a_checkpoint_of_another_shape_is_an_error_and_changes_nothing(
    lite0: Weights, changes: dict[str, torch.Tensor | None], message: str, tmp_path: Path
) -> None:
    torch.save({name: value for name, value in (lite0 | changes).items() if value is not None}, tmp_path / "a.pth")
    network = build("al-net", encoder="efficientnet-lite0")
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(BadConfig, match=message):
        load_encoder_weights(network, tmp_path / "a.pth")
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_an_efficientnet_does_not_fit_a_repvgg_nor_the_other_way(lite0: Weights, tmp_path: Path) -> None:
    torch.save(lite0, tmp_path / "a.pth")
    with pytest.raises(BadConfig, match="no RepVGG training checkpoint"):
        load_encoder_weights(build("al-net"), tmp_path / "a.pth")
    torch.save({"stage0.rbr_dense.conv.weight": torch.zeros(8, 3, 3, 3)}, tmp_path / "b.pth")
    with pytest.raises(BadConfig, match="no EfficientNet-Lite of this size"):
        load_encoder_weights(build("al-net", encoder="efficientnet-lite0"), tmp_path / "b.pth")


def test_an_encoder_of_another_run_is_taken_as_it_is_and_the_rest_left(tmp_path: Path) -> None:
    source, network = as_if_trained(build("al-net", **TINY)), build("al-net", **TINY)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    save_file(source.state_dict(), tmp_path / "best.safetensors")
    line = load_encoder_weights(network, tmp_path / "best.safetensors")
    assert line == "encoder weights from best.safetensors: all of them, from a network of ours"
    for name, tensor in network.state_dict().items():
        expected = source.state_dict() if name.startswith("encoder.") else before
        assert torch.equal(tensor, expected[name])


@pytest.mark.parametrize("other", [{"blocks": [1] * 5, "widths": [6, 6, 6, 6, 8]}, {"encoder": "efficientnet-lite0"}])
def test_an_encoder_of_another_shape_is_an_error(other: dict[str, object], tmp_path: Path) -> None:
    save_file(build("al-net", **other).state_dict(), tmp_path / "best.safetensors")
    with pytest.raises(BadConfig, match=r"is no run of this encoder: it lacks|encoder\.stages\.4.* is \(8"):
        load_encoder_weights(build("al-net", **TINY), tmp_path / "best.safetensors")


def _encoder(network: torch.nn.Module) -> Encoder:
    encoder = network.get_submodule("encoder")
    assert isinstance(encoder, Encoder)
    return encoder.eval()
