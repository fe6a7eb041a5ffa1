"""The measure of a calibrated network: its test images, looked at once everything is chosen."""

from collections.abc import Sequence

import numpy as np

from service.imaging.placement import place, unframed
from service.imaging.policy import InputPolicy
from service.imaging.statistics import Likeness
from service.store.card import CalibrationError, Scores
from service.training.calibrate import Calibration, PredictorAt
from service.training.parts import Parts, shown
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
    parts: Parts, predictor_at: PredictorAt, calibration: Calibration, likeness: Likeness, policy: InputPolicy
) -> tuple[Scores, list[ImageScore]]:
    """Return what the card says of the test images, at least one, and the score of each of them."""
    before, after = (
        count_levels(shown(parts.test, "testing"), predictor_at(temperature).predict, policy)
        for temperature in (1.0, calibration.temperature)
    )
    scores = scores_of(after, calibration.threshold, calibration.expected_iou)
    iou_mean, iou_std = mean_and_std(score.agreement.iou for score in scores)
    accuracy_mean, accuracy_std = mean_and_std(score.agreement.accuracy for score in scores)
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
        plain_iou_error=expected_iou_error(scores_of(after, calibration.threshold)),
        calibration_error=_calibration_error(before, after),
        flagged_fraction=_flagged_fraction(parts, likeness, policy),
    )
    return of_card, scores


def _calibration_error(before: Sequence[ImageLevels], after: Sequence[ImageLevels]) -> CalibrationError:
    return CalibrationError(bins=BINS, before=calibration_error(before), after=calibration_error(after))


def _flagged_fraction(parts: Parts, likeness: Likeness, policy: InputPolicy) -> float:
    flagged = [
        likeness.distance(unframed(image, place(image, policy))) > likeness.limit
        for _, (image, _) in parts.test.named()
    ]
    return float(np.mean(flagged))
