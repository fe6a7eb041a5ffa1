"""What the page does in a browser, with answers of our own. Skipped without Chromium."""

import json
import re
import shutil
import subprocess
from base64 import b64encode
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import service.api
from tests.doubles import png

PAGE = Path(service.api.__file__).with_name("page.html")

ANSWERS = """
const asked = [];
const models = [{ modality: "cell" }, { modality: "retina" }];
let modelsAnswer = () => Response.json({ models });
let maskAnswer = () => Response.json({ title: "Damaged image", detail: "it ends early" }, { status: 422 });
window.fetch = async (address, { method = "GET" }) => {
  asked.push(`${method} ${address}`);
  return address === "/models" ? modelsAnswer() : maskAnswer();
};
"""
HANDS = """
const settled = () => new Promise(resolve => setTimeout(resolve, 100));
const pick = async name => {
  const files = new DataTransfer();
  files.items.add(new File(["pixels"], name));
  $("file").files = files.files;
  await tell("file", "change");
};
const tell = async (id, event) => { $(id).dispatchEvent(new Event(event)); await settled(); };
const problem = () => $("problem").hidden ? null : $("problem").textContent;
const report = value => {
  const shown = Object.assign(document.createElement("pre"), { id: "report", textContent: JSON.stringify(value) });
  document.body.append(shown);
};
"""


def in_browser(folder: Path, steps: str, *, answers: str = "") -> Any:
    """Open the page, with `answers` in place of the service's, take `steps`, and return what they report."""
    if not (program := shutil.which("chromium")):
        pytest.skip("Chromium is not installed")
    page = PAGE.read_text().replace("<script>", f"<script>{ANSWERS}{answers}</script>\n<script>", 1)
    after = f"<script>{HANDS}(async () => {{ await settled(); {steps} }})();</script>\n</body>"
    (folder / "page.html").write_text(page.replace("</body>", after))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=10000"]
    command = [program, *options, f"--user-data-dir={folder / 'profile'}", "--dump-dom", f"file://{folder}/page.html"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    return json.loads(unescape(re.findall(r'<pre id="report">(.*?)</pre>', shown)[0]))


def test_a_file_that_is_chosen_again_is_sent_again(tmp_path: Path) -> None:
    steps = """
      await pick("a.png");
      await tell("file", "click");
      const forgotten = $("file").value;
      await pick("a.png");
      report({ forgotten, sent: asked.slice(1), problem: problem() });
    """
    assert in_browser(tmp_path, steps) == {
        "forgotten": "",
        "sent": ["POST /segment/cell"] * 2,
        "problem": "Damaged image: it ends early",
    }


def test_a_choice_that_is_broken_off_leaves_the_file(tmp_path: Path) -> None:
    steps = """
      await pick("a.png");
      await tell("file", "click");
      await tell("file", "cancel");
      report({ files: [...$("file").files].map(file => file.name), sent: asked.slice(1) });
    """
    assert in_browser(tmp_path, steps) == {"files": ["a.png"], "sent": ["POST /segment/cell"]}


def test_a_file_chosen_before_the_key_is_sent_once_the_key_is_right(tmp_path: Path) -> None:
    steps = """
      await pick("a.png");
      const before = { sent: asked.slice(1), problem: problem() };
      modelsAnswer = () => Response.json({ models });
      await tell("key", "change");
      report({ before, after: asked.slice(1) });
    """
    refusal = 'modelsAnswer = () => Response.json({ title: "Key needed", detail: "send one" }, { status: 401 });'
    assert in_browser(tmp_path, steps, answers=refusal) == {
        "before": {"sent": [], "problem": "Key needed: send one"},
        "after": ["GET /models", "POST /segment/cell"],
    }


def test_another_key_leaves_the_modality(tmp_path: Path) -> None:
    steps = '$("modality").value = "retina"; await tell("key", "change"); report($("modality").value);'
    assert in_browser(tmp_path, steps) == "retina"


def test_without_a_model_that_can_serve_the_page_says_why(tmp_path: Path) -> None:
    steps = 'await pick("a.png"); report({ sent: asked.slice(1), problem: problem() });'
    failed = 'models.splice(0, 2, { modality: "cell", status: "failed", reason: "its card is damaged" });'
    assert in_browser(tmp_path, steps, answers=failed) == {
        "sent": [],
        "problem": "No models: cell: its card is damaged",
    }


@pytest.mark.parametrize("status", [413, 200])
def test_what_a_proxy_says_is_not_taken_for_silence(tmp_path: Path, status: int) -> None:
    answer = f'maskAnswer = () => new Response("<html>", {{ status: {status}, statusText: "As It Says" }});'
    steps = 'await pick("a.png"); report(problem());'
    assert in_browser(tmp_path, steps, answers=answer) == (
        f"HTTP status {status} As It Says: The answer is not from the service itself."
    )


def test_the_mask_can_be_saved_as_it_was_sent_under_the_images_name(tmp_path: Path) -> None:
    mask = png(np.eye(4, dtype=np.bool_))
    steps = """
      await pick("slice.7.tif");
      const saved = await new Promise(resolve => {
        const request = new XMLHttpRequest();
        request.responseType = "blob";
        request.onload = () => {
          const reader = new FileReader();
          reader.onload = () => resolve(reader.result);
          reader.readAsDataURL(request.response);
        };
        request.open("GET", $("save").href);
        request.send();
      });
      report({ saved, name: $("save").download, problem: problem() });
    """
    answer = f"maskAnswer = () => Response.json({json.dumps(segmentation_of(mask))});"
    assert in_browser(tmp_path, steps, answers=answer) == {
        "saved": f"data:image/png;base64,{b64encode(mask).decode()}",
        "name": "slice.7-mask.png",
        "problem": None,
    }


def segmentation_of(mask: bytes) -> dict[str, Any]:
    """Return what the page reads of an answer with this mask of 4×4 pixels."""
    return {
        "modality": "cell",
        "request_id": "1",
        "image": {"width": 4, "height": 4, "format": "TIFF"},
        "mask": {
            "label": "interior",
            "area_px": 4,
            "area_fraction": 0.25,
            "components_left_out": 0,
            "left_out_px": 0,
            "data": b64encode(mask).decode(),
        },
        "iou": {"measured": None, "accuracy": None, "expected": 0.5, "expected_error": None, "validated": None},
        "latency_ms": {"total": 2.0, "inference": 1.0},
        "model": {"version": "1", "architecture": "al-net"},
        "warnings": [],
    }


@pytest.mark.parametrize(
    ("components", "told"),
    [(0, "interior: 4 px, 25.0 %"), (1, "a smaller part of 3 px left out"), (2, "2 smaller parts of 3 px left out")],
)
def test_it_says_what_was_left_out_of_the_mask(tmp_path: Path, components: int, told: str) -> None:
    mask = {"label": "interior", "area_px": 4, "area_fraction": 0.25}
    mask |= {"components_left_out": components, "left_out_px": 3 if components else 0}
    shown = in_browser(tmp_path, f"report(figures({json.dumps(segmentation_of(b'') | {'mask': mask})})[0][1]);")
    assert shown.endswith(told)


def test_nothing_stands_out_of_a_narrow_screen(tmp_path: Path) -> None:
    steps = """
      for (const label of document.querySelectorAll("label")) label.hidden = false;
      document.documentElement.style.width = "320px";
      report(Math.max(...[...document.querySelectorAll("body *")].map(shown => shown.getBoundingClientRect().right)));
    """
    assert in_browser(tmp_path, steps) <= 320
