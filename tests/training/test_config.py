"""Presets and modalities make a configuration; what contradicts itself is refused by name."""

import hashlib
import math
import os
from pathlib import Path

import pytest
from typer.main import get_command

from service.cli import app
from service.errors import BadConfig
from service.imaging.policy import InputPolicy
from service.training.config import BEST, MODALITIES, PRESETS, Config, configure, file_identity, option_of, spelt


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
    assert MODALITIES["retina"]["input"] == InputPolicy(kind="fit", height=605, width=700, margins="trim")
    for modality in ("cell", "skin"):
        policy = MODALITIES[modality]["input"]
        assert isinstance(policy, InputPolicy)
        assert policy.grid == (512, 512)


def test_a_change_wins_over_the_preset_and_the_modality() -> None:
    config = configure("data", "retina", "quick", {"epochs": 2, "label": "artery"})
    assert (config.epochs, config.label) == (2, "artery")
    assert config.batch_size == PRESETS["quick"]["batch_size"]


@pytest.mark.parametrize("modality", [*MODALITIES, "liver"])
def test_the_best_preset_averages_weights_and_changes_images_in_every_way(modality: str) -> None:
    config = configure("data", modality, "best", {})
    assert config.average > 0
    assert min(config.scale, config.rotation_deg, config.elastic_px, config.colour, config.illumination) > 0
    assert config.coarse_epochs < config.epochs
    assert config.input == configure("data", modality, "paper", {}).input


@pytest.mark.parametrize("modality", BEST)
def test_the_best_preset_has_what_a_modality_needs_and_other_presets_do_not(modality: str) -> None:
    values = configure("data", modality, "best", {}).model_dump()
    assert {name: values[name] for name in BEST[modality]} == BEST[modality]
    quick = configure("data", modality, "quick", {}).model_dump()
    assert quick["coarse_epochs"] == 0
    assert all(quick[name] == configure("data", "liver", "quick", {}).model_dump()[name] for name in BEST[modality])


def test_a_change_wins_over_what_the_best_preset_has_for_a_modality() -> None:
    name, value = next((name, value) for name, value in BEST["skin"].items() if isinstance(value, int))
    assert getattr(configure("data", "skin", "best", {name: value + 1}), name) == value + 1


def test_coarse_epochs_leave_one_at_full_resolution() -> None:
    assert configure("data", "own", "quick", {"epochs": 3, "coarse_epochs": 2}).coarse_epochs == 2
    with pytest.raises(BadConfig, match=r"^configuration: --coarse-epochs must leave.* and 3 of 3 do not"):
        configure("data", "own", "quick", {"epochs": 3, "coarse_epochs": 3})
    with pytest.raises(BadConfig, match="and 30 of 5 do not; a preset may have some: --coarse-epochs 0"):
        configure("data", "skin", "best", {"epochs": 5})


def test_a_configuration_survives_the_way_through_json() -> None:
    network = {"encoder": "resnet34", "decoder_channels": [32, 16], "head_channels": 48}
    config = configure("data", "cell", "best", {"network": network, "encoder_weights": "a.pth sha256:0"})
    assert Config.model_validate_json(config.model_dump_json()) == config


def test_a_run_goes_on_with_other_workers_and_another_cache_but_nothing_else() -> None:
    config = configure("data", "cell", "quick", {})
    assert config.is_same_run(configure("data", "cell", "quick", {"workers": 3, "cache_gib": 0.5}))
    assert not config.is_same_run(configure("data", "cell", "quick", {"seed": 1}))


def test_a_file_is_known_by_its_name_and_content(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(b"abc")
    assert file_identity(tmp_path / "weights.pth") == f"weights.pth sha256:{hashlib.sha256(b'abc').hexdigest()}"
    with pytest.raises(BadConfig, match=r"none\.pth cannot be read"):
        file_identity(tmp_path / "none.pth")
    os.mkfifo(tmp_path / "pipe.pth")
    with pytest.raises(BadConfig, match=r"pipe\.pth is no regular file, and is read more than once; save it as one"):
        file_identity(tmp_path / "pipe.pth")


def test_an_unknown_preset_is_refused_with_those_that_exist() -> None:
    with pytest.raises(BadConfig, match="no preset 'fast'; there are: paper, quick, best"):
        configure("data", "retina", "fast", {})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", -1),
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
    with pytest.raises(BadConfig, match=f"^{option_of(field)}[ :]|^configuration: --fractions must"):
        configure("data", "retina", "quick", {field: value})


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("steps_per_epoch", -1, "--steps-per-epoch -1: .* 1; or 0 for all views of all images$"),
        ("crop_px", 8, "--crop 8: .* 32; or 0 for the whole grid$"),
        ("fractions", (-1.0, 1.0, 1.0), "--fractions -1.0, of the train images: .* 0$"),
        ("fractions", (0.5, 0.5, 2.0), "--fractions 2.0, of the test images: .* 1$"),
        ("fine_tune", True, "configuration: --fine-tune needs .* --encoder-weights$"),
        ("coarse_epochs", 40, "configuration: --coarse-epochs must leave"),
        ("epochs", 0, "configuration: --epochs 0 trains nothing: give 1 or more; or to `alnet train` --fine-tune, and"),
        ("soup", "b sha256:0", "configuration: --soup averages whole networks: give --fine-tune, and one of them with"),
        ("fold", 2, "configuration: --folds says how many folds, --fold which of them tests: give both"),
    ],
)
def test_what_an_option_may_be_is_told_in_its_own_words(field: str, value: object, message: str) -> None:
    with pytest.raises(BadConfig, match=f"^{message}"):
        configure("data", "retina", "quick", {field: value})


