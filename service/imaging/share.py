"""Is this mask like the training masks? Judged only by the share of the picture that is foreground.

Statistics of an image (`statistics`) miss some images of another kind: inverted, noise, print. A network's mask of such
an image often covers far more, or far less, of it than any training mask.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from service.imaging.placement import Placement
from service.imaging.policy import InputPolicy

DEVIATIONS = 4
"""How many standard deviations masks may lie from the training masks' mean, in the logarithm of the odds."""

LEAST_DEVIATION = 0.2
"""Least value of the standard deviation: however alike a few training masks are, others are less so."""

LEAST_SHARE = 0.001
"""Shares below this count as this, and those above 1 − this as 1 − this: an empty mask has no odds."""


@dataclass(frozen=True, slots=True)
class UsualShare:
    """The shares of foreground, `least` to `most` (0 to 1), that masks like the training masks have."""

    least: float
    most: float

    @classmethod
    def fit(cls, shares: Sequence[float]) -> Self:
        """Learn from the training masks' shares, at least one, each 0 to 1; all of these are usual.

        Empty masks do not count for the mean and deviation, as they say nothing about the size of others: with them,
        pictures of the healthy would make any share usual.
        """
        odds = _log_odds(np.array([share for share in shares if share > 0] or shares, np.float64))
        reach = DEVIATIONS * max(float(odds.std()), LEAST_DEVIATION)
        least, most = (_share(float(odds.mean()) + way * reach) for way in (-1, 1))
        return cls(min(least, *shares), max(most, *shares))

    def has(self, share: float) -> bool:
        """Return whether this share is usual."""
        return self.least <= share <= self.most

    def of_picture(self, placement: Placement, policy: InputPolicy) -> Self:
        """Return what is usual for a picture placed so: it may show only a part of a training picture's scene."""
        return self.of_part(part_shown(placement, policy))

    def of_part(self, part: float) -> Self:
        """Return what is usual for a picture that shows only `part`, above 0, of a training picture's scene.

        The smaller the parts, the more their shares differ: by the square root of how much smaller they are, as found
        on ISBI 2012's masks for whole slices and halves, quarters and eighths of each side. An end at 0 or 1 stays.
        """
        if part >= 1 or (self.least <= 0 and self.most >= 1):
            return self
        ends = _log_odds(np.array([self.least, self.most]))
        middle, reach = float(ends.mean()), float(ends[1] - ends[0]) / 2 / math.sqrt(part)
        return type(self)(min(self.least, _share(middle - reach)), max(self.most, _share(middle + reach)))


def percent(share: float) -> str:
    """Return a share as a percentage of three digits for people to read, so that small ones are not all 0.0%."""
    return f"{100 * share:.3g}%"


def share_of(foreground_px: int, placement: Placement) -> float:
    """Return the share, 0 to 1, that this many foreground pixels are of the picture within its margins."""
    _, _, height, width = placement.inside
    return min(1.0, foreground_px / (height * width))


def part_shown(placement: Placement, policy: InputPolicy) -> float:
    """Return how much of a training picture's scene this picture shows, 0 to 1, as far as its size tells.

    Where pictures keep their resolution (`tile`), one smaller than a tile shows less. Otherwise size tells nothing: 1.
    """
    _, _, height, width = placement.inside
    return min(1.0, height * width / (policy.height * policy.width)) if policy.kind == "tile" else 1.0


def _log_odds(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    inside = np.clip(shares, LEAST_SHARE, 1 - LEAST_SHARE)
    odds: NDArray[np.float64] = np.log(inside / (1 - inside))
    return odds


def _share(log_odds: float) -> float:
    return 1 / (1 + math.exp(min(-log_odds, 700)))  # beyond 700 a float overflows
