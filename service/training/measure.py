"""How good a calibrated network is on its test images, which are looked at only once everything is chosen."""

from collections.abc import Sequence

import numpy as np

from service.engine.quality import lowest_level
from service.imaging.placement import glimpse, place
from service.imaging.policy import InputPolicy
from service.imaging.share import share_of
from service.store.card import CalibrationError, Scores
from service.training.calibrate import Calibration, PredictorAt
from service.training.parts import Parts, Usual, shown
from service.training.scores import (
    BINS,
    ImageLevels,
    ImageScore,
    calibration_error,
    count_levels,
    expected_iou_error,
    mean_and_std,
    scores_of,
)


def measure(
    parts: Parts, predictor_at: PredictorAt, calibration: Calibration, usual: Usual, policy: InputPolicy
) -> tuple[Scores, list[ImageScore]]:
    """Return the card's scores over the test images, at least one, and the score of each image."""
    before, after = (
        count_levels(shown(parts.test, "testing"), predictor_at(temperature).predict, policy)
        for temperature in (1.0, calibration.temperature)
    )
    kept = after
    if calibration.least_component:
        predict = predictor_at(calibration.temperature).predict
        kept = count_levels(shown(parts.test, "testing"), predict, policy, calibration.rule)
    scores = scores_of(kept, calibration.threshold, calibration.expected_iou)
    iou_mean, iou_std = mean_and_std(score.agreement.iou for score in scores)
    accuracy_mean, accuracy_std = mean_and_std(score.agreement.accuracy for score in scores)
    unlike_images, unlike_masks = _flagged(parts, kept, calibration.threshold, usual, policy)
    of_card = Scores(
        dataset=parts.dataset.name,
        split=f"test part; {parts.split.how}",
        n=len(scores),
        iou_mean=iou_mean,
        iou_std=iou_std,
        accuracy_mean=accuracy_mean,
        accuracy_std=accuracy_std,
        dice_mean=mean_and_std(score.agreement.dice for score in scores)[0],
        expected_iou_error=expected_iou_error(scores),
        plain_iou_error=expected_iou_error(scores_of(kept, calibration.threshold)),
        calibration_error=_calibration_error(before, after),
        flagged_fraction=unlike_images,
        flagged_masks_fraction=unlike_masks,
    )
    return of_card, scores


def _calibration_error(before: Sequence[ImageLevels], after: Sequence[ImageLevels]) -> CalibrationError:
    return CalibrationError(bins=BINS, before=calibration_error(before), after=calibration_error(after))


def _flagged(
    parts: Parts, counted: Sequence[ImageLevels], threshold: float, usual: Usual, policy: InputPolicy
) -> tuple[float, float]:
    """Return the shares of the test images, and of their masks, that are flagged as unlike those of the training."""
    images, masks, lowest = [], [], lowest_level(threshold)
    for levels, (_, (image, _)) in zip(counted, parts.test.named(), strict=True):
        placement = place(image, policy)
        images.append(usual.likeness.distance(glimpse(image, placement)) > usual.likeness.limit)
        share = share_of(int(levels.pixels[lowest:].sum()), placement)
        masks.append(not usual.share.of_picture(placement, policy).has(share))
    return float(np.mean(images)), float(np.mean(masks))
