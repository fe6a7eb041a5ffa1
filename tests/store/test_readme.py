"""The text beside published weights."""

import re

import pytest

from service.imaging.policy import InputPolicy
from service.store.card import INTENDED_USE, Card, IouEstimate, TrainingMasks
from service.store.readme import card_readme, describe_input
from tests.cards import make_card, make_quantised, make_scores, make_training


def test_the_readme_says_what_a_person_needs() -> None:
    card = make_card(
        expected_iou=IouEstimate(offset=0.25, plain=0.75, decided=0.5),
        training_masks=TrainingMasks(least=0.0372, most=0.16),
        test=make_scores().model_copy(update={"flagged_masks_fraction": 0.25}),
    )
    readme = card_readme(card)
    for said in (
        "# retina 1: vessel",
        INTENDED_USE,
        "3 images of drawn held out from training (test part)",
        "| IoU | 0.7000 ± 0.0500 |",
        "| Mean absolute error of the expected IoU | 0.0400 (plain estimate: 0.0600) |",
        "| Expected calibration error, 15 bins over all pixels | 0.0100 (at temperature 1: 0.0200) |",
        "| IoU estimate | logit = 0.25 + 0.75 × logit(plain estimate) + 0.5 × logit(decidedness) |",
        "| Usual share of foreground | 3.72% to 16% |",
        "| Masks flagged as unlike the training masks | 25.0% |",
        "Resized to 64 × 96",
        "| Preset | quick |",
        "| Seed | 7 |",
        "| `learning_rate` | 0.005 |",
        "| Parameters in training | 3,600,000 |",
        "| Parameters published | 3,453,000 |",
        card.weights_sha256,
        "http://127.0.0.1:8000/segment/retina",
    ):
        assert said in readme


def test_the_same_card_gives_the_same_text() -> None:
    assert card_readme(make_card()) == card_readme(Card.model_validate_json(make_card().model_dump_json()))


def test_a_card_without_scores_says_so() -> None:
    readme = card_readme(make_card(test=None))
    assert "no image was held out" in readme
    assert "Quality was not measured" in readme
    assert "IoU |" not in readme


def test_what_a_card_of_an_earlier_version_does_not_say_is_left_out() -> None:
    scores = make_scores().model_copy(update={"plain_iou_error": None, "calibration_error": None})
    readme = card_readme(make_card(test=scores))
    assert "| Mean absolute error of the expected IoU | 0.0400 |" in readme
    assert "calibration error" not in readme
    assert "| IoU estimate | plain |" in readme


def test_a_bar_or_line_break_in_the_card_does_not_break_the_tables() -> None:
    training = make_training().model_copy(update={"config": {"a|b": "c|d\ne"}})
    lines = card_readme(make_card(training=training)).splitlines()
    assert "| `a\\|b` | c\\|d e |" in lines
    tables = [line for line in lines if line.startswith("|")]
    assert all(len(re.split(r"(?<!\\)\|", line)) == 4 for line in tables)


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        (
            InputPolicy(kind="fit", height=605, width=700),
            "fit 605 × 700, aspect kept, padded by reflection to 608 × 704",
        ),
        (InputPolicy(kind="stretch", height=512, width=512), "Resized to 512 × 512"),
        (InputPolicy(kind="stretch", height=512, width=512, margins="plain"), "A frame of one colour is cut off."),
        (InputPolicy(kind="stretch", height=512, width=512), "If it is dark, made lighter."),
        (InputPolicy(kind="stretch", height=512, width=512, levels="stretch"), "stretched to the full range of levels"),
        (
            InputPolicy(kind="stretch", height=512, width=512, margins="trim"),
            "Dark margins, and a frame of one colour,",
        ),
        (InputPolicy(kind="tile", height=512, width=512, overlap=64), "tiles of 512 × 512 that overlap by at least 64"),
    ],
)
def test_each_way_of_input_is_described(policy: InputPolicy, said: str) -> None:
    assert said in describe_input(policy)


def test_a_score_on_few_images_is_called_that() -> None:
    few = card_readme(make_card())
    many = card_readme(make_card(test=make_scores().model_copy(update={"n": 1000})))
    assert "those of few images" in few
    assert "few images" not in many


@pytest.mark.parametrize(("loss", "said"), [(0.002, "0.9000, 0.0020 below"), (-0.0004, "0.9000, 0.0004 above")])
def test_the_integer_form_is_above_or_below_float32(loss: float, said: str) -> None:
    assert f"| {said} that of float32 |" in card_readme(make_card(int8=make_quantised(iou_loss=loss)))


@pytest.mark.parametrize(
    ("soup", "said"),
    [
        (None, "the weights that the config names as `encoder_weights`"),
        ("b sha256:0", "the mean of the weights that the config names as `encoder_weights` and `soup`"),
    ],
)
def test_of_what_was_not_trained_it_is_told_where_it_comes_from(soup: str | None, said: str) -> None:
    config: dict[str, int | float | str | bool | list[int] | list[float] | None] = {"soup": soup}
    training = make_training().model_copy(update={"epochs": 0, "best_epoch": 0, "config": config})
    assert f"| Epochs, best | none: {said} |" in card_readme(make_card(training=training))
