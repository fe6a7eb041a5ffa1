import torch

from service.network.normalise import Normalise


def test_normalising_is_the_formula_channel_by_channel() -> None:
    pixels = torch.randint(0, 256, (2, 3, 4, 5), dtype=torch.uint8)
    mean, std = torch.tensor([0.1, 0.5, 0.7]), torch.tensor([0.2, 0.1, 0.3])
    expected = (pixels / 255 - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)
    found = Normalise((0.1, 0.5, 0.7), (0.2, 0.1, 0.3))(pixels)
    torch.testing.assert_close(found, expected)


def test_uint8_and_float_pixels_give_the_same() -> None:
    pixels = torch.randint(0, 256, (1, 3, 8, 8), dtype=torch.uint8)
    normalise = Normalise((0.5, 0.5, 0.5), (0.2, 0.2, 0.2), dtype=torch.bfloat16)
    assert torch.equal(normalise(pixels), normalise(pixels.float()))
    assert normalise(pixels).dtype == torch.bfloat16
