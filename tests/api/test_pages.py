"""The two pages for people, and what every address has that can be read."""

import json
import logging
import re
from urllib.parse import urljoin

import pytest

from service.api.logs import PROBES
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


READABLE = ["/", "/docs", "/openapi.json", "/livez", "/readyz", "/metrics", "/models", "/models/retina"]


@pytest.mark.parametrize("path", READABLE)
async def test_head_says_the_same_as_get_without_a_body(path: str) -> None:
    async with running(fake_app()) as client:
        got, answer = await client.get(path), await client.head(path)
    assert answer.status_code == got.status_code == 200
    assert answer.headers["content-type"] == got.headers["content-type"]
    assert answer.content == b""


@pytest.mark.parametrize(
    ("path", "methods"), [*((path, "GET, HEAD") for path in READABLE), ("/segment/retina", "POST")]
)
async def test_a_wrong_method_is_told_all_the_right_ones(path: str, methods: str) -> None:
    async with running(fake_app()) as client:
        answer = await client.delete(path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == methods


@pytest.mark.parametrize("path", [path for path in READABLE if path not in PROBES])
async def test_every_address_has_a_name_in_the_log(path: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "service.access"):
        async with running(fake_app()) as client:
            await client.get(path)
    assert json.loads(caplog.messages[-1])["route"] == path.replace("retina", "{modality}")


@pytest.mark.parametrize("prefix", ["", "/behind/a-proxy"])
@pytest.mark.parametrize("path", ["/", "/docs"])
async def test_the_addresses_that_a_page_asks_exist_wherever_a_proxy_puts_them(path: str, prefix: str) -> None:
    async with running(fake_app()) as client:
        page = (await client.get(path)).text
        named = re.findall(r"""(?:ask\(|URL\(|href=)["'`]([^"'`$:]+)["'`$]""", page)
        asked = {urljoin(prefix + path, address) for address in named}
        assert [address for address in asked if not address.startswith(f"{prefix}/")] == []
        posted = {f"{prefix}/segment/"} & asked
        statuses = {(await client.get(address.removeprefix(prefix))).status_code for address in asked - posted}
    assert bool(posted) == (path == "/")
    assert statuses == {200}


async def test_every_control_of_the_page_has_a_label() -> None:
    async with running(fake_app()) as client:
        page = (await client.get("/")).text
    labelled = "".join(re.findall(r"<label.*?</label>", page, re.DOTALL))
    controls = re.findall(r"<(?:input|select)\b[^>]*>", page)
    assert controls
    assert [control for control in controls if control not in labelled] == []
