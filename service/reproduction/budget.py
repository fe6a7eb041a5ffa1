"""What a network sees in training, compared to what it saw in the paper; an accuracy means little without this."""

from service.reproduction.paper import INPUT_SIZES
from service.training.augment import VIEWS
from service.training.config import Config

PAPER_EPOCHS, PAPER_PLACES = 150, 5
"""§ 4.2 and § 4.1: each epoch shows every training image in its flips, each of them in place and shifted four ways."""


def describe_budget(recipe: Config, images: int) -> str:
    """Return the budget of `recipe` with `images` training images in words, and its share of the paper's pixels.

    The paper's budget is taken for the recipe's modality and the same number of training images.
    """
    height, width = INPUT_SIZES[recipe.modality]
    paper_views = PAPER_EPOCHS * images * VIEWS * PAPER_PLACES
    share = training_pixels(recipe, images) / (paper_views * height * width)
    verdict = "a smaller budget than the paper's" if share < 1 else "no smaller a budget"
    return (
        f"{_in_words(recipe, images)}. The paper's: {PAPER_EPOCHS} epochs of {images} images in {VIEWS} flips, each in "
        f"{PAPER_PLACES} places, whole ({height}×{width}), {paper_views:,} views. "
        f"This is {100 * share:.3g} % of its pixels: {verdict}."
    )


def training_pixels(recipe: Config, images: int) -> float:
    """Return how many pixels a network sees in training; in coarse epochs a quarter of each view's pixels."""
    height, width = _view(recipe)
    return (recipe.epochs - 0.75 * recipe.coarse_epochs) * _steps(recipe, images) * recipe.batch_size * height * width


def _in_words(recipe: Config, images: int) -> str:
    height, width = _view(recipe)
    kind = "whole images" if (height, width) == recipe.input.grid else "crops"
    steps = _steps(recipe, images)
    views = f"{recipe.epochs * steps * recipe.batch_size:,} views"
    coarse = f", the first {recipe.coarse_epochs} at half the resolution" if recipe.coarse_epochs else ""
    return f"{recipe.epochs} epochs{coarse}, of {steps} steps of {recipe.batch_size} {kind} ({height}×{width}), {views}"


def _steps(recipe: Config, images: int) -> int:
    return recipe.steps_per_epoch or max(1, images * VIEWS // recipe.batch_size)


def _view(recipe: Config) -> tuple[int, int]:
    """Return height and width of what the network sees of an image; a crop is never larger than the grid."""
    height, width = recipe.input.grid
    crop = recipe.crop_px or max(height, width)
    return min(crop, height), min(crop, width)
