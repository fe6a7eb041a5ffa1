"""What a card accepts, and what it refuses."""

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from service.errors import BadCheckpoint
from service.store.card import Card, IouEstimate
from service.store.checkpoint import LARGEST_CARD_BYTES, parse_card
from tests.cards import make_card

ESTIMATE = {"offset": 0.25, "plain": 0.75, "decided": 0.5}


def _content(**changes: Any) -> bytes:
    """The JSON of a valid card with some top-level fields replaced."""
    return json.dumps(json.loads(make_card().model_dump_json()) | changes).encode()


def _nested(field: str, **changes: Any) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(make_card().model_dump_json())[field]
    return value | changes


def test_a_card_survives_the_way_through_json() -> None:
    architecture_config = {"fusion_stride": 2, "channels": [48, 96], "norm": "batch"}
    card = make_card(architecture_config=architecture_config, expected_iou=IouEstimate(**ESTIMATE))
    assert parse_card(card.model_dump_json().encode()) == card


def test_a_card_without_test_scores_survives_the_way_through_json() -> None:
    card = make_card(test=None)
    assert parse_card(card.model_dump_json().encode()) == card


def test_a_card_from_before_calibration_was_measured_says_that_it_was_not() -> None:
    fields = json.loads(make_card().model_dump_json())
    del fields["expected_iou"], fields["test"]["plain_iou_error"], fields["test"]["calibration_error"]
    card = parse_card(json.dumps(fields).encode())
    assert card.test is not None
    assert (card.expected_iou, card.test.plain_iou_error, card.test.calibration_error) == (None, None, None)


def test_config_values_keep_their_types_through_json() -> None:
    config = {"a": 1, "b": 1.0, "c": "1", "d": True, "e": None, "f": [1, 2], "g": [0.5, 2.0]}
    training = make_card().training.model_copy(update={"config": config})
    read = parse_card(make_card(training=training).model_dump_json().encode()).training.config
    assert [(name, repr(value)) for name, value in read.items()] == [(name, repr(v)) for name, v in config.items()]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"normalisation": _nested("normalisation", std=[0.2, 0.0, 0.2])}, "normalisation.std.1"),
        ({"normalisation": _nested("normalisation", mean=[0.2, 0.2])}, "normalisation.mean.2"),
        ({"normalisation": _nested("normalisation", mean=[1e300, 0.2, 0.2])}, "normalisation.mean.0"),
        ({"normalisation": _nested("normalisation", std=[0.2, 0.2, 1e-320])}, "normalisation.std.2"),
        ({"training_images": _nested("training_images", mean=[0.5, 0.5])}, "training_images"),
        ({"training_masks": {"least": 0.5, "most": 0.4}}, "training_masks"),
        ({"training_masks": {"least": -0.1, "most": 0.4}}, "training_masks.least"),
        ({"training_masks": {"least": 0.1, "most": 1.1}}, "training_masks.most"),
        ({"training_images": _nested("training_images", mean=[1e308])}, "training_images.mean.0"),
        ({"training_images": _nested("training_images", scale=[1e-300])}, "training_images.scale.0"),
        ({"training_images": _nested("training_images", features=[])}, "training_images"),
        ({"training_images": _nested("training_images", scale=[0.0])}, "training_images.scale.0"),
        ({"probe": _nested("probe", columns=3)}, "probe"),
        ({"probe": _nested("probe", answer=[0.5, 1.5])}, "probe.answer.1"),
        ({"probe": _nested("probe", tolerance=0.041)}, "probe.tolerance"),
        ({"input": _nested("input", height=0)}, "input"),
        ({"input": _nested("input", width=97)}, "input"),
        ({"input": _nested("input", height=3200, width=3200)}, "input"),
        ({"input": _nested("input", depth=3)}, "input.depth"),
        ({"training": _nested("training", surprise=1)}, "training.surprise"),
        ({"surprise": 1}, "surprise"),
        ({"training_images": _nested("training_images", limit=0.0)}, "training_images.limit"),
        ({"test": _nested("test", iou_std=-0.1)}, "test.iou_std"),
        ({"least_component": 1.01}, "least_component"),
        ({"threshold": 1.01}, "threshold"),
        ({"threshold": "0.5"}, "threshold"),
        ({"temperature": 0}, "temperature"),
        ({"expected_iou": {}}, "expected_iou.offset"),
        ({"expected_iou": ESTIMATE | {"plain": -0.1}}, "expected_iou.plain"),
        ({"expected_iou": ESTIMATE | {"plain": 4.1}}, "expected_iou.plain"),
        ({"expected_iou": ESTIMATE | {"decided": 4.1}}, "expected_iou.decided"),
        ({"expected_iou": ESTIMATE | {"offset": 4.1}}, "expected_iou.offset"),
        ({"expected_iou": ESTIMATE | {"offset": -5.0}}, "expected_iou.offset"),
        ({"expected_iou": ESTIMATE | {"offset": "0"}}, "expected_iou.offset"),
        ({"expected_iou": ESTIMATE | {"slope": 1.0}}, "expected_iou.slope"),
        (
            {"test": _nested("test", calibration_error={"bins": 0, "before": 0.0, "after": 0.0})},
            "test.calibration_error.bins",
        ),
        ({"test": _nested("test", plain_iou_error=-0.1)}, "test.plain_iou_error"),
        ({"modality": "../retina"}, "modality"),
        ({"modality": "retina\n"}, "modality"),
        ({"version": "01"}, "version"),
        ({"version": 1}, "version"),
        ({"weights_sha256": "A" * 64}, "weights_sha256"),
        ({"format": 2}, "format"),
    ],
)
def test_a_wrong_field_is_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(BadCheckpoint, match=rf"card\.json: field {field}: "):
        parse_card(_content(**changes))


