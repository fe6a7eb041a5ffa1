"""Makes a valid card for tests, small enough to read."""

from typing import Any

from service.imaging.policy import InputPolicy
from service.imaging.statistics import FEATURES
from service.store.card import (
    CalibrationError,
    Card,
    Data,
    Normalisation,
    Probe,
    Quantised,
    Scores,
    Training,
    TrainingImages,
)
from service.store.checkpoint import sha256

WEIGHTS = b"weights that no test parses"
LABELS = {"retina": "vessel", "cell": "cell interior", "skin": "lesion"}


def make_card(modality: str = "retina", **changes: Any) -> Card:
    """Return a valid card of version "1" for WEIGHTS, with `changes` to its fields (validated like all others)."""
    fields: dict[str, Any] = {
        "modality": modality,
        "version": "1",
        "label": LABELS.get(modality, "foreground"),
        "created": "2026-01-31",
        "architecture": "al-net",
        "architecture_config": {"fusion_stride": 2},
        "parameters": 3_453_000,
        "parameters_in_training": 3_600_000,
        "largest_logit_difference": 1e-12,
        "input": InputPolicy(kind="stretch", height=64, width=96),
        "normalisation": Normalisation(mean=(0.5, 0.4, 0.3), std=(0.25, 0.25, 0.25)),
        "temperature": 1.0,
        "threshold": 0.5,
        "test": make_scores(),
        "data": Data(name="drawn", digest="a" * 64, n_train=5, n_validation=2, n_test=3, split="5:2:3 by image"),
        "training": make_training(),
        "training_images": TrainingImages(
            features=FEATURES, mean=(0.5,) * len(FEATURES), scale=(0.1,) * len(FEATURES), limit=3.0
        ),
        "probe": Probe(rows=1, columns=2, answer=(0.25, 0.75), tolerance=0.02),
        "weights_sha256": sha256(WEIGHTS),
    }
    return Card(**(fields | changes))


def make_quantised(graph: bytes = b"graph", constants: bytes = b"constants", **changes: Any) -> Quantised:
    """Return what a card says of an integer form, with `changes` to its fields."""
    fields: dict[str, Any] = {
        "tools": {"nncf": "1"},
        "calibration_images": 9,
        "xml_sha256": sha256(graph),
        "bin_sha256": sha256(constants),
        "n": 6,
        "iou_mean": 0.9,
        "iou_loss": 0.0,
    }
    return Quantised(**(fields | changes))


def make_scores() -> Scores:
    return Scores(
        dataset="drawn",
        split="test part",
        n=3,
        iou_mean=0.7,
        iou_std=0.05,
        accuracy_mean=0.95,
        accuracy_std=0.01,
        dice_mean=0.82,
        expected_iou_error=0.04,
        plain_iou_error=0.06,
        calibration_error=CalibrationError(bins=15, before=0.02, after=0.01),
        flagged_fraction=0.0,
        flagged_masks_fraction=None,
    )


def make_training() -> Training:
    return Training(
        seed=7,
        commit="unknown",
        preset="quick",
        config={"epochs": 4, "learning_rate": 0.005, "augment": True, "resume": None},
        versions={"torch": "2.13.0"},
        device="cpu",
        epochs=4,
        best_epoch=3,
        duration_s=12.5,
    )
