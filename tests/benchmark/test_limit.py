"""The limit: its stages are those of the server, and its arithmetic is right."""

import pytest

from service.benchmark.limit import FULL_BATCHES, Limit, Round, limit_of, measure_round
from service.benchmark.uploads import Body
from service.errors import UnknownImageFormat
from tests.doubles import FakeEngine, draw, fake_engine_card, png

SECONDS = Round(before_s=0.006, engine_alone_s=0.030, engine_full_s=0.020, after_s=0.004)
MAX_PIXELS = 1_000_000


def test_on_the_cpu_network_and_pixels_share_the_cores() -> None:
    limit = Limit(seconds=SECONDS, cores=2, is_on_gpu=False)
    assert limit.images_s == pytest.approx(1 / (0.020 + 0.010 / 2))
    assert limit.alone_s == pytest.approx(0.040)


@pytest.mark.parametrize(("cores", "slowest_s"), [(1, 0.020), (2, 0.020), (4, 0.020)])
def test_beside_a_gpu_the_slower_of_the_two_decides(cores: int, slowest_s: float) -> None:
    assert Limit(seconds=SECONDS, cores=cores, is_on_gpu=True).images_s == pytest.approx(1 / slowest_s)


def test_beside_a_gpu_decoding_may_be_the_slower() -> None:
    quick = Round(before_s=0.006, engine_alone_s=0.0006, engine_full_s=0.00025, after_s=0.004)
    assert Limit(seconds=quick, cores=16, is_on_gpu=True).images_s == pytest.approx(16 / 0.010)


def test_each_stage_counts_with_its_median_over_the_rounds() -> None:
    rounds = [
        Round(before_s=1, engine_alone_s=30, engine_full_s=200, after_s=1000),
        Round(before_s=3, engine_alone_s=10, engine_full_s=100, after_s=3000),
        Round(before_s=2, engine_alone_s=20, engine_full_s=900, after_s=2000),
    ]
    limit = limit_of(rounds, cores=2, is_on_gpu=False)
    assert limit.seconds == Round(before_s=2, engine_alone_s=20, engine_full_s=200, after_s=2000)


def test_a_round_runs_each_upload_alone_and_then_full_batches() -> None:
    engine = FakeEngine(fake_engine_card(), delay_s=0.02)
    bodies = [Body(png(draw(seed)), "image/png") for seed in range(3)]
    found = measure_round(engine, bodies, max_batch_size=4, max_pixels=MAX_PIXELS)
    assert engine.batches == [1, 1, 1] + [4] * FULL_BATCHES
    assert found.engine_alone_s >= 0.02
    assert found.engine_alone_s > found.engine_full_s >= 0.02 / 4
    assert found.before_s > 0
    assert found.after_s > 0


def test_an_upload_of_many_tiles_takes_its_share_of_the_batches() -> None:
    engine = FakeEngine(fake_engine_card(kind="tile"), delay_s=0.02)
    bodies = [Body(png(draw(0, height=64, width=3 * 64)), "image/png")]
    found = measure_round(engine, bodies, max_batch_size=2, max_pixels=MAX_PIXELS)
    assert engine.batches == [2, 1] + [2] * FULL_BATCHES
    assert found.engine_alone_s >= 2 * 0.02
    assert found.engine_full_s >= 3 * 0.02 / 2


def test_an_upload_that_the_server_would_refuse_has_no_limit() -> None:
    with pytest.raises(UnknownImageFormat):
        measure_round(
            FakeEngine(fake_engine_card()), [Body(b"text", "image/png")], max_batch_size=1, max_pixels=MAX_PIXELS
        )
