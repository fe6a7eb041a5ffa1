"""Which masks are like the training masks, by the share of the picture that they cover."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.imaging.placement import place
from service.imaging.policy import InputPolicy
from service.imaging.share import UsualShare, part_shown, percent, share_of

shares = st.floats(0, 1)


@given(st.lists(shares, min_size=1, max_size=30))
def test_every_training_mask_is_usual(taught: list[float]) -> None:
    usual = UsualShare.fit(taught)
    assert 0 <= usual.least <= usual.most <= 1
    assert all(usual.has(share) for share in taught)


def test_masks_much_like_each_other_leave_room_for_others() -> None:
    usual = UsualShare.fit([0.77] * 19)  # as of membranes
    assert usual.least == pytest.approx(0.60, abs=0.01)
    assert usual.most == pytest.approx(0.88, abs=0.01)
    assert usual.has(0.83)
    assert not any(usual.has(share) for share in (0.0, 0.5, 0.93, 1.0))


def test_small_shares_are_told_apart_down_to_a_thousandth() -> None:
    usual = UsualShare.fit([0.002] * 5)
    assert usual.least == pytest.approx(0.0009, abs=0.0001)
    assert usual.most == pytest.approx(0.0044, abs=0.0001)


def test_masks_that_differ_widely_leave_hardly_any_share_unusual() -> None:
    usual = UsualShare.fit([0.01, 0.05, 0.2, 0.4, 0.97])
    assert usual.has(0.002)
    assert usual.has(0.99)
    assert not usual.has(0.0)


def test_where_masks_were_empty_in_training_an_empty_one_is_usual() -> None:
    assert UsualShare.fit([0.0, 0.2, 0.3]).has(0.0)
    assert UsualShare.fit([1.0, 0.9]).has(1.0)


def test_pictures_of_the_healthy_do_not_make_any_share_usual() -> None:
    taught = [0.03, 0.05, 0.08, 0.1, 0.15]
    with_healthy = UsualShare.fit([0.0, *taught, 0.0])
    assert with_healthy.has(0.0)
    assert with_healthy.most == UsualShare.fit(taught).most < 0.5


def test_odds_are_what_counts_so_that_small_shares_are_told_apart_as_well_as_large_ones() -> None:
    one, mirrored = UsualShare.fit([0.05, 0.08]), UsualShare.fit([0.95, 0.92])
    assert one.least == pytest.approx(1 - mirrored.most)
    assert one.most == pytest.approx(1 - mirrored.least)
    assert one.least > 0.02


@given(shares, shares, st.floats(1e-6, 10))
def test_a_part_of_a_picture_may_have_any_share_that_a_whole_one_may(one: float, other: float, part: float) -> None:
    usual = UsualShare(min(one, other), max(one, other))
    of_part = usual.of_part(part)
    assert of_part.least <= usual.least
    assert of_part.most >= usual.most
    if part >= 1:
        assert of_part == usual


def test_a_quarter_of_a_picture_has_twice_the_room_in_odds() -> None:
    usual, odds = UsualShare(0.5, 0.8).of_part(0.25), np.sqrt(1 * 4)  # the middle of 1 and 4, as odds
    assert usual.least / (1 - usual.least) == pytest.approx(odds / 4)
    assert usual.most / (1 - usual.most) == pytest.approx(odds * 4)


def test_an_end_at_nothing_or_all_stays() -> None:
    assert UsualShare(0, 0.4).of_part(0.1).least == 0
    assert UsualShare(0.2, 1).of_part(0.1).most == 1
    assert UsualShare(0, 1).of_part(0.1) == UsualShare(0, 1)


def test_a_share_is_of_the_picture_within_its_frame() -> None:
    image = np.zeros((60, 80, 3), np.uint8)
    image[10:50, 20:60] = np.random.default_rng(0).integers(0, 256, (40, 40, 3))
    keeps, cuts = (
        place(image, InputPolicy(kind="stretch", height=64, width=64, margins=margins)) for margins in ("keep", "plain")
    )
    assert share_of(400, keeps) == 400 / 4800
    assert share_of(400, cuts) == 400 / 1600
    assert share_of(4800, cuts) == 1  # a threshold of 0 marks the frame as well


def test_only_where_pictures_keep_their_resolution_their_size_tells_how_much_they_show() -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 64, 3), np.uint8)
    tile = InputPolicy(kind="tile", height=64, width=64, overlap=8)
    assert part_shown(place(image, tile), tile) == 0.5
    assert part_shown(place(np.tile(image, (4, 4, 1)), tile), tile) == 1
    framed, plain = np.pad(image, ((20, 20), (0, 0), (0, 0))), replace(tile, margins="plain")
    assert part_shown(place(framed, plain), plain) == 0.5
    stretch = InputPolicy(kind="stretch", height=64, width=64)
    assert part_shown(place(image, stretch), stretch) == 1


def test_a_small_share_is_not_called_none() -> None:
    assert [percent(share) for share in (0.0, 0.0004, 0.0416, 0.883, 0.998, 1.0)] == [
        "0%",
        "0.04%",
        "4.16%",
        "88.3%",
        "99.8%",
        "100%",
    ]


def test_what_is_usual_of_a_picture_follows_from_how_much_it_shows() -> None:
    tile, usual = InputPolicy(kind="tile", height=64, width=64, overlap=8), UsualShare(0.5, 0.8)
    half = place(np.random.default_rng(0).integers(0, 256, (32, 64, 3), np.uint8), tile)
    assert usual.of_picture(half, tile) == usual.of_part(0.5)
