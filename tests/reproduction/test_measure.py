"""Times are taken in turn and memory is counted, also when it runs out."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from service.engine.memory import is_out_of_memory
from service.reproduction.measure import interleaved, peak_bytes

CPU = torch.device("cpu")
MIB = 1 << 20
MORE_THAN_THERE_IS = 1 << 60


class Stopwatch:
    """A clock that moves only when a run says so, and a record of who ran."""

    def __init__(self) -> None:
        self.now = 0.0
        self.ran: list[str] = []

    def __call__(self) -> float:
        return self.now

    def run(self, name: str, *seconds: float) -> Callable[[], None]:
        """Return a run whose calls take `seconds`, one after the other."""
        left = iter(seconds)

        def call() -> None:
            self.ran.append(name)
            self.now += next(left)

        return call


def _block(mebibytes: int) -> torch.Tensor:
    return torch.empty(mebibytes * MIB, dtype=torch.uint8)


def _hungry() -> None:
    torch.empty(MORE_THAN_THERE_IS, dtype=torch.uint8)


def test_every_round_runs_each_network_once_in_order() -> None:
    clock = Stopwatch()
    runs = {name: clock.run(name, *[1.0] * 3) for name in "abc"}
    interleaved(runs, warm_up=1, repeat=2, clock=clock)
    assert clock.ran == [*"abc", *"abc", *"abc"]


def test_warm_up_does_not_count() -> None:
    clock = Stopwatch()
    runs = {"a": clock.run("a", 100, 50, 1, 2, 3), "b": clock.run("b", 70, 70, 7, 7, 7)}
    assert interleaved(runs, warm_up=2, repeat=3, clock=clock) == {"a": (1, 2, 3), "b": (7, 7, 7)}


def test_what_happens_between_two_runs_is_not_timed() -> None:
    clock = Stopwatch()
    runs = {"a": clock.run("a", 1, 1), "b": clock.run("b", 2, 2)}
    assert interleaved(runs, warm_up=0, repeat=2, clock=clock, on_run=clock.run("bar", *[9.0] * 4)) == {
        "a": (1, 1),
        "b": (2, 2),
    }
    assert clock.ran == ["a", "bar", "b", "bar"] * 2


def test_a_run_without_memory_drops_out_and_the_others_go_on() -> None:
    clock = Stopwatch()
    called = []

    def hungry() -> None:
        called.append("hungry")
        _hungry()

    runs = {"hungry": hungry, "a": clock.run("a", 5, 1, 1)}
    assert interleaved(runs, warm_up=1, repeat=2, clock=clock) == {"a": (1, 1)}
    assert called == ["hungry"]


def test_any_other_fault_is_raised() -> None:
    def broken() -> None:
        torch.zeros(2) @ torch.zeros(3)

    with pytest.raises(RuntimeError, match="inconsistent tensor size"):
        interleaved({"broken": broken}, warm_up=0, repeat=1)
    with pytest.raises(RuntimeError, match="inconsistent tensor size"):
        peak_bytes(broken, CPU)


def test_the_peak_is_the_most_that_is_held_at_a_time() -> None:
    def run() -> None:
        first = _block(4)
        del first
        second, third = _block(2), _block(3)
        del second
        fourth = _block(1)
        del third, fourth

    assert peak_bytes(run, CPU) == 5 * MIB


def test_the_peak_of_a_network_is_its_feature_maps() -> None:
    network = nn.Sequential(nn.ReLU(), nn.Sigmoid(), nn.ReLU())
    image = torch.zeros(1, 1, 512, 512)
    with torch.inference_mode():
        assert peak_bytes(lambda: network(image), CPU) == 2 * MIB


def test_what_was_held_before_does_not_count() -> None:
    kept = _block(8)
    assert peak_bytes(kept.numel, CPU) == 0


def test_there_is_no_peak_without_memory() -> None:
    assert peak_bytes(_hungry, CPU) is None


@pytest.mark.parametrize(
    ("error", "lacks"),
    [(torch.OutOfMemoryError("CUDA out of memory"), True), (RuntimeError("shapes do not match"), False)],
)
def test_lack_of_memory_is_told_from_other_errors(error: RuntimeError, lacks: bool) -> None:
    assert is_out_of_memory(error) is lacks


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_peak_on_a_gpu_is_its_allocators() -> None:
    kept = torch.empty(8 * MIB, dtype=torch.uint8, device="cuda")

    def run() -> None:
        first = torch.empty(4 * MIB, dtype=torch.uint8, device=kept.device)
        del first
        torch.empty(2 * MIB, dtype=torch.uint8, device=kept.device)

    assert peak_bytes(run, kept.device) == 4 * MIB
