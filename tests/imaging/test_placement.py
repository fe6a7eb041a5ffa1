"""How an image lies on the network's grid, and how answers come back."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.imaging.dim import AS_THEY_ARE
from service.imaging.placement import (
    Image,
    Placement,
    blend,
    cut,
    from_canvas,
    mask_to_canvas,
    place,
    prepare,
    restore,
    tiles,
    to_canvas,
)
from service.imaging.policy import InputPolicy
from tests.imaging.pictures import noise

FIT = InputPolicy(kind="fit", height=605, width=700)
STRETCH = InputPolicy(kind="stretch", height=512, width=512)
TILE = InputPolicy(kind="tile", height=512, width=512, overlap=64)
EACH_KIND = pytest.mark.parametrize("policy", [FIT, STRETCH, TILE], ids=lambda policy: policy.kind)

sides = st.one_of(st.integers(1, 5), st.integers(1, 300))
policies = st.one_of(
    st.builds(InputPolicy, kind=st.just("fit"), height=st.integers(1, 100), width=st.integers(1, 100)),
    st.builds(
        InputPolicy, kind=st.just("stretch"), height=st.sampled_from([32, 64, 96]), width=st.sampled_from([32, 64])
    ),
    st.builds(
        InputPolicy,
        kind=st.just("tile"),
        height=st.sampled_from([32, 64, 96]),
        width=st.sampled_from([32, 64]),
        overlap=st.integers(0, 15),
    ),
)


def _blank(height: int, width: int) -> Image:
    return np.zeros((height, width, 3), np.uint8)


few = settings(max_examples=60, deadline=None)


@few
@given(height=sides, width=sides, policy=policies)
def test_every_tile_has_the_network_grid_and_the_answer_has_the_source_size(
    height: int, width: int, policy: InputPolicy
) -> None:
    image = noise(height, width, 3)
    placement, cut_tiles = prepare(image, policy)
    assert all(tile.shape == (*policy.grid, 3) and tile.flags.c_contiguous for tile in cut_tiles)
    answer = restore([tile[..., 0].copy() for tile in cut_tiles], placement, policy)
    assert answer.shape == (height, width)
    assert answer.dtype == np.uint8


@few
@given(height=sides, width=sides, policy=policies)
def test_tiles_cover_the_canvas_in_bounds_and_overlap_as_asked(height: int, width: int, policy: InputPolicy) -> None:
    placement = place(_blank(height, width), policy)
    corners = tiles(placement, policy)
    covered = np.zeros(placement.canvas, np.int64)
    for y, x in corners:
        assert 0 <= y <= placement.canvas[0] - policy.grid[0]
        assert 0 <= x <= placement.canvas[1] - policy.grid[1]
        covered[y : y + policy.grid[0], x : x + policy.grid[1]] += 1
    assert covered.min() >= 1
    for axis in (0, 1):
        starts = sorted({corner[axis] for corner in corners})
        assert all(after - before <= policy.grid[axis] - policy.overlap for before, after in pairwise(starts))


@few
@given(height=sides, width=sides, policy=policies, level=st.integers(0, 255))
def test_a_constant_answer_stays_constant(height: int, width: int, policy: InputPolicy, level: int) -> None:
    placement = place(_blank(height, width), policy)
    maps = [np.full(policy.grid, level, np.uint8) for _ in tiles(placement, policy)]
    assert (restore(maps, placement, policy) == level).all()


@few
@given(height=sides, width=sides, overlap=st.integers(0, 15))
def test_tiles_cut_from_an_image_blend_back_to_it_exactly(height: int, width: int, overlap: int) -> None:
    policy = InputPolicy(kind="tile", height=64, width=32, overlap=overlap)
    image = noise(height, width, 3) | np.uint8(128)  # of a few pixels none may be light, and they are dim then
    placement, cut_tiles = prepare(image, policy)
    np.testing.assert_array_equal(
        restore([tile[..., 1].copy() for tile in cut_tiles], placement, policy), image[..., 1]
    )


@few
@given(height=sides, width=sides, policy=policies)
def test_a_mask_lies_where_its_image_lies(height: int, width: int, policy: InputPolicy) -> None:
    bright = np.zeros((height, width), np.uint8)
    bright[: -(-height // 2)] = 255
    placement = place(_blank(height, width), policy)
    image = to_canvas(np.repeat(bright[..., None], 3, axis=2), placement)[..., 0]
    mask = mask_to_canvas(bright, placement)
    assert mask.shape == placement.canvas
    assert set(np.unique(mask)) <= {0, 255}
    sure = (image == 0) | (image == 255)
    np.testing.assert_array_equal(mask[sure], image[sure])


@pytest.mark.parametrize(("side", "grid"), [(512, 256), (1024, 512), (1024, 256), (768, 256), (513, 256), (256, 512)])
def test_a_mask_is_not_shifted_against_its_image_whatever_the_factor(side: int, grid: int) -> None:
    """Where a size is halved two pixels are as near to each centre: to take the same one always shifts it."""
    policy = InputPolicy(kind="stretch", height=grid, width=grid)
    rows, columns = np.mgrid[:side, :side]
    is_inside = (rows - 0.37 * side) ** 2 + (columns - 0.61 * side) ** 2 < (0.3 * side) ** 2
    disc = np.where(is_inside, np.uint8(255), np.uint8(0))
    placement = place(_blank(side, side), policy)
    image = to_canvas(np.repeat(disc[..., None], 3, axis=2), placement)[..., 0]
    mask = mask_to_canvas(disc, placement)
    for axis in (0, 1):
        places = np.arange(grid)
        middles = [float(np.average(places, weights=found.sum(1 - axis, dtype=np.int64))) for found in (image, mask)]
        assert middles[0] == pytest.approx(middles[1], abs=0.1)


@EACH_KIND
@pytest.mark.parametrize("size", [(1, 1), (1, 10_000), (10_000, 1), (2, 4000), (3, 900)])
def test_extreme_shapes_pass(policy: InputPolicy, size: tuple[int, int]) -> None:
    image = noise(*size, 3)
    placement, cut_tiles = prepare(image, policy)
    assert min(placement.scaled) >= 1
    assert restore([tile[..., 0] for tile in cut_tiles], placement, policy).shape == size


@pytest.mark.parametrize(
    ("policy", "size"),
    [(FIT, (605, 700)), (STRETCH, (512, 512)), (TILE, (512, 512)), (TILE, (700, 605)), (FIT, (605, 20))],
)
def test_an_image_of_the_right_size_passes_bit_for_bit_both_ways(policy: InputPolicy, size: tuple[int, int]) -> None:
    image = noise(*size, 3)
    placement, cut_tiles = prepare(image, policy)
    assert placement.scaled == size
    top, left = placement.top, placement.left
    canvas = to_canvas(image, placement)
    np.testing.assert_array_equal(canvas[top : top + size[0], left : left + size[1]], image)
    np.testing.assert_array_equal(restore([tile[..., 2] for tile in cut_tiles], placement, policy), image[..., 2])


def test_fit_keeps_the_aspect_and_centres() -> None:
    assert place(_blank(1000, 1000), FIT) == Placement(
        source=(1000, 1000),
        unframed=(0, 0, 1000, 1000),
        inside=(0, 0, 1000, 1000),
        scaled=(605, 605),
        canvas=(608, 704),
        top=1,
        left=49,
        levels=AS_THEY_ARE,
    )
    assert place(_blank(100, 400), FIT).scaled == (175, 700)


@pytest.mark.parametrize(
    ("size", "scaled"),
    [
        ((300, 999), (210, 700)),
        ((100, 301), (233, 700)),
        ((3, 1400), (2, 700)),
        ((301, 100), (605, 201)),
        ((1210, 3), (605, 2)),
        ((605, 701), (604, 700)),
    ],
)
def test_fit_rounds_the_shorter_side_to_the_nearest_pixel_and_halves_up(
    size: tuple[int, int], scaled: tuple[int, int]
) -> None:
    assert place(_blank(*size), FIT).scaled == scaled


TRIMMED = [replace(policy, margins="trim") for policy in (FIT, STRETCH, TILE)]


@pytest.mark.parametrize("policy", TRIMMED, ids=lambda policy: policy.kind)
def test_a_picture_within_dark_margins_reaches_the_network_as_if_it_had_none(policy: InputPolicy) -> None:
    picture = noise(300, 400, 3) // 2 + 100
    wide = np.pad(picture, ((90, 40), (10, 260), (0, 0)))
    placement, with_margins = prepare(wide, policy)
    assert placement.inside == (90, 10, 300, 400)
    for tile, without in zip(with_margins, prepare(picture, policy)[1], strict=True):
        np.testing.assert_array_equal(tile, without)


@pytest.mark.parametrize("policy", TRIMMED, ids=lambda policy: policy.kind)
def test_what_was_trimmed_is_background_and_the_rest_in_its_place(policy: InputPolicy) -> None:
    wide = np.pad(np.full((300, 400, 3), 200, np.uint8), ((90, 40), (10, 260), (0, 0)))
    mask = np.pad(np.ones((300, 400), np.uint8), ((90, 40), (10, 260)))
    placement, found = prepare(wide, policy)
    assert mask_to_canvas(mask, placement).all()
    answer = restore([np.full(policy.grid, 255, np.uint8) for _ in found], placement, policy)
    np.testing.assert_array_equal(answer, mask * 255)


def test_padding_reflects_the_edges() -> None:
    policy = InputPolicy(kind="tile", height=32, width=32)
    row = np.arange(12, dtype=np.uint8)
    canvas = to_canvas(np.broadcast_to(row[:, None, None], (12, 5, 3)).copy(), place(_blank(12, 5), policy))
    assert canvas[:, 31, 0].tolist() == [*range(12), *range(11, -1, -1), *range(8)]


def test_a_small_structure_survives_shrinking_at_its_place() -> None:
    policy = InputPolicy(kind="stretch", height=64, width=64)
    image = np.zeros((640, 640, 3), np.uint8)
    image[200:240, 400:440] = 255
    placement = place(_blank(640, 640), policy)
    back = from_canvas(to_canvas(image, placement)[..., 0], placement)
    centre = np.argwhere(back > 127).mean(axis=0)
    assert np.abs(centre - (219.5, 419.5)).max() < 1


def test_a_map_that_is_enlarged_goes_from_one_pixel_to_the_next_without_steps() -> None:
    policy = InputPolicy(kind="stretch", height=32, width=32)
    placement = place(noise(32, 64, 3), policy)
    edge = np.repeat(np.where(np.arange(32) < 16, 0, 255).astype(np.uint8)[None], 32, axis=0)
    assert from_canvas(edge, placement)[7, 30:34].tolist() == [0, 64, 191, 255]


def test_an_image_that_is_enlarged_goes_from_one_pixel_to_the_next_without_steps_or_overshoot() -> None:
    policy = InputPolicy(kind="stretch", height=32, width=64)
    edge = np.where(np.arange(32) < 16, 40, 240).astype(np.uint8)
    image = np.broadcast_to(edge[None, :, None], (32, 32, 3)).copy()
    assert to_canvas(image, place(image, policy))[7, 29:35, 1].tolist() == [40, 40, 90, 190, 240, 240]


def test_where_tiles_overlap_the_nearer_one_counts_more() -> None:
    policy = InputPolicy(kind="tile", height=32, width=32, overlap=8)
    placement = place(_blank(32, 56), policy)
    corners = tiles(placement, policy)
    assert corners == [(0, 0), (0, 24)]
    dark, bright = np.zeros((32, 32), np.uint8), np.full((32, 32), 200, np.uint8)
    row = blend([dark, bright], corners, placement, policy)[16].astype(int)
    assert (row[:24] == 0).all()
    assert (row[32:] == 200).all()
    assert (np.diff(row[23:33]) > 0).all()


def test_blending_one_tile_is_a_copy() -> None:
    placement = place(_blank(512, 512), STRETCH)
    answer = noise(512, 512)
    np.testing.assert_array_equal(blend([answer], tiles(placement, STRETCH), placement, STRETCH), answer)


def test_cut_copies_only_views_of_the_canvas() -> None:
    canvas = noise(80, 96, 3)
    policy = InputPolicy(kind="tile", height=64, width=64, overlap=0)
    (tile,) = cut(canvas, [(16, 32)], policy)
    np.testing.assert_array_equal(tile, canvas[16:80, 32:96])
