"""Views, windows, shifts and random changes: image and mask always move together."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from service.imaging.placement import place, to_canvas
from service.imaging.policy import InputPolicy
from service.training.augment import VIEWS, TrainingItems, random_changes, shifted, view, window, zoomed
from service.training.config import Config, configure
from service.training.order import EpochOrder

Array = NDArray[np.uint8]
GRID = InputPolicy(kind="stretch", height=64, width=96)


def _config(**changes: object) -> Config:
    plain = {"input": GRID, "crop_px": None, "scale": 0, "rotation_deg": 0, "colour": 0}
    return configure("data", "retina", "quick", plain | changes)


def _noise(height: int, width: int) -> Array:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _waves(height: int, width: int) -> Array:
    """Return an image without symmetry, so smooth that half a pixel changes little of it."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    plane = 127 + 60 * np.sin(7 * x + 3 * y) + 60 * np.cos(9 * y - 2 * x * x)
    return np.repeat(plane.astype(np.uint8)[..., None], 3, axis=2)


def _mask_of(image: Array) -> Array:
    """Return the mask that every image here has: a function of its pixels, so that it can be checked anywhere."""
    return (image[..., 0] > 127).astype(np.uint8)


def _load(index: int) -> tuple[Array, Array]:
    image = _waves(60 + index, 90)
    return image, _mask_of(image)


def _items(**changes: object) -> TrainingItems:
    return TrainingItems(_load, 4, _config(**changes))


def test_the_eight_views_are_the_rotations_and_reflections_of_the_square() -> None:
    image = _noise(5, 5)
    found = {view(image, _mask_of(image), number)[0].tobytes() for number in range(VIEWS)}
    turns = [np.rot90(flipped, quarter) for flipped in (image, np.fliplr(image)) for quarter in range(4)]
    assert len(found) == VIEWS
    assert found == {turn.tobytes() for turn in turns}


@pytest.mark.parametrize("number", range(VIEWS))
def test_a_view_turns_the_mask_with_its_image(number: int) -> None:
    image, mask = view(_noise(4, 7), _mask_of(_noise(4, 7)), number)
    assert np.array_equal(mask, _mask_of(image))
    assert mask.shape == ((7, 4) if number & 4 else (4, 7))


def test_views_0_to_2_are_the_image_and_its_flips() -> None:
    image = _noise(4, 7)
    for number, expected in ((0, image), (1, image[:, ::-1]), (2, image[::-1])):
        assert np.array_equal(view(image, _mask_of(image), number)[0], expected)


@pytest.mark.parametrize(
    ("direction", "expected"),
    [
        (0, [[0, 1, 2], [3, 4, 5], [6, 7, 8]]),
        (1, [[3, 4, 5], [6, 7, 8], [6, 7, 8]]),
        (2, [[0, 1, 2], [0, 1, 2], [3, 4, 5]]),
        (3, [[1, 2, 2], [4, 5, 5], [7, 8, 8]]),
        (4, [[0, 0, 1], [3, 3, 4], [6, 6, 7]]),
    ],
    ids=["none", "up", "down", "left", "right"],
)
def test_a_shift_fills_what_it_uncovers_by_reflection(direction: int, expected: list[list[int]]) -> None:
    mask = np.arange(9, dtype=np.uint8).reshape(3, 3)
    image = np.repeat(mask[..., None], 3, axis=2)
    moved_image, moved_mask = shifted(image, mask, 1, direction)
    assert moved_mask.tolist() == expected
    assert np.array_equal(moved_image[..., 2], moved_mask)


@pytest.mark.parametrize("policy", ["fit", "stretch", "tile"])
@pytest.mark.parametrize("times", [0.4, 1.0, 2.5])
def test_a_zoom_leaves_a_canvas_that_holds_the_grid_and_all_of_the_image(policy: str, times: float) -> None:
    plain = place(_noise(50, 80), InputPolicy(kind=policy, height=64, width=96))  # type: ignore[arg-type]
    placement = zoomed(plain, times)
    assert placement.source == plain.source
    assert placement.scaled == tuple(round(side * times) for side in plain.scaled)
    assert all(side >= grid for side, grid in zip(placement.canvas, (64, 96), strict=True))
    assert to_canvas(_noise(50, 80), placement).shape == (*placement.canvas, 3)
    if times == 1.0:
        assert (placement.scaled, placement.canvas) == (plain.scaled, plain.canvas)


