"""Places that are handed on: to whom, and what becomes of one whose turn came while he left."""

import asyncio

import pytest

from service.engine.places import Places


async def waiting(places: Places, *, ends: bool = False) -> asyncio.Task[None]:
    task = asyncio.create_task(places.take(ends=ends))
    await asyncio.sleep(0)
    return task


def test_a_place_that_is_free_is_taken_at_once() -> None:
    async def main() -> None:
        places = Places(2)
        await places.take(ends=False)
        await places.take(ends=True)
        third = await waiting(places)
        assert not third.done()
        places.give_back()
        await third

    asyncio.run(main())


def test_who_ends_something_goes_first_and_of_equals_who_came_first() -> None:
    async def main() -> None:
        places, came = Places(1), list[str]()
        await places.take(ends=False)

        async def come(name: str) -> None:
            await places.take(ends=name.startswith("ends"))
            came.append(name)
            places.give_back()

        tasks = [asyncio.create_task(come(name)) for name in ("begins 1", "begins 2", "ends 1", "ends 2")]
        await asyncio.sleep(0)
        places.give_back()
        await asyncio.gather(*tasks)
        assert came == ["ends 1", "ends 2", "begins 1", "begins 2"]

    asyncio.run(main())


@pytest.mark.parametrize("is_given", [False, True])
def test_who_leaves_takes_no_place_with_him(is_given: bool) -> None:
    async def main() -> None:
        places = Places(1)
        await places.take(ends=False)
        leaves, stays = await waiting(places, ends=True), await waiting(places)
        if is_given:
            places.give_back()
            leaves.cancel()
        else:
            leaves.cancel()
            places.give_back()
        with pytest.raises(asyncio.CancelledError):
            await leaves
        await stays
        places.give_back()
        await places.take(ends=False)
        assert not (await waiting(places)).done(), "it was no place that he left"

    asyncio.run(main())


def test_places_that_nobody_waits_for_are_free_again() -> None:
    async def main() -> None:
        places = Places(1)
        for _ in range(3):
            await places.take(ends=False)
            places.give_back()
        await places.take(ends=False)
        assert not (await waiting(places)).done()

    asyncio.run(main())
