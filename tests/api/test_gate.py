"""Which requests need a key, how often callers may ask, and that nothing of a body is read before that is known."""

import asyncio
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Message

from service.api.gate import Gate
from service.api.key_file import add_key
from service.errors import BadSettings
from service.settings import Settings
from tests.api.client import fake_app, parts_of, running
from tests.doubles import FakeEngine, draw, fake_engine_card, png
from tests.waiting import until

pytestmark = pytest.mark.anyio

IMAGE = png(draw())
UPLOADS = "/segment/retina"
ADDRESS = "192.0.2.1"
OPEN = {"/", "/docs", "/openapi.json", "/livez", "/readyz"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "api-keys"


@pytest.fixture
def key(file: Path) -> str:
    return add_key(file, "ward-3")


def guarded_app(file: Path, **settings: Any) -> FastAPI:
    return fake_app(api_keys=str(file), **settings)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def calls(app: FastAPI) -> list[tuple[str, str]]:
    """Return method and path of all that the app has, each with a modality that exists."""
    described = [(method.upper(), path) for path, one in app.openapi()["paths"].items() for method in one]
    pages = [("GET", path) for path in ("/", "/docs", "/openapi.json")]
    return [(method, path.replace("{modality}", "retina")) for method, path in [*described, *pages]]


async def ask_all(app: FastAPI, headers: Mapping[str, str]) -> dict[str, int]:
    async with running(app) as client:
        return {
            path: (await client.request(method, path, headers=headers, content=IMAGE if method == "POST" else None))
            .status_code
            for method, path in calls(app)
        }  # fmt: skip


async def unread(app: FastAPI, **headers: str) -> list[Message]:
    """Return what is answered to an upload whose body cannot be read."""
    sent: list[Message] = []

    async def receive() -> Message:
        raise AssertionError("the body was asked for")

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/segment/retina",
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "client": (ADDRESS, 1),
    }
    await app(scope, receive, send)
    return sent


