"""Which representation an Accept header chooses."""

import time

import pytest

from service.api.negotiation import Representation, choose
from service.errors import NotAcceptable
from tests.api.client import fake_app, running
from tests.doubles import draw, png

JSON, PNG = Representation.JSON, Representation.PNG


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ([], JSON),
        ([""], JSON),
        ([" , "], JSON),
        (["*/*"], JSON),
        (["application/json"], JSON),
        (["application/*"], JSON),
        (["APPLICATION/JSON"], JSON),
        (["application/json; charset=utf-8"], JSON),
        (["image/png"], PNG),
        (["image/*"], PNG),
        (["image/png;q=0.4, application/json;q=0.9"], JSON),
        (["image/png, application/json;q=0.9"], PNG),
        (["application/json;q=0, */*"], PNG),
        (["image/png;q=0.5, */*;q=0.1"], PNG),
        (["text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"], JSON),
        (["text/html", "image/png"], PNG),
        (["image/webp, image/png;q=0.1"], PNG),
        (["text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"], JSON),
        (["*"], JSON),
        (["image/png;q=0.2, *"], JSON),
        (["image/png, * ; q=.2"], PNG),
        (["application/json;q=.4, image/png; Q = .5"], PNG),
        (["application/json;q=0., image/png;q=1."], PNG),
    ],
)
def test_the_best_liked_representation_is_chosen(accept: list[str], chosen: Representation) -> None:
    assert choose(accept) is chosen


@pytest.mark.parametrize(
    "accept",
    ["text/html", "image/jpeg", "*/*;q=0", "application/json;q=0", "nonsense", ";;,", "*/png", "*;q=0", "a*", "* *"],
)
def test_what_does_not_exist_is_not_acceptable(accept: str) -> None:
    with pytest.raises(NotAcceptable, match="application/json, image/png"):
        choose([accept])


def test_a_header_longer_than_any_is_refused_unread() -> None:
    with pytest.raises(NotAcceptable, match="4096"):
        choose(["a/b," * 10_000 + "*/*"])


@pytest.mark.parametrize("blank", ["\t", " ", " \t"])
def test_blanks_take_no_longer_to_read_than_letters(blank: str) -> None:
    """In seconds of this thread alone, within a factor of 40: it was a thousand, and all callers waited."""

    def seconds(header: str) -> float:
        began = time.thread_time()
        with pytest.raises(NotAcceptable):
            choose([header])
        return time.thread_time() - began

    blanks = (blank * 4000)[:4000]
    took = min(seconds(f"text/{number}{blanks};q=1") for number in range(3))
    assert took < 40 * max(0.0001, min(seconds(f"text/{number}{'x' * 4000};q=1") for number in range(3)))


@pytest.mark.anyio
@pytest.mark.parametrize(("accept", "status"), [("application/json", 200), ("image/png", 200), ("text/csv", 406)])
async def test_answers_that_depend_on_accept_say_so(accept: str, status: int) -> None:
    async with running(fake_app()) as client:
        answer = await client.post("/segment/retina", content=png(draw()), headers={"Accept": accept})
    assert answer.status_code == status
    assert answer.headers["vary"] == "Accept"
