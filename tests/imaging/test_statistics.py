"""Which uploads are unlike the training images."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from service.imaging.decode import decode
from service.imaging.placement import Image
from service.imaging.statistics import FEATURES, Likeness, features
from tests.imaging.pictures import noise


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    level=st.sampled_from([0, 1, 20, 255]),
    seed=st.integers(0, 9),
)
def test_features_are_finite_for_every_image(height: int, width: int, level: int, seed: int) -> None:
    for image in (np.full((height, width, 3), level, np.uint8), noise(height, width, 3, seed=seed)):
        described = features(image)
        assert described.shape == (len(FEATURES),)
        assert np.isfinite(described).all()


def test_features_are_those_that_published_cards_speak_of() -> None:
    """Cards hold means and spreads of these numbers: another formula would make every limit a lie."""
    rows, columns = np.mgrid[:96, :128]
    image = np.stack([rows * 2, columns + 60, rows * columns % 180], -1).astype(np.uint8)
    image[:, :24] = 5
    golden = [0.3011, 0.2734, -1.1832, -2.1826, -0.2635, 0.4356, 0.2129, 0.1875]
    assert features(image).tolist() == pytest.approx(golden, abs=1e-4)


def test_features_do_not_tell_rows_from_columns() -> None:
    image = noise(64, 64, 3) // 2 + 100
    image[:, :20] = 5
    assert features(image.swapaxes(0, 1)) == pytest.approx(features(image))


@pytest.mark.parametrize(("lit_rows", "is_told"), [(4, True), (1, False)], ids=["6 % lit", "1.6 % lit"])
def test_a_small_picture_in_the_dark_has_its_own_colour(lit_rows: int, is_told: bool) -> None:
    image = np.full((64, 64, 3), (0, 20, 0), np.uint8)
    image[:lit_rows] = 200, 50, 50
    red_share = float(features(image)[FEATURES.index("red_share")])
    assert (red_share > 0.6) is is_told


def test_the_spread_that_is_believed_of_images_all_alike_is_what_other_cameras_differ_by() -> None:
    scale = Likeness.fit(np.zeros((5, len(FEATURES)))).scale
    assert scale.tolist() == [0.06, 0.06, 0.40, 0.35, 0.25, 0.15, 0.12, 0.15]


def test_features_hardly_depend_on_resolution() -> None:
    image = np.repeat(np.repeat(noise(64, 64, 3), 4, axis=0), 4, axis=1)
    twice = np.repeat(np.repeat(image, 3, axis=0), 3, axis=1)
    np.testing.assert_allclose(features(twice), features(image), atol=0.05)


def test_one_training_image_is_enough_to_be_like_it() -> None:
    image = noise(100, 100, 3)
    likeness = Likeness.fit(features(image)[None])
    assert likeness.distance(image) == 0 < likeness.limit


def test_other_colours_are_far() -> None:
    red, blue = np.zeros((2, 80, 80, 3), np.uint8)
    red[..., 0] = blue[..., 2] = noise(80, 80)
    likeness = Likeness.fit(np.stack([features(red)] * 5))
    assert likeness.distance(blue) > likeness.limit


def one_odd_among(count: int) -> NDArray[np.float64]:
    """Return features of images that are all alike but one, whose red share is 20 of the least spreads away."""
    matrix = np.zeros((count, len(FEATURES)))
    matrix[-1, FEATURES.index("red_share")] = 1.2
    return matrix


@pytest.mark.parametrize(("count", "limit"), [(1, 1.5), (2, 15.9248), (4, 13.0463), (10, 10.2335)])
def test_the_limit_is_nearly_the_oddest_distance_with_a_margin_that_shrinks_with_their_number(
    count: int, limit: float
) -> None:
    assert Likeness.fit(one_odd_among(count)).limit == pytest.approx(limit, rel=1e-4)


@pytest.fixture(scope="module")
def collections(real_data: Path) -> dict[str, list[Image]]:
    """Real images of each kind; every 16th of the skin images."""
    files = {
        "retina": sorted((real_data / "stare" / "images").glob("*.ppm")),
        "cell": [real_data / "isbi2012" / "images" / f"{page}.png" for page in range(30)],
        "skin": sorted((real_data / "isic2018" / "images").glob("*.jpg"))[::16],
    }
    return {kind: [decode(file.read_bytes(), max_pixels=10**7).pixels for file in files[kind]] for kind in files}


def flagged(likeness: Likeness, images: Iterable[Image]) -> float:
    return float(np.mean([likeness.distance(image) > likeness.limit for image in images]))


@pytest.mark.parametrize(("kind", "n_train"), [("retina", 10), ("cell", 18), ("skin", 105)])
def test_own_kind_is_not_flagged_and_other_kinds_are(
    collections: dict[str, list[Image]], kind: str, n_train: int
) -> None:
    own = collections[kind]
    order = np.arange(len(own)) if kind == "cell" else np.random.default_rng(0).permutation(len(own))
    likeness = Likeness.fit(np.stack([features(own[index]) for index in order[:n_train]]))
    assert flagged(likeness, (own[index] for index in order[n_train:])) <= 0.05
    for other in collections.keys() - {kind}:
        assert flagged(likeness, collections[other]) >= 0.95, other
