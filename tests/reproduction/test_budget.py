import pytest

from service.imaging.policy import InputPolicy
from service.reproduction.budget import describe_budget, training_pixels
from service.training.config import configure
from tests.reproduction.experiments import make_recipe


def test_the_papers_recipe_shows_each_flip_in_one_place_an_epoch_and_the_paper_in_five() -> None:
    """Its grid is padded to multiples of 32, so it sees a few pixels more than a fifth."""
    said = describe_budget(configure("/data", "retina", "paper", {}), 10)
    assert said.startswith("150 epochs, of 20 steps of 4 whole images (608×704), 12,000 views. ")
    assert "150 epochs of 10 images in 8 flips, each in 5 places, whole (605×700), 60,000 views" in said
    assert said.endswith("20.2 % of its pixels: a smaller budget than the paper's.")


def test_a_larger_budget_says_so() -> None:
    said = describe_budget(configure("/data", "retina", "paper", {"epochs": 750}), 10)
    assert said.endswith("101 % of its pixels: no smaller a budget.")


def test_a_smaller_budget_says_so() -> None:
    said = describe_budget(make_recipe(epochs=3, steps_per_epoch=10, batch_size=4), 10)
    assert said.startswith("3 epochs, of 10 steps of 4 whole images (64×64), 120 views. ")
    assert said.endswith("a smaller budget than the paper's.")


def test_coarse_epochs_count_a_quarter() -> None:
    fine, coarse = make_recipe(epochs=4), make_recipe(epochs=4, coarse_epochs=2)
    assert training_pixels(fine, 10) == 4 * 2 * 64 * 64
    assert training_pixels(coarse, 10) / training_pixels(fine, 10) == pytest.approx((2 + 0.5) / 4)
    assert "4 epochs, the first 2 at half the resolution, of 1 steps" in describe_budget(coarse, 10)


def test_a_crop_that_is_larger_than_the_grid_is_the_whole_image() -> None:
    recipe = configure("/data", "skin", "quick", {"input": InputPolicy(kind="stretch", height=128, width=96)})
    assert recipe.crop_px is not None
    assert "whole images (128×96)" in describe_budget(recipe, 10)
    assert training_pixels(recipe, 10) % (128 * 96) == 0
