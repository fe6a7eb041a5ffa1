"""Nothing that a caller sends is found in what a server writes: markers are planted everywhere, and searched for."""

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from service.api.key_file import add_key, read_keys
from tests.doubles import poisonous
from tests.end_to_end.server_process import ServerProcess, read_all, request_head, until

MARKER = "PatientMiller"
KNOWN_ID = "a-sane-request-id"
BURST = 100
Answers = list[httpx.Response]


def pixels() -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Return uint8 (64, 64, 3) whose bytes spell the marker over and over."""
    spelt = np.frombuffer(MARKER.encode(), np.uint8)
    return np.resize(spelt, (64, 64, 3))


def marked_png(image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bytes:
    """Return a PNG, stored without compression, that holds the marker as text and EXIF too."""
    exif, text = Image.Exif(), PngImagePlugin.PngInfo()
    exif[0x010E] = MARKER
    text.add_text(MARKER, MARKER)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=0, exif=exif, pnginfo=text)
    return buffer.getvalue()


def marked(kind: str) -> bytes:
    exif = Image.Exif()
    exif[0x010E] = exif[0x013B] = MARKER
    buffer = io.BytesIO()
    Image.fromarray(pixels()).save(buffer, kind, exif=exif)
    return buffer.getvalue()


IMAGES = {
    "sound": marked_png(pixels()),
    "poisonous": marked_png(poisonous()),
    "cut off": marked_png(pixels())[:3000],
    "broken": marked_png(pixels()).replace(b"IDAT", b"IDAX"),
    "jpeg": marked("JPEG"),
    "tiff": marked("TIFF"),
    "broken tiff": marked("TIFF")[:-40],
    "no image": MARKER.encode() * 10,
    "netpbm": f"P6\n# {MARKER}\n{MARKER} {MARKER}\n255\n".encode(),
    "dicom": b"\0" * 128 + b"DICM" + MARKER.encode(),
}


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "api-keys"


@pytest.fixture(scope="module")
def key(key_file: Path) -> str:
    return add_key(key_file, f"{MARKER}-holder")


@pytest.fixture(scope="module")
def server(key_file: Path, key: str) -> Iterator[ServerProcess]:
    with ServerProcess(api_keys=key_file, rate_limit=1, rate_burst=BURST, log_level="debug") as running:
        running.wait_ready()
        yield running


def with_bodies(client: httpx.Client) -> Answers:
    """Send every image as a body and as a form's file, with the marker wherever a form has room for it."""
    answers = []
    for image in IMAGES.values():
        part = (f"{MARKER}.png", image, f"image/{MARKER}", {f"X-{MARKER}": MARKER})
        forms = [{"image": part}, {"image": part, "reference": part}, {"image": part, MARKER: part}, {MARKER: part}]
        answers.append(client.post("/segment/retina", content=image, headers={"Content-Type": f"image/{MARKER}"}))
        answers += [client.post("/segment/retina", files=files, data={MARKER: MARKER}) for files in forms]
        broken = f'--{MARKER}\r\nContent-Disposition: form-data; name="{MARKER}\r\n\r\n'.encode() + image
        form = {"Content-Type": f"multipart/form-data; boundary={MARKER}"}
        answers.append(client.post("/segment/retina", content=broken, headers=form))
    return answers


def with_addresses(client: httpx.Client) -> Answers:
    """Put the marker into paths and queries."""
    query = {"threshold": MARKER, "frame": MARKER, "probability": MARKER, "all_components": MARKER, MARKER: MARKER}
    paths = [f"/{MARKER}", f"/segment/{MARKER}", f"/models/{MARKER}", f"/docs/{MARKER}", "/segment/retina", "/metrics"]
    return [
        client.request(method, path, params=query, content=IMAGES["sound"])
        for path in paths
        for method in ("POST", "GET", "PUT")
    ]


