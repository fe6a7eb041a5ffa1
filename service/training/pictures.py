"""Pictures of a run, where a person would rather look than read: curves, sample overlays, expected against true IoU."""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image as PillowImage

from service.engine.quality import MaskRule
from service.imaging.encode import overlay
from service.imaging.placement import Image, Mask
from service.imaging.policy import InputPolicy
from service.training.scores import ImageScore, Predict, expected_iou_error, probability_of
from service.training.state import EpochRecord, make_alike, write_atomically

MISSED, WRONG, RIGHT = (230, 60, 60), (250, 200, 40), (40, 200, 120)
TALLEST_PX = 512


def draw_curves(history: Sequence[EpochRecord], path: Path) -> None:
    """Draw loss, validation IoU and learning rate over the epochs into a PNG, with dots so that one alone shows."""
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    loss, iou, rate = figure.subplots(1, 3)
    epochs = [record.epoch + 1 for record in history]
    loss.plot(epochs, [record.loss for record in history], marker=".")
    validated = [(record.epoch + 1, record.validation_iou) for record in history if record.validation_iou is not None]
    iou.plot([epoch for epoch, _ in validated], [value for _, value in validated], marker=".")
    rate.plot(epochs, [record.learning_rate for record in history], marker=".")
    for axes, title in ((loss, "training loss (Dice + BCE)"), (iou, "validation IoU"), (rate, "learning rate")):
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
    _write(figure, path)


def draw_expected(scores: Sequence[ImageScore], path: Path) -> None:
    """Draw each test image's expected IoU against its true IoU into a PNG; a perfect estimate lies on the diagonal."""
    figure = Figure(figsize=(4.5, 4.8), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="grey", linewidth=1, label="expected = true")
    axes.scatter([score.agreement.iou for score in scores], [score.expected_iou for score in scores], s=12, alpha=0.6)
    title = f"{len(scores)} test images, mean absolute error {expected_iou_error(scores):.3f}"
    axes.set(xlabel="true IoU", ylabel="expected IoU", xlim=(0, 1), ylim=(0, 1), aspect="equal", title=title)
    axes.legend(loc="upper left")
    axes.grid(alpha=0.3)
    _write(figure, path)


def draw_samples(
    named: Iterable[tuple[str, tuple[Image, Mask]]],
    predict: Predict,
    policy: InputPolicy,
    folder: Path,
    rule: MaskRule,
) -> None:
    """Write one PNG per image: image, reference, found mask, and errors (green right, red missed, yellow too much)."""
    make_alike(folder)
    for name, (image, reference) in named:
        mask = rule.mask(probability_of(image, predict, policy))
        panels = (
            image,
            overlay(image, reference),
            overlay(image, mask.astype(np.uint8)),
            errors(image, mask, reference),
        )
        picture = PillowImage.fromarray(np.concatenate(panels, axis=1))
        if picture.height > TALLEST_PX:
            picture = picture.resize((max(1, round(picture.width * TALLEST_PX / picture.height)), TALLEST_PX))
        path = folder / f"{name}.png"
        path.unlink(missing_ok=True)  # it may be another user's, which cannot be overwritten
        picture.save(path)


def errors(image: Image, mask: NDArray[np.bool_], reference: Mask) -> Image:
    """Return a grey copy of `image` (H, W, 3) with right foreground green, missed foreground red, excess yellow."""
    shown = np.repeat((image.mean(axis=2, keepdims=True) * 0.6).astype(np.uint8), 3, axis=2)
    known = reference > 0
    for pixels, colour in ((mask & known, RIGHT), (~mask & known, MISSED), (mask & ~known, WRONG)):
        shown[pixels] = colour
    return shown


def _write(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    picture = io.BytesIO()
    figure.savefig(picture, dpi=100)
    write_atomically(path, picture.getvalue())
