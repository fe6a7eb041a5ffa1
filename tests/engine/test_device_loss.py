import pytest

from service.engine.device_loss import LOST, why_lost
from service.errors import DeviceLost, EngineFailed


def _wrapped(cause: BaseException) -> EngineFailed:
    error = EngineFailed("cuda:0 could not run a batch of 8")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize("words", LOST)
def test_what_cuda_says_of_a_fault_is_recognised_and_nothing_else_of_its_message_is_repeated(words: str) -> None:
    error = RuntimeError(f"CUDA error: {words.removeprefix('CUDA error: ')}\nkernel errors: pixels of Jane Doe")
    assert why_lost(error) == words
    assert why_lost(_wrapped(error)) == words


def test_torchs_own_kind_of_error_is_recognised() -> None:
    torch = pytest.importorskip("torch")
    assert why_lost(torch.AcceleratorError("CUDA error: unspecified launch failure")) == "unspecified launch failure"


def test_what_an_engine_says_of_its_device_is_passed_on() -> None:
    assert why_lost(_wrapped(DeviceLost("cuda:0 does not answer any more"))) == "cuda:0 does not answer any more"


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_a_thread_that_is_told_to_end_is_lost(kind: type[BaseException]) -> None:
    assert why_lost(kind()) == f"its thread was ended by {kind.__name__}"


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"),
        RuntimeError("CUDA error: invalid configuration argument"),
        RuntimeError("CUDA error: out of memory"),
        ValueError("device-side assert triggered"),
        EngineFailed("the network answered with NaN"),
        MemoryError(),
    ],
)
def test_a_fault_of_one_batch_is_not_taken_for_the_devices(error: Exception) -> None:
    assert why_lost(error) == ""
    assert why_lost(_wrapped(error)) == ""
