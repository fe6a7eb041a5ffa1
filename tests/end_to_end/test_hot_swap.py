"""New versions in the store of a real server process: swapped in under load, refused with a reason, pinned."""

import base64
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load, save

from service.imaging.policy import InputPolicy
from service.imaging.statistics import FEATURES
from service.store.card import TrainingImages
from service.store.checkpoint import Checkpoint, sha256
from service.store.pin import remove_pin, write_pin
from service.store.publish import publish
from tests.checkpoints import publish_tiny
from tests.doubles import draw, png, read_png
from tests.end_to_end.server_process import ServerProcess, read_all, request_head, until

IMAGE = png(draw(0, 70, 90))
GRIDS = {
    "1": InputPolicy(kind="stretch", height=64, width=96),
    "2": InputPolicy(kind="tile", height=64, width=64, overlap=8),
    "3": InputPolicy(kind="fit", height=32, width=60),
}
LIKE_ANYTHING = TrainingImages(features=FEATURES, mean=(1.0,) * len(FEATURES), scale=(1.0,) * len(FEATURES), limit=1e6)
MOST_GROWTH_MIB = 20

Tensors = dict[str, torch.Tensor]


def publish_version(store: Path, version: str, modality: str, **changes: Any) -> Checkpoint:
    """Publish a version that answers unlike the others, and whose grid is another where GRIDS says so."""
    fields = {"input": GRIDS.get(version, GRIDS["1"]), "training_images": LIKE_ANYTHING} | changes
    return publish_tiny(store, modality, seed=int(version), version=version, **fields)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that has version 1 of retina at first."""
    folder = tmp_path_factory.mktemp("store")
    publish_version(folder, "1", "retina")
    return folder


@pytest.fixture(scope="module")
def server(store: Path) -> Iterator[ServerProcess]:
    """A server of that store, which looks at it often, and must end well."""
    with serve(store) as running:
        running.wait_ready()
        yield running
        running.terminate()
        assert running.exit_code() == 0
    assert "Traceback" not in "".join(running.err)


@pytest.fixture
def modality(server: ServerProcess, store: Path, request: pytest.FixtureRequest) -> str:
    """A modality of the test's own, whose version 1 is served."""
    name = f"modality-{abs(hash(request.node.name)) % 10**9}"
    publish_version(store, "1", name)
    wait_served(server, name, "1")
    return name


def serve(store: Path, **settings: object) -> ServerProcess:
    fixed = {
        "store": store,
        "store_poll_s": 0.05,
        "device": "cpu",
        "precision": "float32",
        "threads": 1,
        "max_batch_size": 4,
    }
    return ServerProcess("serve", module="service.cli", **(fixed | settings))


def listed(server: ServerProcess, modality: str) -> dict[str, Any]:
    """Return what GET /models says of a modality; empty if nothing."""
    models = server.get("/models").json()["models"]
    return next((model for model in models if model["modality"] == modality), {})


def wait_served(server: ServerProcess, modality: str, version: str) -> None:
    def serves() -> bool:
        model = listed(server, modality)
        return (model.get("status"), model.get("version")) == ("ready", version)

    until(serves)


def segment(client: httpx.Client, modality: str) -> httpx.Response:
    return client.post(f"/segment/{modality}?probability=true", content=IMAGE)


def probabilities(answer: httpx.Response) -> NDArray[np.uint8]:
    return read_png(base64.b64decode(answer.json()["probability"]["data"]))


