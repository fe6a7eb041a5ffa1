import pytest

from service.reproduction.milliseconds import milliseconds


@pytest.mark.parametrize(
    ("time_ms", "text"),
    [(1234.5, "1,234.5"), (12.34, "12.3"), (10, "10.0"), (1.234, "1.23"), (1, "1.00"), (0.1234, "0.123")],
)
def test_a_time_is_shown_with_three_digits_at_least(time_ms: float, text: str) -> None:
    assert milliseconds(time_ms) == text
