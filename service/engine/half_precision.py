"""Whether this CPU gains from bfloat16: not every CPU that multiplies it in hardware is faster in it than in float32.

Of two CPUs with avx512_bf16, an AMD EPYC takes half as long in it as in float32, and an Intel Xeon whose hypervisor
hides AMX takes twice as long (docs/benchmarks.md).
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from time import thread_time

import torch
from torch.nn import functional as F

log = logging.getLogger(__name__)

ROUNDS = 8
"""How often each is timed, in turns; the quickest counts: other work on the machine makes a round slower, never
quicker."""

CHANNELS, SIDE_PX = 64, 64
"""Size of the 3×3 convolution that is timed: it is like AL-Net's own, and takes a millisecond or two."""


@cache
def cpu_precisions() -> tuple[str, ...]:
    """Return what this CPU is to compute in, fastest first: float32, and bfloat16 if it multiplies that in hardware.

    Which is faster is measured at the first call, in less than 0.1 s, and then kept. Only the time for which one thread
    runs counts: on a busy machine it may lose its core in every round, and several threads would also wait for each
    other.
    """
    if not _cpu_has_bfloat16():
        return ("float32",)
    half, whole = (partial(_convolve, *_operands(dtype)) for dtype in (torch.bfloat16, torch.float32))
    with _one_thread():
        has_quicker_half = is_quicker(half, whole)
    if has_quicker_half:
        return ("bfloat16", "float32")
    log.info("this CPU has bfloat16, but is not faster in it than in float32, which it therefore prefers")
    return ("float32", "bfloat16")


def is_quicker(
    first: Callable[[], object], second: Callable[[], object], clock: Callable[[], float] = thread_time
) -> bool:
    """Return whether the quickest of `ROUNDS` calls of `first` takes less time than the quickest of `second`.

    By default only the time for which this thread runs counts.
    """
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for call, taken in zip((first, second), seconds, strict=True):
            began = clock()
            call()
            taken.append(clock() - began)
    return min(seconds[0]) < min(seconds[1])


@contextmanager
def _one_thread() -> Iterator[None]:
    """Have PyTorch compute in the calling thread alone within the block."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _cpu_has_bfloat16() -> bool:
    if not hasattr(torch.cpu, "get_capabilities"):  # public since about release 2.11; without it float32 is safe
        return False
    capabilities: Mapping[str, object] = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def _operands(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    sizes = (1, CHANNELS, SIDE_PX, SIDE_PX), (CHANNELS, CHANNELS, 3, 3)
    pixels, weights = (torch.ones(size, dtype=dtype).to(memory_format=torch.channels_last) for size in sizes)
    return pixels, weights


def _convolve(pixels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return F.conv2d(pixels, weights, padding=1)
