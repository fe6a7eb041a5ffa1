"""What one training run is: presets, modalities and the frozen configuration that a run folder records."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from service.errors import BadConfig
from service.imaging.policy import STRIDE, InputPolicy
from service.store.card import LONGEST_LABEL, NAME, printable

Fraction = Annotated[float, Field(ge=0, le=1)]

OF_THE_MACHINE = ("workers", "cache_gib")
"""Fields that change only time and memory: an interrupted run may go on with other values."""

ZERO_IS = {"steps_per_epoch": "all views of all images", "crop_px": "the whole grid"}
"""What 0 stands for in options whose field is then None."""

CALLED_OTHERWISE = {"network": "--network-option", "imitates": "--weights"}
"""Fields whose option has a different name."""

NO_NAME = "no name for a modality: up to 40 small letters, digits and hyphens, and no hyphen first, as in lung-ct"


class Config(BaseModel):
    """All settings of one run: on a CPU, the same configuration gives the same numbers on the same data and machine."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    data: str = Field(description="a data set's folder, or drawn:retina, drawn:cell, drawn:skin")
    modality: str = Field(pattern=NAME)
    label: str = Field(min_length=1, max_length=LONGEST_LABEL, description="what the foreground is")
    preset: str
    input: InputPolicy
    seed: int = Field(0, ge=0, lt=2**31)

    fractions: tuple[Fraction, Fraction, Fraction] = Field((0.5, 0.2, 0.3), description="train, validation, test")
    case_pattern: str | None = Field(None, description="regex whose first group names the case in an image's name")
    series: bool | None = Field(None, description="images are slices of one volume; None: as the layout says")
    folds: int | None = Field(None, ge=2, description="so many folds, of which one is the test part")
    fold: int | None = Field(None, ge=1, description="which of them, counted from 1")

    architecture: str = "al-net"
    fusion_stride: Literal[1, 2] = 2
    network: dict[str, int | str | list[int]] = Field({}, description="the architecture's other options")
    encoder_weights: str | None = Field(None, description="the file that the encoder begins with: see file_identity")
    fine_tune: bool = Field(False, description="the whole network begins with that file, not its encoder alone")
    soup: str | None = Field(None, description="others, whose weights are averaged with that file's: files_identity")
    imitates: str | None = Field(None, description="of pre-training: the file whose encoder is imitated")
    teacher: str | None = Field(None, description="the run whose network teaches: see teacher_identity")
    teaching: Fraction = Field(0.5, description="weight of the teacher's answers; the masks have the rest")

    epochs: int = Field(ge=0, le=100_000, description="0: what the run begins with is published as it is")
    steps_per_epoch: int | None = Field(None, ge=1, description="None: each image in each view, once")
    batch_size: int = Field(ge=1, le=4096)
    crop_px: int | None = Field(None, ge=32, multiple_of=32, description="None: the whole grid")
    optimizer: Literal["adam", "adamw"]
    learning_rate: float = Field(gt=0)
    schedule: Literal["exponential", "cosine"]
    decay: float = Field(0.95, gt=0, le=1, description="exponential: factor after each epoch")
    weight_decay: float = Field(0.0, ge=0)
    average: float = Field(0.0, ge=0, lt=1, description="decay of the weights' moving average; 0: none is kept")
    cl_dice: float = Field(0.0, ge=0, le=1, description="weight of clDice beside Dice + BCE, for what is thin")
    thin: Literal["foreground", "background"] = Field("foreground", description="what clDice takes for thin")
    coarse_epochs: int = Field(0, ge=0, description="epochs at the start that see half the resolution")

    shift_px: int = Field(
        0, ge=0, le=10_000, description="each view is shifted up, down, left, right by this, or not at all"
    )
    scale: float = Field(0.0, ge=0, lt=1, description="random zoom of each axis, to 1 / (1 ± up to this)")
    zoom: float = Field(0.0, ge=0, le=3, description="random zoom of all, up to 1 + this times closer or farther")
    rotation_deg: float = Field(0.0, ge=0, le=180, description="random rotation by up to this angle")
    elastic_px: float = Field(
        0.0, ge=0, le=1000, description="random elastic deformation: σ of its offsets is up to this"
    )
    colour: float = Field(
        0.0, ge=0, lt=1, description="random gain by up to this fraction; offset, gamma and noise to match"
    )
    illumination: float = Field(
        0.0, ge=0, lt=1, description="random smooth shading: each coefficient of its logarithm is up to this"
    )
    camera: float = Field(
        0.0, ge=0, le=1, description="random contrast, saturation, noise and JPEG, as of other cameras; 1: the most"
    )
    frames: Fraction = Field(0.0, description="share of the views that have a margin of one colour or dark corners")
    hairs: Fraction = Field(0.0, description="share of the views that hairs are drawn over")
    blur_px: float = Field(0.0, ge=0, le=100, description="random Gaussian blur, of a standard deviation of up to this")

    validate_every: int = Field(1, ge=1, description="epochs between validations")
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    workers: int = Field(0, ge=0, le=64, description="data-loading processes; 0: the training process itself")
    cache_gib: float = Field(4.0, ge=0, description="decoded images kept in memory, GiB")

    _texts_print = field_validator("*")(printable)

    @model_validator(mode="after")
    def _fields_go_together(self) -> Self:
        if abs(sum(self.fractions) - 1) > 1e-6 or self.fractions[0] <= 0 or self.fractions[1] <= 0:
            raise ValueError("--fractions must be above 0 for train and validation, and sum to 1")
        if (self.fold is None) != (self.folds is None) or (self.fold or 1) > (self.folds or 1):
            raise ValueError(
                "--folds says how many folds, --fold which of them tests: give both, --fold at most --folds"
            )
        if self.fine_tune and self.encoder_weights is None:
            raise ValueError("--fine-tune needs the file that the network begins with: give it with --encoder-weights")
        if self.soup and not self.fine_tune:
            raise ValueError("--soup averages whole networks: give --fine-tune, and one of them with --encoder-weights")
        if not self.epochs and not (self.fine_tune and self.teacher is None):
            raise ValueError(
                "--epochs 0 trains nothing: give 1 or more; or to `alnet train` --fine-tune, and no --teacher, to"
                " publish what the run begins with"
            )
        if self.coarse_epochs and self.coarse_epochs >= self.epochs:
            counts = f"{self.coarse_epochs} of {self.epochs} do not; a preset may have some: --coarse-epochs 0 is none"
            raise ValueError(f"--coarse-epochs must leave an epoch at full resolution, and {counts}")
        return self

    def is_same_run(self, other: "Config") -> bool:
        """Return whether a run of one can go on as a run of the other: whether they agree in `of_the_run`."""
        return self.of_the_run() == other.of_the_run()

    def of_the_run(self) -> dict[str, object]:
        """Return the fields on which a run's numbers depend.

        The path of the data's folder is not one of them: split.json has a digest of what is in it.
        """
        is_drawn = self.data.startswith("drawn:")
        return self.model_dump(exclude={*OF_THE_MACHINE, *(() if is_drawn else ("data",))})