def test_zooms_go_as_far_as_asked_and_as_often_closer_as_farther() -> None:
    dots = np.zeros((64, 96, 3), np.uint8)
    dots[28:36, 44:52] = 255
    items = TrainingItems(lambda _: (dots, _mask_of(dots)), 1, _config(zoom=1.0))
    areas = np.array([items[0, position, 0][1].sum().item() for position in range(200)]) / 64
    seen = areas[areas > 0]  # closer, the window may miss it
    assert 0.2 < seen.min() < 0.35
    assert 2.5 < seen.max() < 4.5
    assert 0.35 < (areas < 1).mean() < 0.65


def test_windows_of_a_large_canvas_reach_every_pixel() -> None:
    image = _noise(40, 70)
    canvas = np.arange(40 * 70, dtype=np.uint32).reshape(40, 70)
    random, seen = np.random.default_rng(0), np.zeros((40, 70), bool)
    for _ in range(2000):
        part, places = window(image, canvas, (32, 32), random)  # type: ignore[arg-type]
        assert part.shape == (32, 32, 3)
        seen.ravel()[places.ravel()] = True
    assert seen.all()


def test_a_window_as_large_as_the_canvas_is_all_of_it() -> None:
    image = _noise(32, 32)
    part, mask = window(image, _mask_of(image), (32, 32), np.random.default_rng(0))
    assert np.array_equal(part, image)
    assert np.array_equal(mask, _mask_of(image))


def test_an_item_is_the_view_itself_where_nothing_is_to_change() -> None:
    image = _noise(64, 96)
    items = TrainingItems(lambda _: (image, _mask_of(image)), 1, _config())
    pixels, mask = items[0, 0, 2]
    assert pixels.dtype == mask.dtype == torch.float32
    assert np.array_equal(pixels.numpy(), image[::-1].transpose(2, 0, 1).astype(np.float32))
    assert np.array_equal(mask.numpy()[0], _mask_of(image[::-1]))


@pytest.mark.parametrize(
    "changes",
    [
        {"shift_px": 20},
        {"crop_px": 32},
        {"crop_px": 32, "scale": 0.3, "rotation_deg": 40},
        {"rotation_deg": 180},
        {"elastic_px": 8},
        {"zoom": 0.8},
        {"crop_px": 32, "scale": 0.3, "zoom": 0.5, "rotation_deg": 40, "shift_px": 9, "elastic_px": 8},
    ],
    ids=["shift", "crop", "stretch and turn", "turn", "elastic", "zoom", "all"],
)
def test_image_and_mask_change_together(changes: dict[str, object]) -> None:
    items = _items(**changes)
    for key in ((0, position, position % 32) for position in range(16)):
        pixels, mask = items[key]
        sure = (pixels[:1] - 127).abs() > 16  # nearer to the edge, bilinear and nearest may differ
        assert sure.float().mean() > 0.3
        assert torch.equal((pixels[:1] > 127)[sure], mask.bool()[sure])
        assert set(mask.flatten().tolist()) <= {0.0, 1.0}


