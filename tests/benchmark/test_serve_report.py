"""What follows from the record of a benchmark of a server."""

import pytest

from service.benchmark.serve_report import ServeReport
from tests.benchmark.reports import report, row, served

ALONE, EIGHT, OPEN = row(16.0, callers=1), row(30.0, callers=8), row(18.0, share=0.9)


def test_the_capacity_is_the_best_of_the_closed_loops() -> None:
    assert served(ALONE, EIGHT, row(50.0, share=0.9)).capacity == 30.0


def test_throughput_is_compared_with_the_limit_and_a_lone_caller_with_the_lone_bound() -> None:
    record = served(ALONE, EIGHT, OPEN)
    assert [record.of_limit(one) for one in record.rows] == pytest.approx([0.4, 0.75, 0.45])
    assert [record.of_alone(one) for one in record.rows] == [pytest.approx(1.25), None, None]


def test_without_a_limit_or_answers_there_is_nothing_to_compare() -> None:
    assert (served(limit=None).of_limit(EIGHT), served(limit=None).of_alone(ALONE)) == (None, None)
    assert served().of_alone(row(0.0, callers=1, p50_ms=None)) is None


def test_cpu_time_is_shared_among_all_that_were_answered() -> None:
    assert EIGHT.cpu_s_an_image == pytest.approx(0.018)
    assert row(1.0, callers=1, cpu_s=None).cpu_s_an_image is None


def test_a_record_survives_being_written_and_read() -> None:
    record = report(served(ALONE, OPEN), served(EIGHT, limit=None))
    assert ServeReport.model_validate_json(record.model_dump_json()) == record
