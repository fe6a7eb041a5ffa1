"""Long work on a device, cut into steps: between two of them, others who wait for the device have it. No tensors."""

from collections.abc import Generator
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from service.engine.device import Device

T = TypeVar("T")

Steps = Generator[None, None, T]
"""A generator that yields between its steps, and finally returns its result."""


@dataclass(frozen=True, slots=True)
class _Done(Generic[T]):
    result: T


def to_end(steps: Steps[T]) -> T:
    """Return the result of `steps`, taken one after another without a pause; what a step raises is raised."""
    while (done := _advance(steps)) is None:
        pass
    return done.result


async def in_turns(steps: Steps[T], device: Device) -> T:
    """Return the result of `steps`; each is run in the device's thread, in a turn of its own.

    Steps are in the background: while batches want the device, too, steps get a smaller share of it.

    Raises:
        Exception: whatever a step raised; those after it are not run.
        DeviceLost: the device is lost, see `Device.run`.
    """
    share = device.turns.share(in_background=True)
    while True:
        async with share:
            await device.cleared(share)
            done = await device.run(partial(_advance, steps), in_background=True)
        if done is not None:
            return done.result


def _advance(steps: Steps[T]) -> _Done[T] | None:
    """Run the next step; return the result once there is none left."""
    try:
        next(steps)
    except StopIteration as end:
        return _Done(end.value)
    return None