def _bar(height: int, width: int) -> Array:
    """Return an image of the grid's size, dark but for a bar in its middle."""
    image = np.full((64, 96, 3), 20, np.uint8)
    image[32 - height // 2 : 32 + height // 2, 48 - width // 2 : 48 + width // 2] = 250
    return image


def _masks(image: Array, **changes: object) -> list[Array]:
    items = TrainingItems(lambda _: (image, _mask_of(image)), 1, _config(**changes))
    return [items[0, position, 0][1][0].numpy().astype(np.uint8) for position in range(120)]


def test_turns_are_as_far_as_asked_either_way() -> None:
    turns = []
    for mask in _masks(_bar(4, 60), rotation_deg=30):
        y, x = np.nonzero(mask)
        down, both, across = np.cov(y, x)[[0, 0, 1], [0, 1, 1]]
        turns.append(np.degrees(0.5 * np.arctan2(2 * both, across - down)))
    assert -31 < min(turns) < -25
    assert 25 < max(turns) < 31
    assert abs(np.median(turns)) < 8


def test_each_axis_is_stretched_on_its_own_as_far_as_asked() -> None:
    masks = _masks(_bar(20, 20), scale=0.4)
    sides = np.array([(mask.any(axis=1).sum(), mask.any(axis=0).sum()) for mask in masks]) / 20
    assert sides.min(axis=0) == pytest.approx([1 / 1.4] * 2, abs=0.07)
    assert sides.max(axis=0) == pytest.approx([1 / 0.6] * 2, abs=0.17)
    assert -0.3 < np.corrcoef(sides.T).min() < 0.3


def test_an_elastic_deformation_moves_what_a_crop_alone_would_show() -> None:
    deformed, plain = _items(elastic_px=8), _items()
    assert not torch.equal(deformed[0, 0, 0][0], plain[0, 0, 0][0])
    assert not torch.equal(deformed[0, 0, 0][1], plain[0, 0, 0][1])


@pytest.mark.parametrize(
    ("changes", "least"),
    [({"colour": 0.5}, 8), ({"illumination": 0.5}, 1), ({"blur_px": 2}, 1), ({"camera": 0.8}, 8)],
    ids=["colour", "illumination", "blur", "camera"],
)
def test_light_blur_and_camera_change_the_image_alone(changes: dict[str, object], least: int) -> None:
    changed, plain = _items(**changes), _items()
    differ = 0
    for key in ((0, position, position) for position in range(16)):
        assert torch.equal(changed[key][1], plain[key][1])
        differ += not torch.equal(changed[key][0], plain[key][0])
        assert 0 <= changed[key][0].min() <= changed[key][0].max() <= 255
    assert differ > least


def _lights(image: NDArray[np.float32], **changes: object) -> NDArray[np.float64]:
    """Return what 300 seeds make of the image, (300, 3, h, w)."""
    change, found = random_changes(_config(**changes)), []
    assert change is not None
    for seed in range(300):
        change.set_random_state(seed)
        item = change({"image": torch.from_numpy(image.copy()), "mask": torch.zeros(1, *image.shape[1:])})
        found.append(item["image"].as_subclass(torch.Tensor).double().numpy())
    return np.stack(found)


def test_colour_is_gain_and_offset_of_each_channel_gamma_of_all_and_noise_as_far_as_asked() -> None:
    ramp = np.broadcast_to(np.linspace(80, 140, 31, dtype=np.float32), (3, 32, 31))
    found = _lights(ramp, colour=0.5)
    rows = found.mean(axis=2)
    low, middle, high = rows[..., 0], rows[..., 15], rows[..., 30]
    noise = np.diff(found, axis=2).std(axis=(1, 2, 3)) / np.sqrt(2)
    assert 0.2 < (noise > 0.1).mean() < 0.4
    assert 11 < noise.max() < 13.5
    quiet = noise < 0.1
    gain = (high - low)[quiet] / 60
    offset, bend = low[quiet] - 80 * gain, ((middle - low) / (high - low))[quiet, 0]
    assert (gain.min(), gain.max()) == pytest.approx((0.5, 1.5), abs=0.05)
    assert (offset.min(), offset.max()) == pytest.approx((-32, 32), abs=3)
    assert (bend.min(), bend.max()) == pytest.approx((0.25, 0.71), abs=0.03)
    assert np.ptp(gain, axis=1).max() > 0.4
    assert np.ptp(offset, axis=1).max() > 20


def test_shading_is_drawn_for_three_views_in_ten_lighter_or_darker() -> None:
    means = _lights(np.full((3, 32, 32), 100, np.float32), illumination=0.3).mean(axis=(1, 2, 3))
    assert 0.2 < (np.abs(means - 100) > 0.1).mean() < 0.4
    assert means.min() < 80
    assert means.max() > 120


def test_one_view_in_five_is_blurred_as_far_as_asked() -> None:
    dot = np.zeros((3, 41, 41), np.float32)
    dot[:, 20, 20] = 200
    found = _lights(dot, blur_px=3)[:, 0]
    away = np.arange(-20, 21) ** 2
    down, across = (np.sqrt((found.sum(axis=axis) * away).sum(axis=1) / found.sum(axis=(1, 2))) for axis in (2, 1))
    assert 0.1 < (down > 0.2).mean() < 0.3
    assert 2.4 < down.max() < 3.1
    assert 2.4 < across.max() < 3.1


@pytest.mark.parametrize(("crop", "size"), [(None, (64, 96)), (32, (32, 32)), (96, (64, 96)), (512, (64, 96))])
def test_a_crop_is_never_larger_than_the_grid(crop: int | None, size: tuple[int, int]) -> None:
    pixels, mask = _items(crop_px=crop)[0, 0, 0]
    assert (pixels.shape, mask.shape) == ((3, *size), (1, *size))


@pytest.mark.parametrize("kind", ["fit", "stretch", "tile"])
def test_images_of_any_size_fill_the_grid(kind: str) -> None:
    image = _noise(10, 300)
    policy = InputPolicy(kind=kind, height=64, width=96)  # type: ignore[arg-type]
    items = TrainingItems(lambda _: (image, _mask_of(image)), 1, _config(input=policy, shift_px=32))
    assert {tuple(items[0, 0, number][0].shape) for number in range(VIEWS)} == {(3, 64, 96)}


RICH = {
    "crop_px": 32,
    "scale": 0.3,
    "zoom": 0.5,
    "rotation_deg": 40,
    "shift_px": 9,
    "elastic_px": 6,
    "colour": 0.4,
    "illumination": 0.3,
    "camera": 0.5,
    "frames": 0.5,
    "hairs": 0.5,
    "blur_px": 1,
}


def test_the_same_key_gives_the_same_item_whatever_came_before() -> None:
    items, others = _items(**RICH), _items(**RICH)
    first = [items[2, position, 5] for position in range(4)]
    for position in reversed(range(4)):
        for one, other in zip(first[position], others[2, position, 5], strict=True):
            assert torch.equal(one, other)
    assert not torch.equal(first[0][0], first[1][0])
    assert not torch.equal(first[0][0], items[3, 0, 5][0])


def test_items_are_plain_tensors() -> None:
    assert {type(tensor) for tensor in _items(**RICH)[0, 0, 0]} == {torch.Tensor}


@pytest.mark.filterwarnings("ignore:This process.*fork:DeprecationWarning", "ignore:This DataLoader will:UserWarning")
@pytest.mark.parametrize("workers", [1, 3])
def test_batches_do_not_depend_on_the_number_of_loading_processes(workers: int) -> None:
    items, order = _items(**RICH), EpochOrder(4 * VIEWS, length=8, seed=0)
    alone = list(DataLoader(items, 2, sampler=order))
    helped = list(DataLoader(items, 2, sampler=order, num_workers=workers))
    for one, other in zip(alone, helped, strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])


