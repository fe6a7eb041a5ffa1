"""Long work in steps: others get the device between them."""

import asyncio
import threading

import pytest

from service.engine.device import Device
from service.engine.fair_turn import Share
from service.engine.steps import Steps, in_turns, to_end
from tests.engine.virtual_time import VirtualExecutor, now, run_virtually


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


def test_steps_are_taken_in_the_devices_thread() -> None:
    async def main() -> None:
        log: list[str] = []
        async with Device("d") as device:
            assert await in_turns(three_steps(log), device) == "done"
        assert all("device-d" in line for line in log)

    asyncio.run(main())


def test_between_two_steps_batches_have_the_device_for_four_times_as_long() -> None:
    async def main() -> None:
        log: list[str] = []
        async with Device("d", executor=VirtualExecutor(1.0), clock=now) as device:

            async def batches() -> None:
                share = device.turns.share()
                for number in range(12):
                    async with share:
                        await device.run(lambda n=number: log.append(f"batch {n}"))  # type: ignore[misc]

            result, _ = await asyncio.gather(in_turns(three_steps(log), device), batches())
        assert result == "done"
        kinds = [line.split()[0] for line in log]
        assert kinds == ["step", *["batch"] * 4, "step", *["batch"] * 4, "step", *["batch"] * 4]

    run_virtually(main)


def test_a_step_is_in_the_background_and_never_taken_for_a_batch() -> None:
    seconds, seen = [100.0], list[tuple[float, float]]()

    async def main() -> None:
        async with Device("d", clock=lambda: seconds[0]) as device:

            def step() -> Steps[None]:
                seconds[0] += 7
                seen.append((device.busy_s, device.background_s))
                yield

            await in_turns(step(), device)
        assert seen == [(0.0, 7.0)]

    asyncio.run(main())


def test_an_error_in_a_step_ends_them_and_gives_the_turn_back() -> None:
    async def main() -> None:
        async with Device("d") as device:
            with pytest.raises(ValueError, match="in the second step"):
                await in_turns(failing(), device)
            assert not device.turns.is_held

    asyncio.run(main())


def test_loading_is_not_charged_for_what_others_began_in_slots() -> None:
    charged: list[float] = []

    class Watched(Share):
        def settle(self, took_s: float) -> float:
            charged.append(super().settle(took_s))
            return charged[-1]

    def steps() -> Steps[str]:
        yield
        return "done"

    async def main() -> None:
        device = Device("virtual", executor=VirtualExecutor(0.1), clock=now)
        device.turns.share = lambda *, in_background=False: Watched(device.turns, in_background=in_background)  # type: ignore[method-assign]
        device.slots.take()
        loading = asyncio.create_task(in_turns(steps(), device))
        await asyncio.sleep(0.5)
        device.slots.give_back()
        assert await loading == "done"
        assert charged == pytest.approx([0.1, 0.1])

    run_virtually(main)
