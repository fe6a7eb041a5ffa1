"""All modalities behind one server: loading, failing, serving and leaving."""

import asyncio
import gc
import logging
import shutil
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.engine.batcher import BatchReport
from service.engine.engine import Engine
from service.engine.fleet import LONGEST_STEP_S, Fleet
from service.engine.image_work import Upload
from service.engine.modality import ModalityState, Refusal
from service.engine.segmenter import Segmentation
from service.engine.serving import Serving
from service.engine.steps import Steps
from service.errors import BadCheckpoint, EngineFailed, NotReady, ShuttingDown, UnknownModality
from service.imaging.statistics import FEATURES
from service.settings import Settings
from service.store.card import Card, TrainingImages
from service.store.checkpoint import Checkpoint, Contents
from service.store.model_store import ModelStore, Wanted
from service.store.pin import remove_pin, write_pin
from service.store.publish import publish
from tests.cards import WEIGHTS
from tests.checkpoints import publish_tiny
from tests.doubles import FakeEngine, draw, fake_engine_card, mask_of, png
from tests.engine.no_threads import start_no_thread
from tests.waiting import until

Pixels = NDArray[np.uint8]
BLACK = np.zeros((64, 64, 3), np.uint8)


class Circular(FakeEngine):
    """Refers to itself, as what a library makes may do."""

    def __init__(self, card: Card) -> None:
        super().__init__(card)
        self.itself = self


class Scripted(FakeEngine):
    """A FakeEngine that, for tiles that are not black, answers `answers`; with over `fits` tiles memory runs out."""

    def __init__(self, card: Card, *, answers: Any = None, fits: int = 1000) -> None:
        super().__init__(card)
        self._answers, self._fits = answers, fits

    def predict(self, tiles: Sequence[Pixels]) -> list[Pixels]:
        maps = super().predict(tiles)
        if len(tiles) > self._fits:
            raise MemoryError
        return [self._answers] * len(tiles) if self._answers is not None and tiles[0].any() else maps


def settings(store: Path = Path("no-such-store"), **changes: Any) -> Settings:
    return Settings.read(
        {}, **({"store": store, "device": "cpu", "precision": "float32", "max_batch_size": 2} | changes)
    )


def publish_usable(store: Path, modality: str, **changes: Any) -> Checkpoint:
    ones = (1.0,) * len(FEATURES)
    usual = TrainingImages(features=FEATURES, mean=ones, scale=ones, limit=1e6)
    return publish_tiny(store, modality, **({"training_images": usual} | changes))


async def segment(segmenter: Serving, image: Pixels) -> Segmentation:
    return await segmenter.segment(Upload(image=png(image)), arrived=asyncio.get_running_loop().time())


def tasks_besides_this() -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks() - {asyncio.current_task()}


def own_threads() -> list[str]:
    prefixes = ("pixels", "device-")
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(prefixes) and thread.is_alive()]


def test_engines_that_are_handed_in_are_served() -> None:
    async def main() -> None:
        engines = {"retina": FakeEngine(fake_engine_card("retina")), "cell": FakeEngine(fake_engine_card("cell"))}
        async with Fleet(settings(), engines=engines) as fleet:
            await fleet.wait_loaded()
            assert fleet.is_ready
            assert not fleet.why_not_ready
            assert {name: card.modality for name, card in fleet.cards.items()} == {"retina": "retina", "cell": "cell"}
            got = await segment(fleet.segmenter("cell"), draw())
            assert got.area_px == mask_of(draw()).sum()

    asyncio.run(main())


