"""Which arithmetic a CPU is fast in: decided by its quickest rounds, whatever else the machine does."""

import pytest
import torch

from service.engine import half_precision
from service.engine.half_precision import ROUNDS, cpu_precisions, is_quicker


class Stopwatch:
    """A clock that only calls advance: each takes the seconds of its list, in turn."""

    def __init__(self) -> None:
        self.now = 0.0

    def call(self, *seconds: float) -> "Call":
        return Call(self, seconds)


class Call:
    def __init__(self, watch: Stopwatch, seconds: tuple[float, ...]) -> None:
        self._watch, self._seconds, self.calls = watch, seconds, 0

    def __call__(self) -> None:
        self._watch.now += self._seconds[self.calls % len(self._seconds)]
        self.calls += 1


@pytest.mark.parametrize(("first", "second", "expected"), [(1.0, 2.0, True), (2.0, 1.0, False), (1.0, 1.0, False)])
def test_the_quicker_one_is(first: float, second: float, *, expected: bool) -> None:
    watch = Stopwatch()
    assert is_quicker(watch.call(first), watch.call(second), clock=lambda: watch.now) is expected


def test_busy_moments_do_not_decide() -> None:
    watch = Stopwatch()
    assert is_quicker(watch.call(50.0, 9.0, 1.0), watch.call(2.0), clock=lambda: watch.now)
    assert not is_quicker(watch.call(2.0), watch.call(50.0, 9.0, 1.0), clock=lambda: watch.now)


def test_both_have_the_same_number_of_turns() -> None:
    watch = Stopwatch()
    calls = watch.call(1.0), watch.call(1.0)
    is_quicker(*calls, clock=lambda: watch.now)
    assert [call.calls for call in calls] == [ROUNDS, ROUNDS]


def test_a_cpu_always_has_float32_and_is_measured_once() -> None:
    found = cpu_precisions()
    assert set(found) - {"bfloat16"} == {"float32"}
    assert cpu_precisions() is found


def test_one_thread_is_timed_and_all_compute_again_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = torch.get_num_threads()
    timed: list[int] = []

    def convolve(*_: torch.Tensor) -> None:
        timed.append(torch.get_num_threads())

    monkeypatch.setattr(half_precision, "_cpu_has_bfloat16", lambda: True)
    monkeypatch.setattr(half_precision, "_convolve", convolve)
    cpu_precisions.__wrapped__()
    assert timed == [1] * (2 * ROUNDS)
    assert torch.get_num_threads() == threads
