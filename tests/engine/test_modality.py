"""One modality that follows the store: what it serves, refuses, tries again and says."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest

from service.engine.modality import RETRY_AFTER_S, Modality, ModalityState, Refusal
from service.engine.serving import Version
from service.errors import AlnetError, BadCheckpoint, UnknownModality
from service.store.model_store import Wanted
from tests.waiting import until

REFUSED = BadCheckpoint("weights hold NaN")


class Batcher:
    """Opens and closes, and does nothing else."""

    def __init__(self) -> None:
        self.opened, self.closed, self.queued = False, False, 0

    async def __aenter__(self) -> None:
        self.opened = True

    async def __aexit__(self, *_error: object) -> None:
        self.closed = True


class Store:
    """Gives versions, or raises what a version has in `faults`."""

    def __init__(self) -> None:
        self.faults: dict[str, Exception] = {}
        self.batchers: dict[str, Batcher] = {}
        self.loads: list[str] = []
        self.outcomes: list[str] = []
        self.given_back = 0
        self.keeps_memory = False
        self.too_early: list[str] = []
        self.widened: list[tuple[str, int]] = []
        self.asked_then: Wanted | BaseException | None = None
        self.now = 0.0
        self.modality = Modality(
            "retina",
            is_required=False,
            load=self._load,
            on_checkpoint=lambda _name, outcome: self.outcomes.append(outcome),
            give_back=self._give_back,
            clock=lambda: self.now,
            slow_after_s=0.01,
        )

    async def ask_for(self, version: str, *, stamp: int = 0, is_pinned: bool = False) -> ModalityState:
        return await self.renew(Wanted(version, is_pinned, ((stamp, 0, 0, 0),)))

    async def renew(self, wanted: Wanted | AlnetError) -> ModalityState:
        """Ask for that, and once it is loaded for `asked_then`, if that is set; an error there is raised."""

        async def ask() -> Wanted | AlnetError:
            if isinstance(self.asked_then, BaseException):
                raise self.asked_then
            return self.asked_then or wanted

        await self.modality.renew(wanted, ask)
        return self.modality.state

    async def _give_back(self) -> None:
        if self.keeps_memory:
            raise RuntimeError("can't start new thread")
        self.given_back += 1
        begun = [(name, batcher) for name, batcher in self.batchers.items() if batcher.opened]
        self.too_early += [name for name, batcher in begun[:-1] if not batcher.closed]

    async def _load(self, _modality: Modality, version: str) -> Version:
        self.loads.append(version)
        self.state_at_load = self.modality.state
        if version in self.faults:
            raise self.faults[version]
        self.batchers[version] = Batcher()
        nothing: Any = None
        batcher: Any = self.batchers[version]
        return Version(nothing, batcher, partial(self._widen, version))

    async def _widen(self, version: str) -> None:
        self.widened.append((version, self.given_back))


def run(script: Callable[[Store], Coroutine[Any, Any, None]]) -> None:
    store = Store()
    asyncio.run(script(store))
    assert store.too_early == [], "there was nothing to give back yet of what still served"


def test_a_newer_version_takes_the_place_of_the_old_one_which_is_closed() -> None:
    async def script(store: Store) -> None:
        assert await store.ask_for("1") == ModalityState("ready", version="1")
        assert await store.ask_for("2", is_pinned=True) == ModalityState("ready", version="2", is_pinned=True)
        assert (store.batchers["1"].closed, store.batchers["2"].opened, store.batchers["2"].closed) == (
            True,
            True,
            False,
        )
        assert store.outcomes == ["served", "served"]
        assert store.given_back == 2
        await store.modality.close()
        assert store.batchers["2"].closed

    run(script)


def test_batches_grow_once_the_memory_of_the_version_before_is_given_back() -> None:
    async def script(store: Store) -> None:
        await store.ask_for("1")
        assert store.widened == []
        await store.ask_for("2")
        assert store.widened == [("2", 2)]

    run(script)


def test_what_serves_stays_if_the_store_has_gone_back_to_it_while_another_version_was_loaded(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def script(store: Store) -> None:
        await store.ask_for("1")
        store.asked_then = Wanted("1", is_pinned=True, stamp=())
        assert (await store.ask_for("2")).version == "1"
        assert (store.batchers["1"].closed, store.batchers["2"].opened) == (False, False)
        assert (store.outcomes, store.given_back) == (["served"], 2)
        store.asked_then = None
        assert (await store.ask_for("2")).version == "2"

    with caplog.at_level(logging.INFO):
        run(script)
    assert "retina: version 2 is asked for no more, 1 serves on" in caplog.text


@pytest.mark.parametrize(
    "asked_then",
    [Wanted("3", is_pinned=True, stamp=()), TimeoutError(), RuntimeError("can't start new thread"), MemoryError()],
)
def test_a_loaded_version_serves_unless_the_store_is_known_to_ask_for_the_one_before(
    asked_then: Wanted | Exception,
) -> None:
    async def script(store: Store) -> None:
        await store.ask_for("1")
        store.asked_then = asked_then
        assert (await store.ask_for("2")).version == "2"

    run(script)


def test_where_memory_cannot_be_given_back_now_all_that_follows_is_done(caplog: pytest.LogCaptureFixture) -> None:
    async def script(store: Store) -> None:
        store.keeps_memory = True
        store.faults["1"] = REFUSED
        assert (await store.ask_for("1", is_pinned=True)).is_pinned
        await store.ask_for("2")
        await store.ask_for("3")
        assert store.widened == [("3", 0)]

    run(script)
    assert caplog.text.count("retina: memory that nobody needs any more is kept for now") == 3


def test_what_serves_is_not_loaded_again_and_a_pin_on_it_is_noted() -> None:
    async def script(store: Store) -> None:
        await store.ask_for("1")
        assert not (await store.ask_for("1", stamp=5)).is_pinned
        assert (await store.ask_for("1", is_pinned=True)).is_pinned
        assert store.loads == ["1"]

    run(script)


def test_a_refused_version_is_told_once_and_not_tried_again_until_its_files_change(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def script(store: Store) -> None:
        await store.ask_for("1")
        store.faults["2"] = REFUSED
        for _ in range(3):
            state = await store.ask_for("2")
            store.now += 10 * RETRY_AFTER_S
        assert state == ModalityState("ready", version="1", refused=Refusal("2", "weights hold NaN"))
        assert store.loads == ["1", "2"]
        await store.ask_for("2", stamp=1)
        assert store.loads == ["1", "2", "2"]
        assert store.outcomes == ["served", "refused"]
        del store.faults["2"]
        assert await store.ask_for("2", stamp=2) == ModalityState("ready", version="2")

    with caplog.at_level(logging.ERROR):
        run(script)
    assert [record.message for record in caplog.records] == [
        "retina: version 2 is refused, 1 serves on: weights hold NaN"
    ]


@pytest.mark.parametrize("fault", [MemoryError(), BadCheckpoint("the disk does not answer", may_pass=True)])
def test_what_is_no_fault_of_the_files_is_tried_again_after_a_while(fault: Exception) -> None:
    async def script(store: Store) -> None:
        store.faults["1"] = fault
        await store.ask_for("1")
        await store.ask_for("1")
        assert store.loads == ["1"]
        store.now = RETRY_AFTER_S
        await store.ask_for("1")
        await store.ask_for("1")
        assert store.loads == ["1", "1"], "each time it waits as long"
        store.now = 2 * RETRY_AFTER_S
        del store.faults["1"]
        assert (await store.ask_for("1")).status == "ready"

    run(script)


def test_want_of_memory_is_told_once_however_many_bytes_are_free_each_time(caplog: pytest.LogCaptureFixture) -> None:
    async def script(store: Store) -> None:
        for free in range(3):
            store.faults["1"] = RuntimeError(f"CUDA error: out of memory, {free} bytes are free")
            state = await store.ask_for("1")
            store.now += RETRY_AFTER_S
        assert store.loads == ["1"] * 3
        assert "2 bytes are free" in state.reason
        store.faults["1"] = RuntimeError("another error")
        await store.ask_for("1")
        assert store.outcomes == ["refused"] * 2

    with caplog.at_level(logging.ERROR):
        run(script)
    assert len(caplog.records) == 2


def test_a_version_that_is_refused_was_pinned_all_the_same() -> None:
    async def script(store: Store) -> None:
        store.faults["1"] = REFUSED
        assert (await store.ask_for("1", is_pinned=True)).is_pinned
        assert not (await store.ask_for("1")).is_pinned
        assert store.loads == ["1"], "a pin makes no sound checkpoint of it"

    run(script)


def test_what_a_refused_version_held_is_given_back() -> None:
    async def script(store: Store) -> None:
        store.faults["1"] = REFUSED
        await store.ask_for("1")
        assert store.given_back == 1
        await store.ask_for("1")
        assert store.given_back == 1, "it was not tried again"

    run(script)


def test_what_serves_on_is_no_more_pinned_once_its_pin_has_gone() -> None:
    async def script(store: Store) -> None:
        store.faults["2"] = REFUSED
        await store.ask_for("1", is_pinned=True)
        refused = Refusal("2", str(REFUSED))
        assert await store.ask_for("2") == ModalityState("ready", version="1", refused=refused)
        assert await store.ask_for("2", is_pinned=True) == ModalityState("ready", version="1", refused=refused)
        await store.renew(UnknownModality("the store is away"))
        assert not store.modality.state.is_pinned

    run(script)


def test_what_serves_stays_pinned_while_the_store_cannot_tell() -> None:
    async def script(store: Store) -> None:
        await store.ask_for("1", is_pinned=True)
        await store.renew(UnknownModality("the store is away"))
        assert store.modality.state.is_pinned

    run(script)


def test_of_a_librarys_error_the_first_line_is_told() -> None:
    async def script(store: Store) -> None:
        store.faults["1"] = RuntimeError("DefaultCPUAllocator: can't allocate memory\nframe #0: /venv/lib/libc10.so")
        reason = "RuntimeError: DefaultCPUAllocator: can't allocate memory"
        assert (await store.ask_for("1")).reason == reason

    run(script)


def test_while_the_first_version_loads_it_is_known_which_that_is() -> None:
    async def script(store: Store) -> None:
        await store.ask_for("1", is_pinned=True)
        assert store.state_at_load == ModalityState("loading", version="1", is_pinned=True)

    run(script)


def test_another_version_that_is_refused_for_the_same_reason_is_told_too() -> None:
    async def script(store: Store) -> None:
        await store.ask_for("1")
        store.faults |= {"2": REFUSED, "3": REFUSED}
        await store.ask_for("2")
        await store.ask_for("3")
        assert store.outcomes == ["served", "refused", "refused"]

    run(script)


@pytest.mark.parametrize(
    "between",
    [
        Wanted("1", is_pinned=True, stamp=()),
        Wanted("3", is_pinned=True, stamp=()),
        UnknownModality("pinned to version 9"),
    ],
)
def test_a_version_that_was_refused_is_tried_again_once_the_store_has_asked_for_another(
    between: Wanted | UnknownModality,
) -> None:
    async def script(store: Store) -> None:
        await store.ask_for("1")
        store.faults["2"] = REFUSED
        await store.ask_for("2")
        await store.renew(between)
        await store.ask_for("2")
        assert store.loads.count("2") == 2

    run(script)


def test_a_refusal_is_forgotten_once_the_store_asks_for_what_serves() -> None:
    async def script(store: Store) -> None:
        await store.ask_for("1")
        store.faults["2"] = REFUSED
        await store.ask_for("2")
        assert (await store.ask_for("1")).refused is None

    run(script)


def test_a_store_that_cannot_say_what_it_wants_leaves_what_serves(caplog: pytest.LogCaptureFixture) -> None:
    async def script(store: Store) -> None:
        await store.ask_for("1")
        await store.renew(UnknownModality("pinned to version 9"))
        await store.renew(UnknownModality("pinned to version 9"))
        assert store.modality.state.refused == Refusal(None, "pinned to version 9")
        assert (store.modality.state.status, store.outcomes) == ("ready", ["served", "refused"])
        await store.ask_for("1")
        await store.renew(UnknownModality("pinned to version 9"))
        assert store.outcomes == ["served", "refused", "refused"], "between them it was well"

    run(script)
    assert caplog.messages == ["retina: what the store asks for is refused, 1 serves on: pinned to version 9"] * 2


def test_a_first_version_that_is_refused_fails_the_modality_and_one_that_serves_makes_it_count() -> None:
    async def script(store: Store) -> None:
        store.faults["1"] = REFUSED
        refused = Refusal("1", "weights hold NaN")
        assert await store.ask_for("1") == ModalityState("failed", "weights hold NaN", "1", refused=refused)
        assert store.modality.fault == "retina failed weights hold NaN"
        assert not store.modality.is_required
        await store.ask_for("2")
        assert store.modality.fault == ""
        assert store.modality.is_required

    run(script)


def test_a_store_that_takes_long_is_told_and_forgotten_once_it_answers(caplog: pytest.LogCaptureFixture) -> None:
    async def script(store: Store) -> None:
        with store.modality.patience("reading version 1"):
            await until(lambda: store.modality.state.reason != "")
            assert "loading reading version 1 takes over 0.01 s" in store.modality.fault
        assert (await store.ask_for("1")) == ModalityState("ready", version="1")
        with store.modality.patience("reading version 2"):
            await until(lambda: store.modality.state.refused is not None)
            assert (store.modality.state.status, store.modality.fault) == ("ready", "")
        assert store.modality.state == ModalityState("ready", version="1")
        assert store.outcomes == ["served"]

    with caplog.at_level(logging.INFO):
        run(script)
    assert caplog.text.count("takes over") == 2
    assert caplog.text.count("retina: the store answers again") == 2


def test_why_a_modality_has_failed_is_still_told_while_the_store_takes_long() -> None:
    async def script(store: Store) -> None:
        store.faults["1"] = REFUSED
        await store.ask_for("1")
        with store.modality.patience("reading version 2"):
            await until(lambda: store.modality.state.refused != Refusal("1", "weights hold NaN"))
            assert store.modality.fault == "retina failed weights hold NaN"

    run(script)


def test_a_store_that_answers_in_time_is_not_complained_of(caplog: pytest.LogCaptureFixture) -> None:
    async def script(store: Store) -> None:
        with store.modality.patience("reading version 1"):
            pass
        await asyncio.sleep(0.05)
        assert store.modality.state == ModalityState("loading")

    with caplog.at_level(logging.INFO):
        run(script)
    assert caplog.text == ""
