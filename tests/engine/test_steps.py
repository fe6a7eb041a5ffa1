"""Long work in steps: others get the device between them."""

import asyncio
import threading

import pytest

from service.engine.device import Device
from service.engine.steps import Steps, in_turns, to_end


def three_steps(log: list[str]) -> Steps[str]:
    for number in range(3):
        log.append(f"step {number} in {threading.current_thread().name}")
        yield
    return "done"


def failing() -> Steps[None]:
    yield
    raise ValueError("in the second step")


def test_steps_may_be_taken_without_a_pause() -> None:
    log: list[str] = []
    assert to_end(three_steps(log)) == "done"
    assert len(log) == 3


def test_whoever_waits_for_the_device_has_it_between_two_steps() -> None:
    async def main() -> list[str]:
        log: list[str] = []
        async with Device("d") as device:

            async def batches() -> None:
                for number in range(3):
                    async with device.turn:
                        await device.run(lambda n=number: log.append(f"batch {n}"))  # type: ignore[misc]

            result, _ = await asyncio.gather(in_turns(three_steps(log), device), batches())
        assert result == "done"
        return log

    log = asyncio.run(main())
    assert [line.split(" in ")[0] for line in log] == ["step 0", "batch 0", "step 1", "batch 1", "step 2", "batch 2"]
    assert all("device-d" in line for line in log if line.startswith("step"))


def test_an_error_in_a_step_ends_them_and_gives_the_turn_back() -> None:
    async def main() -> None:
        async with Device("d") as device:
            with pytest.raises(ValueError, match="in the second step"):
                await in_turns(failing(), device)
            assert not device.turn.locked()

    asyncio.run(main())