class Load:
    """Callers in threads of their own, each with one request after another until the block is left."""

    def __init__(self, server: ServerProcess, modality: str, callers: int) -> None:
        self._server, self._modality, self._stop = server, modality, threading.Event()
        self.answers: list[httpx.Response] = []
        self._threads = [threading.Thread(target=self._call) for _ in range(callers)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _call(self) -> None:
        with self._server.client() as client:
            while not self._stop.is_set():
                self.answers.append(segment(client, self._modality))


def test_swaps_under_load_fail_no_request_and_each_answer_is_that_of_the_version_it_names(
    server: ServerProcess, store: Path, modality: str
) -> None:
    expected = {}
    with server.client() as client:
        for version in GRIDS:
            if version != "1":
                publish_version(store, version, modality)
            wait_served(server, modality, version)
            expected[version] = probabilities(segment(client, modality))
    with Load(server, modality, callers=4) as callers:
        for version in ["1", "2", "3"] * 3:
            write_pin(store, modality, version)
            wait_served(server, modality, version)
    assert Counter(answer.status_code for answer in callers.answers).keys() == {200}
    assert {answer.json()["model"]["version"] for answer in callers.answers} == set(GRIDS)
    for answer in callers.answers:
        assert (probabilities(answer) == expected[answer.json()["model"]["version"]]).all()
    assert not (expected["1"] == expected["2"]).all()
    assert not (expected["2"] == expected["3"]).all()
    assert server.metric("alnet_checkpoints_total", modality=modality, outcome="served") == 12
    assert server.metric("alnet_requests_total", modality=modality, status="200") == len(callers.answers) + 3


def test_a_body_that_a_swap_overtakes_is_answered_by_the_new_version(
    server: ServerProcess, store: Path, modality: str
) -> None:
    length = f"Content-Length: {len(IMAGE)}"
    head = request_head(f"/segment/{modality}", length, "Accept: image/png", "Connection: close")
    with server.connection() as half_sent:
        half_sent.sendall(head + IMAGE[:-100])
        until(lambda: server.in_flight == 1)
        publish_version(store, "2", modality)
        wait_served(server, modality, "2")
        half_sent.sendall(IMAGE[-100:])
        answer = read_all(half_sent)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert f"x-segmentation-model: {modality}/2".encode() in answer.lower()


def truncated(checkpoint: Checkpoint, store: Path) -> None:
    content = checkpoint.weights_path.read_bytes()
    move(checkpoint, store, content[: len(content) // 2])


def with_a_flipped_bit(checkpoint: Checkpoint, store: Path) -> None:
    content = bytearray(checkpoint.weights_path.read_bytes())
    content[-1] ^= 1
    move(checkpoint, store, bytes(content))


def wrongly_shaped(checkpoint: Checkpoint, store: Path) -> None:
    republish(checkpoint, store, lambda state: state | {name: tensor[..., :1] for name, tensor in state.items()})


def lacking_a_tensor(checkpoint: Checkpoint, store: Path) -> None:
    republish(checkpoint, store, lambda state: dict(list(state.items())[1:]))


def with_a_nan(checkpoint: Checkpoint, store: Path) -> None:
    republish(checkpoint, store, _one_nan)


def of_another_network(checkpoint: Checkpoint, store: Path) -> None:
    republish(checkpoint, store, lambda state: {name: tensor + 0.5 for name, tensor in state.items()})


def without_a_card(checkpoint: Checkpoint, store: Path) -> None:
    (checkpoint.folder / "card.json").unlink()
    move(checkpoint, store, checkpoint.weights_path.read_bytes())


def _one_nan(state: Tensors) -> Tensors:
    name, tensor = next((name, tensor.clone()) for name, tensor in state.items() if tensor.dim() == 4)
    tensor[0, 0, 0, 0] = float("nan")
    return state | {name: tensor}


def republish(checkpoint: Checkpoint, store: Path, change: Callable[[Tensors], Tensors]) -> None:
    """Publish the checkpoint with other weights, of which its card knows the digest."""
    changed = change(load(checkpoint.weights_path.read_bytes()))
    weights = save({name: tensor.contiguous() for name, tensor in changed.items()})
    publish(store, checkpoint.card.model_copy(update={"weights_sha256": sha256(weights)}), weights)


def move(checkpoint: Checkpoint, store: Path, weights: bytes) -> None:
    """Bring the checkpoint into the store with other bytes for weights, as a bad copy would."""
    checkpoint.weights_path.write_bytes(weights)
    shutil.move(checkpoint.folder, store / checkpoint.card.modality)


FAULTS = {
    truncated: "weights.safetensors has sha256",
    with_a_flipped_bit: "weights.safetensors has sha256",
    wrongly_shaped: "weights do not fit al-net",
    lacking_a_tensor: "weights do not fit al-net",
    with_a_nan: "weights hold NaN or infinity",
    of_another_network: "does not reproduce its recorded probe",
    without_a_card: "card.json is missing",
}


def test_a_bad_checkpoint_is_refused_with_its_reason_and_the_old_one_serves_on(
    server: ServerProcess, store: Path, modality: str, tmp_path: Path
) -> None:
    with server.client() as client, Load(server, modality, callers=1) as callers:
        for version, (damage, reason) in enumerate(FAULTS.items(), start=2):
            damage(publish_version(tmp_path, str(version), modality), store)
            until(lambda v=str(version): (listed(server, modality)["refused"] or {}).get("version") == v)  # type: ignore[misc]
            model = listed(server, modality)
            assert reason in model["refused"]["reason"]
            assert (model["status"], model["version"]) == ("ready", "1")
            assert server.metric("alnet_checkpoint_refused", modality=modality) == 1
            assert server.metric("alnet_checkpoints_total", modality=modality, outcome="refused") == version - 1
            assert client.get("/readyz").status_code == 200
        publish_version(store, "100", modality)
        wait_served(server, modality, "100")
        assert listed(server, modality)["refused"] is None
        assert server.metric("alnet_checkpoint_refused", modality=modality) == 0
    assert Counter(answer.status_code for answer in callers.answers).keys() == {200}
    log = [line for line in server.err if f"{modality}: version" in line and "is refused" in line]
    assert [reason in line for line, reason in zip(log, FAULTS.values(), strict=True)] == [True] * len(FAULTS)


def test_a_refused_checkpoint_is_tried_again_once_its_files_are_mended(
    server: ServerProcess, store: Path, modality: str, tmp_path: Path
) -> None:
    checkpoint = publish_version(tmp_path, "2", modality)
    whole = checkpoint.weights_path.read_bytes()
    truncated(checkpoint, store)
    until(lambda: listed(server, modality)["refused"] is not None)
    (store / modality / "2" / "weights.safetensors").write_bytes(whole)
    wait_served(server, modality, "2")


def test_a_pin_is_followed_and_lifted(server: ServerProcess, store: Path, modality: str) -> None:
    publish_version(store, "2", modality)
    wait_served(server, modality, "2")
    write_pin(store, modality, "1")
    wait_served(server, modality, "1")
    assert listed(server, modality)["pinned"] is True
    publish_version(store, "3", modality)
    remove_pin(store, modality)
    wait_served(server, modality, "3")
    assert listed(server, modality)["pinned"] is False


def test_a_modality_that_appears_broken_takes_nothing_out_of_service(server: ServerProcess, store: Path) -> None:
    (store / "skin" / "1").mkdir(parents=True)
    until(lambda: listed(server, "skin").get("status") == "failed")
    with server.client() as client:
        assert segment(client, "retina").status_code == 200
        assert segment(client, "skin").status_code == 503
        assert client.get("/readyz").status_code == 200
    assert server.metric("alnet_requests_total", modality="skin", status="503") == 1
    assert server.metric("alnet_modality_ready", modality="skin") == 0


def test_an_empty_store_is_not_ready_until_its_first_checkpoint_serves(tmp_path: Path) -> None:
    with serve(tmp_path) as server, server.client() as client:
        assert client.get("/readyz").json()["detail"] == "the model store holds no checkpoint"
        (tmp_path / "retina" / "1").mkdir(parents=True)
        until(lambda: "card.json is missing" in client.get("/readyz").json()["detail"])
        publish_version(tmp_path, "2", "retina")
        server.wait_ready()
        assert segment(client, "retina").json()["model"]["version"] == "2"


def test_the_same_upload_has_the_same_answer_after_a_swap_to_the_same_weights(
    server: ServerProcess, store: Path, modality: str
) -> None:
    with server.client() as client:
        before = segment(client, modality)
        publish_tiny(store, modality, seed=1, version="2", input=GRIDS["1"], training_images=LIKE_ANYTHING)
        wait_served(server, modality, "2")
        after = segment(client, modality)
    assert before.json()["mask"] == after.json()["mask"]
    assert (probabilities(before) == probabilities(after)).all()


def test_two_hundred_swaps_keep_the_memory_flat(server: ServerProcess, store: Path, modality: str) -> None:
    publish_version(store, "2", modality)
    wait_served(server, modality, "2")

    def swap(times: int) -> None:
        for number in range(times):
            version = str(1 + number % 2)
            write_pin(store, modality, version)
            wait_served(server, modality, version)
            assert segment(client, modality).json()["model"]["version"] == version

    with server.client() as client:
        swap(20)
        before = server.metric("process_resident_memory_bytes")
        threads = count_threads(server)
        swap(200)
        grown_mib = (server.metric("process_resident_memory_bytes") - before) / 2**20
        assert grown_mib <= MOST_GROWTH_MIB
        assert count_threads(server) <= threads
    assert server.metric("alnet_checkpoints_total", modality=modality, outcome="served") == 222


def count_threads(server: ServerProcess) -> int:
    """Return the fewest threads of several moments: each look at the store has one of its own, for a moment."""
    counts = []
    for _ in range(50):
        counts.append(len(list(Path(f"/proc/{server.pid}/task").iterdir())))
        time.sleep(0.01)
    return min(counts)
