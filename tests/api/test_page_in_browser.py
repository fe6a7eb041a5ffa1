"""What the page does in a browser, with answers of our own. Skipped without Chromium."""

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import service.api
from tests.api.browser import report_of
from tests.doubles import png

PAGE = Path(service.api.__file__).with_name("page.html")

ANSWERS = """
const asked = [];
const models = [{ modality: "cell" }, { modality: "retina" }];
let modelsAnswer = () => Response.json({ models });
let maskAnswer = () => Response.json({ title: "Damaged image", detail: "it ends early" }, { status: 422 });
let parts = [];
window.fetch = async (url, { method = "GET", body }) => {
  const address = new Request(url).url.slice(new URL(".", location.href).href.length);
  asked.push(`${method} ${address}`);
  if (body) parts = [...body].map(([name, file]) => `${name} ${file.name}`);
  return address === "models" ? modelsAnswer() : maskAnswer();
};
"""
HANDS = """
const settled = () => new Promise(resolve => setTimeout(resolve, 100));
const holding = (...names) => {
  const files = new DataTransfer();
  for (const name of names) files.items.add(new File(["pixels"], name));
  return files;
};
const pick = async (name, id = "file") => {
  $(id).files = holding(name).files;
  await tell(id, "change");
};
const drop = async (...names) => {
  $("drop").dispatchEvent(new DragEvent("drop", { dataTransfer: holding(...names), bubbles: true }));
  await settled();
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
    page = PAGE.read_text().replace("<script>", f"<script>{ANSWERS}{answers}</script>\n<script>", 1)
    after = f"<script>{HANDS}(async () => {{ await settled(); {steps} }})();</script>\n</body>"
    return report_of(folder, page.replace("</body>", after))


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
        "sent": ["POST segment/cell"] * 2,
        "problem": "Damaged image: it ends early",
    }


def test_a_choice_that_is_broken_off_leaves_the_file(tmp_path: Path) -> None:
    steps = """
      await pick("a.png");
      await tell("file", "click");
      await tell("file", "cancel");
      report({ files: [...$("file").files].map(file => file.name), sent: asked.slice(1) });
    """
    assert in_browser(tmp_path, steps) == {"files": ["a.png"], "sent": ["POST segment/cell"]}


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
        "after": ["GET models", "POST segment/cell"],
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


REFUSALS = {
    '{ title: "Overloaded", detail: "full", request_id: "7" }': "Overloaded: full (try again in 9 s; request 7)",
    '{ message: "slow down" }': "HTTP status 429: The answer is not from the service itself. (try again in 9 s)",
}


@pytest.mark.parametrize(("body", "told"), REFUSALS.items(), ids=["the service's", "a proxy's"])
def test_a_refusal_says_when_to_try_again(tmp_path: Path, body: str, told: str) -> None:
    answer = f'maskAnswer = () => Response.json({body}, {{ status: 429, headers: {{ "Retry-After": "9" }} }});'
    assert in_browser(tmp_path, 'await pick("a.png"); report(problem());', answers=answer) == told


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


def answered(**changes: Any) -> str:
    """Return the script that answers with a mask of 4×4 pixels, with `changes` to what the page reads of it."""
    answer = segmentation_of(png(np.eye(4, dtype=np.bool_))) | changes
    return f"maskAnswer = () => Response.json({json.dumps(answer)});"


HELD = """
  const loaded = load;
  let letGo;
  const held = new Promise(resolve => { letGo = resolve; });
  load = async url => { const image = await loaded(url); await held; return image; };
  await pick("a.png");
  load = loaded;
"""
"""Steps that choose a.png, whose answer arrives, and whose mask is being decoded until `letGo()`."""

SHOWN = """
  const shown = () => ({
    problem: problem(), status: $("status").textContent, result: !$("result").hidden, saves: $("save").download,
  });