async def asked_from(app: FastAPI, addresses: list[str], **headers: str) -> list[int]:
    statuses = []
    for address in addresses:
        transport = httpx.ASGITransport(app=app, client=(address, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as client:
            statuses.append((await client.get("/models")).status_code)
    return statuses


async def test_without_a_key_file_nobody_needs_a_key() -> None:
    statuses = await ask_all(fake_app(), {})
    assert set(statuses.values()) == {200}


async def test_without_a_key_only_the_open_paths_answer(file: Path, key: str) -> None:
    statuses = await ask_all(guarded_app(file), {})
    assert {path for path, status in statuses.items() if status == 200} == OPEN | {"/metrics"}
    assert {path for path, status in statuses.items() if status == 401} == {
        "/segment/retina",
        "/models",
        "/models/retina",
    }


async def test_with_a_key_every_path_answers(file: Path, key: str) -> None:
    for headers in (bearer(key), {"X-API-Key": key}):
        assert set((await ask_all(guarded_app(file), headers)).values()) == {200}


async def test_metrics_need_a_key_if_told_so(file: Path, key: str) -> None:
    app = guarded_app(file, metrics_access="key")
    assert (await ask_all(app, {}))["/metrics"] == 401
    assert (await ask_all(guarded_app(file, metrics_access="key"), bearer(key)))["/metrics"] == 200


async def test_a_slash_too_many_is_no_path_and_sends_nobody_elsewhere() -> None:
    async with running(fake_app()) as client:
        answers = [await client.get("/models/"), await client.post("/segment/retina/", content=IMAGE)]
    for answer in answers:
        assert answer.status_code == 404
        assert answer.json()["status"] == 404
        assert "location" not in answer.headers


@pytest.mark.parametrize("path", ["/metrics", "/livez", "/models", "/models/retina", "/", "/openapi.json"])
async def test_a_line_break_behind_a_path_makes_another_of_it(path: str) -> None:
    """Else who may ask for all but /metrics, through a proxy, has it all the same."""
    async with running(fake_app()) as client:
        assert (await client.get(path)).status_code == 200
        answer = await client.get(httpx.URL("http://test", raw_path=f"{path}%0a?a=1".encode()))
    assert (answer.status_code, answer.json()["status"]) == (404, 404)
    assert answer.headers["X-Request-ID"] == answer.json()["request_id"]


async def test_an_open_path_is_open_to_head_too_and_a_slash_more_opens_nothing(file: Path, key: str) -> None:
    async with running(guarded_app(file)) as client:
        assert (await client.head("/readyz")).status_code == 200
        for path in (
            b"/models/",
            b"//models",
            b"/livez/../models",
            b"/livez/..%2fmodels",
            b"/%6dodels",
            b"/models?/livez",
        ):
            answer = await client.get(httpx.URL("http://test", raw_path=path))
            assert answer.status_code in {401, 404}


@pytest.mark.parametrize(
    ("headers", "challenge"),
    [
        ({}, 'Bearer realm="alnet-service"'),
        (bearer("alnet_wrong"), 'Bearer realm="alnet-service", error="invalid_token"'),
    ],
)
async def test_a_refusal_is_a_problem_that_says_how_to_send_a_key(
    file: Path, key: str, headers: dict[str, str], challenge: str
) -> None:
    async with running(guarded_app(file)) as client:
        answer = await client.post("/segment/retina", content=IMAGE, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"] == challenge
    body = answer.json()
    assert (body["type"], body["status"]) == ("urn:alnet:problem:key-needed", 401)
    assert body["request_id"] == answer.headers["x-request-id"]
    assert "wrong" not in answer.text


async def test_who_has_no_key_is_told_nothing_else(file: Path, key: str) -> None:
    async with running(guarded_app(file)) as client:
        answers = [
            await client.post("/segment/liver", content=IMAGE),
            await client.post("/segment/retina?threshold=7", content=IMAGE),
            await client.post("/segment/retina", content=b"", headers={"Accept": "text/html"}),
            await client.get("/models/liver"),
        ]
    assert [answer.status_code for answer in answers] == [401] * 4
    assert len({answer.json()["detail"] for answer in answers}) == 1


async def test_no_byte_of_a_body_is_read_before_its_key_is_known(file: Path, key: str) -> None:
    app = guarded_app(file)
    for headers in ({}, bearer("alnet_wrong")):
        begun, *_ = await unread(app, **headers)
        assert begun["status"] == 401


async def test_no_byte_of_a_body_is_read_before_its_callers_rate_is_known() -> None:
    app = fake_app(rate_limit=1)
    async with running(app):
        assert await asked_from(app, [ADDRESS]) == [200]
        begun, *_ = await unread(app)
    assert begun["status"] == 429


async def test_no_byte_of_a_body_is_read_that_finds_the_queue_full_where_callers_are_limited_too() -> None:
    gate = threading.Event()
    gate.set()
    engine = FakeEngine(fake_engine_card("retina"), gate=gate)
    app = fake_app([engine], rate_limit=100, max_queued=1, max_batch_size=1)
    async with running(app) as client:
        gate.clear()
        warm_ups = len(engine.batches)
        runs = asyncio.create_task(client.post("/segment/retina", content=IMAGE))
        await until(lambda: len(engine.batches) > warm_ups)
        waits = asyncio.create_task(client.post("/segment/retina", content=IMAGE))
        await until(lambda: parts_of(app).fleet.queued("retina") == 1)
        _, refusal, *_ = await unread(app)
        gate.set()
        assert [answer.status_code for answer in (await runs, await waits)] == [200, 200]
    assert json.loads(refusal["body"])["type"] == "urn:alnet:problem:overloaded"


async def test_no_byte_of_a_body_is_read_whose_deadline_has_passed() -> None:
    app = fake_app()
    async with running(app):
        begun, *_ = await unread(app, **{"X-Request-Timeout-Ms": "0.001"})
    assert begun["status"] == 504


async def test_a_caller_above_his_rate_is_refused_until_the_time_that_he_is_told(file: Path, key: str) -> None:
    other = add_key(file, "ward-4")
    async with running(guarded_app(file, rate_limit=2, rate_burst=3)) as client:
        answers = [await client.get("/models", headers=bearer(key)) for _ in range(4)]
        of_another = await client.get("/models", headers=bearer(other))
        health = [await client.get(path, headers=bearer(key)) for path in ("/livez", "/readyz", "/metrics")]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [answer.headers["ratelimit"].split(";")[1] for answer in answers] == ["r=2", "r=1", "r=0", "r=0"]
    assert {answer.headers["ratelimit-policy"] for answer in answers} == {'"caller";q=3;w=90'}
    refused = answers[-1]
    assert refused.json()["type"] == "urn:alnet:problem:rate-limited"
    assert refused.headers["retry-after"] == "30"
    assert of_another.status_code == 200
    assert of_another.headers["ratelimit"] == '"caller";r=2;t=30'
    assert [answer.status_code for answer in health] == [200] * 3
    assert "ratelimit" not in health[0].headers


async def test_a_full_queue_is_told_of_before_all_but_key_and_rate_and_an_upload_is_paid_for_once(
    file: Path, key: str
) -> None:
    gate = threading.Event()
    gate.set()
    engine = FakeEngine(fake_engine_card(), gate=gate)
    app = fake_app([engine], api_keys=str(file), rate_limit=1, rate_burst=5, max_queued=1, max_batch_size=1)
    async with running(app) as client:
        gate.clear()
        begun = await client.post(UPLOADS, content=IMAGE, headers=bearer(key) | {"X-Request-Timeout-Ms": "200"})
        waiting = asyncio.create_task(client.post(UPLOADS, content=IMAGE, headers=bearer(key)))
        await until(lambda: parts_of(app).fleet.queued("retina") == 1)
        refused = await client.post(UPLOADS, params={"threshold": "7"}, content=IMAGE, headers=bearer(key))
        unknown = await client.post(UPLOADS, content=IMAGE)
        gate.set()
        answers = [begun, await waiting, refused]
    assert [answer.status_code for answer in answers] == [504, 200, 429]
    assert [answer.headers["ratelimit"].split(";")[1] for answer in answers] == ["r=4", "r=3", "r=2"]
    assert refused.json()["type"] == "urn:alnet:problem:overloaded"
    assert unknown.status_code == 401


async def test_a_wrong_key_costs_its_sender_and_nobody_else_any_allowance(file: Path, key: str) -> None:
    async with running(guarded_app(file, rate_limit=1)) as client:
        wrong = [await client.get("/models", headers=bearer("alnet_wrong")) for _ in range(3)]
        right = await client.get("/models", headers=bearer(key))
    assert [answer.status_code for answer in wrong] == [401] * 3
    assert right.status_code == 200


@pytest.mark.parametrize(
    ("addresses", "statuses"),
    [
        (["192.0.2.1", "192.0.2.2", "192.0.2.1"], [200, 200, 429]),
        (["2001:db8::1", "2001:db8::8000:0:0:1", "2001:db8:0:1::1"], [200, 429, 200]),
        (["::ffff:192.0.2.1", "192.0.2.1", "::ffff:192.0.2.2"], [200, 429, 200]),
        (["", "no address"], [200, 429]),
    ],
    ids=["IPv4", "IPv6", "IPv4 in IPv6", "none"],
)
async def test_without_keys_each_address_has_a_rate_of_its_own(addresses: list[str], statuses: list[int]) -> None:
    app = fake_app(rate_limit=1)
    async with running(app):
        assert await asked_from(app, addresses) == statuses


async def test_callers_of_whom_no_address_is_known_share_one_rate() -> None:
    """As those do who come over a Unix socket."""
    app, nobody, statuses = fake_app(rate_limit=1), cast("tuple[str, int]", None), list[int]()
    async with running(app):
        for _ in range(2):
            transport = httpx.ASGITransport(app=app, client=nobody)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                statuses.append((await client.get("/models")).status_code)
    assert statuses == [200, 429]


async def test_an_address_that_a_header_claims_is_not_believed() -> None:
    app = fake_app(rate_limit=1)
    async with running(app):
        first = await asked_from(app, ["192.0.2.1"], **{"X-Forwarded-For": "198.51.100.1"})
        second = await asked_from(app, ["192.0.2.1"], **{"X-Forwarded-For": "198.51.100.2"})
    assert first + second == [200, 429]


async def test_a_server_that_cannot_know_its_keys_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="cannot read the API keys"):
        guarded_app(tmp_path / "nowhere")


async def test_metrics_behind_keys_that_do_not_exist_are_a_wrong_setting() -> None:
    with pytest.raises(BadSettings, match="set ALNET_API_KEYS too"):
        Gate.of(Settings.read({"ALNET_METRICS_ACCESS": "key"}))


async def test_a_burst_without_a_rate_limit_is_a_wrong_setting() -> None:
    with pytest.raises(BadSettings, match="set ALNET_RATE_LIMIT too"):
        Gate.of(Settings.read({"ALNET_RATE_BURST": "5"}))


async def test_the_document_describes_every_header_of_a_server_with_keys_and_limits(file: Path, key: str) -> None:
    app = guarded_app(file, rate_limit=3)
    statuses = []
    async with running(app) as client:
        for headers in ({}, bearer(key), bearer(key)):
            for template, operations in app.openapi()["paths"].items():
                [(method, operation)] = operations.items()
                path = template.replace("{modality}", "retina")
                answer = await client.request(
                    method, path, headers=headers, content=IMAGE if method == "post" else None
                )
                statuses.append(answer.status_code)
                told = {name.lower() for name in operation["responses"][str(answer.status_code)]["headers"]}
                assert set(answer.headers) - told <= {"content-type", "content-length"}, (path, answer.status_code)
    assert set(statuses) == {200, 401, 429}


async def test_a_refused_representation_and_its_vary_are_described() -> None:
    app = fake_app()
    described = app.openapi()["paths"]["/segment/{modality}"]["post"]["responses"]["406"]["headers"]
    async with running(app) as client:
        answer = await client.post("/segment/retina", content=IMAGE, headers={"Accept": "text/html"})
    assert answer.status_code == 406
    assert set(answer.headers) - {name.lower() for name in described} == {"content-type", "content-length"}


def test_the_document_declares_limits_only_where_there_are_any(file: Path, key: str) -> None:
    assert "RateLimit" not in str(guarded_app(file).openapi()["paths"])
    for path, operations in fake_app(rate_limit=5).openapi()["paths"].items():
        for operation in operations.values():
            responses = operation["responses"]
            limited = [status for status, response in responses.items() if "RateLimit" in response["headers"]]
            assert limited == ([] if path in OPEN | {"/metrics"} else list(responses))
            assert ("429" in responses) == (path not in OPEN | {"/metrics"})


async def test_the_document_declares_keys_only_where_they_are_needed(file: Path, key: str) -> None:
    without = fake_app(rate_limit=5).openapi()
    assert "securitySchemes" not in without["components"]
    assert "security" not in str(without["paths"])
    assert "401" not in without["paths"]["/segment/{modality}"]["post"]["responses"]
    described = guarded_app(file).openapi()
    schemes = described["components"]["securitySchemes"]
    assert [(scheme["type"], scheme.get("scheme"), scheme.get("name")) for scheme in schemes.values()] == [
        ("http", "bearer", None),
        ("apiKey", None, "X-API-Key"),
    ]
    for path, operations in described["paths"].items():
        for operation in operations.values():
            if path in OPEN | {"/metrics"}:
                assert "security" not in operation
            else:
                assert operation["security"] == [{"bearer": []}, {"header": []}]
                assert set(operation["responses"]["401"]["content"]) == {"application/problem+json"}