MODALITIES: dict[str, dict[str, object]] = {
    "retina": {
        "label": "vessel",
        "input": InputPolicy(kind="fit", height=605, width=700, margins="trim"),
        "fractions": (0.5, 0.2, 0.3),
    },
    "cell": {
        "label": "cell interior",
        "input": InputPolicy(kind="tile", height=512, width=512, overlap=64, margins="plain", levels="stretch"),
        "fractions": (0.5, 0.2, 0.3),
    },
    "skin": {
        "label": "lesion",
        "input": InputPolicy(kind="stretch", height=512, width=512, margins="plain"),
        "fractions": (0.7, 0.1, 0.2),
    },
}
"""The three modalities' own values (paper, Table 1 and § 4.1); any other modality starts from OWN."""

OWN: dict[str, object] = {
    "label": "foreground",
    "input": InputPolicy(kind="stretch", height=512, width=512),
    "fractions": (0.6, 0.2, 0.2),
}

PRESETS: dict[str, dict[str, object]] = {
    "paper": {
        "epochs": 150,
        "batch_size": 4,
        "optimizer": "adam",
        "learning_rate": 5e-3,
        "schedule": "exponential",
        "decay": 0.95,
        "shift_px": 32,
    },
    "quick": {
        "epochs": 30,
        "steps_per_epoch": 40,
        "batch_size": 4,
        "crop_px": 256,
        "optimizer": "adamw",
        "learning_rate": 3e-3,
        "schedule": "cosine",
        "weight_decay": 0.01,
        "scale": 0.25,
        "rotation_deg": 15,
        "colour": 0.2,
    },
    "best": {
        "epochs": 40,
        "steps_per_epoch": 50,
        "batch_size": 4,
        "crop_px": 256,
        "optimizer": "adamw",
        "learning_rate": 3e-3,
        "schedule": "cosine",
        "weight_decay": 0.05,
        "average": 0.995,
        "scale": 0.3,
        "rotation_deg": 45,
        "elastic_px": 6,
        "colour": 0.3,
        "illumination": 0.2,
        "blur_px": 1,
        "validate_every": 2,
        "workers": 1,
    },
}
"""`paper`: the recipe of §§ 4.1 and 4.2. `quick`: minutes on two CPU cores; also the default. `best`: longer and
broader, what docs/experiments.md found to help."""

