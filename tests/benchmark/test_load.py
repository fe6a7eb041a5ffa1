"""The load generator against a server whose answers are known."""

import asyncio
from dataclasses import replace

import pytest

from service.benchmark.load import Load, Timing, closed_loop, measure_closed, measure_open, open_loop
from service.benchmark.processes import free_port
from service.errors import BadParameter
from tests.benchmark.target_server import BODIES, Target, listening

SHORT = Timing(warm_up_s=0.1, window_s=0.2, windows=3, arrivals=1, timeout_s=10.0)


def _closed(target: Target, callers: int = 2, timing: Timing = SHORT) -> Load:
    async def run() -> Load:
        async with listening(target):
            return await closed_loop(target.url, BODIES, callers=callers, timing=timing)

    return asyncio.run(run())


def _open(target: Target, rate: float, timing: Timing = SHORT) -> Load:
    async def run() -> Load:
        async with listening(target):
            return await open_loop(target.url, BODIES, rate=rate, timing=timing)

    return asyncio.run(run())


def test_every_request_is_counted_once_and_none_is_left_behind() -> None:
    target = Target(delay_s=0.02)
    load = _closed(target)
    assert load.answered_in_all == len(target.seen) - 1  # the first one checks that there is a server
    assert (load.seen.refused, load.seen.failed) == (0, 0)
    assert load.seen.answered == round(load.seen.throughput * 3 * SHORT.window_s)
    assert load.seen.received_bytes == 10 * load.seen.answered
    assert sum(load.windows) * SHORT.window_s == pytest.approx(load.seen.answered)
    assert (load.callers, load.rate) == (2, None)


def test_bodies_are_sent_in_turn_as_they_are() -> None:
    target = Target(delay_s=0.02)
    _closed(target, callers=1)
    assert target.seen[:3] == [("image/png", b"first"), ("image/jpeg", b"second"), ("image/png", b"first")]
    assert set(target.accepted) == {"image/png"}
    assert set(target.authorized) == {None}


def test_a_key_goes_with_every_upload_of_either_loop() -> None:
    async def run() -> Target:
        async with listening(Target(delay_s=0.02)) as target:
            await asyncio.to_thread(measure_closed, target.url, BODIES, callers=1, timing=SHORT, api_key="secret")
            await asyncio.to_thread(measure_open, target.url, BODIES, rate=20.0, timing=SHORT, api_key="secret")
            return target

    target = asyncio.run(run())
    assert set(target.authorized) == {"Bearer secret"}
    assert set(target.accepted) == {"image/png"}


def test_a_closed_loop_has_no_more_requests_under_way_than_callers() -> None:
    load = _closed(Target(delay_s=0.05), callers=4)
    assert load.seen.throughput <= 4 / 0.05
    assert load.seen.p50_ms is not None
    assert load.seen.p50_ms >= 50


def test_refusals_and_failures_are_told_apart() -> None:
    # Refused callers pause, so that all of these fall into the windows and are not over in no time.
    target = Target(statuses=[200] + [429, 503, 500] * 1000, delay_s=0.005)
    load = _closed(target, callers=3, timing=replace(SHORT, warm_up_s=0.0))
    assert load.seen.answered == 0
    assert load.answered_in_all == 0
    assert load.seen.refused > load.seen.failed > 0
    assert load.seen.p50_ms is None
    assert not load.is_steady


def test_a_caller_who_waits_in_vain_counts_as_failed() -> None:
    async def run() -> Load:
        target = Target(delay_s=0.0)
        async with listening(target):
            asyncio.get_running_loop().call_later(0.05, lambda: setattr(target, "delay_s", 1.0))
            timing = replace(SHORT, timeout_s=0.15)
            return await closed_loop(target.url, BODIES, callers=2, timing=timing)

    load = asyncio.run(run())
    assert load.seen.failed > 0
    assert load.seen.refused == 0


def test_a_rate_that_jumps_about_is_called_unsteady() -> None:
    async def run() -> Load:
        target = Target(delay_s=0.005)
        async with listening(target):
            later = asyncio.get_running_loop().call_later
            later(0.3, lambda: setattr(target, "delay_s", 0.05))
            later(0.5, lambda: setattr(target, "delay_s", 0.2))
            return await closed_loop(target.url, BODIES, callers=1, timing=SHORT)

    load = asyncio.run(run())
    assert not load.is_steady
    assert len(load.windows) == SHORT.windows


def test_windows_end_as_soon_as_three_are_alike() -> None:
    load = _open(Target(), rate=50.0, timing=replace(SHORT, window_s=0.4, windows=100))
    assert load.is_steady
    assert 3 <= len(load.windows) < 100


def test_an_open_loop_keeps_its_rate_however_slow_the_server_is() -> None:
    target = Target(delay_s=0.5)
    load = _open(target, rate=100.0, timing=replace(SHORT, warm_up_s=0.6, window_s=0.4))
    lasted_s = 0.6 + 3 * 0.4
    assert len(target.seen) - 1 == pytest.approx(100 * lasted_s, rel=0.3)
    assert load.answered_in_all == len(target.seen) - 1
    assert (load.callers, load.rate) == (None, 100.0)


def test_latency_counts_from_when_an_upload_was_due_not_from_when_it_was_worked_on() -> None:
    # One at a time, 20 ms each, is 50 a second; with 150 a second due, the line grows all the time.
    load = _open(Target(delay_s=0.02, places=1), rate=150.0)
    assert load.seen.p50_ms is not None
    assert load.seen.p50_ms > 200


def test_windows_of_an_open_loop_hold_the_arrivals_that_were_asked_for() -> None:
    load = _open(Target(), rate=50.0, timing=replace(SHORT, window_s=0.01, arrivals=20))
    assert load.seen.answered == pytest.approx(3 * 20, rel=0.5)


def test_what_is_no_server_is_an_error_that_says_what_came() -> None:
    for status in (404, 429):
        with pytest.raises(BadParameter, match=f"does not answer an upload with 200: {status} sorry"):
            _closed(Target(statuses=[status]))
    url = f"http://127.0.0.1:{free_port()}/segment/cell"
    with pytest.raises(BadParameter, match="Cannot connect"):
        measure_closed(url, BODIES, callers=1, timing=SHORT)


def test_the_load_comes_from_a_process_of_its_own() -> None:
    async def run() -> tuple[Load, Load]:
        async with listening(Target(delay_s=0.02)) as target:
            closed = await asyncio.to_thread(measure_closed, target.url, BODIES, callers=2, timing=SHORT)
            opened = await asyncio.to_thread(measure_open, target.url, BODIES, rate=50.0, timing=SHORT)
            return closed, opened

    closed, opened = asyncio.run(run())
    assert closed.answered_in_all > 0
    assert opened.answered_in_all > 0
    assert closed.generator_cpu_s > 0
