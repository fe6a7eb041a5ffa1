import numpy as np
import pytest

from service.training.drawn import Kind, draw

KINDS: tuple[Kind, ...] = ("retina", "cell", "skin")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [64, 256, 301])
def test_a_drawing_has_the_size_asked_for(kind: Kind, size: int) -> None:
    image, mask = draw(kind, 0, size=size)
    assert (image.shape, image.dtype.name) == ((size, size, 3), "uint8")
    assert (mask.shape, mask.dtype.name) == ((size, size), "uint8")
    assert set(np.unique(mask)) == {0, 1}


@pytest.mark.parametrize("kind", KINDS)
def test_a_drawing_can_be_drawn_again(kind: Kind) -> None:
    for one, other in zip(draw(kind, 5, seed=2), draw(kind, 5, seed=2), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_another_index_or_seed_is_another_drawing(kind: Kind) -> None:
    masks = [draw(kind, 0)[1], draw(kind, 1)[1], draw(kind, 0, seed=1)[1]]
    assert not np.array_equal(masks[0], masks[1])
    assert not np.array_equal(masks[0], masks[2])


@pytest.mark.parametrize(
    ("kind", "least", "most", "mean"),
    [("retina", 0.03, 0.14, (0.05, 0.1)), ("cell", 0.7, 0.86, (0.75, 0.81)), ("skin", 0.03, 0.6, (0.12, 0.35))],
)
def test_the_foreground_covers_as_much_as_in_real_images(
    kind: Kind, least: float, most: float, mean: tuple[float, float]
) -> None:
    shares = [float(draw(kind, index)[1].mean()) for index in range(30)]
    assert least <= min(shares) <= max(shares) <= most
    assert mean[0] <= float(np.mean(shares)) <= mean[1]


@pytest.mark.parametrize(("kind", "is_darker"), [("retina", 1), ("cell", 0), ("skin", 1)])
def test_the_mask_lies_where_the_structure_is_drawn(kind: Kind, is_darker: int) -> None:
    for index in range(8):
        image, mask = draw(kind, index)
        grey = image.mean(axis=2)
        seen = grey > 40  # without the black surround
        inside, outside = grey[seen & (mask == 1)], grey[seen & (mask == 0)]
        assert (inside.mean() < outside.mean() - 10) if is_darker else (inside.mean() > outside.mean() + 10)


def test_an_electron_micrograph_is_grey() -> None:
    image, _ = draw("cell", 0)
    np.testing.assert_array_equal(image[..., 0], image[..., 2])
