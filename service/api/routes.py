"""Segmenting an upload, and what there is to segment with."""

from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Request
from starlette.responses import Response

from service.api import openapi
from service.api.answers import Answer, respond
from service.api.exchange import Exchange
from service.api.hangup import unless_hung_up
from service.api.negotiation import Representation, choose
from service.api.parts import Parts, TheParts
from service.api.schemas import InputGrid, ModelList, ModelScores, ModelSummary, SegmentationAnswer
from service.api.upload import receive_parts
from service.engine.fleet import ModalityState
from service.engine.segmenter import Segmentation, Segmenter, Upload
from service.store.card import Card

router = APIRouter()

Modality = Annotated[str, Path(description="What the image shows: a modality that `GET /models` lists.")]
Threshold = Annotated[
    float | None,
    Query(ge=0, le=1, allow_inf_nan=False, description="Probability from which a pixel is foreground; default: the checkpoint's."),
]
Probability = Annotated[bool, Query(description="Add the probability map to a JSON answer. A PNG answer is the mask.")]
Frame = Annotated[int | None, Query(ge=0, le=2**31 - 1, description="Which frame of an image that has several; from 0.")]
TimeoutMs = Annotated[
    float | None,
    Header(
        alias="X-Request-Timeout-Ms",
        gt=0,
        allow_inf_nan=False,
        description="Milliseconds from the arrival of the request's headers after which an answer is of no use.",
    ),
]


@router.post(
    "/segment/{modality}",
    response_model=SegmentationAnswer,
    responses=openapi.SEGMENT_RESPONSES,
    openapi_extra=openapi.SEGMENT_EXTRA,
    summary="One upload, one mask",
    tags=["segmentation"],
)
async def segment(
    request: Request,
    parts: TheParts,
    modality: Modality,
    threshold: Threshold = None,
    probability: Probability = False,  # noqa: FBT002 -- a query parameter
    frame: Frame = None,
    timeout_ms: TimeoutMs = None,
) -> Response:
    """Segment an image; the answer lies on the upload's own grid.

    Send the image as the body, or a form with the file `image` and, if you know the truth, the mask `reference`.
    `Accept` chooses the answer: JSON with the mask inside (the default), or the mask alone as PNG.
    """
    segmenter = parts.fleet.segmenter(modality)
    representation = choose(request.headers.getlist("accept"))
    asked = _Asked(threshold, frame, probability and representation is Representation.JSON, timeout_ms)
    async with parts.traffic.upload():
        segmentation = await _segment(request, parts, segmenter, asked)
    parts.telemetry.record_segmentation(modality, segmentation)
    return await respond(Answer(Exchange.of(request).request_id, segmenter.card, segmentation), representation)
