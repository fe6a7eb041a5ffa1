"""What lies around a picture: none of it is foreground, and the mask stays over what it marks."""

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from service.training.frames import DARK, LEAST_SHARE, RandFramed

SEEDS = range(60)

LESION = torch.tensor([180.0, 40.0, 90.0])[:, None, None]


def _lesion(height: int = 48, width: int = 64) -> tuple[Tensor, Tensor]:
    """Return a light image with a block of the colour LESION in its middle, and the block's mask."""
    mask = torch.zeros(1, height, width)
    mask[:, height // 4 : -height // 4, width // 4 : -width // 4] = 1
    return torch.where(mask.bool(), LESION, torch.tensor(200.0)), mask


def _framed(seed: int, prob: float = 1) -> tuple[Tensor, Tensor]:
    image, mask = _lesion()
    frame = RandFramed(prob)
    frame.set_random_state(seed)
    item = frame({"image": image, "mask": mask})
    return item["image"], item["mask"]


def _grown(mask: Tensor) -> Tensor:
    """Return the mask with one pixel more on each side."""
    return max_pool2d(mask, 3, stride=1, padding=1)


def _is_round(mask: Tensor) -> bool:
    """A round field of view leaves the block where it was, at most without its corners."""
    return bool(torch.equal(mask[:, 24, 30:34], torch.ones(1, 4)) and not (mask * (1 - _lesion()[1])).any())


def test_without_frames_nothing_changes() -> None:
    for seed in SEEDS:
        assert all(torch.equal(one, other) for one, other in zip(_framed(seed, prob=0), _lesion(), strict=True))


def test_a_frame_is_drawn_as_often_as_asked() -> None:
    framed = sum(not torch.equal(_framed(seed, prob=0.5)[0], _lesion()[0]) for seed in range(200))
    assert 70 < framed < 130


def test_sizes_kinds_and_range_stay_what_they_were() -> None:
    for seed in SEEDS:
        image, mask = _framed(seed)
        assert (image.shape, mask.shape, image.dtype, mask.dtype) == ((3, 48, 64), (1, 48, 64), *[torch.float32] * 2)
        assert 0 <= image.min() <= image.max() <= 255
        assert set(mask.flatten().tolist()) <= {0.0, 1.0}


def test_nothing_around_the_picture_is_foreground() -> None:
    frame = RandFramed(prob=1)
    for seed in SEEDS:
        frame.set_random_state(seed)
        item = frame({"image": LESION.expand(3, 48, 64), "mask": torch.ones(1, 48, 64)})
        is_lesion = ((item["image"] - LESION).abs() < 1).all(dim=0, keepdim=True)
        if bool(is_lesion.all()):  # the picture's own colour around it, or a field of view wider than the picture
            continue
        assert torch.equal(item["mask"].bool(), is_lesion)


def test_the_mask_covers_all_of_what_it_marks_and_nothing_else() -> None:
    for seed in SEEDS:
        image, mask = _framed(seed)
        is_lesion = ((image - LESION).abs() < 1).all(dim=0, keepdim=True).float()
        assert is_lesion.sum() > 0
        assert bool((_grown(mask) >= is_lesion).all())
        assert bool((1 - _grown(1 - mask) <= is_lesion).all())


def test_a_picture_within_margins_keeps_at_least_half_of_each_side() -> None:
    for seed in SEEDS:
        mask = _framed(seed)[1]
        rows, columns = (int(mask.amax(dim=axis).sum()) for axis in (2, 1))
        assert rows >= LEAST_SHARE * 24 - 1
        assert columns >= LEAST_SHARE * 32 - 1


def _framed_whole(seed: int) -> Tensor:
    """Return what is left of a mask of all of a picture, (1, 81, 121)."""
    frame = RandFramed(prob=1)
    frame.set_random_state(seed)
    return frame({"image": LESION.expand(3, 81, 121), "mask": torch.ones(1, 81, 121)})["mask"]


def _extents(mask: Tensor) -> tuple[Tensor, Tensor, bool]:
    """Return the middle and the half of what a mask reaches down and across, in half sides; and whether it fills it."""
    reached = [mask.amax(dim=(0, axis)).nonzero() for axis in (2, 1)]
    sides = torch.tensor(mask.shape[1:])
    first, last = (torch.tensor([float(f(part)) for part in reached]) / (sides - 1) * 2 - 1 for f in (min, max))
    return (first + last) / 2, (last - first) / 2, bool(mask.sum() == len(reached[0]) * len(reached[1]))


def test_a_round_field_of_view_is_narrower_than_the_picture_or_wider_and_never_shows_all_of_it() -> None:
    fields = [_extents(_framed_whole(seed)) for seed in range(300)]
    round_ones = [(middle, half) for middle, half, fills in fields if not fills]
    narrow = [(middle, half) for middle, half in round_ones if half.max() < 0.97]
    assert len(round_ones) > 120
    assert 0.4 < 1 - len(narrow) / len(round_ones) < 0.9
    middles, halves = (torch.stack(part) for part in zip(*narrow, strict=True))
    assert 0.78 < halves.min() < 0.87
    assert 0.05 < middles.abs().max() < 0.13
    assert 0.03 < (halves[:, 0] - halves[:, 1]).abs().max() < 0.2


def test_a_page_may_be_of_the_colour_that_most_of_the_border_has_but_not_of_one_sides() -> None:
    image = LESION.expand(3, 40, 60).clone()
    most, one = (30.0, 200.0, 60.0), (250.0, 250.0, 90.0)
    image[:, :, :2] = image[:, :, -2:] = image[:, -2:] = torch.tensor(most)[:, None, None]
    image[:, :2] = torch.tensor(one)[:, None, None]
    frame, pages = RandFramed(prob=1), set()
    for seed in SEEDS:
        frame.set_random_state(seed)
        item = frame({"image": image, "mask": torch.ones(1, 40, 60)})
        pages |= set(map(tuple, item["image"][:, item["mask"][0] == 0].T.tolist()))
    assert most in pages
    assert one not in pages


def test_a_picture_within_margins_changes_its_proportions_but_little() -> None:
    halves = [half for _, half, fills in map(_extents, map(_framed_whole, range(120))) if fills and half.max() < 1]
    ratios = torch.stack(halves)[:, 0] / torch.stack(halves)[:, 1]
    assert 0.8 < ratios.min() < 0.95
    assert 1.05 < ratios.max() < 1.25


def test_both_kinds_of_frame_occur_and_pages_are_dark_light_and_coloured() -> None:
    corners = [_framed(seed)[0][:, 0, 0] for seed in SEEDS]
    assert any(corner.max() <= DARK for corner in corners)
    assert any(corner.min() > 128 for corner in corners)
    assert any(corner.max() - corner.min() > 50 for corner in corners)
    kinds = [_is_round(_framed(seed)[1]) for seed in SEEDS]
    assert 15 < sum(kinds) < 50


def test_the_same_seed_gives_the_same_frame() -> None:
    for seed in SEEDS:
        assert all(torch.equal(one, other) for one, other in zip(_framed(seed), _framed(seed), strict=True))
    assert not torch.equal(_framed(1)[0], _framed(2)[0])