def test_a_configuration_that_asks_for_nothing_has_no_transforms() -> None:
    assert random_changes(_config()) is None
    assert len(TrainingItems(_load, 4, _config())) == 32


def test_random_crops_reach_every_part_of_the_canvas_and_no_further() -> None:
    y, x = np.mgrid[:64, :96].astype(np.uint8)
    places = np.stack([y, x, x], axis=-1) + np.uint8(128)  # what is dark would be made lighter
    items = TrainingItems(lambda _: (places, _mask_of(places)), 1, _config(crop_px=32))
    middles = (
        np.array([items[0, position, 0][0][:2, 15:17, 15:17].mean((1, 2)).numpy() for position in range(400)]) - 128
    )
    assert middles.min(0) == pytest.approx([15.5, 15.5], abs=1)
    assert middles.max(0) == pytest.approx([47.5, 79.5], abs=1)


def test_each_of_the_five_places_is_drawn_as_often_as_any_other() -> None:
    image = _noise(64, 96)
    items = TrainingItems(lambda _: (image, _mask_of(image)), 1, _config(shift_px=9))
    found = [items[0, position, 0][0].numpy().astype(np.uint8).transpose(1, 2, 0).tobytes() for position in range(300)]
    places = [shifted(image, _mask_of(image), 9, direction)[0].tobytes() for direction in range(5)]
    assert all(40 < found.count(place) < 85 for place in places)
    assert len(set(places)) == 5


@pytest.mark.parametrize("changes", [{"shift_px": 9}, {"zoom": 0.5}, {"crop_px": 32}, {"colour": 0.4}], ids=str)
def test_another_seed_draws_other_changes(changes: dict[str, object]) -> None:
    one, other = _items(**changes), _items(**changes, seed=1)
    assert any(not torch.equal(one[0, position, 0][0], other[0, position, 0][0]) for position in range(8))
