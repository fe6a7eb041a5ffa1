"""What a store is asked for, and what of it is told while it does not answer."""

import asyncio
import logging
import threading
from pathlib import Path

import pytest

from service.engine.engine import Engine
from service.engine.modality import Modality
from service.engine.serving import Version
from service.engine.source import StoreSource
from service.engine.steps import Steps, to_end
from service.errors import BadCheckpoint
from service.store.card import Card
from service.store.checkpoint import Checkpoint, Contents
from service.store.model_store import ModelStore, Wanted
from service.store.pin import write_pin
from service.store.publish import publish
from tests.cards import WEIGHTS
from tests.doubles import FakeEngine, fake_engine_card
from tests.waiting import until


class Watched(ModelStore):
    """Counts the checkpoints that are opened, each as soon as the gate is open; those of `open_ones` are at once."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.gate, self.opened = threading.Event(), 0
        self.gate.set()
        self.asked = threading.Event()
        self.open_ones: set[str | None] = set()

    def wanted(self, modality: str) -> Wanted:
        self.asked.set()
        return super().wanted(modality)

    def open(self, modality: str, version: str | None = None) -> Checkpoint:
        self.opened += 1
        assert version in self.open_ones or self.gate.wait(60)
        return super().open(modality, version)


def green(card: Card, _contents: Contents) -> Steps[Engine]:
    """Make a FakeEngine of a published card."""
    yield
    return FakeEngine(card)


def modality() -> Modality:
    async def load(_modality: Modality, _version: str) -> Version:
        raise NotImplementedError

    async def give_back() -> None:
        raise NotImplementedError

    return Modality(
        "retina",
        is_required=True,
        load=load,
        on_checkpoint=lambda _modality, _outcome: None,
        give_back=give_back,
        slow_after_s=0.01,
    )


@pytest.fixture
def store(tmp_path: Path) -> Watched:
    publish(tmp_path, fake_engine_card(), WEIGHTS)
    return Watched(tmp_path)


@pytest.fixture
def two(store: Watched) -> Watched:
    """The store with two versions."""
    publish(store.folder, fake_engine_card(version="2"), WEIGHTS)
    return store


def source_of(store: Watched) -> StoreSource:
    return StoreSource(store, green)


def wanted_of(source: StoreSource) -> Wanted:
    return asyncio.run(source.wanted("retina"))


def test_a_store_that_hangs_while_a_checkpoint_is_read_is_told_until_it_answers(
    store: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        retina = modality()
        store.gate.clear()
        reading = asyncio.create_task(source_of(store).read(retina, "1"))
        await until(lambda: retina.state.reason != "")
        hanging = retina.state.reason
        store.gate.set()
        build = await reading
        assert hanging.startswith("reading version 1 takes over 0.01 s: the store's disk or network is slow, or hangs")
        assert retina.state.reason == ""
        assert to_end(build()).card == fake_engine_card()

    asyncio.run(main())
    assert "retina: reading version 1 takes over 0.01 s" in caplog.text


def test_a_card_is_read_once_however_often_it_is_asked_what_is_wanted(store: Watched) -> None:
    source = source_of(store)
    wanted = wanted_of(source)
    assert (wanted.version, wanted.card, wanted.is_pinned) == ("1", fake_engine_card(), False)
    write_pin(store.folder, "retina", "1")
    assert wanted_of(source).card == fake_engine_card()
    assert wanted_of(source).is_pinned
    assert store.opened == 1


def test_a_card_is_read_again_once_a_file_has_changed(store: Watched) -> None:
    source = source_of(store)
    wanted_of(source)
    (store.folder / "retina/1/weights.safetensors").write_bytes(b"shorter")
    wanted_of(source)
    assert store.opened == 2


def test_a_broken_card_is_left_to_whoever_loads_it_unless_another_by_its_number_was_seen(store: Watched) -> None:
    source = source_of(store)
    card = store.folder / "retina/1/card.json"
    content = card.read_text()
    card.write_text("{}")
    assert wanted_of(source).card is None
    card.write_text(content)
    assert wanted_of(source).card == fake_engine_card()
    card.write_text("{}")
    with pytest.raises(BadCheckpoint):
        wanted_of(source)


def test_a_version_that_hangs_is_given_up_once_another_one_is_asked_for(
    two: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        source = StoreSource(two, green, slow_after_s=0.02)
        two.gate.clear()
        reading = asyncio.create_task(source.read(modality(), "2"))
        write_pin(two.folder, "retina", "1")
        with pytest.raises(BadCheckpoint, match="version 2 is still being read, and 1 is asked for by now") as caught:
            await reading
        assert caught.value.may_pass
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with caplog.at_level(logging.INFO):
        asyncio.run(main())
    two.gate.set()
    assert "hangs" in caplog.text
    assert "answers again" not in caplog.text


@pytest.mark.parametrize("is_seen", [False, True])
def test_a_card_that_hangs_is_given_up_once_another_version_is_asked_for(two: Watched, is_seen: bool) -> None:
    async def main() -> Wanted:
        source = StoreSource(two, green, slow_after_s=0.02)
        if is_seen:
            assert (await source.wanted("retina")).version == "2"
            (two.folder / "retina/2/card.json").touch()
        two.gate.clear()
        two.open_ones = {"1"}
        asking = asyncio.create_task(source.wanted("retina"))
        write_pin(two.folder, "retina", "1")
        wanted = await asyncio.wait_for(asking, 30)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return wanted

    wanted = asyncio.run(main())
    two.gate.set()
    assert (wanted.version, wanted.is_pinned, wanted.card) == ("1", True, fake_engine_card())


def test_a_version_that_is_slow_and_still_asked_for_is_waited_for(
    two: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> str:
        two.gate.clear()
        reading = asyncio.create_task(StoreSource(two, green, slow_after_s=0.02).read(modality(), "2"))
        await asyncio.to_thread(two.asked.wait, 60)
        await asyncio.sleep(0.01)
        assert not reading.done()
        two.gate.set()
        return to_end((await reading)()).card.version

    with caplog.at_level(logging.INFO):
        assert asyncio.run(main()) == "2"
    assert "the store answers again" in caplog.text


def test_a_version_that_is_read_in_time_is_built_whatever_is_asked_for_meanwhile(two: Watched) -> None:
    write_pin(two.folder, "retina", "1")

    async def main() -> str:
        return to_end((await StoreSource(two, green).read(modality(), "2"))()).card.version

    assert asyncio.run(main()) == "2"
