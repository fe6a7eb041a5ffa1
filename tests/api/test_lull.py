"""Uploads that are let in wait until no more come, but not for long."""

import asyncio
from contextlib import suppress

import pytest

from service.api.lull import LONGEST_S, Lull

pytestmark = pytest.mark.anyio


async def rounds(count: int) -> None:
    """Let the event loop go round so many times."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_an_upload_that_comes_alone_goes_on_at_once() -> None:
    lull = Lull()
    lull.came()
    upload = asyncio.create_task(lull.wait("cell"))
    await rounds(4)
    assert upload.done()
    assert lull.waiting("cell") == 0


async def test_while_others_come_all_wait_and_then_go_on_together() -> None:
    lull = Lull(clock=lambda: 0.0)  # or a busy machine takes LONGEST_S over twenty rounds
    uploads = []
    for number in range(20):
        lull.came()
        uploads.append(asyncio.create_task(lull.wait("cell")))
        await rounds(1)
        assert not any(upload.done() for upload in uploads)
        assert lull.waiting("cell") == number + 1
    await rounds(4)
    assert all(upload.done() for upload in uploads)


async def test_one_round_in_which_none_comes_is_no_end() -> None:
    lull, uploads = Lull(), list[asyncio.Task[None]]()
    for _ in range(10):
        lull.came()
        uploads.append(asyncio.create_task(lull.wait("cell")))
        await rounds(2)
        assert not any(upload.done() for upload in uploads)
    await asyncio.gather(*uploads)


async def test_each_burst_waits_for_its_own_end() -> None:
    lull = Lull()
    for _ in range(2):
        lull.came()
        upload = asyncio.create_task(lull.wait("cell"))
        await rounds(2)
        assert not upload.done()
        await upload


async def test_each_modality_is_counted_by_itself() -> None:
    lull = Lull()
    uploads = [asyncio.create_task(lull.wait(modality)) for modality in ("cell", "cell", "skin")]
    await rounds(1)
    assert [lull.waiting(modality) for modality in ("cell", "skin", "retina")] == [2, 1, 0]
    await asyncio.gather(*uploads)


async def test_a_burst_without_an_end_holds_nobody_for_longer_than_the_limit() -> None:
    now = 100.0
    lull = Lull(clock=lambda: now)
    uploads = [asyncio.create_task(lull.wait("cell"))]
    for _ in range(100):
        lull.came()
        await rounds(1)
    now += 0.9 * LONGEST_S
    uploads.append(asyncio.create_task(lull.wait("cell")))
    for _ in range(4):
        lull.came()
        await rounds(1)
    assert not any(upload.done() for upload in uploads)
    now += 0.1 * LONGEST_S
    for _ in range(4):
        lull.came()
        await rounds(1)
    assert all(upload.done() for upload in uploads)  # the last one, too: it is the first that is held longest


async def test_one_that_leaves_while_it_waits_is_forgotten_and_the_others_go_on() -> None:
    lull = Lull()
    leaving, staying = (asyncio.create_task(lull.wait("cell")) for _ in range(2))
    await rounds(1)
    leaving.cancel()
    with suppress(asyncio.CancelledError):
        await leaving
    await asyncio.wait_for(staying, timeout=10)
    assert lull.waiting("cell") == 0
