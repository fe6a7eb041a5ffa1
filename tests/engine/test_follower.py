"""Following a store that a test scripts: who is looked at, for how long, and what of it is told."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from service.engine.engine import Engine
from service.engine.follower import NO_CHECKPOINT, Follower
from service.engine.modality import SLOW_AFTER_S, Modality, ModalityState
from service.engine.own_thread import in_own_thread
from service.engine.serving import Version
from service.engine.steps import Steps
from service.errors import BadCheckpoint, UnknownModality
from service.store.model_store import ModelStore, Wanted
from tests.engine.virtual_time import run_virtually
from tests.waiting import until


class Store(ModelStore):
    """Holds the versions in `held`, of modalities that may have none; a fault, if set, is raised; a gate is waited for.

    `wanted` are those of which somebody asked what is to be served, as often as he did.
    """

    def __init__(self, **held: list[int]) -> None:
        super().__init__(Path("scripted"))
        self.held = held
        self.listing_fault: Exception | None = None
        self.faults: dict[str, Exception] = {}
        self.faults_of_wanted: dict[str, Exception] = {}
        self.listing, self.asking, self.has_begun = threading.Event(), threading.Event(), threading.Event()
        self.listing.set()
        self.asking.set()
        self.wanted_of: list[str] = []

    def names(self) -> list[str]:
        self.has_begun.set()
        self.listing.wait(60)
        if self.listing_fault is not None:
            raise self.listing_fault
        return sorted(self.held)

    def versions(self, modality: str) -> list[int]:
        if modality in self.faults:
            raise self.faults[modality]
        return self.held.get(modality, [])

    async def wanted(self, modality: str) -> Wanted:  # type: ignore[override]  # a source's
        return await in_own_thread(partial(self._wanted, modality))

    def _wanted(self, modality: str) -> Wanted:
        self.asking.wait(60)
        self.wanted_of.append(modality)
        if modality in self.faults_of_wanted:
            raise self.faults_of_wanted[modality]
        if not (versions := self.versions(modality)):
            raise UnknownModality(f"no modality {modality!r}")
        return Wanted(str(versions[-1]), is_pinned=False, stamp=())

    async def read(self, modality: Modality, version: str) -> Callable[[], Steps[Engine]]:
        raise NotImplementedError(modality, version)


class Batcher:
    """Opens and closes, and does nothing else."""

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *_error: object) -> None:
        pass


class Followed:
    """A store, what follows it, and what that has made known: modalities that load at once, or once `gates` say so."""

    def __init__(self, store: Store, *, named: list[str] | None = None, poll_s: float = 0.001) -> None:
        self.modalities: dict[str, Modality] = {}
        self.gates: dict[str, asyncio.Event] = {}
        self.added, self.forgotten = list[str](), list[str]()
        self.loads, self.served = list[str](), list[str]()
        self.is_over = False
        self.follower = Follower(
            store,
            store,
            named=named,
            poll_s=poll_s,
            add=self._add,
            forget=self._forget,
            is_over=lambda: self.is_over,
        )

    @asynccontextmanager
    async def following(self) -> AsyncIterator[asyncio.Task[None]]:
        """Follow the store in the block."""
        task = asyncio.create_task(self.follower.run())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.wait([task])

    def serves(self, name: str) -> bool:
        return name in self.modalities and self.modalities[name].serving is not None

    def _add(self, name: str) -> Modality:
        self.added.append(name)
        self.modalities[name] = Modality(
            name,
            is_required=True,
            load=self._load,
            on_checkpoint=lambda modality, _outcome: self.served.append(modality),
            give_back=_nothing,
            slow_after_s=0.01,
        )
        return self.modalities[name]

    def _forget(self, name: str) -> None:
        self.forgotten.append(name)
        del self.modalities[name]

    async def _load(self, modality: Modality, version: str) -> Version:
        self.loads.append(version)
        if modality.name in self.gates:
            await self.gates[modality.name].wait()
        nothing: Any = None
        batcher: Any = Batcher()
        return Version(nothing, batcher)


async def _nothing() -> None:
    pass


async def looked(store: Store, modality: str, times: int = 3) -> None:
    """Return once the store has been asked so often again what is to be served."""
    before = store.wanted_of.count(modality)
    await until(lambda: store.wanted_of.count(modality) >= before + times)


@pytest.mark.parametrize("named", [None, ["cell", "retina"]])
def test_all_have_been_seen_once_the_last_of_those_there_at_first_serves(named: list[str] | None) -> None:
    async def main() -> None:
        store = Store(cell=[1], retina=[1])
        followed = Followed(store, named=named)
        followed.gates["cell"] = asyncio.Event()
        async with followed.following():
            seen = asyncio.create_task(followed.follower.wait_seen())
            await until(lambda: followed.serves("retina"))
            await looked(store, "retina")
            assert not seen.done()
            followed.gates["cell"].set()
            await asyncio.wait_for(seen, 60)
            assert followed.serves("cell")

    asyncio.run(main())


@pytest.mark.parametrize("named", [None, ["retina"]])
def test_the_names_are_known_before_anything_has_loaded(named: list[str] | None) -> None:
    async def main() -> None:
        followed = Followed(Store(retina=[1]), named=named)
        followed.gates["retina"] = asyncio.Event()
        async with followed.following():
            listed = asyncio.create_task(followed.follower.wait_listed(timeout_s=3600))
            await until(listed.done)
            assert list(followed.modalities) == ["retina"]
            assert not followed.serves("retina")

    asyncio.run(main())


def test_whoever_waits_is_told_when_the_following_ends_by_a_fault() -> None:
    async def main() -> None:
        followed = Followed(Store(retina=[1]), named=["retina"])
        followed.follower._add = lambda _name: 1 / 0  # type: ignore[assignment,return-value]
        async with followed.following() as task:
            await asyncio.wait([task])
            await until(asyncio.create_task(followed.follower.wait_listed(timeout_s=3600)).done)
            await until(asyncio.create_task(followed.follower.wait_seen()).done)
            assert isinstance(task.exception(), ExceptionGroup)

    asyncio.run(main())


@pytest.mark.parametrize("named", [None, ["retina"]])
def test_nobody_looks_at_the_store_any_more_once_it_is_over(named: list[str] | None) -> None:
    async def main() -> None:
        followed = Followed(Store(retina=[1]), named=named)
        async with followed.following() as task:
            await until(lambda: followed.serves("retina"))
            followed.is_over = True
            await until(task.done)

    asyncio.run(main())


def test_a_listing_that_hangs_is_waited_for_no_longer_than_allowed_and_told_after_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        store = Store()
        store.listing.clear()
        followed = Followed(store)
        async with followed.following():
            while not store.has_begun.is_set():  # noqa: ASYNC110 -- virtual time must stand still
                await asyncio.sleep(0)
            await followed.follower.wait_listed(timeout_s=5.0)
            assert asyncio.get_running_loop().time() == 5.0
            await asyncio.sleep(SLOW_AFTER_S - 6.0)
            assert caplog.text == followed.follower.fault == ""
            await asyncio.sleep(2.0)
            assert followed.follower.fault == caplog.messages[0]
        store.listing.set()

    run_virtually(main)
    assert caplog.messages == ["listing the model store takes over 60 s: its disk or network hangs"]


def test_a_store_that_hangs_when_asked_for_the_version_is_told_of_that_modality() -> None:
    async def main() -> None:
        store = Store(retina=[1])
        store.asking.clear()
        followed = Followed(store)
        async with followed.following():
            await until(lambda: "retina" in followed.modalities and bool(followed.modalities["retina"].state.reason))
            reason = followed.modalities["retina"].state.reason
            assert reason.startswith("asking which version is to be served takes over 0.01 s")
            store.asking.set()
            await until(lambda: followed.serves("retina"))

    asyncio.run(main())


@pytest.mark.parametrize(
    "fault", [BadCheckpoint("cell: cannot be listed"), RuntimeError("can't start new thread"), MemoryError()]
)
def test_a_folder_of_which_nobody_can_tell_what_it_holds_is_looked_at(fault: Exception) -> None:
    async def main() -> None:
        store = Store(cell=[1], retina=[1])
        store.faults["cell"] = fault
        followed = Followed(store)
        async with followed.following() as task:
            await until(lambda: followed.serves("retina") and "cell" in store.wanted_of)
            del store.faults["cell"]
            await until(lambda: followed.serves("cell"))
            assert not task.done()

    asyncio.run(main())


def test_a_folder_is_asked_anew_what_it_holds_each_time_that_the_store_is_listed() -> None:
    async def main() -> None:
        store = Store(cell=[], retina=[1])
        followed = Followed(store)
        async with followed.following():
            await until(lambda: followed.serves("retina"))
            assert followed.added == ["retina"]
            store.held["cell"] = [1]
            await until(lambda: followed.serves("cell"))

    asyncio.run(main())


def test_what_keeps_the_store_from_giving_modalities_is_told_once_and_so_is_that_it_gives_them_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        store = Store(retina=[1])
        followed = Followed(store)
        follower = followed.follower
        with caplog.at_level(logging.INFO, "service.engine.follower"):
            async with followed.following():
                await until(lambda: followed.serves("retina"))
                await looked(store, "retina")
                store.listing_fault = BadCheckpoint("no permission")
                await until(lambda: follower.fault == "the model store cannot be read: no permission")
                await looked(store, "retina")
                store.listing_fault = None
                await until(lambda: follower.fault == "")
                await looked(store, "retina")
                kept, store.held = store.held, {}
                await until(lambda: follower.fault == NO_CHECKPOINT)
                store.held = kept
                await until(lambda: follower.fault == "")

    asyncio.run(main())
    again = (logging.INFO, "the model store can be read, and holds checkpoints")
    told = [record for record in caplog.records if record.name == "service.engine.follower"]
    assert [(record.levelno, record.message.split(";")[0]) for record in told] == [
        (logging.ERROR, "the model store cannot be read: no permission"),
        again,
        (logging.WARNING, NO_CHECKPOINT),
        again,
    ]


BROKEN = BadCheckpoint("no card")


@asynccontextmanager
async def following_a_broken_cell(store: Store) -> AsyncIterator[Followed]:
    """Follow the store, of which cell cannot be loaded, from when that has been seen."""
    store.faults["cell"] = BROKEN
    followed = Followed(store)
    async with followed.following():
        await looked(store, "cell")
        yield followed


def test_a_version_that_was_asked_for_no_more_before_it_had_loaded_never_serves() -> None:
    async def script() -> None:
        store = Store(retina=[1])
        followed = Followed(store)
        async with followed.following():
            await until(lambda: followed.serves("retina"))
            followed.gates["retina"] = asyncio.Event()
            store.held["retina"] = [1, 2]
            await until(lambda: "2" in followed.loads)
            store.held["retina"] = [1]
            followed.gates["retina"].set()
            await looked(store, "retina")
            assert followed.modalities["retina"].state == ModalityState("ready", version="1")
            assert followed.served == ["retina"]

    asyncio.run(script())


def test_what_is_gone_is_forgotten_once_and_not_looked_at_until_it_is_there_again() -> None:
    async def main() -> None:
        store = Store(cell=[1], retina=[1])
        async with following_a_broken_cell(store) as followed:
            del store.held["cell"], store.faults["cell"]
            await until(lambda: followed.forgotten == ["cell"])
            asked = store.wanted_of.count("cell")
            await looked(store, "retina", times=20)
            assert store.wanted_of.count("cell") == asked
            store.held["cell"] = [1]
            await until(lambda: followed.serves("cell"))
            assert (followed.added.count("cell"), followed.forgotten) == (2, ["cell"])

    asyncio.run(main())


def empty(store: Store) -> None:
    store.held.clear()


def only_its_own_folder(store: Store) -> None:
    store.held = {"cell": []}


def unreadable(store: Store) -> None:
    del store.held["cell"]
    store.listing_fault = BadCheckpoint("no permission")


def pinned_elsewhere(store: Store) -> None:
    store.faults_of_wanted["cell"] = UnknownModality("pinned to version 9, which is not published")


@pytest.mark.parametrize("happens", [empty, only_its_own_folder, unreadable, pinned_elsewhere])
def test_what_may_be_there_still_is_not_forgotten(happens: Callable[[Store], None]) -> None:
    async def main() -> None:
        store = Store(cell=[1], retina=[1])
        async with following_a_broken_cell(store) as followed:
            happens(store)
            del store.faults["cell"]
            await looked(store, "cell")
            assert (set(followed.modalities), followed.forgotten) == ({"cell", "retina"}, [])

    asyncio.run(main())


class ComingBack(Store):
    """Goes away when it is next asked what is wanted of cell, until it has been found to hold nothing of it."""

    def __init__(self, **held: list[int]) -> None:
        super().__init__(**held)
        self.goes_away, self.away, self.asked = False, dict[str, list[int]](), 0

    def _wanted(self, modality: str) -> Wanted:
        if self.goes_away and modality == "cell":
            self.goes_away, self.away, self.held = False, self.held, {}
            self.faults.clear()
        return super()._wanted(modality)

    def versions(self, modality: str) -> list[int]:
        found = super().versions(modality)
        if self.away and modality == "cell":
            self.asked += 1
            if self.asked == 2:  # the first was to tell which version is wanted
                self.held, self.away = self.away, {}
        return found


def test_a_store_that_comes_back_while_it_is_asked_takes_no_modality_away() -> None:
    async def main() -> None:
        store = ComingBack(cell=[1], retina=[1])
        async with following_a_broken_cell(store) as followed:
            store.goes_away = True
            await until(lambda: followed.serves("cell"))
            assert followed.forgotten == []

    asyncio.run(main())


@pytest.mark.parametrize("named", [None, ["cell", "skin"]])
def test_what_has_served_or_was_named_is_not_forgotten_though_it_is_gone(named: list[str] | None) -> None:
    async def main() -> None:
        store = Store(cell=[1], retina=[1])
        followed = Followed(store, named=named)
        async with followed.following():
            await until(lambda: followed.serves("cell"))
            del store.held["cell"]
            for name in named or ["cell"]:
                await looked(store, name)
            assert followed.forgotten == []

    asyncio.run(main())
