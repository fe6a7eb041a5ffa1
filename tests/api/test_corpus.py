"""Odd, damaged and hostile files, through the whole service."""

from pathlib import Path

import pytest

from service.api import problems
from tests.api.client import fake_app, form, running
from tests.doubles import draw, png

pytestmark = pytest.mark.anyio

HARMLESS = {200, *problems.STATUS.values()} - {500, 503}


async def test_every_file_of_the_corpus_is_answered_or_refused_as_image_and_as_reference(real_data: Path) -> None:
    image = png(draw())
    statuses = {}
    async with running(fake_app()) as client:
        for file in sorted((real_data / "robustness").iterdir()):
            content = file.read_bytes()
            alone = await client.post("/segment/retina", content=content, headers={"Accept": "image/png"})
            as_reference = await client.post("/segment/retina", files=form(image=image, reference=content))
            statuses[file.name] = (alone.status_code, as_reference.status_code)
    assert {name: both for name, both in statuses.items() if not HARMLESS.issuperset(both)} == {}
    assert sum(alone == 200 for alone, _ in statuses.values()) > len(statuses) / 4