def with_headers(client: httpx.Client, key: str) -> Answers:
    """Put the marker into headers, and send wrong keys and the right one in every way."""
    sets = [
        {"User-Agent": MARKER, "Referer": MARKER, "Cookie": f"{MARKER}={MARKER}", f"X-{MARKER}": MARKER},
        {"X-Request-ID": f"{MARKER}!", "X-Request-Timeout-Ms": MARKER, "Accept": f"{MARKER}/{MARKER}"},
        {"X-Forwarded-For": MARKER, "Forwarded": MARKER, "Accept-Encoding": MARKER, "Connection": MARKER},
        {"Authorization": f"Bearer {MARKER}"},
        {"Authorization": f"Basic {MARKER}"},
        {"Authorization": f"{MARKER} {MARKER}", "X-API-Key": f"{MARKER}"},
        {"Authorization": f"Bearer {key}x"},
        {"Authorization": "", "X-API-Key": key, "X-Request-ID": KNOWN_ID},
    ]
    return [client.post("/segment/retina", content=IMAGES["sound"], headers=headers) for headers in sets]


def without_http(server: ServerProcess) -> None:
    """Send what no client library sends."""
    for raw in (
        f"{MARKER} / {MARKER}\r\n\r\n".encode(),
        f"GET /{MARKER} HTTP/1.1\r\n{MARKER} {MARKER}\r\n\r\n".encode(),
        request_head("/segment/retina", f"Content-Length: {MARKER}"),
        request_head("/segment/retina", f"X-{MARKER}: " + MARKER * 6000),
        request_head(f"/segment/{MARKER}", "Connection: upgrade", f"Upgrade: {MARKER}", "Content-Length: 0"),
    ):
        with server.connection() as connection:
            connection.sendall(raw)
            connection.settimeout(2)
            try:
                read_all(connection)
            except (TimeoutError, ConnectionResetError):
                continue
    with server.connection() as connection:
        connection.sendall(request_head("/segment/retina", "Content-Length: 100") + MARKER.encode())  # and leaves


def flood(client: httpx.Client, server: ServerProcess, key_file: Path) -> Answers:
    """Go beyond the rate limit with a key of its own, which the running server learns of."""
    other = {"Authorization": f"Bearer {add_key(key_file, 'flood')}", "User-Agent": MARKER}
    until(lambda: client.get("/models", headers=other).status_code == 200)
    return [client.get("/models", headers=other) for _ in range(BURST + 5)]


def test_no_marker_key_or_pixel_is_in_any_log_line_metric_or_problem(
    server: ServerProcess, key_file: Path, key: str
) -> None:
    answers: Answers = []
    for make in (with_bodies, with_addresses):
        # The rate is of each key, and no answer of interest may be a refusal of that kind.
        own = {"Authorization": f"Bearer {add_key(key_file, make.__name__)}"}
        with httpx.Client(base_url=server.url, headers=own, timeout=60) as client:
            until(lambda: client.get("/models").status_code == 200)
            answers += make(client)
    with server.client() as client:
        answers += with_headers(client, key)
        without_http(server)
        answers += flood(client, server, key_file)
    metrics = server.get("/metrics").text
    server.terminate()
    assert server.exit_code() == 0
    written = "".join([*server.out, *server.err])

    seen = {answer.status_code for answer in answers}
    assert seen >= {200, 400, 401, 404, 405, 415, 422, 429, 500}
    lines = [json.loads(line) for line in server.out]
    assert len(lines) > len(answers)
    assert KNOWN_ID in {line["request_id"] for line in lines}
    assert "Traceback" in "".join(server.err)  # the poisonous images': what engines say is searched as well

    secrets = [key, *(stored.digest.hex() for stored in read_keys(key_file))]
    searched = {
        "log": written,
        "metrics": metrics,
        "problem": "".join(answer.text for answer in answers if answer.is_error),
    }
    for place, text in searched.items():
        for form in (MARKER, MARKER.encode().hex(), *base64_forms(), *secrets):
            assert form.lower() not in text.lower(), f"{form} is in a {place}"


def base64_forms() -> list[str]:
    """Return what base64 makes of the marker in the middle of other bytes, at each of the three alignments."""
    return [base64.b64encode(b"\0" * shift + MARKER.encode())[4:-4].decode() for shift in range(3)]
