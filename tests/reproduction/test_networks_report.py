"""The record of a benchmark survives JSON, and groups what belongs together."""

import json

import pytest
from pydantic import ValidationError

from service.reproduction.networks_report import Report
from tests.reproduction.reports import measurement, report


def test_a_report_survives_json() -> None:
    first = report(measurement("al-net", 1.5, 2.5), measurement("cenet", peak_bytes=None))
    again = Report.model_validate_json(first.model_dump_json())
    assert again == first
    assert json.loads(first.model_dump_json())["measurements"][0]["times_ms"] == [1.5, 2.5]


def test_a_report_with_unknown_fields_is_refused() -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        Report.model_validate(report().model_dump() | {"speed": "fast"})


def test_the_median_of_ten_is_the_mean_of_the_middle_two() -> None:
    assert measurement("al-net", 9, 1, 2, 100, 3, 4, 5, 6, 7, 8).median_ms == 5.5
    assert measurement("al-net").median_ms is None


def test_measurements_are_grouped_by_device_and_size() -> None:
    ones = [measurement(batch=batch, size=size) for size in ((64, 64), (64, 96)) for batch in (1, 8)]
    places = list(report(*ones, measurement(device="cuda", size=(64, 96))).places())
    assert [[one.setting.batch for one in place] for place in places] == [[1, 8], [1, 8], [1]]
    assert places[2][0].setting.place == "CUDA, float32, 64×96"
