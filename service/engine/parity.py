"""The gate that every engine has to pass before it serves: its masks are those of the float32 network."""

import numpy as np
from numpy.typing import NDArray
from torch import nn

from service.engine.engine import Engine
from service.engine.predictor import Predictor
from service.engine.probing import mean_difference, raster
from service.engine.quality import agreement, foreground
from service.errors import BadCheckpoint, EngineFailed
from service.imaging.probe import probe
from service.store.card import Card

LEAST_IOU = 0.99
"""Least IoU of an engine's mask of the probe with that of the float32 network."""


def probe_tile(card: Card) -> NDArray[np.uint8]:
    """Return the card's probe: uint8 (h, w, 3) of the card's grid."""
    return probe(card.input.grid, card.normalisation.mean, card.normalisation.std)


def probe_difference(card: Card, answer: NDArray[np.uint8]) -> float:
    """Return the mean absolute difference, in probability, of an answer to the probe from the card's recorded one.

    `answer` is uint8 (h, w), as engines give it.
    """
    return mean_difference(raster(answer / 255.0, card.probe.rows, card.probe.columns), card.probe.answer)


class Parity:
    """What the float32 network answers to the card's probe, and whether an engine answers the same.

    Raises:
        BadCheckpoint: the float32 network itself does not reproduce the answer that the card records.
    """

    def __init__(self, card: Card, network: nn.Module) -> None:
        self._card = card
        self._tile = probe_tile(card)
        exact = Predictor.exact(network, card.normalisation, temperature=card.temperature)
        try:
            [self._exact] = exact.predict([self._tile])
        except EngineFailed as error:
            raise BadCheckpoint(f"{card.modality}/{card.version}: {error}") from error
        difference = probe_difference(card, self._exact)
        if not difference <= card.probe.tolerance:  # NaN is no agreement
            raise BadCheckpoint(
                f"{card.modality}/{card.version}: it does not reproduce its recorded probe: mean difference "
                f"{difference:.4f}, allowed {card.probe.tolerance}"
            )

    def fault(self, engine: Engine, *, masks: bool = True) -> str:
        """Return what is wrong with the engine's answer to the probe; empty if nothing is.

        Without `masks` only the recorded answer counts. That is for an integer form, whose masks were compared on test
        images when it was published, and for a precision that somebody insists on.

        Raises:
            EngineFailed: there is no answer: half precision may overflow where float32 does not.
        """
        [answer] = engine.predict([self._tile])
        difference = probe_difference(self._card, answer)
        if not difference <= self._card.probe.tolerance:
            return f"mean difference {difference:.4f} from the recorded probe, allowed {self._card.probe.tolerance}"
        if masks and (iou := self.mask_iou(answer)) < LEAST_IOU:
            return f"IoU {iou:.4f} of its mask of the probe with that of float32, needed {LEAST_IOU}"
        return ""

    def mask_iou(self, answer: NDArray[np.uint8]) -> float:
        """Return the IoU of the mask in an engine's `answer` to the probe, uint8 (h, w), with that of float32."""
        found, expected = (foreground(levels, self._card.threshold) for levels in (answer, self._exact))
        return agreement(found, expected).iou
