"""EfficientNet-Lite as an encoder: its stages, odd sizes, and its folded form."""

import pytest
import torch

from service.network import reparameterize
from service.network.efficientnet import efficientnet_encoder
from tests.network.as_if_trained import as_if_trained


@pytest.mark.parametrize(
    ("kind", "parameters", "widths"),
    [
        ("efficientnet-lite0", 2_958_848, (16, 24, 40, 112, 320)),
        ("efficientnet-lite1", 3_723_520, (16, 24, 40, 112, 320)),
        ("efficientnet-lite2", 4_357_952, (16, 24, 48, 120, 352)),
    ],
)
def test_its_size_is_that_of_the_published_network_without_its_head(
    kind: str, parameters: int, widths: tuple[int, ...]
) -> None:
    encoder = efficientnet_encoder(kind)
    assert sum(parameter.numel() for parameter in encoder.parameters()) == parameters
    assert encoder.widths == widths


@pytest.mark.parametrize("size", [(64, 96), (61, 47), (1, 1)], ids=["even", "odd", "one pixel"])
def test_each_stage_halves_the_image_rounding_up(size: tuple[int, int]) -> None:
    encoder, expected = efficientnet_encoder("efficientnet-lite0").eval(), size
    with torch.inference_mode():
        for found, width in zip(encoder(torch.randn(1, 3, *size)), encoder.widths, strict=True):
            expected = (-(-expected[0] // 2), -(-expected[1] // 2))
            assert found.shape == (1, width, *expected)


def test_folded_it_computes_the_same_without_batch_norms() -> None:
    encoder = as_if_trained(efficientnet_encoder("efficientnet-lite0").double())
    folded, image = reparameterize(encoder), torch.randn(1, 3, 45, 64, dtype=torch.double)
    assert not [module for module in folded.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    with torch.inference_mode():
        for ours, theirs in zip(folded(image), encoder(image), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_another_kind_is_an_error() -> None:
    with pytest.raises(ValueError, match="efficientnet-lite9"):
        efficientnet_encoder("efficientnet-lite9")