@pytest.mark.parametrize(
    "text", ["\x1b[31mred", "a\nretina 99: sound", "a\x9b2J", "le\u202eft", "a\u2028b", "tab\tbed"]
)
@pytest.mark.parametrize(
    ("field", "holding"),
    [
        ("label", lambda text: text),
        ("architecture_config", lambda text: {"encoder": text}),
        ("architecture_config", lambda text: {text: 2}),
        ("test.split", lambda text: text),
        ("training.versions", lambda text: {"torch": text}),
        ("training.config", lambda text: {"data": text}),
        ("training_images.features", lambda text: [text]),
    ],
)
def test_a_text_that_does_not_print_is_refused(field: str, holding: Callable[[str], object], text: str) -> None:
    outer, _, inner = field.partition(".")
    value = _nested(outer, **{inner: holding(text)}) if inner else holding(text)
    with pytest.raises(BadCheckpoint, match=rf"field {field}: holds .* which does not print"):
        parse_card(_content(**{outer: value}))


def test_a_label_is_in_any_script_and_short() -> None:
    assert parse_card(_content(label="Gefäß 血管 رگ\u200cها")).label.startswith("Gefäß")
    with pytest.raises(BadCheckpoint, match=r"field label: .*at most 100 characters"):
        parse_card(_content(label="x" * 101))


@pytest.mark.parametrize("field", [name for name, info in Card.model_fields.items() if info.is_required()])
def test_a_missing_field_is_named(field: str) -> None:
    fields = json.loads(make_card().model_dump_json())
    del fields[field]
    with pytest.raises(BadCheckpoint, match=f"field {field}: Field required"):
        parse_card(json.dumps(fields).encode())


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "place",
    ["temperature", "normalisation.mean", "training_images.mean", "training_images.scale", "probe.tolerance"],
)
def test_every_number_is_finite(place: str, number: float) -> None:
    field, _, inner = place.partition(".")
    value: Any = number
    if inner:
        old = _nested(field)[inner]
        value = _nested(field, **{inner: [number, *old[1:]] if isinstance(old, list) else number})
    with pytest.raises(BadCheckpoint, match=f"field {field}"):
        parse_card(_content(**{field: value}))


def test_numbers_of_the_training_config_are_finite() -> None:
    training = _nested("training", config={"learning_rate": math.inf})
    with pytest.raises(BadCheckpoint, match=r"field training\.config\.learning_rate"):
        parse_card(_content(training=training))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null", b"[" * 100_000], ids=repr)
def test_what_is_no_card_at_all_is_refused(content: bytes) -> None:
    with pytest.raises(BadCheckpoint, match=r"card\.json: "):
        parse_card(content)


def test_an_enormous_card_is_refused() -> None:
    with pytest.raises(BadCheckpoint, match="larger than"):
        parse_card(_content() + b" " * LARGEST_CARD_BYTES)


def test_a_card_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        make_card().threshold = 0.4


@pytest.mark.parametrize(("rows", "columns"), [(129, 1), (1, 129)])
def test_a_raster_that_would_take_the_devices_thread_for_seconds_is_refused(rows: int, columns: int) -> None:
    probe = _nested("probe", rows=rows, columns=columns, answer=[0.0] * rows * columns)
    with pytest.raises(BadCheckpoint, match="less than or equal to 128"):
        parse_card(_content(probe=probe))


@pytest.mark.parametrize(("rows", "columns"), [(65, 1), (1, 97)])
def test_a_raster_that_is_finer_than_the_grid_is_refused_for_its_empty_cells_agree_with_anything(
    rows: int, columns: int
) -> None:
    probe = _nested("probe", rows=rows, columns=columns, answer=[0.0] * rows * columns)
    with pytest.raises(BadCheckpoint, match=f"a raster of {rows} × {columns} is finer than the grid of 64 × 96"):
        parse_card(_content(probe=probe))


def test_a_raster_may_have_a_cell_for_each_pixel() -> None:
    assert parse_card(_content(probe=_nested("probe", rows=64, columns=96, answer=[0.0] * 64 * 96))).probe.rows == 64