BEST: dict[str, dict[str, object]] = {
    "retina": {"epochs": 66, "scale": 0.2, "zoom": 0.6, "colour": 0.4, "camera": 0.8},
    "cell": {"epochs": 45, "elastic_px": 10, "scale": 0.2, "zoom": 0.5, "camera": 0.6, "blur_px": 2},
    "skin": {
        "crop_px": None,
        "batch_size": 8,
        "epochs": 44,
        "steps_per_epoch": 200,
        "coarse_epochs": 30,
        "validate_every": 1,
    },
}
"""What preset `best` changes for a modality."""


def spelt(policy: InputPolicy) -> str:
    """Return the policy as `--input` takes it."""
    overlap = f":{policy.overlap}" if policy.overlap else ""
    margins = "" if policy.margins == "keep" else f":{policy.margins}"
    levels = "" if policy.levels == "lighten" else f":{policy.levels}"
    return f"{policy.kind}:{policy.height}x{policy.width}{overlap}{margins}{levels}"


def file_identity(path: Path) -> str:
    """Return a file's name and digest, which identify it on any machine: "NAME sha256:HEX".

    Raises:
        BadConfig: it cannot be read, or is a pipe or a device, since the file is read again later.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise BadConfig(f"{path} is no regular file, and is read more than once; save it as one")
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
    except OSError as error:
        raise BadConfig(f"{path} cannot be read: {error.strerror}") from error
    return f"{path.name} sha256:{digest.hexdigest()}"


def files_identity(paths: Sequence[Path]) -> str:
    """Return the `file_identity` of each file, joined: "NAME sha256:HEX + NAME sha256:HEX".

    Raises:
        BadConfig: as `file_identity`.
    """
    return " + ".join(map(file_identity, paths))


def names_in(identity: str) -> list[str]:
    """Return the files' names in what `file_identity` or `files_identity` gave."""
    return re.split(r" sha256:[0-9a-f]{64}(?: \+ |$)", identity)[:-1]


def configure(data: str, modality: str, preset: str, changes: Mapping[str, object]) -> Config:
    """Return the configuration: the modality's own values, then the preset's, then `changes`; later ones win.

    Raises:
        BadConfig: there is no such preset, a value is out of its range, views would be shifted out of the grid, views
            in coarse epochs would be too small for a network, or a decay is given for a schedule that has none.
    """
    if preset not in PRESETS:
        raise BadConfig(f"no preset {preset!r}; there are: {', '.join(PRESETS)}")
    own = MODALITIES.get(modality, OWN)
    recipe = PRESETS[preset] | (BEST.get(modality, {}) if preset == "best" else {})
    values = {"data": data, "modality": modality, "preset": preset, **own, **recipe, **changes}
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        if error.errors()[0]["loc"] == ("modality",):
            raise BadConfig(f"modality: {modality!r} is {NO_NAME}") from error
        raise BadConfig(_first_fault(error)) from error
    if config.shift_px > (most := min(config.input.grid)):  # checked here, so that older runs' records stay readable
        raise BadConfig(f"--shift {config.shift_px}: the grid itself has no more than {most} pixels a side; give fewer")
    _check_coarse(config)
    if changes.get("decay") is not None and config.schedule != "exponential":
        raise BadConfig("--decay is of the exponential schedule, and this run's is a cosine: --schedule exponential")
    return config


def _check_coarse(config: Config) -> None:
    """Raise BadConfig if views at half the resolution are too small for the five halvings of a network.

    Whole views are never too small. What networks of another depth need is checked once the network is built
    (`service.training.initial.check_batch`).
    """
    side = min(*config.input.grid, *([config.crop_px] if config.crop_px else []))
    if config.coarse_epochs and side < 2 * STRIDE:
        raise BadConfig(
            f"--coarse-epochs see half of {side} pixels, and a network needs {STRIDE}: give a --crop or --input of "
            f"{2 * STRIDE} at least, or --coarse-epochs 0"
        )


def _first_fault(error: ValidationError) -> str:
    """Return the first fault of a configuration, named by its option."""
    first = error.errors()[0]
    where, message = first["loc"], first["msg"].removeprefix("Value error, ")
    if not where:
        return f"configuration: {message}"
    field, *within = map(str, where)
    given = f" {first['input']}" if isinstance(first["input"], int | float) else ""
    if field == "fractions":
        within = [f"of the {('train', 'validation', 'test')[int(number)]} images" for number in within]
    elif field in ZERO_IS:
        message += f"; or 0 for {ZERO_IS[field]}"
    return f"{', '.join([option_of(field) + given, *within])}: {message}"


def option_of(field: str) -> str:
    """Return the option of `alnet train`, or `pretrain`, that sets a field; it lacks the unit in the field's name."""
    if field in CALLED_OTHERWISE:
        return CALLED_OTHERWISE[field]
    return "--" + field.removesuffix("_px").removesuffix("_deg").replace("_", "-")
