"""/readyz tells the truth in every state of a real server process; /livez says alive in all of them."""

from pathlib import Path

import httpx
import pytest

from tests.doubles import draw, png
from tests.end_to_end.server_process import Caller, ServerProcess, until

pytestmark = pytest.mark.timed

IMAGE = png(draw())


def why_not_ready(client: httpx.Client) -> str:
    """Return what /readyz gives for its 503, "" if it says 200; /livez has to say 200 beside either."""
    assert client.get("/livez").status_code == 200
    answer = client.get("/readyz")
    metrics = client.get("/metrics").text
    if client.get("/readyz").status_code != answer.status_code:
        return why_not_ready(client)  # it changed in between: ask for both once more
    assert metrics.count(f"\nalnet_ready {1 if answer.status_code == 200 else 0}") == 1
    if answer.status_code == 200:
        return ""
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["retry-after"]) >= 1
    return str(answer.json()["detail"])


def test_one_of_three_loaded_then_all_then_stuck_then_well_again_then_draining() -> None:
    options = ("--modalities", "retina", "cell", "skin", "--held", "cell")
    with ServerProcess(*options, request_timeout_s=0.5) as server, server.client() as client:
        until(lambda: client.get("/models/retina").status_code == 200)
        one_of_three = why_not_ready(client)
        assert "cell" in one_of_three
        assert "skin" in one_of_three
        assert "retina" not in one_of_three

        server.release()
        until(lambda: not why_not_ready(client))

        with server.held():
            assert Caller(server, IMAGE).answer().status_code == 504
            until(lambda: "stuck" in why_not_ready(client))
        until(lambda: not why_not_ready(client))

        with server.held():
            last = Caller(server, IMAGE)
            until(lambda: server.in_flight == 1)
            server.terminate()
            until(lambda: why_not_ready(client) == "shutting down")
        last.answer()
        assert server.exit_code() == 0


def test_a_modality_whose_warm_up_failed_keeps_the_replica_from_being_ready_and_the_others_answer() -> None:
    with ServerProcess("--broken", "cell") as server, server.client() as client:
        until(lambda: "other shapes" in why_not_ready(client))
        assert "retina" not in why_not_ready(client)
        assert client.post("/segment/retina", content=IMAGE).status_code == 200
        assert client.post("/segment/cell", content=IMAGE).status_code == 503


@pytest.mark.parametrize(
    ("settings", "reason"),
    [({}, "the model store holds no checkpoint"), ({"modalities": "retina"}, "retina")],
    ids=["empty store", "no checkpoint"],
)
def test_without_a_checkpoint_a_server_is_alive_and_never_ready(
    settings: dict[str, str], reason: str, tmp_path: Path
) -> None:
    with ServerProcess("serve", module="service.cli", store=tmp_path, **settings) as server, server.client() as client:
        until(lambda: reason in why_not_ready(client))
        server.terminate()
        assert server.exit_code() == 0
