"""The drawn input of the start-up check."""

import hashlib

import numpy as np

from service.imaging.probe import probe

DIGEST = "ef32c41ba86374340244873e84f651f61d368e6dda4978ad35540a74c5d5c4e1"


def test_the_probe_is_the_same_on_every_machine() -> None:
    drawn = probe((608, 704), (0.588, 0.333, 0.112), (0.35, 0.19, 0.08))
    assert hashlib.sha256(drawn.tobytes()).hexdigest() == DIGEST


def test_the_probe_has_the_colours_asked_for_and_structure_everywhere() -> None:
    mean, std = (0.6, 0.4, 0.2), (0.2, 0.15, 0.05)
    drawn = probe((256, 320), mean, std)
    assert drawn.shape == (256, 320, 3)
    assert drawn.dtype == np.uint8
    pixels = drawn.reshape(-1, 3) / 255
    assert np.abs(pixels.mean(axis=0) - mean).max() < 0.03
    assert (pixels.std(axis=0) > np.array(std) / 2).all()
    cells = drawn.reshape(8, 32, 10, 32, 3).std(axis=(1, 3))
    assert cells.min() > 2


def test_a_small_grid_is_the_corner_of_a_large_one() -> None:
    large = probe((64, 96), (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    np.testing.assert_array_equal(probe((32, 32), (0.5, 0.5, 0.5), (0.2, 0.2, 0.2)), large[:32, :32])
