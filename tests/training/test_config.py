"""Presets and modalities make a configuration; what contradicts itself is refused by name."""

import pytest

from service.errors import BadConfig
from service.imaging.policy import InputPolicy
from service.training.config import MODALITIES, PRESETS, configure


@pytest.mark.parametrize("modality", [*MODALITIES, "liver"])
def test_the_paper_preset_is_the_papers_recipe(modality: str) -> None:
    """§ 4.2: Adam, 5e-3, batch 4, step size 1, γ 0.95, 150 epochs. § 4.1: every view, shifted; nothing else."""
    config = configure("data", modality, "paper", {})
    assert (config.optimizer, config.learning_rate, config.batch_size) == ("adam", 5e-3, 4)
    assert (config.schedule, config.decay, config.epochs) == ("exponential", 0.95, 150)
    assert config.steps_per_epoch is None
    assert config.crop_px is None
    assert config.shift_px > 0
    assert (config.scale, config.rotation_deg, config.colour, config.weight_decay) == (0, 0, 0, 0)
    assert config.validate_every == 1


@pytest.mark.parametrize("modality", ["retina", "cell"])
def test_the_papers_split_is_five_to_two_to_three(modality: str) -> None:
    assert configure("data", modality, "paper", {}).fractions == (0.5, 0.2, 0.3)


def test_the_grids_are_those_of_the_papers_table_1() -> None:
    assert MODALITIES["retina"]["input"] == InputPolicy(kind="fit", height=605, width=700)
    for modality in ("cell", "skin"):
        policy = MODALITIES[modality]["input"]
        assert isinstance(policy, InputPolicy)
        assert policy.grid == (512, 512)


def test_a_change_wins_over_the_preset_and_the_modality() -> None:
    config = configure("data", "retina", "quick", {"epochs": 2, "label": "artery"})
    assert (config.epochs, config.label) == (2, "artery")
    assert config.batch_size == PRESETS["quick"]["batch_size"]


def test_an_unknown_preset_is_refused_with_those_that_exist() -> None:
    with pytest.raises(BadConfig, match="no preset 'fast'; there are: paper, quick"):
        configure("data", "retina", "fast", {})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("crop_px", 40),
        ("learning_rate", -1.0),
        ("learning_rate", float("nan")),
        ("fusion_stride", 3),
        ("precision", "float16"),
        ("fractions", (1.0, 0.0, 0.0)),
        ("fractions", (0.5, 0.2, 0.2)),
        ("workers", -1),
        ("seed", -1),
    ],
)
def test_a_value_out_of_its_range_is_named(field: str, value: object) -> None:
    with pytest.raises(BadConfig, match=f"{field}|fractions must"):
        configure("data", "retina", "quick", {field: value})


def test_a_modality_that_no_store_could_hold_is_refused() -> None:
    with pytest.raises(BadConfig, match="modality"):
        configure("data", "../retina", "quick", {})
