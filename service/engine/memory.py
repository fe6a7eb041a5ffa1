"""Recognises that memory ran out, and gives back what nothing needs any more. Knows no torch."""

import ctypes
import errno
import gc
import re
import traceback
from collections.abc import Iterator
from contextlib import suppress

OUT_OF_MEMORY = (
    "out of memory",
    "bad_alloc",
    "DefaultCPUAllocator: ",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "_ALLOCATION_FAILED",
)
"""How a RuntimeError says it: PyTorch on the CPU, CUDA and its libraries raise no type of their own for it."""

OF_NUMPY = re.compile("<ufunc .*> returned NULL without setting an exception")
"""What Python says if numpy's loops have no memory for their buffers: numpy does not even say that it failed."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether `error`, or an error that it was raised from, says that the host's or a device's memory ran out.

    torch.OutOfMemoryError (also known as torch.cuda.OutOfMemoryError) is recognised by its name, and so is any other
    library's error of that name. On the CPU, and outside its own allocator on CUDA, torch has only words for it.
    """
    return any(_says_out_of_memory(cause) for cause in causes(error))


def release(error: BaseException) -> None:
    """Clear the local variables of the calls that ended in `error`: the batch's pixels and tensors.

    Otherwise they live as long as the error, and the next attempt has less memory than the one that failed.
    """
    for cause in causes(error):
        traceback.clear_frames(cause.__traceback__)


def _says_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if isinstance(error, SystemError):
        return OF_NUMPY.fullmatch(str(error)) is not None
    return isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield `error`, what it was raised from or while handling, and so on; each once, since there may be cycles.

    The latter matters: an error inside a CUDA graph's recording ends the recording, which then fails with an error of
    its own.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def give_back_unused() -> None:
    """Free what nothing refers to, and give back to the operating system what the C library keeps of it.

    Without this, 200 swaps of a version left up to 30 MiB behind, in pieces; only glibc has a function for it.
    """
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
