"""Every error as a problem document."""

import json
import logging
from collections.abc import Iterator

import httpx
import pytest

from service import errors
from service.api import problems
from service.api.exchange import Exchange
from tests.api.client import fake_app, running
from tests.doubles import FakeEngine, draw, fake_engine_card, png, poisonous

pytestmark = pytest.mark.anyio


def leaves(kind: type[errors.AlnetError]) -> Iterator[type[errors.AlnetError]]:
    below = kind.__subclasses__()
    if not below:
        yield kind
    for one in below:
        yield from leaves(one)


def a_problem(answer: httpx.Response, status: int, kind: str) -> str:
    """Check the document's form and return its detail."""
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert set(body) == {"type", "title", "status", "detail", "request_id"}
    assert body["type"] == kind
    assert body["status"] == status
    assert body["request_id"] == answer.headers["x-request-id"]
    assert body["title"]
    return str(body["detail"])


async def test_every_error_has_a_status() -> None:
    assert set(problems.STATUS) == set(leaves(errors.AlnetError))


async def test_problem_types_are_told_apart() -> None:
    assert len({problems.slug(kind) for kind in problems.STATUS}) == len(problems.STATUS)


async def test_an_error_without_a_row_gets_that_of_the_kind_above_it() -> None:
    class VeryDamagedImage(errors.DamagedImage):
        """Known only here."""

    assert problems.status_of(VeryDamagedImage) == 422


async def test_our_own_errors_are_problems() -> None:
    async with running(fake_app()) as client:
        answer = await client.post("/segment/retina", content=b"no image")
    a_problem(answer, 415, "urn:alnet:problem:unknown-image-format")


async def test_a_path_that_does_not_exist_is_a_problem() -> None:
    async with running(fake_app()) as client:
        answer = await client.get("/secret-folder")
    assert "secret" not in a_problem(answer, 404, "about:blank")


async def test_a_method_that_a_path_does_not_have_is_a_problem_that_lists_those_it_has() -> None:
    async with running(fake_app()) as client:
        answer = await client.get("/segment/retina")
    a_problem(answer, 405, "about:blank")
    assert answer.headers["allow"] == "POST"


async def test_a_parameter_that_cannot_be_read_is_a_problem() -> None:
    async with running(fake_app()) as client:
        answer = await client.post("/segment/retina?threshold=secret", content=png(draw()))
    detail = a_problem(answer, 400, "urn:alnet:problem:bad-parameter")
    assert "threshold" in detail
    assert "secret" not in detail


async def test_what_the_engine_says_stays_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with running(fake_app([FakeEngine(fake_engine_card())])) as client:
        answer = await client.post("/segment/retina", content=png(poisonous()))
    assert "poisonous" not in a_problem(answer, 500, "urn:alnet:problem:engine-failed")
    [record] = [record for record in caplog.records if record.name == "service.api.problems"]
    assert record.levelno == logging.ERROR
    assert answer.headers["x-request-id"] in record.getMessage()


@pytest.mark.parametrize(
    "kind", [errors.Overloaded, errors.NotReady, errors.ShuttingDown, errors.MemoryShort, errors.DeviceLost]
)
@pytest.mark.parametrize(("seconds", "header"), [(0.0, "1"), (1.0, "1"), (2.1, "3"), (60.0, "60")])
async def test_who_may_come_back_is_told_when_in_whole_seconds(
    kind: type[errors.Unavailable], seconds: float, header: str
) -> None:
    answer = problems.of_error(kind("later", retry_after_s=seconds), Exchange("id", "POST", 0.0))
    assert answer.headers["retry-after"] == header


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (errors.Overloaded, 429),
        (errors.RateLimited, 429),
        (errors.NotReady, 503),
        (errors.ShuttingDown, 503),
        (errors.MemoryShort, 503),
        (errors.DeviceLost, 503),
        (errors.DeadlineExceeded, 504),
    ],
)
async def test_who_cannot_be_served_now_hears_why(kind: type[errors.Unavailable], status: int) -> None:
    answer = problems.of_error(kind("because of this"), Exchange("id", "POST", 0.0))
    assert (answer.status_code, json.loads(bytes(answer.body))["detail"]) == (status, "because of this")


async def test_a_deadline_that_passed_is_no_invitation_to_come_back() -> None:
    answer = problems.of_error(errors.DeadlineExceeded("late"), Exchange("id", "POST", 0.0))
    assert answer.status_code == 504
    assert "retry-after" not in answer.headers


async def test_a_body_that_came_too_slowly_ends_its_connection() -> None:
    answer = problems.of_error(errors.UploadTooSlow("slow"), Exchange("id", "POST", 0.0))
    assert (answer.status_code, answer.headers["connection"]) == (408, "close")


async def test_who_accepts_nothing_that_there_is_hears_that_it_depends_on_that() -> None:
    answer = problems.of_error(errors.NotAcceptable("none"), Exchange("id", "POST", 0.0))
    assert (answer.status_code, answer.headers["vary"]) == (406, "Accept")
