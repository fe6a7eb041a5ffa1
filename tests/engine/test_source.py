"""Versions of a store that is slow, or hangs."""

import asyncio
import logging
import threading
from pathlib import Path
from typing import Any

import pytest

from service.engine.engine import Engine
from service.engine.modality import Modality
from service.engine.source import StoreSource
from service.engine.steps import Steps, to_end
from service.errors import BadCheckpoint
from service.store.card import Card
from service.store.checkpoint import Checkpoint, Contents
from service.store.model_store import ModelStore
from service.store.pin import write_pin
from service.store.publish import publish
from tests.cards import WEIGHTS
from tests.doubles import FakeEngine, fake_engine_card


class Hanging(ModelStore):
    """A store in which version 2 can only be opened once it is `mended`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.mended = threading.Event()

    def open(self, modality: str, version: str | None = None) -> Checkpoint:
        if version == "2":
            self.mended.wait(60)
        return super().open(modality, version)


def _fake(card: Card, _contents: Contents) -> Steps[Engine]:
    yield
    return FakeEngine(card)


def _modality() -> Modality:
    unused: Any = None
    return Modality("retina", is_required=True, load=unused, on_checkpoint=unused, give_back=unused, slow_after_s=0.01)


@pytest.fixture
def store(tmp_path: Path) -> Hanging:
    for version in ("1", "2"):
        publish(tmp_path, fake_engine_card(version=version), WEIGHTS)
    return Hanging(tmp_path)


def test_a_version_that_hangs_is_given_up_once_another_one_is_asked_for(
    store: Hanging, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        source = StoreSource(store, _fake, slow_after_s=0.02)
        reading = asyncio.create_task(source.read(_modality(), "2"))
        write_pin(store.folder, "retina", "1")
        with pytest.raises(BadCheckpoint, match="version 2 is still being read, and 1 is asked for by now") as caught:
            await reading
        assert caught.value.may_pass
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with caplog.at_level(logging.INFO):
        asyncio.run(main())
    store.mended.set()
    assert "hangs" in caplog.text
    assert "answers again" not in caplog.text


def test_a_version_that_is_slow_and_still_asked_for_is_waited_for(
    store: Hanging, caplog: pytest.LogCaptureFixture
) -> None:
    asked = threading.Event()

    def wanted(modality: str) -> Any:
        asked.set()
        return ModelStore.wanted(store, modality)

    store.wanted = wanted  # type: ignore[method-assign]

    async def main() -> str:
        reading = asyncio.create_task(StoreSource(store, _fake, slow_after_s=0.02).read(_modality(), "2"))
        await asyncio.to_thread(asked.wait, 60)
        await asyncio.sleep(0.01)
        assert not reading.done()
        store.mended.set()
        return to_end((await reading)()).card.version

    with caplog.at_level(logging.INFO):
        assert asyncio.run(main()) == "2"
    assert "the store answers again" in caplog.text


def test_a_version_that_is_read_in_time_is_served_whatever_is_asked_for_meanwhile(store: Hanging) -> None:
    store.mended.set()
    write_pin(store.folder, "retina", "1")

    async def main() -> str:
        return to_end((await StoreSource(store, _fake).read(_modality(), "2"))()).card.version

    assert asyncio.run(main()) == "2"