def test_uploads_need_no_threads_but_those_that_were_there_before_them(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        engines = {"retina": FakeEngine(fake_engine_card())}
        async with Fleet(settings(decode_threads=3), engines=engines) as fleet:
            await fleet.wait_loaded()
            before = own_threads()
            start_no_thread(monkeypatch)
            segmenter = fleet.segmenter("retina")
            assert len(await asyncio.gather(*[segment(segmenter, draw(seed)) for seed in range(12)])) == 12
            assert own_threads() == before

    asyncio.run(main())


@pytest.mark.parametrize("largest", [1, 2, 3, 8])
def test_the_warm_up_runs_the_powers_of_two_and_the_largest_batch(largest: int) -> None:
    async def main() -> None:
        engine = FakeEngine(fake_engine_card())
        async with Fleet(settings(max_batch_size=largest), engines={"retina": engine}) as fleet:
            await fleet.wait_loaded()
            assert engine.batches == sorted({1, 2, 4, 8, largest} & set(range(largest + 1)))

    asyncio.run(main())


def test_a_device_too_small_for_the_largest_batch_serves_smaller_ones() -> None:
    async def main() -> None:
        engine = Scripted(fake_engine_card(), fits=4)
        async with Fleet(settings(max_batch_size=8), engines={"retina": engine}) as fleet:
            await fleet.wait_loaded()
            segmenter = fleet.segmenter("retina")
            got = await asyncio.gather(*[segment(segmenter, draw(seed)) for seed in range(12)])
            assert max(one.batch_size for one in got) <= 4
            assert engine.batches.count(8) == 1

    asyncio.run(main())


def test_a_device_too_small_for_one_image_fails_its_modality() -> None:
    async def main() -> None:
        async with Fleet(settings(), engines={"retina": Scripted(fake_engine_card(), fits=0)}) as fleet:
            await fleet.wait_loaded()
            assert "MemoryError" in fleet.states["retina"].reason

    asyncio.run(main())


def test_an_engine_of_another_shape_fails_at_start_up_and_the_others_serve() -> None:
    async def main() -> None:
        lame = FakeEngine(fake_engine_card("cell"), answers_of=(32, 64))
        async with Fleet(settings(), engines={"cell": lame, "skin": FakeEngine(fake_engine_card("skin"))}) as fleet:
            await fleet.wait_loaded()
            assert [state.status for state in fleet.states.values()] == ["failed", "ready"]
            assert "other shapes" in fleet.why_not_ready
            assert not fleet.is_ready
            with pytest.raises(NotReady, match="other shapes"):
                fleet.segmenter("cell")
            assert (await segment(fleet.segmenter("skin"), draw())).width == 64

    asyncio.run(main())


@pytest.mark.parametrize("answers", [np.zeros((32, 32), np.uint8), np.full((64, 64), np.nan), np.zeros((64, 64, 1))])
def test_an_engine_that_answers_one_batch_with_nonsense_fails_that_upload_only(answers: Any) -> None:
    async def main() -> None:
        async with Fleet(settings(), engines={"retina": Scripted(fake_engine_card(), answers=answers)}) as fleet:
            await fleet.wait_loaded()
            segmenter = fleet.segmenter("retina")
            with pytest.raises(EngineFailed, match="other shapes"):
                await segment(segmenter, draw())
            assert (await segment(segmenter, BLACK)).area_px == 0

    asyncio.run(main())


def test_while_a_modality_loads_callers_are_told_to_come_back_soon() -> None:
    async def main() -> None:
        gate = threading.Event()
        async with Fleet(settings(), engines={"retina": FakeEngine(fake_engine_card(), gate=gate)}) as fleet:
            await asyncio.sleep(0)
            assert fleet.states["retina"].status == "loading"
            assert "retina loading" in fleet.why_not_ready
            assert fleet.queued("retina") == 0
            with pytest.raises(NotReady) as caught:
                fleet.segmenter("retina")
            assert caught.value.retry_after_s <= 10
            gate.set()
            await fleet.wait_loaded()
            assert fleet.segmenter("retina").card.modality == "retina"

    asyncio.run(main())


def test_an_unknown_modality_is_answered_with_those_that_exist() -> None:
    async def main() -> None:
        async with Fleet(settings(), engines={"retina": FakeEngine(fake_engine_card())}) as fleet:
            with pytest.raises(UnknownModality, match="served are: retina"):
                fleet.segmenter("liver")

    asyncio.run(main())


@pytest.mark.parametrize("make", [True, False])
def test_an_empty_or_missing_store_is_never_ready(tmp_path: Path, make: bool) -> None:
    store = tmp_path / "store"
    if make:
        store.mkdir()

    async def main() -> None:
        async with Fleet(settings(store)) as fleet:
            await fleet.wait_loaded()
            assert fleet.why_not_ready == "the model store holds no checkpoint"
            with pytest.raises(UnknownModality, match="the model store is empty"):
                fleet.segmenter("retina")

    asyncio.run(main())


def test_a_store_that_cannot_be_listed_at_the_start_is_told_once_and_serves_when_it_is_mended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = tmp_path / "store"
    store.write_text("a file")

    async def main() -> None:
        async with Fleet(settings(store, store_poll_s=0.01), make_engine=green) as fleet:
            await fleet.wait_loaded()
            await asyncio.sleep(0.05)
            assert "the model store cannot be read" in fleet.why_not_ready
            with pytest.raises(NotReady, match="cannot be listed"):
                fleet.segmenter("retina")
            store.unlink()
            publish_fake(store, "1")
            await until(lambda: fleet.is_ready)

    asyncio.run(main())
    assert caplog.text.count("the model store cannot be read") == 1


def test_a_modality_whose_folder_cannot_be_listed_fails_beside_those_that_serve(tmp_path: Path) -> None:
    publish_fake(tmp_path, "1")
    (tmp_path / "cell").symlink_to("x" * 300)  # the system takes no such name, whoever asks

    async def main() -> None:
        async with Fleet(settings(tmp_path), make_engine=green) as fleet:
            await fleet.wait_loaded()
            assert {name: state.status for name, state in fleet.states.items()} == {"cell": "failed", "retina": "ready"}
            assert "cannot be listed" in fleet.why_not_ready

    asyncio.run(main())


def publish_broken(store: Path, modality: str = "cell") -> None:
    publish(store, fake_engine_card(modality), WEIGHTS)
    (store / modality / "1" / "card.json").write_text("{}")


def test_a_modality_of_which_nothing_is_left_before_it_has_served_is_forgotten_until_there_is_something(
    tmp_path: Path,
) -> None:
    publish_fake(tmp_path, "1")
    publish_broken(tmp_path)

    async def main() -> None:
        async with Fleet(settings(tmp_path, store_poll_s=0.01), make_engine=green) as fleet:
            await fleet.wait_loaded()
            assert "or remove it" in fleet.why_not_ready
            shutil.rmtree(tmp_path / "cell")
            await until(lambda: fleet.is_ready)
            assert set(fleet.states) == {"retina"}
            with pytest.raises(UnknownModality):
                fleet.segmenter("cell")
            publish(tmp_path, fake_engine_card("cell"), WEIGHTS)
            await until(lambda: "cell" in fleet.cards)

    asyncio.run(main())


def test_a_store_that_is_away_for_a_moment_takes_no_modality_away(tmp_path: Path) -> None:
    store = tmp_path / "store"
    publish_fake(store, "1")
    publish_broken(store)

    async def script() -> None:
        async with Fleet(settings(store, store_poll_s=0.01), make_engine=green) as fleet:
            await fleet.wait_loaded()
            store.rename(tmp_path / "away")
            await until(lambda: fleet.states["retina"].refused is not None)
            await asyncio.sleep(0.1)
            (tmp_path / "away").rename(store)
            await until(lambda: fleet.states["retina"].refused is None)
            assert set(fleet.states) == {"retina", "cell"}
            assert not fleet.is_ready
            assert fleet.why_not_ready.startswith("cell failed")

    asyncio.run(script())


def test_a_modality_that_was_asked_for_or_has_served_is_not_forgotten(tmp_path: Path) -> None:
    publish_fake(tmp_path, "1")
    publish_broken(tmp_path)

    async def main() -> None:
        asked = settings(tmp_path, store_poll_s=0.01, modalities="cell,retina")
        async with Fleet(asked, make_engine=green) as fleet:
            await fleet.wait_loaded()
            shutil.rmtree(tmp_path / "cell")
            shutil.rmtree(tmp_path / "retina")
            await until(lambda: "no modality 'cell'" in fleet.why_not_ready)
            await until(lambda: fleet.states["retina"].refused is not None)
            assert (await segment(fleet.segmenter("retina"), draw())).card.version == "1"

    asyncio.run(main())


def test_a_modality_that_was_taken_away_serves_on_and_is_no_fault(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish_fake(tmp_path, "1")
    publish(tmp_path, fake_engine_card("cell"), WEIGHTS)

    async def main() -> None:
        async with Fleet(settings(tmp_path, store_poll_s=0.01), make_engine=green) as fleet:
            await fleet.wait_loaded()
            write_pin(tmp_path, "retina", "9")
            await until(lambda: fleet.states["retina"].refused is not None)
            (tmp_path / "retina").rename(tmp_path / ".gone")
            await until(lambda: fleet.states["retina"] == ModalityState("ready", version="1"))
            await asyncio.sleep(0.1)
            assert (await segment(fleet.segmenter("retina"), draw())).card.version == "1"
            (tmp_path / ".gone").rename(tmp_path / "retina")
            await until(lambda: fleet.states["retina"].refused is not None)
            shutil.rmtree(tmp_path / "retina")
            await until(lambda: caplog.messages.count(told) == 2)
            assert fleet.states["retina"].refused is None

    told = "retina is gone from the model store; version 1 serves on"
    with caplog.at_level(logging.INFO, "service"):
        asyncio.run(main())
    assert caplog.messages.count(told) == 2


def test_a_card_that_breaks_while_another_version_is_asked_for_is_told(tmp_path: Path) -> None:
    publish_fake(tmp_path, "1")
    publish_fake(tmp_path, "2")

    async def main() -> None:
        async with Fleet(settings(tmp_path, store_poll_s=0.01), make_engine=refusing_1) as fleet:
            await wait_version(fleet, "2")
            write_pin(tmp_path, "retina", "1")
            await until(lambda: fleet.states["retina"].refused == Refusal("1", "not this one"))
            (tmp_path / "retina/2/card.json").write_text("{}")
            remove_pin(tmp_path, "retina")
            await until(lambda: "card.json" in str(fleet.states["retina"].refused))

    def refusing_1(card: Card, contents: Contents) -> Steps[Engine]:
        if card.version == "1":
            raise BadCheckpoint("not this one")
        return green(card, contents)

    asyncio.run(main())


def test_a_broken_modality_that_comes_while_a_batch_takes_long_is_not_required(tmp_path: Path) -> None:
    publish_fake(tmp_path, "1")

    async def main() -> None:
        asked, gate = settings(tmp_path, store_poll_s=0.01, request_timeout_s=0.05), threading.Event()
        async with Fleet(asked, make_engine=green) as fleet:
            await fleet.wait_loaded()
            batch = asyncio.create_task(fleet._device.run(gate.wait))
            await until(lambda: "stuck" in fleet.why_not_ready)
            publish_broken(tmp_path)
            await until(lambda: "cell" in fleet.states and fleet.states["cell"].status == "failed")
            gate.set()
            await batch
            assert fleet.is_ready

    asyncio.run(main())


def test_an_empty_store_is_told_each_time_that_it_becomes_empty(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = tmp_path / "store"
    told = f"the model store holds no checkpoint; looked for in {store}"

    async def main() -> None:
        async with Fleet(settings(store, store_poll_s=0.01), make_engine=green) as fleet:
            await asyncio.sleep(0.05)
            assert caplog.text.count(told) == 1
            publish_fake(store, "1")
            await until(lambda: "retina" in fleet.cards)
            store.rename(tmp_path / "away")
            await until(lambda: caplog.text.count(told) == 2)

    asyncio.run(main())
    assert "WARNING" in next(line for line in caplog.text.splitlines() if told in line)


@pytest.mark.parametrize("hangs", ["versions", "wanted", "open"])
def test_a_modality_whose_files_hang_holds_up_neither_the_others_nor_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hangs: str
) -> None:
    publish(tmp_path, fake_engine_card("cell"), WEIGHTS)
    publish_fake(tmp_path, "1")
    ask, calls, mended = getattr(ModelStore, hangs), [], threading.Event()

    def hang(store: ModelStore, modality: str, *version: str) -> Any:
        if modality == "cell":
            calls.append(modality)
            mended.wait(60)
        return ask(store, modality, *version)

    monkeypatch.setattr(ModelStore, hangs, hang)

    async def main() -> None:
        async with Fleet(settings(tmp_path, store_poll_s=0.01), make_engine=green) as fleet:
            await wait_version(fleet, "1")
            publish_fake(tmp_path, "2")
            await wait_version(fleet, "2")
            assert fleet.states["cell"].status == "loading"
        assert not mended.is_set()
        assert tasks_besides_this() == set()

    asyncio.run(main())
    mended.set()
    assert calls == ["cell"] * (2 if hangs == "versions" else 1), "the list asks for versions, and then the look"


def test_sound_checkpoints_serve_beside_damaged_and_missing_ones(tmp_path: Path) -> None:
    publish_usable(tmp_path, "retina")
    publish_usable(tmp_path, "cell")
    publish_usable(tmp_path, "skin")
    (tmp_path / "cell" / "1" / "weights.safetensors").write_bytes(b"damaged")
    (tmp_path / "skin" / "1" / "card.json").write_bytes(b"{")

    async def main() -> None:
        async with Fleet(settings(tmp_path, modalities="cell, skin, liver ,retina,")) as fleet:
            await fleet.wait_loaded()
            states = {name: state.status for name, state in fleet.states.items()}
            assert states == {"cell": "failed", "skin": "failed", "liver": "failed", "retina": "ready"}
            assert fleet.states["retina"].version == "1"
            for fault in ("sha256", "card.json", "no modality 'liver'"):
                assert fault in fleet.why_not_ready
            with pytest.raises(NotReady) as caught:
                fleet.segmenter("liver")
            assert caught.value.retry_after_s > 10
            assert (await segment(fleet.segmenter("retina"), draw(0, 50, 70))).height == 50

    asyncio.run(main())


def test_only_the_modalities_asked_for_are_loaded_and_the_newest_version_of_each(tmp_path: Path) -> None:
    for version in ("1", "2", "10"):
        publish_usable(tmp_path, "cell", version=version)
    publish_usable(tmp_path, "retina")

    async def main() -> None:
        async with Fleet(settings(tmp_path, modalities="cell")) as fleet:
            await fleet.wait_loaded()
            assert {name: card.version for name, card in fleet.cards.items()} == {"cell": "10"}

    asyncio.run(main())


def test_a_modality_that_is_asked_for_twice_is_loaded_once(tmp_path: Path) -> None:
    publish_fake(tmp_path, "1")
    outcomes: list[str] = []

    async def main() -> None:
        asked = settings(tmp_path, modalities="retina,retina", store_poll_s=0)
        async with Fleet(asked, make_engine=green, on_checkpoint=lambda _, outcome: outcomes.append(outcome)) as fleet:
            await fleet.wait_loaded()

    asyncio.run(main())
    assert outcomes == ["served"]


def test_a_step_of_loading_may_take_longer_than_any_caller_may_wait_and_a_batch_may_not() -> None:
    async def main() -> None:
        gate, timeout_s = threading.Event(), 0.05
        fleet = Fleet(settings(request_timeout_s=timeout_s), engines={"retina": FakeEngine(fake_engine_card())})
        async with fleet:
            await fleet.wait_loaded()
            device = fleet._device
            step = asyncio.create_task(device.run(gate.wait, in_background=True))
            await until(lambda: device.background_s > timeout_s)
            in_step = fleet.why_not_ready
            gate.set()
            await step
            gate.clear()
            batch = asyncio.create_task(device.run(gate.wait))
            await until(lambda: device.busy_s > timeout_s)
            in_batch = fleet.why_not_ready
            gate.set()
            await batch
        assert in_step == ""
        assert "stuck" in in_batch

    asyncio.run(main())


@pytest.mark.parametrize("timeout_s", [LONGEST_STEP_S / 2, 2 * LONGEST_STEP_S])
def test_a_step_of_loading_that_takes_longer_than_any_does_and_any_caller_may_wait_is_stuck(timeout_s: float) -> None:
    async def main() -> None:
        began, gate, seconds = threading.Event(), threading.Event(), [0.0]

        def step() -> None:
            began.set()
            gate.wait(60)

        engines = {"retina": FakeEngine(fake_engine_card())}
        async with Fleet(settings(request_timeout_s=timeout_s), engines=engines, clock=lambda: seconds[0]) as fleet:
            await fleet.wait_loaded()
            hanging = asyncio.create_task(fleet._device.run(step, in_background=True))
            await until(began.is_set)
            seconds[0] = longest_s = max(timeout_s, LONGEST_STEP_S)
            told = [fleet.why_not_ready]
            seconds[0] += 1
            told += [fleet.why_not_ready]
            gate.set()
            await hanging
            told += [fleet.why_not_ready]
        stuck = f"the device is stuck: it has been busy with one step of loading for {longest_s + 1:.0f} s"
        assert told == ["", stuck, ""]

    asyncio.run(main())


def test_every_batch_is_reported_with_its_modality() -> None:
    async def main() -> None:
        heard: list[tuple[str, BatchReport]] = []
        engines = {"retina": FakeEngine(fake_engine_card("retina")), "cell": FakeEngine(fake_engine_card("cell"))}
        fleet = Fleet(settings(), engines=engines, on_batch=lambda modality, report: heard.append((modality, report)))
        async with fleet:
            await fleet.wait_loaded()
            await segment(fleet.segmenter("cell"), draw())
            await segment(fleet.segmenter("retina"), draw())
        assert [(modality, report.size, report.failed) for modality, report in heard] == [
            ("cell", 1, False),
            ("retina", 1, False),
        ]

    asyncio.run(main())


def test_draining_refuses_new_uploads_and_answers_those_that_have_begun() -> None:
    async def main() -> None:
        gate = threading.Event()
        gate.set()
        engine = FakeEngine(fake_engine_card(), gate=gate)
        async with Fleet(settings(), engines={"retina": engine}) as fleet:
            await fleet.wait_loaded()
            gate.clear()
            begun = asyncio.create_task(segment(fleet.segmenter("retina"), draw()))
            await until(lambda: len(engine.batches) == 3)
            fleet.drain()
            assert (fleet.is_ready, fleet.why_not_ready) == (False, "shutting down")
            with pytest.raises(ShuttingDown):
                fleet.segmenter("retina")
            with pytest.raises(UnknownModality):
                fleet.segmenter("liver")
            gate.set()
            assert (await begun).area_px == mask_of(draw()).sum()

    asyncio.run(main())


def test_draining_before_the_store_could_be_listed_calls_no_modality_unknown(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.write_bytes(b"no folder")

    async def main() -> None:
        async with Fleet(settings(store)) as fleet:
            fleet.drain()
            with pytest.raises(ShuttingDown):
                fleet.segmenter("retina")

    asyncio.run(main())


def test_leaving_answers_what_runs_or_is_queued_and_refuses_what_is_still_decoded() -> None:
    async def main() -> None:
        gate, busy = threading.Event(), threading.Event()
        gate.set()
        engine = FakeEngine(fake_engine_card(), gate=gate)
        fleet = Fleet(settings(decode_threads=1, max_batch_size=1), engines={"retina": engine})
        async with fleet:
            await fleet.wait_loaded()
            segmenter = fleet.segmenter("retina")
            gate.clear()
            runs = asyncio.create_task(segment(segmenter, draw(1)))
            await until(lambda: len(engine.batches) == 2)
            waits = asyncio.create_task(segment(segmenter, draw(2)))
            await until(lambda: fleet.queued("retina") == 1)
            holder = asyncio.create_task(fleet._pool.run(lambda: busy.wait(60)))
            decodes = asyncio.create_task(segment(segmenter, draw(3)))
            await asyncio.sleep(0)
            asyncio.get_running_loop().call_later(0.05, gate.set)
        busy.set()
        await holder
        ran, waited, decoded = await asyncio.gather(runs, waits, decodes, return_exceptions=True)
        assert [type(ran), type(waited), type(decoded)] == [Segmentation, Segmentation, ShuttingDown]

    asyncio.run(main())


def test_a_segmenter_that_outlives_its_fleet_refuses() -> None:
    async def main() -> None:
        async with Fleet(settings(), engines={"retina": FakeEngine(fake_engine_card())}) as fleet:
            await fleet.wait_loaded()
            segmenter = fleet.segmenter("retina")
        with pytest.raises(ShuttingDown):
            await segment(segmenter, draw())

    asyncio.run(main())


def test_leaving_while_an_engine_warms_up_does_not_wait_for_it_and_leaves_no_task() -> None:
    async def main() -> None:
        gate = threading.Event()
        engine = FakeEngine(fake_engine_card(), gate=gate)
        async with Fleet(settings(), engines={"retina": engine, "cell": FakeEngine(fake_engine_card("cell"))}) as fleet:
            await until(lambda: engine.batches == [1])
        assert not gate.is_set()
        assert tasks_besides_this() == set()
        assert fleet.states["cell"].status == "loading"
        gate.set()
        await until(lambda: own_threads() == [])
        assert engine.batches in ([1], [1, 2])

    asyncio.run(main())


def test_leaving_at_once_loads_nothing() -> None:
    async def main() -> None:
        engine = FakeEngine(fake_engine_card())
        async with Fleet(settings(), engines={"retina": engine}):
            pass
        assert tasks_besides_this() == set()
        await until(lambda: own_threads() == [])
        assert engine.batches == []

    asyncio.run(main())


def test_after_serving_no_task_and_no_thread_is_left() -> None:
    async def main() -> None:
        async with Fleet(settings(), engines={"retina": FakeEngine(fake_engine_card())}) as fleet:
            await fleet.wait_loaded()
            await asyncio.gather(*[segment(fleet.segmenter("retina"), draw(seed)) for seed in range(4)])
            assert own_threads()
        assert tasks_besides_this() == set()
        await until(lambda: own_threads() == [])

    asyncio.run(main())


def test_an_error_in_the_body_is_passed_on_and_leaves_no_task() -> None:
    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            async with Fleet(settings(), engines={"retina": FakeEngine(fake_engine_card())}):
                raise ZeroDivisionError
        assert tasks_besides_this() == set()

    asyncio.run(main())


def green(card: Card, _contents: Contents) -> Steps[Engine]:
    """Make a FakeEngine of a published card."""
    yield
    return FakeEngine(card)


async def wait_version(fleet: Fleet, version: str) -> None:
    await until(lambda: fleet.states["retina"].version == version)


def publish_fake(store: Path, version: str, height: int = 64) -> None:
    publish(store, fake_engine_card(version=version, height=height), WEIGHTS)


async def begin_behind(fleet: Fleet, held: threading.Event) -> tuple[asyncio.Task[bool], asyncio.Task[Segmentation]]:
    """Hold the only thread for pixels until `held` is set, and begin an upload behind it; return both."""
    holder = asyncio.create_task(fleet._pool.run(lambda: held.wait(60)))
    begun = asyncio.create_task(segment(fleet.segmenter("retina"), draw()))
    await asyncio.sleep(0)
    return holder, begun


def test_an_upload_is_prepared_run_and_described_by_the_version_that_began_it(tmp_path: Path) -> None:
    publish_fake(tmp_path, "1")

    async def main() -> None:
        held = threading.Event()
        async with Fleet(settings(tmp_path, decode_threads=1, store_poll_s=0.01), make_engine=green) as fleet:
            await fleet.wait_loaded()
            holder, begun = await begin_behind(fleet, held)
            publish_fake(tmp_path, "2", height=128)
            await wait_version(fleet, "2")
            later = asyncio.create_task(segment(fleet.segmenter("retina"), draw()))
            await asyncio.sleep(0)
            held.set()
            await holder
            assert [(await answer).card.version for answer in (begun, later)] == ["1", "2"]
            assert (await begun).area_px == mask_of(draw()).sum()
        assert tasks_besides_this() == set()

    asyncio.run(main())


def test_a_version_that_was_replaced_is_gone_though_its_engine_refers_to_itself(tmp_path: Path) -> None:
    publish_fake(tmp_path, "1")
    made: list[weakref.ref[Circular]] = []

    def circular(card: Card, _contents: Contents) -> Steps[Engine]:
        yield
        engine = Circular(card)
        made.append(weakref.ref(engine))
        return engine

    async def main() -> None:
        async with Fleet(settings(tmp_path, store_poll_s=0.01), make_engine=circular) as fleet:
            await fleet.wait_loaded()
            publish_fake(tmp_path, "2")
            await wait_version(fleet, "2")
            await until(lambda: made[0]() is None)

    gc.disable()
    try:
        asyncio.run(main())
    finally:
        gc.enable()


def test_leaving_while_an_old_version_still_owes_an_answer_leaves_no_task(tmp_path: Path) -> None:
    publish_fake(tmp_path, "1")

    async def main() -> None:
        held = threading.Event()
        async with Fleet(settings(tmp_path, decode_threads=1, store_poll_s=0.01), make_engine=green) as fleet:
            await fleet.wait_loaded()
            holder, begun = await begin_behind(fleet, held)
            publish_fake(tmp_path, "2")
            await wait_version(fleet, "2")
        held.set()
        await holder
        with pytest.raises(ShuttingDown):
            await begun
        assert tasks_besides_this() == set()

    asyncio.run(main())


def test_with_a_poll_of_0_the_store_is_looked_at_only_once(tmp_path: Path) -> None:
    publish_fake(tmp_path, "1")

    async def main() -> None:
        async with Fleet(settings(tmp_path, store_poll_s=0), make_engine=green) as fleet:
            await fleet.wait_loaded()
            publish_fake(tmp_path, "2")
            await until(lambda: tasks_besides_this() & {fleet._following} == set())
            assert fleet.cards["retina"].version == "1"

    asyncio.run(main())


def test_a_look_at_the_store_that_fails_is_not_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    publish_fake(tmp_path, "1")
    wanted, faults = ModelStore.wanted, [RuntimeError("can't start new thread")]

    def fail_once(store: ModelStore, modality: str) -> Wanted:
        if faults:
            raise faults.pop()
        return wanted(store, modality)

    monkeypatch.setattr(ModelStore, "wanted", fail_once)

    async def main() -> None:
        async with Fleet(settings(tmp_path, store_poll_s=0.01), make_engine=green) as fleet:
            await wait_version(fleet, "1")

    asyncio.run(main())
    assert "a look at the model store has failed" in caplog.text


def test_a_look_that_fails_is_told_once_while_it_fails_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    publish_fake(tmp_path, "1")
    wanted, faults = ModelStore.wanted, ["no memory"] * 5 + [""] + ["no memory"] * 5 + ["no thread"] * 5

    def fail_for_long(store: ModelStore, modality: str) -> Wanted:
        if fault := faults.pop() if faults else "":
            raise RuntimeError(fault)
        return wanted(store, modality)

    monkeypatch.setattr(ModelStore, "wanted", fail_for_long)

    async def main() -> None:
        async with Fleet(settings(tmp_path, store_poll_s=0.01), make_engine=green):
            await until(lambda: not faults)

    asyncio.run(main())
    told = [str(record.exc_info[1]) for record in caplog.records if record.exc_info]
    assert told == ["no thread", "no memory", "no memory"]


def test_a_store_that_goes_away_is_told_once_and_what_is_loaded_serves_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = tmp_path / "store"
    publish_fake(store, "1")

    async def main() -> None:
        async with Fleet(settings(store, store_poll_s=0.01), make_engine=green) as fleet:
            await fleet.wait_loaded()
            store.rename(tmp_path / "away")
            store.write_text("a file")
            await until(lambda: "cannot be read" in caplog.text)
            await asyncio.sleep(0.1)
            assert (await segment(fleet.segmenter("retina"), draw())).card.version == "1"
            assert fleet.is_ready
            store.unlink()
            (tmp_path / "away").rename(store)
            publish_fake(store, "2")
            await wait_version(fleet, "2")

    asyncio.run(main())
    assert caplog.text.count("the model store cannot be read") == 1


def test_another_checkpoint_by_the_number_of_one_that_was_removed_is_swapped_in(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish_fake(tmp_path, "1")

    async def main() -> None:
        async with Fleet(settings(tmp_path, store_poll_s=0.01), make_engine=green) as fleet:
            await wait_version(fleet, "1")
            await until(lambda: fleet.is_ready)
            shutil.rmtree(tmp_path / "retina")
            publish_fake(tmp_path, "1", height=96)
            await until(lambda: fleet.cards["retina"].input.height == 96)
            assert (await segment(fleet.segmenter("retina"), draw())).card.input.height == 96

    with caplog.at_level(logging.INFO, "service"):
        asyncio.run(main())
    assert "retina: version 1 serves, another checkpoint of that number did" in caplog.messages


def test_a_broken_one_by_the_number_of_what_serves_is_told_and_what_serves_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish_fake(tmp_path, "1")

    async def main() -> None:
        async with Fleet(settings(tmp_path, store_poll_s=0.01), make_engine=green) as fleet:
            await fleet.wait_loaded()
            publish_fake(tmp_path / "other", "1")
            (tmp_path / "other/retina/1/card.json").write_text("{}")
            (tmp_path / "retina").rename(tmp_path / "gone")
            (tmp_path / "other/retina").rename(tmp_path / "retina")
            await until(lambda: fleet.states["retina"].refused is not None)
            assert fleet.is_ready
            assert (await segment(fleet.segmenter("retina"), draw())).card.version == "1"
            (tmp_path / "retina").rename(tmp_path / "other/retina")  # at once: a look sees all of it or nothing
            (tmp_path / "gone").rename(tmp_path / "retina")
            await until(lambda: fleet.states["retina"].refused is None)

    asyncio.run(main())
    assert caplog.text.count("what the store asks for is refused, 1 serves on") == 1


def test_a_pin_on_what_serves_is_seen_and_so_is_that_it_is_lifted(tmp_path: Path) -> None:
    publish_fake(tmp_path, "1")

    async def main() -> None:
        async with Fleet(settings(tmp_path, store_poll_s=0.01), make_engine=green) as fleet:
            await fleet.wait_loaded()
            assert not fleet.states["retina"].is_pinned
            write_pin(tmp_path, "retina", "1")
            await until(lambda: fleet.states["retina"].is_pinned)
            remove_pin(tmp_path, "retina")
            await until(lambda: not fleet.states["retina"].is_pinned)

    asyncio.run(main())


def test_files_that_are_touched_are_not_loaded_again(tmp_path: Path) -> None:
    publish_fake(tmp_path, "1")
    served: list[str] = []

    async def main() -> None:
        note = lambda _modality, outcome: served.append(outcome)  # noqa: E731
        async with Fleet(settings(tmp_path, store_poll_s=0.01), make_engine=green, on_checkpoint=note) as fleet:
            await wait_version(fleet, "1")
            await until(lambda: fleet.is_ready)
            stamped = (await fleet._source.wanted("retina")).stamp
            (tmp_path / "retina/1/card.json").touch()
            assert (await fleet._source.wanted("retina")).stamp != stamped
            await asyncio.sleep(0.1)
            assert fleet.is_ready

    asyncio.run(main())
    assert served == ["served"]
