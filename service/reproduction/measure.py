"""Time and memory of forward passes: many networks in turn, so that a noisy machine is unfair to none."""

import json
import tempfile
import time
from collections.abc import Callable, Mapping
from itertools import accumulate
from operator import itemgetter
from pathlib import Path
from typing import TypeVar

import torch
from torch.profiler import ProfilerActivity, profile

from service.engine.memory import is_out_of_memory, release

Key = TypeVar("Key")


def interleaved(
    runs: Mapping[Key, Callable[[], object]],
    *,
    warm_up: int,
    repeat: int,
    clock: Callable[[], float] = time.perf_counter,
    on_run: Callable[[], object] = lambda: None,
) -> dict[Key, tuple[float, ...]]:
    """Return the seconds of `repeat` calls of each run, after `warm_up` calls of each that are not counted.

    Every round calls each run once, in order: what slows the machine for a while slows all of them. A run must return
    only when its work is done. A run that runs out of memory is not called again, and is missing from the result.
    `on_run` is called after each call, outside the time taken.
    """
    times: dict[Key, list[float]] = {key: [] for key in runs}
    for turn in range(warm_up + repeat):
        for key in list(times):
            try:
                began = clock()
                runs[key]()
                seconds = clock() - began
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                release(error)
                del times[key]
            else:
                times[key] += [seconds] if turn >= warm_up else []
            on_run()
    return {key: tuple(seconds) for key, seconds in times.items()}


def peak_bytes(run: Callable[[], object], device: torch.device) -> int | None:
    """Return the most bytes that `run` holds at a time beyond what is held already; None if memory runs out.

    All that goes through PyTorch's allocator counts: feature maps, and the workspace of convolutions. On CUDA the
    allocator keeps the figure itself; on the CPU it is the running sum of what the profiler records of one call.
    """
    try:
        return _peak_on_cuda(run, device) if device.type == "cuda" else _peak_on_cpu(run)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        release(error)
        return None


def _peak_on_cuda(run: Callable[[], object], device: torch.device) -> int:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    run()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def _peak_on_cpu(run: Callable[[], object]) -> int:
    # There is one cycle only; without `acc_events` PyTorch 2.11 warns that those before it are forgotten.
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiler:
        run()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_bytes())["traceEvents"]
    changes = sorted((event for event in events if event["name"] == "[memory]"), key=itemgetter("ts"))
    most: int = max(accumulate((event["args"]["Bytes"] for event in changes), initial=0))
    return most
