"""A segmentation in each of its representations."""

import binascii
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from starlette.responses import Response

from service.api.negotiation import Representation
from service.api.schemas import (
    Caution,
    Image,
    Iou,
    LatencyMs,
    Mask,
    Model,
    Picture,
    SegmentationAnswer,
    ValidatedIou,
)
from service.engine.own_thread import in_own_thread
from service.engine.segmenter import Latency, Segmentation
from service.store.card import Card, Scores

LARGE_BYTES = 256 * 1024
"""PNGs longer than this are put into JSON by a thread of their own; for others the way there would cost more."""

BASE64_BYTES = 3 * 2**16
"""Bytes encoded at a time; other threads may run in between. A multiple of 3, so that the pieces join."""

PLACE = b'"data":""'
"""Marks a picture's place in the document; no text there can look like this, since its quotes would be escaped."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One segmentation, and the id of the request that it answers."""

    request_id: str
    segmentation: Segmentation


async def respond(answer: Answer, representation: Representation) -> Response:
    """Return the response in the representation asked for."""
    match representation:
        case Representation.PNG:
            content, headers = answer.segmentation.mask_png, _png_headers(answer)
        case Representation.JSON:
            content, headers = await _json(answer), {}
    headers |= {"Vary": "Accept", "Server-Timing": _server_timing(answer.segmentation.latency)}
    return Response(content, headers=headers, media_type=representation.value)


async def _json(answer: Answer) -> bytes:
    segmentation = answer.segmentation
    if len(segmentation.mask_png) + len(segmentation.probability_png or b"") > LARGE_BYTES:
        with suppress(RuntimeError):  # no thread can be started now: encode below, and let others wait for it
            return await in_own_thread(partial(_json_bytes, answer))
    return _json_bytes(answer)


def _json_bytes(answer: Answer) -> bytes:
    """Return the JSON document with the pictures in their places.

    The pictures do not pass through the document itself: a string of megabytes would be encoded, escaped and copied in
    single calls that let no other thread run, and all other callers would wait for a tenth of a second.
    """
    done = answer.segmentation
    pictures = [png for png in (done.mask_png, done.probability_png) if png is not None]
    first, *rest = document(answer).model_dump_json().encode().split(PLACE)
    pieces = [first]
    for png, after in zip(pictures, rest, strict=True):
        pieces += [b'"data":"', *_base64(png), b'"', after]
    return b"".join(pieces)


def document(answer: Answer) -> SegmentationAnswer:
    """Return the JSON document of an answer, with the pictures' data left empty."""
    done = answer.segmentation
    card = done.card
    return SegmentationAnswer(
        request_id=answer.request_id,
        modality=card.modality,
        model=_model(card, done.threshold),
        image=Image(width=done.width, height=done.height, format=done.image_format),
        mask=Mask(
            label=card.label,
            data="",
            area_px=done.area_px,
            area_fraction=done.area_fraction,
            components_left_out=done.left_out.components,
            left_out_px=done.left_out.pixels,
        ),
        probability=None if done.probability_png is None else Picture(data=""),
        iou=_iou(card.test, done),
        latency_ms=LatencyMs(**_milliseconds(done.latency)),
        batch_size=done.batch_size,
        warnings=[Caution(code=caution.code, message=caution.message) for caution in done.cautions],
    )


def _model(card: Card, threshold: float) -> Model:
    return Model(
        version=card.version,
        architecture=card.architecture,
        checkpoint_sha256=card.weights_sha256,
        parameters=card.parameters,
        threshold=threshold,
        intended_use=card.intended_use,
    )


def _iou(test: Scores | None, done: Segmentation) -> Iou:
    return Iou(
        measured=done.measured_iou,
        accuracy=done.accuracy,
        expected=done.expected_iou,
        expected_error=None if test is None else test.expected_iou_error,
        validated=None
        if test is None
        else ValidatedIou(
            dataset=test.dataset, split=test.split, n=test.n, iou_mean=test.iou_mean, iou_std=test.iou_std
        ),
    )


def _png_headers(answer: Answer) -> dict[str, str]:
    done = answer.segmentation
    card = done.card
    headers = {
        "X-Segmentation-Model": f"{card.modality}/{card.version}",
        "X-Segmentation-IoU-Expected": f"{done.expected_iou:.4f}",
    }
    if done.measured_iou is not None:
        headers["X-Segmentation-IoU-Measured"] = f"{done.measured_iou:.4f}"
    if done.left_out.components:
        headers["X-Segmentation-Components-Left-Out"] = str(done.left_out.components)
    if done.cautions:
        headers["X-Segmentation-Warnings"] = ", ".join(caution.code for caution in done.cautions)
    return headers


def _server_timing(latency: Latency) -> str:
    return ", ".join(f"{stage};dur={value}" for stage, value in _milliseconds(latency).items())


def _milliseconds(latency: Latency) -> dict[str, float]:
    return {
        "decode": round(latency.decode * 1000, 3),
        "queue": round(latency.queue * 1000, 3),
        "inference": round(latency.inference * 1000, 3),
        "postprocess": round(latency.postprocess * 1000, 3),
        "total": round(latency.total * 1000, 3),
    }


def _base64(content: bytes) -> Iterator[bytes]:
    for start in range(0, len(content), BASE64_BYTES):
        yield binascii.b2a_base64(content[start : start + BASE64_BYTES], newline=False)
