from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from service.imaging.placement import Image
from service.training.dataset import open_dataset
from service.training.drawn import Kind, draw
from service.training.duplicates import near_duplicates
from service.training.pairs import Pair
from tests.training.folders import mask, write

Change = Callable[[Image], Image]


def as_it_is(image: Image) -> Image:
    return image


def darker_and_bluer(image: Image) -> Image:
    return (image * [0.55, 0.6, 0.8] + [5, 5, 30]).astype(np.uint8)


def noisy(image: Image) -> Image:
    noise = np.random.default_rng(0).normal(0, 8, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def moved(image: Image) -> Image:
    return np.roll(image, (14, -18), (0, 1))


def moved_far(image: Image) -> Image:
    return np.roll(image, round(len(image) * 9 / 64), 0)


def cut_closer(image: Image, share: float = 0.06) -> Image:
    side = len(image)
    edge = round(share * side)
    return np.asarray(PillowImage.fromarray(image[edge:-edge, edge:-edge]).resize((side, side)))


def cut_much_closer(image: Image) -> Image:
    return cut_closer(image, 0.08)


def turned_and_closer(image: Image) -> Image:
    return turned(cut_closer(image, 0.03))


def half_the_size(image: Image) -> Image:
    return np.asarray(PillowImage.fromarray(image).reduce(2))


def turned(image: Image) -> Image:
    return np.rot90(image).copy()


def mirrored(image: Image) -> Image:
    return image[:, ::-1].copy()


def pairs_of(folder: Path, images: dict[str, Image]) -> tuple[Pair, ...]:
    for name, image in images.items():
        write(folder / "images" / f"{name}.png", image)
        write(folder / "masks" / f"{name}.png", mask(1))
    return open_dataset(folder).pairs


@pytest.mark.parametrize("kind", ["retina", "cell", "skin"])
@pytest.mark.parametrize(
    "change",
    [
        *(as_it_is, darker_and_bluer, noisy, half_the_size),
        *(moved, moved_far, cut_closer, cut_much_closer, turned, mirrored, turned_and_closer),
    ],
    ids=lambda change: change.__name__,
)
def test_a_second_version_is_found_among_others(tmp_path: Path, kind: Kind, change: Change) -> None:
    images = {f"{index}": draw(kind, index)[0] for index in range(6)}
    pairs = pairs_of(tmp_path, images | {"second": change(images["3"])})
    assert near_duplicates(pairs) == [("3", "second")]


def test_many_copies_of_one_picture_are_all_found(tmp_path: Path) -> None:
    image, _ = draw("skin", 0)
    names = [f"copy{number:02}" for number in range(30)]
    found = near_duplicates(pairs_of(tmp_path, dict.fromkeys(names, image)))
    assert len(found) == 30 * 29 // 2


@pytest.mark.parametrize("kind", ["retina", "cell", "skin"])
def test_drawings_are_no_duplicates_of_each_other(kind: str) -> None:
    assert near_duplicates(open_dataset(f"drawn:{kind}:24").pairs) == []


def test_flat_pictures_of_one_level_are_one_picture(tmp_path: Path) -> None:
    black = dict.fromkeys(["a", "b", "c"], np.zeros((20, 20, 3), np.uint8))
    pale = {"d": np.full((20, 20, 3), 200, np.uint8)}
    assert near_duplicates(pairs_of(tmp_path, black | pale)) == [("a", "b"), ("a", "c")]


def test_flat_pictures_are_not_alike(tmp_path: Path) -> None:
    flat = {name: np.full((20, 20, 3), level, np.uint8) for name, level in (("black", 0), ("grey", 128), ("pale", 200))}
    assert near_duplicates(pairs_of(tmp_path, flat)) == []


def test_the_two_photographs_of_one_eye_in_stare_are_found(real_data: Path) -> None:
    assert near_duplicates(open_dataset(real_data / "stare").pairs) == [("im0235", "im0236")]


def test_lesions_photographed_or_processed_twice_are_found_in_isic(real_data: Path) -> None:
    pairs = open_dataset(real_data / "isic2018").pairs
    pairs = tuple(pair for pair in pairs if int(pair.name[5:]) < 300 or 14600 < int(pair.name[5:]) < 15400)
    found = near_duplicates(pairs)
    processed, zoomed, turned_round = (215, 15313), (213, 15201), (231, 15146)
    assert {processed, zoomed, turned_round} <= {(int(one[5:]), int(other[5:])) for one, other in found}
    assert 30 <= len(found) <= 60
