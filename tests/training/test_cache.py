"""Decoded pairs are kept up to the limit, and never differ from what is on disk."""

from pathlib import Path

import numpy as np
import pytest

from service.errors import BadDataset
from service.training.cache import PairCache
from service.training.dataset import load, open_dataset
from tests.training.folders import mask, picture, write

PAIR_BYTES = 12 * 10 * 4


def _data(folder: Path) -> Path:
    for index in range(3):
        write(folder / "images" / f"{index}.png", picture(index))
        write(folder / "masks" / f"{index}.png", mask(index))
    return folder


@pytest.mark.parametrize("limit_bytes", [2 * PAIR_BYTES, 3 * PAIR_BYTES - 1])
def test_what_fits_is_decoded_once_and_the_rest_each_time(limit_bytes: int, tmp_path: Path) -> None:
    pairs = open_dataset(_data(tmp_path)).pairs
    cache = PairCache(pairs, limit_bytes=limit_bytes)
    first = [cache(index) for index in range(3)]
    again = [cache(index) for index in range(3)]
    assert [one[0] is other[0] for one, other in zip(first, again, strict=True)] == [True, True, False]
    for pair, (image, reference) in zip(pairs, again, strict=True):
        assert np.array_equal(image, load(pair)[0])
        assert np.array_equal(reference, load(pair)[1])


def test_pairs_come_by_name_and_in_order(tmp_path: Path) -> None:
    cache = PairCache(open_dataset(_data(tmp_path)).pairs, limit_bytes=0)
    assert (len(cache), [name for name, _ in cache.named()]) == (3, ["0", "1", "2"])


def test_a_file_that_vanished_is_named(tmp_path: Path) -> None:
    cache = PairCache(open_dataset(_data(tmp_path)).pairs, limit_bytes=1e9)
    cache(0)
    for file in tmp_path.glob("images/*.png"):
        file.unlink()
    assert cache(0)[0].shape == (12, 10, 3)
    with pytest.raises(BadDataset, match=r"1\.png"):
        cache(1)


def test_as_many_are_read_beforehand_as_are_kept(tmp_path: Path) -> None:
    pairs = open_dataset(_data(tmp_path)).pairs
    cache = PairCache(pairs, limit_bytes=2 * PAIR_BYTES)
    assert cache.still_to_read == list(pairs)
    cache.fill()
    assert cache.still_to_read == [pairs[2]]
    (tmp_path / "images" / "2.png").unlink()
    PairCache(pairs, limit_bytes=PAIR_BYTES).fill()  # it ends with the first that does not fit
    (tmp_path / "images" / "1.png").unlink()
    assert cache(1)[0].shape == load(pairs[0])[0].shape
