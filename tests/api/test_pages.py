"""The two pages for people."""

import re

import pytest

from tests.api.client import fake_app, running

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("path", ["/", "/docs"])
async def test_a_page_needs_nothing_from_outside(path: str) -> None:
    async with running(fake_app()) as client:
        answer = await client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert not re.search(r"https?://|//cdn|@import", answer.text)
    assert "default-src 'none'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize("path", ["/", "/docs"])
async def test_the_addresses_that_a_page_asks_exist(path: str) -> None:
    async with running(fake_app()) as client:
        page = (await client.get(path)).text
        asked = set(re.findall(r"""(?:fetch\(|href=)["'](/[^"'$]*)["']""", page))
        statuses = {address: (await client.get(address)).status_code for address in asked}
    assert asked
    assert set(statuses.values()) == {200}


async def test_every_control_of_the_page_has_a_label() -> None:
    async with running(fake_app()) as client:
        page = (await client.get("/")).text
    labelled = "".join(re.findall(r"<label.*?</label>", page, re.DOTALL))
    controls = re.findall(r"<(?:input|select)\b[^>]*>", page)
    assert controls
    assert [control for control in controls if control not in labelled] == []
