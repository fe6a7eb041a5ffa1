"""The checkpoints in model_store/, served as a user would: the README's examples, and held-out images."""

import base64
import io
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from service.store.model_store import ModelStore
from service.training.dataset import Dataset, load, open_dataset
from service.training.split import split
from tests.end_to_end.server_process import ROOT, ServerProcess

README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```bash\n(curl [^\n]*)\n```", README)
STORE = ModelStore(ROOT / "model_store")
MODALITIES = ("cell", "retina", "skin")
DATASETS = {"retina": "stare", "cell": "isbi2012", "skin": "isic2018"}
LEAST_IOU = {"retina": 0.62, "cell": 0.88, "skin": 0.72}
LARGEST_BYTES = 50_000_000


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    # Two threads, so that tiles run side by side, also where tests have one each.
    with ServerProcess("serve", module="service.cli", store=ROOT / "model_store", threads=2) as running:
        running.wait_ready()
        yield running
        running.terminate()
        assert running.exit_code() == 0


def test_three_modalities_are_shipped_and_small() -> None:
    assert tuple(STORE.modalities()) == MODALITIES
    assert sum(file.stat().st_size for file in STORE.folder.rglob("*") if file.is_file()) < LARGEST_BYTES


def test_the_readmes_table_is_what_the_cards_say() -> None:
    between = README.split("<!-- scores: begin")[1].split("<!-- scores: end -->")[0].splitlines()[1:]
    assert [line for line in between if line] == score_table().splitlines()


def score_table() -> str:
    """Return the README's table of the newest checkpoints."""
    lines = [
        "| modality | data | test images | IoU | accuracy | expected IoU is off by | input | version, commit |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for modality in STORE.modalities():
        card = STORE.newest(modality).card
        test, policy = card.test, card.input
        assert test is not None
        lines.append(
            f"| {modality}: {card.label} | {test.dataset} | {test.n} | {test.iou_mean:.4f} ± {test.iou_std:.4f} "
            f"| {test.accuracy_mean:.4f} ± {test.accuracy_std:.4f} | {test.expected_iou_error:.3f} "
            f"| {policy.kind} {policy.height}×{policy.width} | {card.version}, `{card.training.commit}` |"
        )
    return "\n".join(lines)


def test_each_shipped_card_comes_from_a_commit_without_changes() -> None:
    commits = [STORE.newest(modality).card.training.commit for modality in MODALITIES]
    assert [commit for commit in commits if not re.fullmatch("[0-9a-f]{7,40}", commit)] == []


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("example", EXAMPLES)
def test_each_curl_example_of_the_readme_answers(example: str, server: ServerProcess, tmp_path: Path) -> None:
    command = example.replace("http://127.0.0.1:8000", server.url).replace("mask.png", str(tmp_path / "mask.png"))
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True)
    if "--output" in command:
        with Image.open(tmp_path / "mask.png") as mask, Image.open(ROOT / "docs/images/skin.jpg") as image:
            assert (mask.mode, mask.size) == ("L", image.size)
    elif "/readyz" in command:
        assert json.loads(done.stdout) == {"status": "ready"}
    else:
        assert json.loads(done.stdout)["modality"] in MODALITIES


def test_the_readme_has_examples() -> None:
    assert len(EXAMPLES) == 5


@pytest.mark.parametrize("modality", ["retina", "cell"])
def test_held_out_images_reach_the_promised_iou_through_the_service(
    modality: str, server: ServerProcess, real_data: Path
) -> None:
    dataset = open_dataset(real_data / DATASETS[modality])
    card = STORE.newest(modality).card
    seed = card.training.seed
    fractions = card.training.config["fractions"]
    assert isinstance(fractions, list)
    train, validation, test = (float(fraction) for fraction in fractions)
    held_out = split(dataset, fractions=(train, validation, test), seed=seed).test
    answers = [segment(server, modality, dataset, name) for name in held_out]
    measured = [answer["iou"]["measured"] for answer in answers]
    assert [warning for answer in answers for warning in answer["warnings"]] == []
    assert card.test is not None
    assert np.mean(measured) == pytest.approx(card.test.iou_mean, abs=0.01)
    assert np.mean(measured) >= LEAST_IOU[modality]


def test_a_dermoscopy_image_sent_to_retina_is_said_to_be_unlike(server: ServerProcess, real_data: Path) -> None:
    pictures = sorted((real_data / "isic2018" / "images").glob("*.jpg"))[:20]
    assert pictures
    with server.client() as client:
        answers = [client.post("/segment/retina", content=picture.read_bytes()).json() for picture in pictures]
    codes = [{warning["code"] for warning in answer["warnings"]} for answer in answers]
    assert sum("unlike_training_images" in found for found in codes) >= 19


def test_inverted_slices_sent_to_cell_have_masks_that_are_said_to_be_unlike(
    server: ServerProcess, real_data: Path
) -> None:
    slices = [load(pair)[0] for pair in open_dataset(real_data / "isbi2012").pairs[::3]]
    assert [codes_of(server, "cell", 255 - pixels) for pixels in slices] == [{"unlike_training_masks"}] * len(slices)


@pytest.mark.parametrize("sigma", [20, 40, 80])
def test_noise_sent_to_cell_has_a_mask_that_is_said_to_be_unlike(sigma: float, server: ServerProcess) -> None:
    levels = np.random.default_rng(0).normal(128, sigma, (512, 512, 1)).clip(0, 255).astype(np.uint8)
    assert "unlike_training_masks" in codes_of(server, "cell", levels.repeat(3, axis=2))


def codes_of(server: ServerProcess, modality: str, pixels: NDArray[np.uint8]) -> set[str]:
    """Return the codes of the warnings that come with the mask of the image, uint8 (H, W, 3)."""
    with server.client() as client:
        answer = client.post(f"/segment/{modality}", content=png(pixels)).json()
    return {warning["code"] for warning in answer["warnings"]}


def segment(server: ServerProcess, modality: str, dataset: Dataset, name: str) -> dict[str, Any]:
    """Return the answer to one held-out image, once it is known that the measured IoU is the returned mask's own."""
    pair = next(pair for pair in dataset.pairs if pair.name == name)
    image, reference = load(pair)
    files = {"image": png(image), "reference": png(reference * np.uint8(255))}
    with server.client() as client:
        answer = client.post(f"/segment/{modality}", files=files).json()
    mask = np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["mask"]["data"])))) > 0
    known = reference > 0
    assert answer["iou"]["measured"] == pytest.approx((mask & known).sum() / (mask | known).sum())
    assert isinstance(answer, dict)
    return answer


def png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
