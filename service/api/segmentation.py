"""POST /segment/{modality}: one upload, one mask."""

import math
import time
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request
from starlette.responses import Response

from service.api import openapi
from service.api.answers import Answer, respond
from service.api.exchange import Exchange
from service.api.hangup import unless_hung_up
from service.api.multipart import OF_THE_ADDRESS
from service.api.negotiation import Representation, choose
from service.api.parts import Modality, TheParts
from service.api.schemas import SegmentationAnswer
from service.api.upload import receive_files
from service.engine.image_work import Upload
from service.errors import BadParameter

router = APIRouter()

TIMEOUT_HEADER = "X-Request-Timeout-Ms"


async def refuse_repeated(request: Request) -> None:
    """Refuse a parameter that was sent twice: whichever counted, the caller may have meant the other.

    Raises:
        BadParameter: one was; the message names it.
    """
    for name in map(bytes.decode, OF_THE_ADDRESS):
        if len(request.query_params.getlist(name)) > 1:
            raise BadParameter(f"{name} was sent more than once")
    if len(request.headers.getlist(TIMEOUT_HEADER)) > 1:
        raise BadParameter(f"{TIMEOUT_HEADER} was sent more than once")


Threshold = Annotated[
    float | None,
    Query(
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Probability from which a pixel is foreground; by default the checkpoint's.",
    ),
]
WithProbability = Annotated[
    bool, Query(description="Add the probability map to a JSON answer. A PNG answer is the mask.")
]
Frame = Annotated[
    int | None,
    Query(ge=0, le=2**31 - 1, description="Which frame of the image to read, from 0; needed if it has several."),
]
AllComponents = Annotated[
    bool, Query(description="Keep small components in the mask, even if the checkpoint leaves them out.")
]
TimeoutMs = Annotated[
    float | None,
    Header(
        alias=TIMEOUT_HEADER,
        gt=0,
        allow_inf_nan=False,
        description="Your deadline, in milliseconds from the arrival of the request's headers; past it you get 504.",
    ),
]


@router.post(
    "/segment/{modality}",
    response_model=SegmentationAnswer,
    responses=openapi.SEGMENT_RESPONSES,
    openapi_extra=openapi.SEGMENT_EXTRA,
    summary="One upload, one mask",
    tags=["segmentation"],
    dependencies=[Depends(refuse_repeated)],
)
async def segment(
    *,
    request: Request,
    parts: TheParts,
    modality: Modality,
    threshold: Threshold = None,
    probability: WithProbability = False,
    frame: Frame = None,
    all_components: AllComponents = False,
    timeout_ms: TimeoutMs = None,
) -> Response:
    """Segment an image; the answer lies on the upload's own grid.

    Send the image as the body, or a form with the file `image` and, if you know the truth, the mask `reference`.
    `Accept` chooses the answer: JSON with the mask inside (the default), or the mask alone as PNG.
    """
    exchange, settings = Exchange.of(request), parts.settings
    segmenter = parts.fleet.segmenter(modality)
    representation = choose(request.headers.getlist("accept"))
    allowed_s = math.inf if timeout_ms is None else timeout_ms / 1000
    exchange.is_hurried = allowed_s < settings.request_timeout_s
    deadline = exchange.arrived + min(settings.request_timeout_s, allowed_s)
    segmenter.admit(deadline)  # before the body has to travel
    async with parts.traffic.upload():
        with parts.bodies.upload() as take:
            body = await receive_files(
                request,
                max_bytes=settings.max_upload_bytes,
                take=take,
                slow_at=exchange.arrived + settings.upload_timeout_s,
                deadline=deadline,
            )
            upload = Upload(
                image=body.image,
                reference=body.reference,
                threshold=threshold,
                frame=frame,
                probability=probability and representation is Representation.JSON,
                all_components=all_components,
            )
            work = segmenter.segment(upload, arrived=time.monotonic(), deadline=deadline)
            segmentation = await unless_hung_up(request.receive, work)
        response = await respond(Answer(exchange.request_id, segmentation), representation)
    parts.telemetry.record_segmentation(modality, segmentation)
    return response
