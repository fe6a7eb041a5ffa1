"""A checkpoint's card: all that a person or an engine must know about the weights beside it."""

import re
from collections.abc import Mapping
from typing import Annotated, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from service.imaging.policy import InputPolicy

INTENDED_USE = "Research use only. Not a medical device."
NAME = r"^[a-z0-9][a-z0-9-]{0,39}$"
VERSION = r"^[1-9][0-9]{0,5}$"
SHA256 = r"^[0-9a-f]{64}$"
MOST_TOLERANCE = 0.04
"""A probe's highest tolerance: twice what a training job allows. A uniformly grey map is 0.05 from that of vessels."""
MOST_CELLS = 128
"""Most rows, and most columns, of a probe's raster: eight times what a training job records, and still compared in a
tenth of a second."""

Fraction = Annotated[float, Field(ge=0, le=1)]
Spread = Annotated[float, Field(ge=1e-3, le=1)]
"""Standard deviation of a channel between 0 and 1; training records at least 0.01, even for images of one colour."""

T = TypeVar("T")

LONGEST_LABEL = 100
_UNPRINTED = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, and those that end a line or turn its direction: on a terminal they pass for other text. Also
surrogates, by which Python represents the bytes of a file name that are not UTF-8."""


def printable(value: T) -> T:
    """Return `value`; raise ValueError if it is, or contains, a text with a character of `_UNPRINTED`."""
    match value:
        case str() if found := _UNPRINTED.search(value):
            raise ValueError(f"holds {found[0]!a}, which does not print")
        case Mapping():
            printable([*value.keys(), *value.values()])
        case list() | tuple():
            for one in value:
                printable(one)
    return value


class _Frozen(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, json_schema_serialization_defaults_required=True
    )

    _texts_print = field_validator("*")(printable)


class Normalisation(_Frozen):
    """What the engine does to pixels first: (x / 255 − mean) / std, channel by channel (R, G, B)."""

    mean: tuple[Fraction, Fraction, Fraction]
    std: tuple[Spread, Spread, Spread]


class IouEstimate(_Frozen):
    """How the IoU of one answer is estimated, learnt on validation images.

    logit(expected) = offset + plain · logit(plain IoU) + decided · logit(decidedness), where the plain IoU and the
    decidedness are those of the probability map (service/engine/quality.py). Neither weight is negative, so an answer
    that looks better is never expected to be worse.
    """

    offset: float = Field(ge=-4, le=4)
    plain: float = Field(ge=0, le=4)
    decided: float = Field(ge=0, le=4)


class CalibrationError(_Frozen):
    """Expected calibration error (Guo et al., ICML 2017, Eq. 3) of the foreground's probability on the test images.

    All pixels, on the images' own grids, fall into `bins` bins of equal width by probability. The error is the mean
    over pixels of |share of foreground − mean probability| of the pixel's bin. `before` is at temperature 1.
    """

    bins: int = Field(ge=1)
    before: Fraction
    after: Fraction


class Scores(_Frozen):
    """Quality on images held out from training: mean ± population standard deviation over images (paper, Eqs. 7, 8)."""

    dataset: str
    split: str = Field(description="which images, in words")
    n: int = Field(ge=1)
    iou_mean: Fraction
    iou_std: float = Field(ge=0)
    accuracy_mean: Fraction
    accuracy_std: float = Field(ge=0)
    dice_mean: Fraction
    expected_iou_error: float = Field(ge=0, description="mean absolute error of the expected IoU on these images")
    plain_iou_error: float | None = Field(None, ge=0, description="the same of the plain estimate, if it was measured")
    calibration_error: CalibrationError | None = Field(None, description="None if it was not measured")
    flagged_fraction: Fraction = Field(description="of these images, flagged as unlike the training images")
    flagged_masks_fraction: Fraction | None = Field(
        None, description="of their masks, flagged as unlike the training masks; None if it was not measured"
    )


class Quantised(_Frozen):
    """The same network in 8-bit integers beside the weights, for OpenVINO on CPUs; see `alnet quantize`."""

    tools: dict[str, str] = Field(description="versions of what made it")
    calibration_images: int = Field(ge=1, description="training images from which the ranges of activations come")
    xml_sha256: str = Field(pattern=SHA256, description="of the graph")
    bin_sha256: str = Field(pattern=SHA256, description="of the graph's constants")
    n: int = Field(ge=1, description="test images on which both forms were compared")
    iou_mean: Fraction = Field(description="of the integer form on them")
    iou_loss: float = Field(ge=-1, le=1, description="by how much the float32 form is better there")


class Data(_Frozen):
    """What the weights were trained on."""

    name: str
    digest: str = Field(pattern=SHA256, description="sha256 over the sorted digests of all image and mask files")
    n_train: int = Field(ge=1)
    n_validation: int = Field(ge=0)
    n_test: int = Field(ge=0)
    split: str = Field(description="how the split was made, in words")
    parts_digest: str | None = Field(
        default=None, pattern=SHA256, description="sha256 over which image files train, validate and test, if known"
    )


class Training(_Frozen):
    """How the weights came to be."""

    seed: int
    commit: str = Field(description="of the code; ends in -dirty if it had uncommitted changes; or unknown")
    preset: str
    config: dict[str, int | float | str | bool | list[int] | list[float] | None]
    versions: dict[str, str]
    device: str
    epochs: int = Field(ge=0)
    best_epoch: int = Field(ge=0)
    duration_s: float = Field(ge=0)


class TrainingImages(_Frozen):
    """Statistics of the training images, by which an upload unlike them is recognised (service/imaging/statistics.py).

    An image is unlike them if its `distance` exceeds `limit`. `mean` and `scale` hold one value per feature.
    """

    features: tuple[str, ...]
    mean: tuple[Annotated[float, Field(ge=-1e6, le=1e6)], ...]
    scale: tuple[Annotated[float, Field(ge=1e-6, le=1e6)], ...]
    limit: float = Field(gt=0)

    @model_validator(mode="after")
    def _one_value_for_each_feature(self) -> Self:
        if not len(self.features) == len(self.mean) == len(self.scale):
            raise ValueError("features, mean and scale must be of one length")
        return self


class TrainingMasks(_Frozen):
    """The share of a picture that training masks cover; an answer outside it is unusual (service/imaging/share.py)."""

    least: Fraction
    most: Fraction

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.least > self.most:
            raise ValueError("least must not be above most")
        return self


class Probe(_Frozen):
    """A drawn input (service/imaging/probe.py) and the float32 network's answer to it.

    `answer` holds the mean probability of each cell of a `rows` × `columns` raster over the grid, row by row. A
    tolerance of more than `MOST_TOLERANCE` would let another network's answer pass.
    """

    rows: int = Field(ge=1, le=MOST_CELLS)
    columns: int = Field(ge=1, le=MOST_CELLS)
    answer: tuple[Fraction, ...]
    tolerance: float = Field(gt=0, le=MOST_TOLERANCE, description="largest allowed mean absolute difference")

    @model_validator(mode="after")
    def _one_value_for_each_cell(self) -> Self:
        if len(self.answer) != self.rows * self.columns:
            raise ValueError(f"answer must hold {self.rows} × {self.columns} values, not {len(self.answer)}")
        return self


class Card(_Frozen):
    """The whole card. Read from `card.json`; unknown or missing fields are errors."""

    format: Literal[1] = 1
    modality: str = Field(pattern=NAME)
    version: str = Field(pattern=VERSION)
    label: str = Field(min_length=1, max_length=LONGEST_LABEL, description="what the foreground is, in one word or two")
    created: str = Field(description="UTC date, ISO 8601")
    intended_use: str = INTENDED_USE
    architecture: str
    architecture_config: dict[str, int | str | list[int]]
    parameters: int = Field(ge=1, description="of the published, re-parameterised network")
    parameters_in_training: int = Field(ge=1, description="before re-parameterisation")
    largest_logit_difference: float = Field(ge=0, description="of the two forms, float64, on the probe")
    input: InputPolicy
    normalisation: Normalisation
    temperature: float = Field(gt=0, description="logits are divided by it before the sigmoid")
    threshold: Fraction = Field(description="probability from which a pixel is foreground, chosen on validation images")
    least_component: Fraction = Field(
        0.0, description="share of the largest component's area below which a component of the mask is left out"
    )
    expected_iou: IouEstimate | None = Field(None, description="None: the plain estimate, uncorrected")
    test: Scores | None = Field(description="None if no image was held out")
    data: Data
    training: Training
    training_images: TrainingImages
    training_masks: TrainingMasks | None = Field(None, description="None: no mask is called unusual")
    probe: Probe
    weights_sha256: str = Field(pattern=SHA256)
    int8: Quantised | None = Field(None, description="None if there is no such form")

    @model_validator(mode="after")
    def _a_pixel_for_each_cell(self) -> Self:
        height, width = self.input.grid
        if self.probe.rows > height or self.probe.columns > width:
            cells = f"{self.probe.rows} × {self.probe.columns}"
            raise ValueError(f"probe: a raster of {cells} is finer than the grid of {height} × {width}")
        return self
