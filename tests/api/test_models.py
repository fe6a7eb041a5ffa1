"""What there is to segment with."""

import threading

import pytest

from service.store.card import Card
from tests.api.client import fake_app, running, started
from tests.doubles import FakeEngine, fake_engine_card

pytestmark = pytest.mark.anyio


async def test_every_modality_is_listed_with_what_a_caller_needs_to_choose() -> None:
    engines = [FakeEngine(fake_engine_card("retina")), FakeEngine(fake_engine_card("skin", test=None))]
    async with running(fake_app(engines)) as client:
        retina, skin = (await client.get("/models")).json()["models"]
    assert retina == {
        "modality": "retina",
        "status": "ready",
        "reason": None,
        "version": "1",
        "pinned": False,
        "refused": None,
        "engine": "cpu float32",
        "architecture": "al-net",
        "label": "vessel",
        "input": {"kind": "stretch", "height": 64, "width": 64, "overlap": 0, "margins": "keep", "levels": "lighten"},
        "scores": {
            "dataset": "drawn",
            "n": 3,
            "iou_mean": 0.7,
            "iou_std": 0.05,
            "accuracy_mean": 0.95,
            "accuracy_std": 0.01,
            "dice_mean": 0.82,
        },
    }
    assert skin["modality"] == "skin"
    assert skin["scores"] is None


async def test_a_modality_that_loads_is_listed_as_such() -> None:
    gate = threading.Event()
    async with started(fake_app([FakeEngine(fake_engine_card(), gate=gate)])) as client:
        [listed] = (await client.get("/models")).json()["models"]
        card = await client.get("/models/retina")
        gate.set()
    assert listed["status"] == "loading"
    assert (listed["architecture"], listed["engine"]) == (None, None)
    assert card.status_code == 503


async def test_a_modality_that_failed_is_listed_with_its_reason() -> None:
    lame = FakeEngine(fake_engine_card("retina"), answers_of=(32, 32))
    async with running(fake_app([lame, FakeEngine(fake_engine_card("cell"))])) as client:
        retina, cell = (await client.get("/models")).json()["models"]
    assert (retina["status"], cell["status"]) == ("failed", "ready")
    assert "(32, 32)" in retina["reason"]


async def test_the_card_is_given_whole() -> None:
    card = fake_engine_card()
    async with running(fake_app([FakeEngine(card)])) as client:
        answer = await client.get("/models/retina")
    assert Card.model_validate_json(answer.content) == card


async def test_an_unknown_modality_has_no_card() -> None:
    async with running(fake_app()) as client:
        answer = await client.get("/models/liver")
    assert answer.status_code == 404
    assert "retina" in answer.json()["detail"]
