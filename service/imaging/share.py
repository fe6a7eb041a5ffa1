"""Is this mask like the training masks? By the share of the picture that is foreground, and nothing else.

Statistics of an image (`statistics`) are blind to some that are of another kind: inverted, noise, print. What a network
makes of such an image often covers far more, or far less, of it than any mask it was taught.
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
"""So many standard deviations, of the logarithm of the odds, masks may lie from the training masks' mean."""

LEAST_DEVIATION = 0.2
"""What is believed of the standard deviation at least: however alike a few training masks are, others are less so."""

LEAST_SHARE = 0.001
"""Shares below, and above 1 less this, are counted as it: an empty mask has no odds."""


@dataclass(frozen=True, slots=True)
class UsualShare:
    """From `least` to `most`, 0 to 1, of a picture is foreground in masks like the training masks."""

    least: float
    most: float

    @classmethod
    def fit(cls, shares: Sequence[float]) -> Self:
        """Learn from the training masks' shares, at least one, each 0 to 1; all of these are usual.

        Empty ones tell nothing of how large others are: with them, pictures of the healthy would make any share usual.
        """
        odds = _log_odds(np.array([share for share in shares if share > 0] or shares, np.float64))
        reach = DEVIATIONS * max(float(odds.std()), LEAST_DEVIATION)
        least, most = (_share(float(odds.mean()) + way * reach) for way in (-1, 1))
        return cls(min(least, *shares), max(most, *shares))

    def has(self, share: float) -> bool:
        """Return whether a mask of that share is usual."""
        return self.least <= share <= self.most

    def of_picture(self, placement: Placement, policy: InputPolicy) -> Self:
        """Return what is usual of a picture placed so, which may be a part of what a training picture shows."""
        return self.of_part(part_shown(placement, policy))

    def of_part(self, part: float) -> Self:
        """Return what is usual of a picture that shows only `part`, above 0, of what a training picture does.

        Shares of parts differ more, by the root of how much smaller they are: of ISBI 2012's masks those of whole
        slices, halves, quarters and eighths of each side do. An end at 0 or 1 stays.
        """
        if part >= 1 or (self.least <= 0 and self.most >= 1):
            return self
        ends = _log_odds(np.array([self.least, self.most]))
        middle, reach = float(ends.mean()), float(ends[1] - ends[0]) / 2 / math.sqrt(part)
        return type(self)(min(self.least, _share(middle - reach)), max(self.most, _share(middle + reach)))


def percent(share: float) -> str:
    """Return a share for people, to three digits: small ones are not all called 0.0%."""
    return f"{100 * share:.3g}%"


def share_of(foreground_px: int, placement: Placement) -> float:
    """Return the share, 0 to 1, of the picture within its margins that so many pixels of foreground are."""
    _, _, height, width = placement.inside
    return min(1.0, foreground_px / (height * width))


def part_shown(placement: Placement, policy: InputPolicy) -> float:
    """Return how much of a training picture's scene this picture shows, 0 to 1, as far as its size tells.

    Where pictures keep their resolution (`tile`), one of less than a tile shows less. Of others, size tells nothing.
    """
    _, _, height, width = placement.inside
    return min(1.0, height * width / (policy.height * policy.width)) if policy.kind == "tile" else 1.0


def _log_odds(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    inside = np.clip(shares, LEAST_SHARE, 1 - LEAST_SHARE)
    odds: NDArray[np.float64] = np.log(inside / (1 - inside))
    return odds


def _share(log_odds: float) -> float:
    return 1 / (1 + math.exp(min(-log_odds, 700)))  # beyond that a float overflows