def test_a_modality_that_no_store_could_hold_is_refused() -> None:
    for name in ("../retina", "My Modality"):
        with pytest.raises(BadConfig, match=f"modality: '{name}' is no name for a modality: up to 40 small letters"):
            configure("data", name, "quick", {})


@pytest.mark.parametrize(
    ("policy", "text"),
    [
        (InputPolicy(kind="stretch", height=512, width=256), "stretch:512x256"),
        (InputPolicy(kind="fit", height=605, width=700, margins="trim"), "fit:605x700:trim"),
        (InputPolicy(kind="tile", height=512, width=512, overlap=64), "tile:512x512:64"),
        (InputPolicy(kind="tile", height=512, width=512, overlap=64, margins="plain"), "tile:512x512:64:plain"),
        (
            InputPolicy(kind="tile", height=512, width=512, overlap=64, margins="plain", levels="stretch"),
            "tile:512x512:64:plain:stretch",
        ),
        (InputPolicy(kind="tile", height=512, width=512, overlap=64, margins="trim"), "tile:512x512:64:trim"),
    ],
    ids=str,
)
def test_an_input_policy_is_told_as_its_option_takes_it(policy: InputPolicy, text: str) -> None:
    assert spelt(policy) == text


@pytest.mark.parametrize("name", ["learning_rate", "weight_decay", "elastic_px", "blur_px", "cache_gib", "zoom"])
@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_what_is_no_finite_number_is_refused(name: str, value: float) -> None:
    with pytest.raises(BadConfig, match=f"^{option_of(name)} .*: "):
        configure("data", "retina", "quick", {name: value})


@pytest.mark.parametrize(
    "changes",
    [{"elastic_px": 1e6}, {"blur_px": 1e6}, {"shift_px": 10**9}],
    ids=lambda changes: next(iter(changes)),
)
def test_what_no_memory_holds_is_refused_by_name(changes: dict[str, object]) -> None:
    with pytest.raises(BadConfig, match=f"^{option_of(next(iter(changes)))}[ ,:]"):
        configure("data", "retina", "quick", changes)


@pytest.mark.parametrize(
    "changes", [{"label": "x" * 101}, {"label": "\x1b[2J"}, {"network": {"encoder": "a\nb"}}], ids=str
)
def test_a_text_that_no_card_takes_is_refused_by_name(changes: dict[str, object]) -> None:
    with pytest.raises(BadConfig, match=f"^{option_of(next(iter(changes)))}[ ,:]"):
        configure("data", "retina", "quick", changes)


@pytest.mark.parametrize("kind", ["fit", "stretch", "tile"])
def test_a_grid_that_could_not_be_served_is_not_trained(kind: str) -> None:
    with pytest.raises(BadConfig, match="a grid of 640000 × 640000 is too large"):
        configure("data", "retina", "quick", {"input": {"kind": kind, "height": 640_000, "width": 640_000}})


def test_options_are_named_as_the_command_has_them() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    train, pretrain = (
        {option for parameter in commands[name].params for option in parameter.opts} for name in ("train", "pretrain")
    )
    named = {option_of(field) for field in Config.model_fields}
    assert named - train == {"--weights"}
    assert "--weights" in pretrain
    with pytest.raises(BadConfig, match=r"^--crop 33: Input should be a multiple of 32; or 0 for the whole grid$"):
        configure("drawn:skin", "skin", "quick", {"crop_px": 33})


@pytest.mark.parametrize(
    "changes", [{"crop_px": 32}, {"crop_px": None, "input": InputPolicy(kind="fit", height=30, width=700)}]
)
def test_coarse_epochs_leave_what_a_network_can_halve_five_times(changes: dict[str, object]) -> None:
    """Of 16 pixels the last stage sees one, of which oneDNN's gradients in bfloat16 are what memory held before."""
    with pytest.raises(BadConfig, match=r"--coarse-epochs see half of 32 pixels, .* of 64 at least"):
        configure("data", "skin", "best", changes)
    assert configure("data", "skin", "best", {"crop_px": 64}).coarse_epochs > 0
    assert configure("data", "skin", "best", {"coarse_epochs": 0, **changes}).coarse_epochs == 0
