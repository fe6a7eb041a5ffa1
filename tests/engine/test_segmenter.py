"""One upload, from its bytes to its mask, through a real batcher and a FakeEngine (probability = green channel)."""

import asyncio
import io
import math
import threading
import time
import tracemalloc
import weakref
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from service.engine.batcher import Answer, Batcher
from service.engine.cautions import CODES
from service.engine.choosing import EXACT, load_engine
from service.engine.device import Device
from service.engine.engine import Engine
from service.engine.image_work import ImageWork, Prepared, Upload
from service.engine.pixel_pool import PixelPool
from service.engine.quality import expected_iou, level_counts
from service.engine.segmenter import Segmentation, Segmenter
from service.errors import (
    BadCheckpoint,
    BadUpload,
    DamagedImage,
    DeadlineExceeded,
    EngineFailed,
    FrameNeeded,
    ImageTooLarge,
    Overloaded,
    ReferenceMismatch,
    ShuttingDown,
    UnknownImageFormat,
)
from service.imaging.components import NOTHING, LeftOut
from service.imaging.policy import InputPolicy
from service.imaging.statistics import FEATURES, features
from service.store.card import IouEstimate, TrainingImages, TrainingMasks
from tests.checkpoints import publish_tiny
from tests.doubles import FakeEngine, draw, fake_engine_card, mask_of, png, poisonous, read_png
from tests.waiting import until

Pixels = NDArray[np.uint8]
Use = Callable[[Segmenter], Coroutine[Any, Any, None]]

ORIENTATIONS: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda image: image,
    2: np.fliplr,
    3: lambda image: np.rot90(image, 2),
    4: np.flipud,
    5: lambda image: image.swapaxes(0, 1),
    6: np.rot90,
    7: lambda image: np.rot90(image.swapaxes(0, 1), 2),
    8: lambda image: np.rot90(image, -1),
}
"""How the stored pixels must lie so that a viewer which applies the orientation sees the image upright."""


def run(use: Use, engine: Engine | None = None, **limits: int) -> None:
    """Run `use` with a segmenter of `engine`; `limits`: max_queued, max_size, max_pixels, workers."""

    async def main() -> None:
        used = engine or FakeEngine(fake_engine_card())
        with PixelPool(limits.get("workers", 2)) as pool:
            async with Device("test") as device:
                batcher = Batcher(
                    used.predict,
                    device=device,
                    max_size=limits.get("max_size", 8),
                    max_wait_s=0.0,
                    max_queued=limits.get("max_queued", 64),
                )
                async with batcher:
                    await use(Segmenter(used, batcher, pool=pool, max_pixels=limits.get("max_pixels", 1_000_000)))

    asyncio.run(main())


async def segment(segmenter: Segmenter, image: bytes, *, within_s: float | None = None, **asked: Any) -> Segmentation:
    arrived = asyncio.get_running_loop().time()
    deadline = None if within_s is None else arrived + within_s
    return await segmenter.segment(Upload(image=image, **asked), arrived=arrived, deadline=deadline)


async def held(segmenter: Segmenter, busy: threading.Event, *, is_long: bool = False) -> asyncio.Task[bool]:
    """Keep a thread of the pool busy until the event is set."""
    holder = asyncio.create_task(segmenter._pool.run(lambda: busy.wait(60), is_long=lambda: is_long))
    await asyncio.sleep(0)
    return holder


def answer(image: bytes, engine: Engine | None = None, **asked: Any) -> Segmentation:
    """Return what one lone upload gets."""
    answers: list[Segmentation] = []

    async def use(segmenter: Segmenter) -> None:
        answers.append(await segment(segmenter, image, **asked))

    run(use, engine)
    return answers[0]


