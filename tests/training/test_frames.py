"""What lies around a picture: none of it is foreground, and the mask stays over what it marks."""

import pytest
import torch
from torch import Tensor

from service.training.frames import DARK, LEAST_SHARE, RandFrame

SEEDS = range(60)


def _lesion(height: int = 48, width: int = 64) -> tuple[Tensor, Tensor]:
    """Return a light image with a dark block in its middle, and the block's mask."""
    mask = torch.zeros(1, height, width)
    mask[:, height // 4 : -height // 4, width // 4 : -width // 4] = 1
    return (200 - 150 * mask).expand(3, -1, -1).contiguous(), mask


def _framed(seed: int, prob: float = 1) -> tuple[Tensor, Tensor]:
    image, mask = _lesion()
    frame = RandFrame(prob)
    frame.set_random_state(seed)
    item = frame({"image": image, "mask": mask})
    return item["image"], item["mask"]


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


def test_the_mask_stays_over_what_it_marks() -> None:
    for seed in SEEDS:
        image, mask = _framed(seed)
        inside = image[:, mask[0].bool()]
        assert inside.numel() > 0
        assert inside.median() == pytest.approx(50, abs=8)


def test_a_picture_within_margins_keeps_at_least_half_of_each_side() -> None:
    for seed in SEEDS:
        _, mask = _framed(seed)
        rows, columns = (int(mask.amax(dim=axis).sum()) for axis in ((0, 2), (0, 1)))
        assert rows >= LEAST_SHARE * 0.9 * 24 - 2
        assert columns >= LEAST_SHARE * 0.9 * 32 - 2


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
