"""Recognises that a device is lost for good: only a new process can use it again. Knows no torch."""

from service.engine.memory import causes
from service.errors import DeviceLost

LOST = (
    "device-side assert triggered",
    "an illegal memory access was encountered",
    "an illegal instruction was encountered",
    "misaligned address",
    "invalid program counter",
    "hardware stack error",
    "unspecified launch failure",
    "the launch timed out and was terminated",
    "uncorrectable ECC error encountered",
    "uncorrectable NVLink error detected",
    "Invalid access of peer GPU memory over nvlink",
    "CUDA-capable device(s) is/are busy or unavailable",
    "no CUDA-capable device is detected",
    "context is destroyed",
    "CUDA error: driver shutting down",
    "CUDA error: initialization error",
    "CUDA error: unknown error",
)
"""CUDA's messages for faults after which every further call in the same process fails (cudaGetErrorString)."""


def why_lost(error: BaseException) -> str:
    """Return the words in `error`, or in an error that it was raised from, that say the device is lost; else "".

    The words come from CUDA's or our own closed set, never from the rest of a message. A BaseException that is not an
    Exception counts, too: the thread that works for the device was told to end.
    """
    return next(filter(None, map(_what_it_says, causes(error))), "")


def _what_it_says(error: BaseException) -> str:
    if isinstance(error, DeviceLost):
        return str(error)
    if not isinstance(error, Exception):
        return f"its thread was ended by {type(error).__name__}"
    if not isinstance(error, RuntimeError):  # torch.AcceleratorError is one
        return ""
    message = str(error).lower()
    return next((words for words in LOST if words.lower() in message), "")