def turned_png(upright: Pixels | NDArray[np.bool_], orientation: int) -> bytes:
    """Encode the image as a camera held askew would: turned pixels and an EXIF orientation."""
    levels = read_png(png(upright))
    picture = Image.fromarray(np.ascontiguousarray(ORIENTATIONS[orientation](levels)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", exif=exif)
    return buffer.getvalue()


def codes(segmentation: Segmentation) -> list[str]:
    return [caution.code for caution in segmentation.cautions]


def test_the_answer_describes_the_image_and_its_mask() -> None:
    image = draw()
    got = answer(png(image), probability=True)
    assert (got.width, got.height, got.image_format, got.batch_size) == (64, 64, "png", 1)
    assert np.array_equal(read_png(got.mask_png), np.where(mask_of(image), 255, 0))
    assert got.probability_png is not None
    assert np.array_equal(read_png(got.probability_png), image[..., 1])
    assert got.area_px == mask_of(image).sum()
    assert got.area_fraction == pytest.approx(mask_of(image).mean())
    assert got.expected_iou == expected_iou(level_counts(image[..., 1]), 0.5)
    assert (got.measured_iou, got.accuracy, got.cautions) == (None, None, ())


def test_the_iou_to_expect_is_the_checkpoints_estimate_at_the_threshold_asked_for() -> None:
    image, estimate = draw(), IouEstimate(offset=-1.0, plain=0.5, decided=0.5)
    engine = FakeEngine(fake_engine_card(threshold=0.3, expected_iou=estimate))
    for threshold in (None, 0.7):
        expected = expected_iou(level_counts(image[..., 1]), threshold or 0.3, estimate)
        assert answer(png(image), engine, threshold=threshold).expected_iou == expected
        assert expected != pytest.approx(expected_iou(level_counts(image[..., 1]), threshold or 0.3), abs=0.01)


def spotted() -> Pixels:
    """Return an image whose mask has a component of 400 pixels and one of 30."""
    image = np.full((64, 64, 3), 60, np.uint8)
    image[5:25, 5:25, 1], image[40:45, 40:46, 1] = 200, 250
    return image


def test_what_the_checkpoint_leaves_out_counts_nowhere_but_in_the_map() -> None:
    image = spotted()
    kept = image[..., 1].copy()
    kept[40:45, 40:46] = 0
    got = answer(png(image), FakeEngine(fake_engine_card(least_component=0.5)), probability=True)
    assert np.array_equal(read_png(got.mask_png) > 0, kept >= 128)
    assert (got.area_px, got.left_out) == (400, LeftOut(components=1, pixels=30))
    assert got.expected_iou == expected_iou(level_counts(kept), 0.5)
    assert got.probability_png is not None
    assert np.array_equal(read_png(got.probability_png), image[..., 1])


def test_whoever_asks_for_all_components_gets_them() -> None:
    image = spotted()
    got = answer(png(image), FakeEngine(fake_engine_card(least_component=0.5)), all_components=True)
    assert (got.area_px, got.left_out) == (430, NOTHING)
    assert got.expected_iou == expected_iou(level_counts(image[..., 1]), 0.5)


def test_components_are_those_at_the_threshold_asked_for() -> None:
    engine = FakeEngine(fake_engine_card(least_component=0.5))
    assert answer(png(spotted()), engine, threshold=0.2).left_out == NOTHING  # one, of the whole picture
    alone = answer(png(spotted()), engine, threshold=0.9)
    assert (alone.area_px, alone.left_out) == (30, NOTHING)


def test_the_share_of_a_mask_is_judged_without_what_the_checkpoint_leaves_out() -> None:
    masks = TrainingMasks(least=0.0, most=400.5 / 64 / 64)
    engine = FakeEngine(fake_engine_card(least_component=0.5, training_masks=masks))
    for asked in ({}, {"all_components": True}, {"threshold": 0.2}):
        assert codes(answer(png(spotted()), engine, **asked)) == []
    everything = FakeEngine(fake_engine_card(training_masks=masks))
    assert codes(answer(png(spotted()), everything)) == ["unlike_training_masks"]


def test_no_probability_is_encoded_unless_asked_for() -> None:
    assert answer(png(draw())).probability_png is None


def test_the_checkpoints_threshold_holds_unless_another_is_asked_for() -> None:
    image, engine = draw(), FakeEngine(fake_engine_card(threshold=0.3))
    assert answer(png(image), engine).area_px == mask_of(image, 0.3).sum()
    asked = answer(png(image), engine, threshold=0.7)
    assert (asked.threshold, asked.area_px) == (0.7, mask_of(image, 0.7).sum())


def test_threshold_0_takes_every_pixel_and_threshold_1_only_the_certain_ones() -> None:
    image = draw()
    image[0, :5, 1] = 255
    everything = answer(png(image), threshold=0.0)
    assert everything.area_fraction == 1.0
    assert everything.expected_iou == pytest.approx(image[..., 1].mean() / 255)
    assert answer(png(image), threshold=1.0).area_px == (image[..., 1] == 255).sum() >= 5


@pytest.mark.parametrize("kind", ["fit", "stretch", "tile"])
@pytest.mark.parametrize("size", [(1, 1), (1, 90), (90, 1), (63, 65), (64, 64), (130, 70)])
def test_the_mask_lies_on_the_uploads_own_grid(kind: Any, size: tuple[int, int]) -> None:
    got = answer(png(np.full((*size, 3), 200, np.uint8)), FakeEngine(fake_engine_card(kind=kind)))
    assert (got.height, got.width) == read_png(got.mask_png).shape == size
    assert got.area_fraction == 1.0


def test_an_image_of_several_tiles_comes_back_seamless() -> None:
    image = draw(3, 150, 200)
    engine = FakeEngine(fake_engine_card(input=InputPolicy(kind="tile", height=64, width=64, overlap=16)))
    got = answer(png(image), engine, probability=True)
    assert got.probability_png is not None
    assert np.array_equal(read_png(got.probability_png), image[..., 1])
    assert (sum(engine.batches), got.batch_size) == (12, 8)


def test_a_reference_is_measured_against_the_mask() -> None:
    image, reference = draw(1), draw(2)[..., 0] > 128
    got = answer(png(image), reference=png(reference))
    mask = mask_of(image)
    assert got.measured_iou == pytest.approx((mask & reference).sum() / (mask | reference).sum())
    assert got.accuracy == pytest.approx((mask == reference).mean())


def test_the_answers_own_mask_as_reference_measures_1() -> None:
    first = answer(png(draw()))
    again = answer(png(draw()), reference=first.mask_png)
    assert (again.measured_iou, again.accuracy, again.cautions) == (1.0, 1.0, ())


@pytest.mark.parametrize("size", [(1, 1), (7, 9), (64, 65)])
def test_a_reference_of_any_number_of_pixels_is_measured(size: tuple[int, int]) -> None:
    image = draw(1, *size)
    got = answer(png(image), reference=png(np.ones(size, np.bool_)))
    assert got.accuracy == pytest.approx(got.area_px / math.prod(size))


def test_a_large_reference_that_waits_takes_a_bit_a_pixel() -> None:
    """It may come in some kilobytes: a queue of such would take gigabytes."""
    work = ImageWork(fake_engine_card(), max_pixels=4_000_000)
    upload = Upload(image=png(np.zeros((2000, 2000, 3), np.uint8)), reference=png(np.ones((2000, 2000), np.bool_)))
    work.before(upload)  # what is made once stays
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    prepared = work.before(upload)
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert prepared.reference is not None
    assert held < 4_000_000 // 4


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_turned_images_and_references_are_compared_upright(orientation: int) -> None:
    image = draw(5, 40, 64)
    engine = FakeEngine(fake_engine_card(kind="tile"))
    for sent, reference in [
        (png(image), turned_png(mask_of(image), orientation)),
        (turned_png(image, orientation), png(mask_of(image))),
    ]:
        got = answer(sent, engine, reference=reference)
        assert (got.width, got.height, got.measured_iou) == (64, 40, 1.0)


def test_two_empty_masks_measure_1_with_a_caution() -> None:
    black = np.zeros((64, 64, 3), np.uint8)
    got = answer(png(black), reference=png(np.zeros((64, 64), np.bool_)))
    assert (got.measured_iou, got.accuracy, codes(got)) == (1.0, 1.0, ["both_masks_empty"])


def test_an_empty_mask_alone_is_no_caution() -> None:
    black = np.zeros((64, 64, 3), np.uint8)
    got = answer(png(black), reference=png(np.ones((64, 64), np.bool_)))
    assert (got.measured_iou, codes(got)) == (0.0, [])


def test_an_empty_reference_alone_is_no_caution() -> None:
    white = np.full((64, 64, 3), 255, np.uint8)
    got = answer(png(white), reference=png(np.zeros((64, 64), np.bool_)))
    assert (got.measured_iou, codes(got)) == (0.0, [])


def test_a_reference_of_several_levels_is_taken_from_half_of_the_range_with_a_caution() -> None:
    levels = draw(2)[..., 0]
    got = answer(png(draw(1)), reference=png(levels))
    assert codes(got) == ["reference_not_binary"]
    assert got.accuracy == pytest.approx((mask_of(draw(1)) == (levels >= 128)).mean())


def test_an_image_unlike_the_training_images_is_segmented_with_a_caution() -> None:
    got = answer(png(draw()), FakeEngine(fake_engine_card(unlike_from=1e-3)))
    assert codes(got) == ["unlike_training_images"]
    assert got.area_px == mask_of(draw()).sum()


def test_how_unlike_an_image_is_is_told_in_times_of_the_limit() -> None:
    limit = 0.4 * float(np.sqrt(np.square(features(draw()) - 1).mean()))
    (caution,) = answer(png(draw()), FakeEngine(fake_engine_card(unlike_from=limit))).cautions
    assert "(2.5 times their limit)" in caution.message


def test_an_unusual_share_is_told_beside_those_that_are_usual() -> None:
    masks = TrainingMasks(least=0.65, most=0.875)
    (caution,) = answer(png(draw()), FakeEngine(fake_engine_card(training_masks=masks))).cautions
    share = mask_of(draw()).mean()
    assert f"covers {100 * share:.3g}% of the picture, masks like those" in caution.message
    assert "cover 65% to 87.5%:" in caution.message


def test_of_a_part_of_a_picture_masks_of_more_shares_are_usual() -> None:
    share = float(mask_of(draw(0, 32, 32)).mean())
    masks = TrainingMasks(least=1.05 * share, most=1.3 * share)
    tile, stretch = fake_engine_card(kind="tile", training_masks=masks), fake_engine_card(training_masks=masks)
    assert codes(answer(png(draw(0, 32, 32)), FakeEngine(tile))) == []
    assert codes(answer(png(draw(0, 32, 32)), FakeEngine(stretch))) == ["unlike_training_masks"]


@pytest.mark.parametrize(
    ("least", "most", "cautions"),
    [(0.0, 1.0, []), (0.6, 1.0, ["unlike_training_masks"]), (0.0, 0.1, ["unlike_training_masks"])],
)
def test_a_mask_unlike_the_training_masks_is_given_with_a_caution(
    least: float, most: float, cautions: list[str]
) -> None:
    assert 0.1 < mask_of(draw()).mean() < 0.6
    got = answer(png(draw()), FakeEngine(fake_engine_card(training_masks=TrainingMasks(least=least, most=most))))
    assert codes(got) == cautions
    assert got.area_px == mask_of(draw()).sum()


def test_a_mask_is_judged_at_the_checkpoints_threshold_and_not_at_the_callers() -> None:
    share = float(mask_of(draw()).mean())
    masks = TrainingMasks(least=0.9 * share, most=1.1 * share)
    got = answer(png(draw()), FakeEngine(fake_engine_card(training_masks=masks)), threshold=0.99)
    assert (got.area_fraction < 0.5 * share, codes(got)) == (True, [])


def test_the_threshold_at_which_a_mask_is_judged_is_the_cards() -> None:
    share = answer(png(draw()), threshold=0.9).area_fraction
    masks = TrainingMasks(least=0.9 * share, most=1.1 * share)
    got = answer(png(draw()), FakeEngine(fake_engine_card(training_masks=masks, threshold=0.9)))
    assert got.area_fraction == pytest.approx(share)
    assert codes(got) == []


def test_the_tiles_of_an_upload_are_let_go_of_once_the_engine_has_answered() -> None:
    """Those of many large ones may wait for a thread that encodes, and the batcher counts them no more."""
    given: list[weakref.ref[Pixels]] = []
    gate, busy = threading.Event(), threading.Event()

    class Noting(FakeEngine):
        def predict(self, tiles: Sequence[Pixels]) -> list[Pixels]:
            given.extend(map(weakref.ref, tiles))
            return super().predict(tiles)

    async def use(segmenter: Segmenter) -> None:
        answering = asyncio.create_task(segment(segmenter, png(draw())))
        await until(lambda: len(given) == 1)
        holder = await held(segmenter, busy)
        gate.set()
        await until(lambda: given[0]() is None)
        assert not answering.done()
        busy.set()
        await asyncio.gather(holder, answering)

    run(use, Noting(fake_engine_card(), gate=gate), workers=1)


def test_a_frame_is_no_part_of_the_picture_that_a_mask_covers() -> None:
    whole = np.zeros((64, 64, 3), np.uint8)
    whole[:32] = draw()[:32]
    engine = FakeEngine(
        fake_engine_card(
            input=InputPolicy(kind="stretch", height=64, width=64, margins="plain"),
            training_masks=TrainingMasks(least=0.3, most=1),
        )
    )
    got = answer(png(whole), engine)
    assert (got.area_fraction < 0.3, codes(got)) == (True, [])


def test_a_frame_is_no_part_of_the_picture_that_is_compared_with_the_training_images() -> None:
    usual = TrainingImages(
        features=FEATURES, mean=tuple(features(draw()).tolist()), scale=(0.01,) * len(FEATURES), limit=0.01
    )
    plain = InputPolicy(kind="stretch", height=64, width=64, margins="plain")
    engine = FakeEngine(fake_engine_card(input=plain, training_images=usual))
    framed = np.pad(draw(), ((40, 20), (30, 30), (0, 0)), constant_values=255)
    assert codes(answer(png(framed), engine)) == codes(answer(png(draw()), engine)) == []
    assert codes(answer(png(draw(1) // 2), engine)) == ["unlike_training_images"]


@pytest.mark.parametrize(("side", "is_large"), [(20_000, False), (40_000, True)])
def test_a_thin_image_is_large_if_its_tiles_are_large_together(side: int, is_large: bool) -> None:
    """They are joined once the engine has answered: 40,000 pixels in a row become 2.5 million."""
    work = ImageWork(fake_engine_card(kind="tile"), max_pixels=1_000_000)
    assert work.before(Upload(image=png(draw(0, 1, side)))).is_large is is_large


def test_every_caution_has_a_code_of_the_closed_set_and_a_sentence() -> None:
    black = np.zeros((64, 64, 3), np.uint8)
    engine = FakeEngine(fake_engine_card(unlike_from=1e-3, training_masks=TrainingMasks(least=0.1, most=0.9)))
    faint = np.zeros((64, 64), np.uint8)
    faint[0, :2] = 10, 20
    cautions = answer(png(black), engine, reference=png(faint)).cautions
    assert [caution.code for caution in cautions] == list(CODES)
    assert all(len(caution.message) > 20 for caution in cautions)


@pytest.mark.parametrize(
    ("image", "error"),
    [
        (b"", UnknownImageFormat),
        (b"no image", UnknownImageFormat),
        (png(draw())[:200], DamagedImage),
        (png(np.zeros((64, 65, 3), np.uint8)), ImageTooLarge),
    ],
)
def test_unusable_images_and_references_are_refused_before_they_are_queued(
    image: bytes, error: type[BadUpload]
) -> None:
    engine = FakeEngine(fake_engine_card())

    async def use(segmenter: Segmenter) -> None:
        with pytest.raises(error):
            await segment(segmenter, image)
        with pytest.raises(error, match="in the reference: "):
            await segment(segmenter, png(draw()), reference=image)

    run(use, engine, max_pixels=64 * 64)
    assert engine.batches == []


def test_a_reference_of_another_size_is_refused_with_both_sizes() -> None:
    with pytest.raises(ReferenceMismatch, match="65 × 64 pixels, the image 64 × 64"):
        answer(png(draw()), reference=png(np.ones((64, 65), np.bool_)))


def stack(*pages: Pixels) -> bytes:
    """Return a TIFF of several pages."""
    buffer = io.BytesIO()
    first, *others = (Image.fromarray(page) for page in pages)
    first.save(buffer, "TIFF", save_all=True, append_images=others)
    return buffer.getvalue()


def test_a_frame_picks_the_page_of_image_and_reference_alike() -> None:
    images = [draw(), np.ascontiguousarray(draw()[::-1])]
    found = [read_png(answer(png(image)).mask_png) for image in images]
    both = answer(stack(*images), frame=1, reference=stack(*found))
    assert both.measured_iou == 1.0
    assert answer(stack(*images), frame=1, reference=png(found[1])).measured_iou == 1.0


def test_a_frame_that_a_single_image_lacks_is_refused() -> None:
    with pytest.raises(FrameNeeded):
        answer(png(draw()), frame=1)


def test_the_masks_of_a_stack_with_a_single_image_are_refused_with_what_to_send_instead() -> None:
    masks = stack(np.ones((64, 64), np.bool_), np.zeros((64, 64), np.bool_))
    with pytest.raises(FrameNeeded, match="in the reference: it has several frames, the image one; send only"):
        answer(png(draw()), reference=masks)


def test_stages_add_up_within_the_total() -> None:
    async def use(segmenter: Segmenter) -> None:
        arrived = time.monotonic() - 10
        got = await segmenter.segment(Upload(image=png(draw())), arrived=arrived)
        latency = got.latency
        stages = [latency.decode, latency.queue, latency.inference, latency.postprocess]
        assert all(math.isfinite(stage) and stage >= 0 for stage in stages)
        assert latency.inference >= 0.02
        assert 10 + sum(stages) <= latency.total <= time.monotonic() - arrived

    run(use, FakeEngine(fake_engine_card(), delay_s=0.02))


def test_waiting_for_the_device_counts_as_queue_and_not_as_inference() -> None:
    gate = threading.Event()
    engine = FakeEngine(fake_engine_card(), gate=gate)

    async def use(segmenter: Segmenter) -> None:
        first = asyncio.create_task(segment(segmenter, png(draw(1))))
        await until(lambda: engine.batches == [1])
        second = asyncio.create_task(segment(segmenter, png(draw(2))))
        await until(lambda: segmenter._batcher.queued == 1)
        await asyncio.sleep(0.1)
        gate.set()
        held, waited = (await first).latency, (await second).latency
        assert held.inference >= 0.1
        assert waited.queue >= 0.1
        assert waited.decode + waited.queue + waited.inference + waited.postprocess <= waited.total

    run(use, engine)


def test_a_mask_is_the_same_alone_and_in_a_batch_of_any_sizes() -> None:
    images = [png(draw(seed, 40 + 9 * seed, 100 - 7 * seed)) for seed in range(6)]
    alone = [answer(image).mask_png for image in images]
    gate = threading.Event()
    engine = FakeEngine(fake_engine_card(), gate=gate)

    async def use(segmenter: Segmenter) -> None:
        first = asyncio.create_task(segment(segmenter, images[0]))
        await until(lambda: engine.batches == [1])
        others = [asyncio.create_task(segment(segmenter, image, probability=True)) for image in images]
        await until(lambda: segmenter._batcher.queued == len(images))
        gate.set()
        got = await asyncio.gather(first, *others)
        assert [segmentation.mask_png for segmentation in got] == [alone[0], *alone]
        assert [segmentation.batch_size for segmentation in got] == [1] + [6] * 6

    run(use, engine)


def test_a_real_network_gives_the_same_mask_alone_and_in_a_batch(tmp_path: Path) -> None:
    ones = (1.0,) * len(FEATURES)
    usual = TrainingImages(features=FEATURES, mean=ones, scale=ones, limit=1e6)
    engine = load_engine(publish_tiny(tmp_path, training_images=usual), EXACT)
    images = [png(draw(seed, 64, 96 + seed)) for seed in range(3)]

    async def use(segmenter: Segmenter) -> None:
        alone = [await segment(segmenter, image, probability=True) for image in images]
        together = await asyncio.gather(*[segment(segmenter, image, probability=True) for image in images])
        for one, other in zip(alone, together, strict=True):
            assert (one.mask_png, one.probability_png) == (other.mask_png, other.probability_png)

    run(use, engine)


def test_one_bad_image_fails_alone() -> None:
    async def use(segmenter: Segmenter) -> None:
        uploads = [segment(segmenter, png(image)) for image in (draw(1), poisonous(), draw(2))]
        first, bad, second = await asyncio.gather(*uploads, return_exceptions=True)
        assert isinstance(bad, EngineFailed)
        assert isinstance(first, Segmentation)
        assert first.area_px == mask_of(draw(1)).sum()
        assert isinstance(second, Segmentation)

    run(use)


def test_a_deadline_that_passes_while_decoding_is_told_at_once() -> None:
    engine, busy = FakeEngine(fake_engine_card()), threading.Event()

    async def use(segmenter: Segmenter) -> None:
        holder = await held(segmenter, busy)
        with pytest.raises(DeadlineExceeded):
            await segment(segmenter, png(draw()), within_s=0.05)
        assert not holder.done()
        busy.set()
        await holder
        assert (await segment(segmenter, png(draw()))).batch_size == 1

    run(use, engine, workers=1)
    assert engine.batches == [1]


def test_a_deadline_that_has_passed_is_told_before_anything_is_decoded() -> None:
    async def use(segmenter: Segmenter) -> None:
        with pytest.raises(DeadlineExceeded):
            await segment(segmenter, b"never looked at", within_s=-1)

    run(use)


def test_a_deadline_that_passes_in_the_engine_is_told_at_once() -> None:
    gate = threading.Event()

    async def use(segmenter: Segmenter) -> None:
        with pytest.raises(DeadlineExceeded):
            await segment(segmenter, png(draw()), within_s=0.1)
        gate.set()

    run(use, FakeEngine(fake_engine_card(), gate=gate))


def test_a_deadline_that_has_passed_once_an_upload_is_decoded_keeps_it_from_the_engine() -> None:
    engine = FakeEngine(fake_engine_card())

    async def use(segmenter: Segmenter) -> None:
        decode = segmenter._decode

        async def decode_while_the_event_loop_stands_still(upload: Upload) -> Prepared:
            prepared = await decode(upload)
            time.sleep(0.2)  # noqa: ASYNC251
            return prepared

        segmenter._decode = decode_while_the_event_loop_stands_still  # type: ignore[method-assign]
        with pytest.raises(DeadlineExceeded):
            await segment(segmenter, png(draw()), within_s=0.1)

    run(use, engine)
    assert engine.batches == []


def test_the_batcher_hears_when_work_on_an_upload_began() -> None:
    class Noting(Batcher[Pixels, Pixels]):
        async def submit(
            self, items: Sequence[Pixels], *, deadline: float | None = None, since: float | None = None
        ) -> Answer[Pixels]:
            began.append((since, time.monotonic()))
            return await super().submit(items, deadline=deadline, since=since)

    began: list[tuple[float | None, float]] = []
    busy = threading.Event()

    async def main() -> None:
        engine = FakeEngine(fake_engine_card())
        with PixelPool(1) as pool:
            async with (
                Device("test") as device,
                Noting(engine.predict, device=device, max_size=8, max_wait_s=0, max_queued=8) as batcher,
            ):
                segmenter = Segmenter(engine, batcher, pool=pool, max_pixels=1_000_000)
                holder = await held(segmenter, busy)
                asyncio.get_running_loop().call_later(0.1, busy.set)
                await segment(segmenter, png(draw()))
                await holder

    asyncio.run(main())
    [(since, queued)] = began
    assert since is not None
    assert queued - since >= 0.09


def test_uploads_being_decoded_count_against_the_queue() -> None:
    busy = threading.Event()

    async def use(segmenter: Segmenter) -> None:
        holder = await held(segmenter, busy)
        admitted = [asyncio.create_task(segment(segmenter, png(draw(seed)))) for seed in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            async with asyncio.timeout(10):  # not once the others are decoded
                await segment(segmenter, png(draw()))
        busy.set()
        await asyncio.gather(holder, *admitted)

    run(use, max_queued=2, workers=1)


def test_callers_cancelled_in_any_stage_make_room_and_disturb_nobody() -> None:
    busy, gate = threading.Event(), threading.Event()
    engine = FakeEngine(fake_engine_card(), gate=gate)

    async def use(segmenter: Segmenter) -> None:
        running = asyncio.create_task(segment(segmenter, png(draw(1))))
        await until(lambda: engine.batches == [1])
        queued = asyncio.create_task(segment(segmenter, png(draw(2))))
        await until(lambda: segmenter._batcher.queued == 1)
        holder = await held(segmenter, busy)
        decoding = asyncio.create_task(segment(segmenter, png(draw(3))))
        await asyncio.sleep(0)
        for task in (running, queued, decoding):
            task.cancel()
        outcomes = await asyncio.gather(running, queued, decoding, return_exceptions=True)
        assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
        busy.set()
        gate.set()
        await holder
        both = await asyncio.gather(*[segment(segmenter, png(draw(seed))) for seed in (4, 5)])
        assert [got.area_px for got in both] == [mask_of(draw(seed)).sum() for seed in (4, 5)]

    run(use, engine, workers=1, max_queued=2)


LARGE = png(np.full((1500, 1400, 3), 200, np.uint8))


def test_a_small_image_is_answered_while_a_large_one_waits_to_be_decoded() -> None:
    busy = threading.Event()

    async def use(segmenter: Segmenter) -> None:
        holder = await held(segmenter, busy, is_long=True)
        large = [asyncio.create_task(segment(segmenter, LARGE)) for _ in range(5)]
        assert (await segment(segmenter, png(draw()))).area_px == mask_of(draw()).sum()
        assert not any(task.done() for task in large)
        busy.set()
        await holder
        assert [(await task).area_fraction for task in large] == [1.0] * 5

    run(use, workers=1, max_pixels=4_000_000)


def test_a_small_image_is_answered_while_a_large_one_waits_to_be_encoded() -> None:
    busy, gate = threading.Event(), threading.Event()
    engine = FakeEngine(fake_engine_card(), gate=gate)

    async def use(segmenter: Segmenter) -> None:
        large = asyncio.create_task(segment(segmenter, LARGE))
        await until(lambda: engine.batches == [1])
        holder = await held(segmenter, busy, is_long=True)
        small = asyncio.create_task(segment(segmenter, png(draw())))
        gate.set()
        assert (await small).area_px == mask_of(draw()).sum()
        assert not large.done()
        busy.set()
        await holder
        assert (await large).area_fraction == 1.0

    run(use, engine, workers=1, max_pixels=4_000_000)


def test_a_large_image_that_waits_to_be_encoded_comes_before_one_that_waits_to_be_decoded() -> None:
    busy, gate, done = threading.Event(), threading.Event(), list[str]()
    engine = FakeEngine(fake_engine_card(), gate=gate)

    async def use(segmenter: Segmenter) -> None:
        places = segmenter._pool._places
        encoded = asyncio.create_task(segment(segmenter, LARGE))
        await until(lambda: engine.batches == [1])
        holder = await held(segmenter, busy, is_long=True)
        refused = asyncio.create_task(segment(segmenter, LARGE, reference=png(mask_of(draw()))))
        await until(lambda: len(places._begins) == 1)
        gate.set()
        await until(lambda: len(places._begins) + len(places._ends) == 2)
        encoded.add_done_callback(lambda _: done.append("encoded"))
        refused.add_done_callback(lambda _: done.append("refused once decoded"))
        busy.set()
        await asyncio.gather(holder, encoded, refused, return_exceptions=True)
        assert done == ["encoded", "refused once decoded"]

    run(use, engine, workers=1, max_pixels=4_000_000)


def test_a_large_reference_beside_a_small_image_waits_with_the_large_images() -> None:
    busy = threading.Event()

    async def use(segmenter: Segmenter) -> None:
        holder = await held(segmenter, busy, is_long=True)
        waits = asyncio.create_task(segment(segmenter, png(draw()), reference=LARGE))
        await segment(segmenter, png(draw()), reference=png(mask_of(draw())))
        assert not waits.done()
        busy.set()
        await holder
        with pytest.raises(ReferenceMismatch):
            await waits

    run(use, workers=1, max_pixels=4_000_000)


def test_an_image_beyond_the_limit_is_refused_while_large_ones_wait() -> None:
    busy = threading.Event()

    async def use(segmenter: Segmenter) -> None:
        holder = await held(segmenter, busy, is_long=True)
        with pytest.raises(ImageTooLarge):
            await segment(segmenter, LARGE)
        busy.set()
        await holder

    run(use, workers=1, max_pixels=2_050_000)


def test_without_its_pool_a_segmenter_says_that_the_replica_has_stopped() -> None:
    async def use(segmenter: Segmenter) -> None:
        segmenter._pool.shut_down()
        with pytest.raises(ShuttingDown):
            await segment(segmenter, png(draw()))
        assert segmenter._decoding == 0

    run(use)


def test_a_card_with_features_of_another_version_is_refused() -> None:
    other = TrainingImages(features=("red",), mean=(1.0,), scale=(1.0,), limit=1.0)

    async def use(_segmenter: Segmenter) -> None:
        raise AssertionError("it must not be made")

    with pytest.raises(BadCheckpoint, match="features"):
        run(use, FakeEngine(fake_engine_card(training_images=other)))
