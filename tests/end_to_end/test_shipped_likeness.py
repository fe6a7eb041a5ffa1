"""The shipped cards tell images of their own kind from those of the others, over the real data sets."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from service.engine.image_work import likeness
from service.imaging.statistics import features
from service.store.model_store import ModelStore
from service.training.dataset import load, open_dataset
from tests.end_to_end.server_process import ROOT

STORE = ModelStore(ROOT / "model_store")
DATASETS = {"retina": "stare", "cell": "isbi2012", "skin": "isic2018"}
MOST_IMAGES = 200


@pytest.fixture(scope="module")
def described(real_data: Path) -> dict[str, NDArray[np.float64]]:
    """The features of each modality's images; of the many skin images, of some 200 spread over all."""
    found = {}
    for modality, folder in DATASETS.items():
        pairs = open_dataset(real_data / folder).pairs
        every = -(-len(pairs) // MOST_IMAGES)
        found[modality] = np.stack([features(load(pair)[0]) for pair in pairs[::every]])
    return found


def flagged(modality: str, rows: NDArray[np.float64]) -> float:
    """Return the share of the images, described by their features, that the modality's card calls unlike its own."""
    usual = likeness(STORE.newest(modality).card.training_images)
    return float(np.mean(np.sqrt(np.square((rows - usual.mean) / usual.scale).mean(axis=1)) > usual.limit))


@pytest.mark.parametrize("modality", DATASETS)
def test_images_of_the_other_modalities_are_flagged(modality: str, described: dict[str, NDArray[np.float64]]) -> None:
    shares = {other: flagged(modality, described[other]) for other in DATASETS if other != modality}
    assert min(shares.values()) >= 0.95, shares


@pytest.mark.parametrize("modality", DATASETS)
def test_images_of_its_own_are_not(modality: str, described: dict[str, NDArray[np.float64]]) -> None:
    test = STORE.newest(modality).card.test
    assert test is not None
    assert test.flagged_fraction <= 0.05  # of all test images, measured by the training job
    assert flagged(modality, described[modality]) <= 0.05
