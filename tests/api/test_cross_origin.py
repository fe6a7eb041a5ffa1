"""Which pages of other origins a browser lets call, and what it lets them see."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from service.api.cross_origin import SEEN, SENT, origins_of
from service.api.key_file import add_key
from service.errors import BadSettings
from tests.api.client import fake_app, parts_of, running
from tests.doubles import draw, png, poisonous

pytestmark = pytest.mark.anyio

VIEWER = "https://viewer.example.org"
ELSEWHERE = "https://elsewhere.example.org"
ALLOWED = "Access-Control-Allow-Origin"
UPLOADS = "/segment/retina"
SHOWN_BY_ALL_BROWSERS = {"Cache-Control", "Content-Type"}
FOR_BROWSERS_ALONE = {"Vary", "X-Content-Type-Options"}


async def ask(client: httpx.AsyncClient, origin: str, **changes: Any) -> httpx.Response:
    """Ask whether a page of this origin may upload with every header that there is, as browsers do beforehand."""
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": ",".join(sorted(SENT)).lower(),
    }
    return await client.options(UPLOADS, headers=asked | changes)


async def upload(client: httpx.AsyncClient, origin: str = VIEWER, **headers: str) -> httpx.Response:
    return await client.post(UPLOADS, content=png(draw()), headers={"Origin": origin} | headers)


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        ("", ()),
        (" , ", ()),
        ("*", ("*",)),
        ("https://viewer.example.org", (VIEWER,)),
        (" HTTPS://Viewer.Example.org , http://localhost:3000", (VIEWER, "http://localhost:3000")),
        ("https://a:443,http://b:80,http://c:443", ("https://a", "http://b", "http://c:443")),
        ("http://[::1]:8042", ("http://[::1]:8042",)),
        ("app://viewer", ("app://viewer",)),
    ],
)
def test_origins_are_those_that_browsers_send(text: str, origins: tuple[str, ...]) -> None:
    assert origins_of(text) == origins


@pytest.mark.parametrize(
    "text",
    [
        "viewer.example.org",
        "https://viewer.example.org/",
        "https://viewer.example.org/app",
        "https://viewer.example.org?x",
        "https://me@viewer.example.org",
        "https://",
        "https://:8000",
        "https://viewer:80000",
        "https://viewer:http",
        "https://[::1",
        "https://viewer[::1]",
        "https://*.example.org",
        "https://kliník.example",
        "null",
        "*, https://viewer.example.org",
        "https://a https://b",
    ],
)
def test_what_is_no_origin_stops_the_start_and_is_named(text: str) -> None:
    with pytest.raises(BadSettings, match=r"ALNET_CORS_ORIGINS: .*"):
        fake_app(cors_origins=text)


async def test_by_default_no_page_of_another_origin_sees_an_answer() -> None:
    async with running(fake_app()) as client:
        answer = await upload(client)
        assert answer.status_code == 200
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert (await ask(client, VIEWER)).status_code == 405


async def test_a_named_origin_sees_every_kind_of_answer() -> None:
    async with running(fake_app(cors_origins=f"{VIEWER},http://localhost:3000")) as client:
        origin = {"Origin": VIEWER}
        answers = [
            await upload(client),
            await upload(client, Accept="image/png"),
            await upload(client, Accept="text/plain"),
            await client.post(UPLOADS, content=b"no image", headers=origin),
            await client.post(UPLOADS, content=png(poisonous()), headers=origin),
            await client.post("/segment/knee", content=png(draw()), headers=origin),
            await client.get("/models", headers=origin),
            await client.get("/nowhere", headers=origin),
            await client.get(UPLOADS, headers=origin),
        ]
    assert [answer.status_code for answer in answers] == [200, 200, 406, 415, 500, 404, 200, 404, 405]
    assert {answer.headers[ALLOWED] for answer in answers} == {VIEWER}
    assert all("Origin" in answer.headers["Vary"] for answer in answers)
    assert all("Accept" in answer.headers["Vary"] for answer in answers[:3])
    assert "x-segmentation-model" in answers[1].headers["Access-Control-Expose-Headers"].lower()
    assert not [answer for answer in answers if "Access-Control-Allow-Credentials" in answer.headers]


async def test_a_named_origin_sees_that_there_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ValueError("a bug")

    app = fake_app(cors_origins=VIEWER)
    async with running(app) as client:
        monkeypatch.setattr(parts_of(app).telemetry, "record_segmentation", broken)
        answer, elsewhere = await upload(client), await upload(client, ELSEWHERE)
    assert answer.status_code == elsewhere.status_code == 500
    assert answer.json()["type"] == "urn:alnet:problem:internal-error"
    assert answer.headers[ALLOWED] == VIEWER
    assert "x-request-id" in answer.headers["Access-Control-Expose-Headers"].lower()
    assert ALLOWED not in elsewhere.headers


async def test_another_origin_is_answered_but_its_page_sees_nothing() -> None:
    async with running(fake_app(cors_origins=VIEWER)) as client:
        answer = await upload(client, ELSEWHERE)
        assert answer.status_code == 200
        assert ALLOWED not in answer.headers
        assert answer.headers["Vary"] == "Accept, Origin"
        asked = await ask(client, ELSEWHERE)
        assert asked.status_code == 400
        assert ALLOWED not in asked.headers


async def test_a_browser_may_ask_beforehand_without_a_key_and_at_no_cost(tmp_path: Path) -> None:
    key = add_key(tmp_path / "keys", "ward-3")
    app = fake_app(cors_origins=VIEWER, api_keys=str(tmp_path / "keys"), rate_limit=1)
    async with running(app) as client:
        for _ in range(3):
            asked = await ask(client, VIEWER)
            assert asked.status_code == 200
            assert asked.headers[ALLOWED] == VIEWER
            assert asked.headers["X-Request-ID"]
        allowed = await upload(client, Authorization=f"Bearer {key}")
        refused = [await upload(client, Authorization=f"Bearer {key}"), await upload(client)]
    assert [answer.status_code for answer in [allowed, *refused]] == [200, 429, 401]
    assert {answer.headers[ALLOWED] for answer in [allowed, *refused]} == {VIEWER}


async def test_what_comes_before_the_framework_is_seen_as_well() -> None:
    async with running(fake_app(cors_origins=VIEWER, rate_limit=1)) as client:
        answers = [await upload(client), await upload(client)]
    assert [answer.status_code for answer in answers] == [200, 429]
    assert answers[1].headers[ALLOWED] == VIEWER
    assert answers[1].headers["Retry-After"]


async def test_any_origin_may_be_let_in() -> None:
    async with running(fake_app(cors_origins="*")) as client:
        assert (await upload(client, ELSEWHERE)).headers[ALLOWED] == "*"
        assert (await ask(client, ELSEWHERE)).headers[ALLOWED] == "*"


@pytest.mark.parametrize(("origins", "status"), [(VIEWER, 200), ("*", 400)])
async def test_only_a_named_page_of_the_internet_reaches_into_a_private_network(origins: str, status: int) -> None:
    async with running(fake_app(cors_origins=origins)) as client:
        asked = await ask(client, VIEWER, **{"Access-Control-Request-Private-Network": "true"})
    assert asked.status_code == status
    assert ("Access-Control-Allow-Private-Network" in asked.headers) == (status == 200)


async def test_a_page_sees_every_header_that_the_document_names(tmp_path: Path) -> None:
    add_key(tmp_path / "keys", "ward-3")
    document = fake_app(api_keys=str(tmp_path / "keys"), rate_limit=1).openapi()
    operations = [operation for operations in document["paths"].values() for operation in operations.values()]
    answers = [answer for operation in operations for answer in operation["responses"].values()]
    named = {name for answer in answers for name in answer.get("headers", {})}
    assert set(SEEN) == named - FOR_BROWSERS_ALONE - SHOWN_BY_ALL_BROWSERS
    parameters = {
        p["name"].lower() for operation in operations for p in operation.get("parameters", ()) if p["in"] == "header"
    }
    assert parameters <= {name.lower() for name in SENT}
