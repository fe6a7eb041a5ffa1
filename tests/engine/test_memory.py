import errno
import gc
import weakref

import pytest

from service.engine.memory import is_out_of_memory, release


class OutOfMemoryError(RuntimeError):
    """Named like torch's."""


class DeviceOutOfMemoryError(OutOfMemoryError):
    """A kind of it."""


def _caused_by(cause: BaseException) -> Exception:
    error = RuntimeError("the batch could not be run")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OutOfMemoryError(),
        DeviceOutOfMemoryError(),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."),
        RuntimeError("std::bad_alloc"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        SystemError("<ufunc 'greater_equal'> returned NULL without setting an exception"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    ],
)
def test_running_out_of_memory_is_recognised_through_any_chain(error: Exception) -> None:
    assert is_out_of_memory(error)
    assert is_out_of_memory(_caused_by(_caused_by(error)))


def _while_handling(handled: BaseException) -> Exception:
    error = RuntimeError("operation failed due to a previous error during capture")
    error.__context__ = handled
    return error


def test_it_is_recognised_in_what_was_being_handled_when_another_error_came() -> None:
    """Left by an error, torch.cuda.graph ends the recording, which then fails."""
    assert is_out_of_memory(_while_handling(_while_handling(OutOfMemoryError())))


def test_what_was_put_aside_by_raise_from_none_does_not_count() -> None:
    error = _while_handling(OutOfMemoryError())
    error.__suppress_context__ = True
    assert not is_out_of_memory(error)


def test_another_error_is_not_taken_for_it() -> None:
    assert not is_out_of_memory(_caused_by(ValueError("out of memory")))
    assert not is_out_of_memory(OSError(errno.EMFILE, "Too many open files"))


def test_an_error_that_was_raised_from_itself_is_no_endless_chain() -> None:
    error = ValueError()
    error.__cause__ = error
    assert not is_out_of_memory(error)


class _Tensor:
    """Something large."""


def test_what_the_failed_call_and_its_causes_held_is_free() -> None:
    tensors: list[weakref.ref[_Tensor]] = []

    def allocate() -> None:
        tensor = _Tensor()
        tensors.append(weakref.ref(tensor))
        raise MemoryError

    def predict() -> None:
        tensor = _Tensor()
        tensors.append(weakref.ref(tensor))
        try:
            allocate()
        except MemoryError as error:
            raise RuntimeError from error

    gc.disable()
    try:
        with pytest.raises(RuntimeError) as caught:
            predict()
        assert all(tensor() is not None for tensor in tensors)
        release(caught.value)
        assert [tensor() for tensor in tensors] == [None, None]
    finally:
        gc.enable()