"""


def test_a_problem_that_arrives_while_an_older_mask_is_decoded_stays(tmp_path: Path) -> None:
    steps = f"""
      {SHOWN}{HELD}
      maskAnswer = () => Response.json({{ title: "Damaged image", detail: "it ends early" }}, {{ status: 422 }});
      await pick("b.png");
      const before = shown();
      letGo();
      await settled();
      report({{ before, after: shown() }});
    """
    told = {"problem": "Damaged image: it ends early", "status": "", "result": False, "saves": ""}
    assert in_browser(tmp_path, steps, answers=answered()) == {"before": told, "after": told}


def test_an_answer_that_arrives_while_an_older_mask_is_decoded_stays(tmp_path: Path) -> None:
    newer = {"label": "vessel", "area_px": 8, "area_fraction": 0.5, "components_left_out": 0, "left_out_px": 0}
    newer["data"] = b64encode(png(np.ones((4, 4), dtype=np.bool_))).decode()
    steps = f"""
      {SHOWN}{HELD}
      {answered(mask=newer)}
      await pick("b.png");
      const before = shown();
      letGo();
      await settled();
      report({{ before, after: shown() }});
    """
    told = "Done: vessel, 50.0 % of the image. Your browser cannot show this format, so the mask stands alone."
    new = {"problem": None, "status": told, "result": True, "saves": "b-mask.png"}
    assert in_browser(tmp_path, steps, answers=answered()) == {"before": new, "after": new}


def test_a_mask_decoded_after_something_newer_was_asked_is_not_shown(tmp_path: Path) -> None:
    steps = f"""
      {SHOWN}{HELD}
      maskAnswer = () => new Promise(() => {{}});
      await pick("b.png");
      letGo();
      await settled();
      report(shown());
    """
    waiting = {"problem": None, "status": "Segmenting…", "result": False, "saves": ""}
    assert in_browser(tmp_path, steps, answers=answered()) == waiting


def test_the_mask_is_tinted_and_the_rest_is_clear(tmp_path: Path) -> None:
    steps = """
      await pick("a.tif");
      const { data } = $("stage").querySelector("canvas").getContext("2d").getImageData(0, 0, 4, 4);
      report([...data]);
    """
    pixels = np.asarray(in_browser(tmp_path, steps, answers=answered())).reshape(4, 4, 4)
    np.testing.assert_array_equal(pixels[..., 3], 255 * np.eye(4))
    assert {tuple(pixel) for pixel in pixels[np.eye(4, dtype=np.bool_)]} == {(0, 220, 120, 255)}


def test_a_mask_is_tinted_without_a_call_for_each_pixel(tmp_path: Path) -> None:
    steps = """
      let calls = 0;
      const { set } = Uint8ClampedArray.prototype;
      Uint8ClampedArray.prototype.set = function (...given) { ++calls; return set.apply(this, given); };
      const mask = document.createElement("canvas");
      Object.assign(mask, { width: 8, height: 8, naturalWidth: 8, naturalHeight: 8 });
      mask.getContext("2d").fillRect(0, 0, 8, 8);
      report([tinted(mask).width, calls]);
    """
    assert in_browser(tmp_path, steps) == [8, 0]


LONGER_THAN_A_CANVAS = png(np.ones((1, 70_000), dtype=np.bool_))
NO_CONTEXT = "HTMLCanvasElement.prototype.getContext = () => null;"


@pytest.mark.parametrize(
    ("mask", "fault"),
    [(LONGER_THAN_A_CANVAS, ""), (png(np.eye(4, dtype=np.bool_)), NO_CONTEXT), (b"nothing that loads", "")],
    ids=["longer than a canvas", "no context", "not loaded"],
)
def test_of_a_mask_that_cannot_be_drawn_everything_else_is_shown(tmp_path: Path, mask: bytes, fault: str) -> None:
    warning = {"message": "the image is much larger than those of training"}
    answer = answered(**(segmentation_of(mask) | {"warnings": [warning]}))
    steps = """
      await pick("a.tif");
      report({
        problem: problem(), status: $("status").textContent, result: !$("result").hidden, view: !$("view").hidden,
        drawn: $("stage").children.length, saves: $("save").href.startsWith("blob:") && $("save").download,
        figures: [...$("figures").querySelectorAll("dd")].map(shown => shown.textContent),
        warnings: $("warnings").textContent,
      });
    """
    shown = in_browser(tmp_path, steps, answers=answer + fault)
    figures = shown.pop("figures")
    assert figures[0] == "interior: 4 px, 25.0 %"
    assert figures[2] == "0.500"
    assert shown == {
        "problem": None,
        "status": "Done: interior, 25.0 % of the image. This browser cannot draw a mask of this size; save it instead.",
        "result": True,
        "view": False,
        "drawn": 0,
        "saves": "a-mask.png",
        "warnings": warning["message"],
    }


def test_after_a_mask_that_cannot_be_drawn_the_next_is_drawn(tmp_path: Path) -> None:
    steps = f"""
      await pick("a.tif");
      const before = !$("view").hidden;
      {answered()}
      await pick("b.tif");
      report([before, !$("view").hidden, $("stage").children.length]);
    """
    answers = answered(**segmentation_of(LONGER_THAN_A_CANVAS))
    assert in_browser(tmp_path, steps, answers=answers) == [False, True, 1]


def test_an_answer_that_the_page_cannot_read_is_not_taken_for_silence(tmp_path: Path) -> None:
    steps = 'await pick("a.png"); report([problem(), $("status").textContent]);'
    answer = "maskAnswer = () => Response.json({});"
    assert in_browser(tmp_path, steps, answers=answer) == ["Not shown: This page cannot show the answer.", ""]


def silence(unreadable: str) -> str:
    """Return the script that answers nothing, and of files, which are not truly read, fails on the one of that name.

    True reading would take time that does not pass in a browser whose clock is virtual.
    """
    return f"""
      maskAnswer = () => {{ throw new TypeError("Failed to fetch"); }};
      File.prototype.slice = function () {{
        const read = this.name === "{unreadable}" ? Promise.reject(new Error()) : Promise.resolve();
        return {{ arrayBuffer: () => read }};
      }};
    """


def test_an_address_with_a_user_name_and_a_password_is_asked_without(tmp_path: Path) -> None:
    """Browsers keep both in the base of relative addresses, and make no request of one that has them."""
    base = 'document.head.append(Object.assign(document.createElement("base"), { href: "http://ward:word@a.test/" }));'
    assert in_browser(tmp_path, "report({ asked, problem: problem() });", answers=base) == {
        "asked": ["GET models"],
        "problem": None,
    }


def test_silence_is_told(tmp_path: Path) -> None:
    steps = 'await pick("a.png"); report([problem(), $("status").textContent]);'
    told = "No answer: The service cannot be reached. Try again."
    assert in_browser(tmp_path, steps, answers=silence("")) == [told, ""]


@pytest.mark.parametrize("unreadable", ["a.png", "truth.png"])
def test_a_file_that_can_no_longer_be_read_is_not_taken_for_silence(tmp_path: Path, unreadable: str) -> None:
    """A browser fails alike where the service is gone and where the file was changed, removed, or is a folder."""
    steps = 'await pick("truth.png", "reference"); await pick("a.png"); report(problem());'
    told = "It is a folder, or was changed, moved or removed after it was chosen. Choose it again."
    assert in_browser(tmp_path, steps, answers=silence(unreadable)) == f"{unreadable} cannot be read: {told}"


CHECKED_HEADERS = """
const answered = window.fetch;
let sent;
window.fetch = async (address, request) => {
  sent = Object.fromEntries(new Headers(request.headers));
  return answered(address, request);
};
modelsAnswer = () => Response.json({ title: "Key needed", detail: "send one", status: 401 }, { status: 401 });
"""


@pytest.mark.parametrize(
    ("key", "sent"),
    [
        (" alnet_k-1 ", {"x-api-key": "alnet_k-1"}),
        ("al…net\u200b", {"x-api-key": "al?net?"}),
        (" ", {}),
    ],
)
def test_a_key_that_no_header_can_hold_is_asked_for_again(tmp_path: Path, key: str, sent: dict[str, str]) -> None:
    """None takes the place of the user name and the password that a proxy asks for: those are in `Authorization`."""
    steps = f'$("key").value = {json.dumps(key)}; await tell("key", "change"); report([sent, problem()]);'
    assert in_browser(tmp_path, steps, answers=CHECKED_HEADERS) == [sent, "Key needed: send one"]


KEY_NEEDED = 'Response.json({ title: "Key needed", detail: "send one", status: 401 }, { status: 401 })'


def test_a_key_that_an_upload_needs_can_be_given(tmp_path: Path) -> None:
    steps = 'const before = $("key-label").hidden; await pick("a.png"); report([before, $("key-label").hidden]);'
    assert in_browser(tmp_path, steps, answers=f"maskAnswer = () => {KEY_NEEDED};") == [True, False]


def test_a_mask_asked_for_with_an_older_key_is_not_shown_beside_the_refusal_of_a_newer(tmp_path: Path) -> None:
    steps = f"""
      {SHOWN}
      const answer = maskAnswer;
      let letGo;
      maskAnswer = () => new Promise(resolve => {{ letGo = () => resolve(answer()); }});
      await pick("a.png");
      modelsAnswer = () => {KEY_NEEDED};
      await tell("key", "change");
      letGo();
      await settled();
      report(shown());
    """
    refused = {"problem": "Key needed: send one", "status": "", "result": False, "saves": ""}
    assert in_browser(tmp_path, steps, answers=answered()) == refused


def test_the_refusal_of_an_older_key_does_not_hide_that_a_newer_one_is_right(tmp_path: Path) -> None:
    steps = f"""
      let letGo;
      modelsAnswer = () => new Promise(resolve => {{ letGo = () => resolve({KEY_NEEDED}); }});
      await tell("key", "change");
      modelsAnswer = () => Response.json({{ models }});
      await tell("key", "change");
      letGo();
      await settled();
      report(problem());
    """
    assert in_browser(tmp_path, steps) is None


@pytest.mark.parametrize(("frame", "drawn"), [("", ["IMG", "CANVAS"]), ("1", ["CANVAS"])])
def test_a_mask_of_one_frame_does_not_lie_over_another(tmp_path: Path, frame: str, drawn: list[str]) -> None:
    """Browsers show the first page of a TIFF, if any, and an animated PNG as it moves."""
    steps = f"""
      const loaded = load;
      const file = "data:image/png;base64,{b64encode(png(np.eye(4, dtype=np.bool_))).decode()}";
      load = url => loaded(url.startsWith("blob:") ? file : url);
      await pick("a.tif");
      $("frame").value = "{frame}";
      await tell("frame", "change");
      report([[...$("stage").children].map(shown => shown.tagName), $("status").textContent.includes("single frame")]);
    """
    assert in_browser(tmp_path, steps, answers=answered()) == [drawn, bool(frame)]


@pytest.mark.parametrize(
    ("width", "height", "drawn"), [(4, 2, ["IMG", "CANVAS"]), (2, 1, ["IMG", "CANVAS"]), (2, 4, ["CANVAS"])]
)
def test_a_mask_does_not_lie_over_what_the_browser_turns_another_way(
    tmp_path: Path, width: int, height: int, drawn: list[str]
) -> None:
    """Chromium heeds no orientation of 32 bits, for one; and it shows a picture smaller if the resolution says so."""
    mask = png(np.ones((2, 4), dtype=np.bool_))
    picture = f"data:image/png;base64,{b64encode(png(np.ones((height, width), dtype=np.bool_))).decode()}"
    steps = f"""
      const loaded = load;
      load = url => loaded(url.startsWith("blob:") ? "{picture}" : url);
      await pick("a.jpg");
      report([[...$("stage").children].map(shown => shown.tagName), $("status").textContent.includes("another way")]);
    """
    answer = f"maskAnswer = () => Response.json({json.dumps(segmentation_of(mask))});"
    assert in_browser(tmp_path, steps, answers=answer) == [drawn, len(drawn) == 1]


def test_of_several_images_dropped_none_is_taken_for_all(tmp_path: Path) -> None:
    steps = """
      await pick("a.png");
      await drop("b.png", "c.png");
      await tell("modality", "change");
      report({ sent: asked.slice(1), problem: problem(), result: !$("result").hidden, named: $("file").files.length });
    """
    assert in_browser(tmp_path, steps, answers=answered()) == {
        "sent": ["POST segment/cell"],
        "problem": "Several files: This page takes one image at a time.",
        "result": False,
        "named": 0,
    }


def test_who_comes_back_to_the_page_finds_no_file_named_that_was_not_sent(tmp_path: Path) -> None:
    """Browsers fill in again what stood in the fields, unless a form is not to be completed."""
    steps = 'report([$("file"), $("reference"), $("key")].map(input => input.form.autocomplete));'
    assert in_browser(tmp_path, steps) == ["off"] * 3


def test_a_reference_goes_with_the_image_that_it_was_chosen_for(tmp_path: Path) -> None:
    steps = """
      await pick("truth.png", "reference");
      await pick("a.png");
      const first = parts;
      await pick("b.png");
      report({ first, second: parts, reference: $("reference").value });
    """
    assert in_browser(tmp_path, steps) == {
        "first": ["image a.png", "reference truth.png"],
        "second": ["image b.png"],
        "reference": "",
    }


def test_once_an_image_is_dropped_no_other_is_named(tmp_path: Path) -> None:
    steps = """
      await pick("a.png");
      await drop();
      const before = { parts, named: $("file").files.length };
      await drop("b.png");
      report({ before, after: { parts, named: $("file").files.length } });
    """
    assert in_browser(tmp_path, steps) == {
        "before": {"parts": ["image a.png"], "named": 1},
        "after": {"parts": ["image b.png"], "named": 0},
    }


def test_a_file_that_misses_the_field_does_not_replace_the_page(tmp_path: Path) -> None:
    steps = """
      const options = { dataTransfer: holding("a.png"), bubbles: true, cancelable: true };
      const isTaken = (target, name) => !target.dispatchEvent(new DragEvent(name, options));
      const targets = [document.body, $("status"), $("reference"), $("drop")];
      const taken = targets.map(target => ["dragover", "drop"].map(name => isTaken(target, name)));
      report({ taken, sent: asked.slice(1) });
    """
    reported = in_browser(tmp_path, steps)
    assert reported["taken"] == [[True, True], [True, True], [False, False], [True, True]]
    assert reported["sent"] == ["POST segment/cell"]  # for the field alone


@pytest.mark.parametrize(("field", "text_is_taken"), [("key", False), ("frame", False), ("opacity", True)])
def test_a_file_that_lands_in_a_field_of_another_kind_does_not_replace_the_page(
    tmp_path: Path, field: str, text_is_taken: bool
) -> None:
    steps = f"""
      const text = new DataTransfer();
      text.setData("text/plain", "alnet_1");
      const isTaken = dataTransfer => ["dragover", "drop"].map(name => !$("{field}").dispatchEvent(
        new DragEvent(name, {{ dataTransfer, bubbles: true, cancelable: true }})));
      report({{ file: isTaken(holding("a.png")), text: isTaken(text) }});
    """
    assert in_browser(tmp_path, steps) == {"file": [True, True], "text": [text_is_taken, text_is_taken]}


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


def test_a_problem_does_not_stand_out_of_a_narrow_screen(tmp_path: Path) -> None:
    steps = """
      document.documentElement.style.width = "320px";
      await pick("a.png");
      report([problem().length > 60, $("problem").scrollWidth - $("problem").clientWidth]);
    """
    told = {"title": "Damaged image", "detail": "it ends early", "request_id": 32 * "d"}
    answer = f"maskAnswer = () => Response.json({json.dumps(told)}, {{ status: 422 }});"
    assert in_browser(tmp_path, steps, answers=answer) == [True, 0]
