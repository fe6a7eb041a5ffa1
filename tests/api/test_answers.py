"""The JSON answer, into which pictures are put piece by piece."""

import base64
import gc
from collections.abc import Callable

import pytest

from service.api.answers import BASE64_BYTES, LARGE_BYTES, PLACE
from service.engine.segmenter import Segmentation
from tests.api.client import fake_app, running
from tests.doubles import FakeEngine, draw, fake_engine_card, png, read_png
from tests.engine.no_threads import start_no_thread, start_threads_that_die
from tests.waiting import until

pytestmark = pytest.mark.anyio


async def test_large_pictures_are_whole() -> None:
    pixels = draw(0, 1300, 1300)
    async with running(fake_app([FakeEngine(fake_engine_card(kind="tile"))])) as client:
        answer = (await client.post("/segment/retina?probability=true", content=png(pixels))).json()
        alone = await client.post("/segment/retina", content=png(pixels), headers={"Accept": "image/png"})
    mask, probability = (base64.b64decode(answer[name]["data"], validate=True) for name in ("mask", "probability"))
    assert len(probability) > max(LARGE_BYTES, 2 * BASE64_BYTES)
    assert mask == alone.content
    assert (read_png(probability) == pixels[..., 1]).all()


async def answered_in_want_of_threads(starts: Callable[[pytest.MonkeyPatch], None]) -> None:
    pixels = draw(0, 1300, 1300)
    async with running(fake_app([FakeEngine(fake_engine_card(kind="tile"))])) as client:
        with pytest.MonkeyPatch.context() as patch:
            starts(patch)
            answer = await client.post("/segment/retina?probability=true&threshold=0", content=png(pixels))
        await until(lambda: segmentations() == [])
    assert answer.status_code == 200
    assert (read_png(base64.b64decode(answer.json()["probability"]["data"])) == pixels[..., 1]).all()


async def test_large_pictures_are_whole_where_no_thread_can_be_started_for_them() -> None:
    await answered_in_want_of_threads(start_no_thread)


@pytest.mark.timeout(60)
async def test_large_pictures_are_whole_where_a_thread_for_them_never_says_that_it_has_started() -> None:
    await answered_in_want_of_threads(start_threads_that_die)


def segmentations() -> list[object]:
    gc.collect()
    return [one for one in gc.get_objects() if type(one) is Segmentation]


async def test_text_that_looks_like_a_place_for_a_picture_stays_text() -> None:
    card = fake_engine_card(label=PLACE.decode())
    async with running(fake_app([FakeEngine(card)])) as client:
        answer = (await client.post("/segment/retina", content=png(draw()))).json()
    assert answer["mask"]["label"] == PLACE.decode()
    assert read_png(base64.b64decode(answer["mask"]["data"])).shape == (64, 64)
    assert answer["probability"] is None
