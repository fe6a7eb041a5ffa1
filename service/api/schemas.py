"""The JSON documents that the service answers with."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.store.card import Scores

Fraction = Annotated[float, Field(ge=0, le=1)]


class Document(BaseModel):
    """What all documents share: frozen, no unknown fields, no NaN, and no field left out, which OpenAPI says."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, json_schema_serialization_defaults_required=True
    )


class Problem(Document):
    """An error (RFC 9457)."""

    type: str = Field(description="A URN that names the kind of error and stays the same.")
    title: str = Field(description="The kind of error in words; the same each time.")
    status: int = Field(description="The HTTP status, again.")
    detail: str = Field(description="What went wrong this time, and what to do about it.")
    request_id: str = Field(description="As in the X-Request-ID header: names this request in the service's log.")


class Model(Document):
    """The checkpoint that answered."""

    version: str
    architecture: str
    checkpoint_sha256: str = Field(description="sha256 of the checkpoint's weights")
    parameters: int
    threshold: Fraction = Field(description="a pixel of this mask is foreground from this probability on")
    intended_use: str


class Image(Document):
    """The upload as it was understood, with its EXIF orientation applied."""

    width: int
    height: int
    format: str


class Picture(Document):
    """An 8-bit grey PNG on the upload's own grid."""

    media_type: Literal["image/png"] = "image/png"
    encoding: Literal["base64"] = "base64"
    data: str = Field(json_schema_extra={"contentEncoding": "base64", "contentMediaType": "image/png"})


class Mask(Picture):
    """0 is background, 255 foreground."""

    label: str = Field(description="what the foreground is")
    area_px: int
    area_fraction: Fraction
    components_left_out: int = Field(
        description="parts of the foreground that were left out of this mask, each much smaller than its largest part"
    )
    left_out_px: int = Field(description="how many pixels these have; all_components=true keeps them in the mask")


class ValidatedIou(Document):
    """The checkpoint's own score on images that were held out from its training."""

    dataset: str
    split: str
    n: int = Field(description="number of images")
    iou_mean: Fraction
    iou_std: float


class Iou(Document):
    """Three different things: measured on this image, expected of this image, and the checkpoint's test score."""

    measured: Fraction | None = Field(description="against the caller's reference; null without one")
    accuracy: Fraction | None = Field(description="share of pixels that agree with the reference; null without one")
    expected: Fraction = Field(description="estimate for this very image, from the calibrated probabilities alone")
    expected_error: float | None = Field(description="mean absolute error of that estimate on the test images")
    validated: ValidatedIou | None = Field(description="null if no image was held out")


class LatencyMs(Document):
    """Milliseconds in each stage; `total` is their sum, counted from the arrival of the whole body."""

    decode: float
    queue: float
    inference: float
    postprocess: float
    total: float


class Caution(Document):
    """Something to know about an answer that was given all the same."""

    code: str
    message: str


class SegmentationAnswer(Document):
    """One upload, one mask."""

    request_id: str
    modality: str
    model: Model
    image: Image
    mask: Mask
    probability: Picture | None = Field(description="255 × the probability of foreground, if `probability=true`")
    iou: Iou
    latency_ms: LatencyMs
    batch_size: int = Field(description="tiles in the batch that this upload was part of")
    warnings: list[Caution]


class InputGrid(Document):
    """How an upload is brought to the network's grid: policy, sizes in pixels, and which margins are cut off."""

    kind: Literal["fit", "stretch", "tile"]
    height: int
    width: int
    overlap: int
    margins: Literal["keep", "plain", "trim"] = Field(
        description="what is cut off first. keep: nothing; plain: a frame of one colour; trim: that and dark margins"
    )
    levels: Literal["lighten", "stretch"] = Field(
        description="what is brought to the full range of levels. lighten: dark pictures; stretch: dark and flat ones"
    )


class ModelScores(Document):
    """Scores on held-out images."""

    dataset: str
    n: int
    iou_mean: Fraction
    iou_std: float
    accuracy_mean: Fraction
    accuracy_std: float
    dice_mean: Fraction

    @classmethod
    def of(cls, scores: Scores) -> "ModelScores":
        """Return those of a card's scores that a list of models shows."""
        return cls.model_validate(scores.model_dump(include=set(cls.model_fields)))


class RefusedVersion(Document):
    """The version that the store asks for, and why it is not served."""

    version: str | None = Field(description="null if it cannot be told which version the store asks for")
    reason: str


class ModelSummary(Document):
    """One modality of the model store; what its checkpoint says, and what runs it, is null until that is loaded."""

    modality: str
    status: Literal["loading", "ready", "failed"]
    reason: str | None = Field(None, description="why it failed, or why it takes so long to load; else null")
    version: str | None = Field(None, description="the version that serves; null until one is known")
    pinned: bool = Field(False, description="whether a pin in the store chose this version; it need not be the newest")
    refused: RefusedVersion | None = Field(
        None, description="the version that the store asks for, if it cannot be served; another may go on serving"
    )
    engine: str | None = Field(
        None, description="what runs it: device, arithmetic and, unless it is plain PyTorch, the library"
    )
    architecture: str | None = None
    label: str | None = None
    input: InputGrid | None = None
    scores: ModelScores | None = None


class ModelList(Document):
    """All modalities that this replica has or is to have."""

    models: list[ModelSummary]


class Health(Document):
    """Alive, or ready for work."""

    status: Literal["alive", "ready"]
