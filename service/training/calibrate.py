"""What a network's answers are worth, learnt on validation images: temperature, mask rule and estimate of IoU.

The temperature (Guo et al., ICML 2017) is one number that makes probabilities mean what they say.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from service.engine.predictor import Predictor
from service.engine.quality import MaskRule
from service.imaging.placement import Image, Mask, cut, mask_to_canvas, place, tiles, to_canvas
from service.imaging.policy import InputPolicy
from service.store.card import IouEstimate
from service.training.cache import PairCache
from service.training.iou_estimate import fit_estimate
from service.training.main_components import FEWEST_IMAGES, LEAST_COMPONENT, is_clear_gain
from service.training.parts import shown
from service.training.scores import count_levels
from service.training.threshold import choose_threshold

PIXELS_AN_IMAGE = 20_000
LOWEST, HIGHEST = 0.25, 4.0

PredictorAt = Callable[[float], Predictor]
"""Returns the network's predictor at a temperature."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What is learnt on validation images once the weights are fixed; each field is the card's field of that name."""

    temperature: float
    threshold: float
    least_component: float
    expected_iou: IouEstimate

    @property
    def rule(self) -> MaskRule:
        """The rule by which a probability map becomes a mask."""
        return MaskRule(self.threshold, self.least_component)


def calibrate(images: PairCache, predictor_at: PredictorAt, policy: InputPolicy, seed: int) -> Calibration:
    """Learn from `images`, at least one: first the temperature, then the mask rule at it, then the estimate for both.

    `seed` draws the pixels that the temperature is fitted on.
    """
    pairs = (pair for _, pair in shown(images, "fitting the temperature"))
    temperature = fit_temperature(*sample_logits(pairs, predictor_at(1.0), policy, seed))
    predict = predictor_at(temperature).predict
    counted = count_levels(shown(images, "choosing the threshold"), predict, policy)
    rule = MaskRule(choose_threshold(counted))
    if len(images) >= FEWEST_IMAGES:
        fewer = replace(rule, least_component=LEAST_COMPONENT)
        main = count_levels(shown(images, "leaving out components"), predict, policy, fewer)
        if is_clear_gain(counted, main, rule.threshold):
            rule, counted = fewer, main
    return Calibration(temperature, rule.threshold, rule.least_component, fit_estimate(counted, rule.threshold))


def fit_temperature(logits: NDArray[np.float64], masks: NDArray[np.bool_]) -> float:
    """Return the temperature, 0.25 to 4, with the least cross entropy of `logits` (n,) divided by it against `masks`.

    The cross entropy is convex in 1 / temperature, so a golden-section search finds its one minimum.
    """
    ratio = (np.sqrt(5) - 1) / 2
    low, high = 1 / HIGHEST, 1 / LOWEST
    for _ in range(40):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if _cross_entropy(logits * left, masks) < _cross_entropy(logits * right, masks):
            high = right
        else:
            low = left
    return float(np.round(2 / (low + high), 4))


def sample_logits(
    pairs: Iterable[tuple[Image, Mask]], predictor: Predictor, policy: InputPolicy, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return logits and masks, both (n,), of some 20,000 pixels per image, drawn with `seed`, on the network's grid."""
    random = np.random.default_rng(seed)
    logits, masks = [], []
    for image, mask in pairs:
        placement = place(image, policy)
        corners = tiles(placement, policy)
        canvas_mask = mask_to_canvas(mask, placement)
        for (y, x), tile in zip(corners, cut(to_canvas(image, placement), corners, policy), strict=True):
            of_tile = predictor.logits([tile])[0]
            height, width = of_tile.shape
            chosen = random.choice(of_tile.size, min(of_tile.size, PIXELS_AN_IMAGE // len(corners) + 1), replace=False)
            logits.append(of_tile.ravel()[chosen].astype(np.float64))
            masks.append(canvas_mask[y : y + height, x : x + width].ravel()[chosen] > 0)
    return np.concatenate(logits), np.concatenate(masks)


def _cross_entropy(logits: NDArray[np.float64], masks: NDArray[np.bool_]) -> float:
    return float((np.logaddexp(0, logits) - logits * masks).mean())
