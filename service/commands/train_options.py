"""The options of `alnet train`, by the panel of its help in which they stand."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import typer

from service.commands.options import path_of, store_option

DATA, RECIPE, CHANGES, MACHINE, RUN = "Data", "Recipe", "Random changes of the images", "Machine", "Run"

Data = Annotated[
    str,
    typer.Option(
        help="Folder with images/ and masks/ (or STARE, ISBI 2012, ISIC 2018 as shipped, or any with a table "
        "pairs.csv), or drawn:retina, drawn:cell, drawn:skin: images that the code draws.",
        rich_help_panel=DATA,
    ),
]
Modality = Annotated[
    str | None,
    typer.Option(help="retina, cell, skin, or a name of your own; of drawn data its own name.", rich_help_panel=DATA),
]
Label = Annotated[str | None, typer.Option(help="What the foreground is, in a word.", rich_help_panel=DATA)]
Grid = Annotated[
    str | None,
    typer.Option(
        "--input",
        help="fit:605x700, stretch:512x512 or tile:512x512:64 (height x width : overlap); :plain cuts a frame of one"
        " colour off, :trim such a frame and dark margins; :stretch brings flat pictures to all levels, as for EM.",
        rich_help_panel=DATA,
    ),
]
Fractions = Annotated[
    tuple[float, float, float] | None,
    typer.Option(help="Shares of train, validation and test images.", rich_help_panel=DATA),
]
CasePattern = Annotated[
    str | None,
    typer.Option(help="Regex whose first group names the case (patient): cases are never split.", rich_help_panel=DATA),
]
Series = Annotated[
    bool | None,
    typer.Option(help="Images are neighbouring slices of one volume; split into blocks.", rich_help_panel=DATA),
]
Seed = Annotated[
    int | None,
    typer.Option(
        help="Of the split, the first weights and all random changes: the same run again, on a CPU.",
        rich_help_panel=DATA,
    ),
]

Folds = Annotated[
    int | None,
    typer.Option(
        help="Into so many folds, of which --fold tests; --fractions then divide the others, train to validation.",
        rich_help_panel=DATA,
    ),
]
Fold = Annotated[int | None, typer.Option(help="Which of them is the test part, counted from 1.", rich_help_panel=DATA)]

Preset = Annotated[
    str,
    typer.Option(
        help="quick: minutes on two CPU cores; paper: the AL-Net paper's recipe, 150 epochs; best: longer and broader, "
        "half an hour on two CPU cores, for skin hours.",
        rich_help_panel=RECIPE,
    ),
]
Architecture = Annotated[
    str | None,
    typer.Option(help="al-net, repvgg-unet, cenet, deeplabv3plus, pyconvunet or unetplusplus.", rich_help_panel=RECIPE),
]
NetworkOption = Annotated[
    list[str] | None,
    typer.Option(
        help="What the network is built with, as encoder=resnet34 or widths=16,16,32,48,64; may be repeated.",
        rich_help_panel=RECIPE,
    ),
]
FusionStride = Annotated[
    int | None, typer.Option(help="Grid of AL-Net's fusion: 2, or 1 (finer).", rich_help_panel=RECIPE)
]
EncoderWeights = Annotated[
    Path | None,
    typer.Option(
        "--encoder-weights",
        parser=path_of("--encoder-weights", "a file"),
        metavar="PATH",
        help="What the encoder begins with: a training checkpoint of RepVGG or EfficientNet-Lite (.pth, .safetensors), "
        "best.safetensors of another run, or weights.safetensors of a published checkpoint.",
        rich_help_panel=RECIPE,
    ),
]
FineTune = Annotated[
    bool | None,
    typer.Option(
        "--fine-tune",
        help="Begin with the whole network of --encoder-weights, not its encoder alone: a published checkpoint or a "
        "run's best.safetensors, of the same architecture and options. It wants a smaller --learning-rate.",
        rich_help_panel=RECIPE,
    ),
]
Soup = Annotated[
    list[Path] | None,
    typer.Option(
        "--soup",
        parser=path_of("--soup", "a file"),
        metavar="PATH",
        help="With --fine-tune: another such file; the network begins with the mean of its weights and those of "
        "--encoder-weights (a model soup). May be repeated. With --epochs 0 that mean is published as it is.",
        rich_help_panel=RECIPE,
    ),
]
TeacherRun = Annotated[
    Path | None,
    typer.Option(
        "--teacher",
        parser=path_of("--teacher", "a run folder"),
        metavar="PATH",
        help="Folder of a finished run, on the same split, whose network teaches this one beside the masks.",
        rich_help_panel=RECIPE,
    ),
]
Teaching = Annotated[
    float | None, typer.Option(help="Weight of the teacher's answers, 0 to 1; half by default.", rich_help_panel=RECIPE)
]
Epochs = Annotated[
    int | None, typer.Option(help="Epochs in all; the learning rate falls over them.", rich_help_panel=RECIPE)
]
StepsPerEpoch = Annotated[
    int | None, typer.Option(help="Batches an epoch; all views of all images if 0.", rich_help_panel=RECIPE)
]
CoarseEpochs = Annotated[
    int | None, typer.Option(help="Epochs at the start that see half the resolution.", rich_help_panel=RECIPE)
]
BatchSize = Annotated[
    int | None,
    typer.Option(help="Images in one step of each process; fewer need less memory.", rich_help_panel=RECIPE),
]
Crop = Annotated[
    int | None,
    typer.Option("--crop", help="Side of random crops in pixels; 0 for the whole grid.", rich_help_panel=RECIPE),
]
Optimizer = Annotated[Literal["adam", "adamw"] | None, typer.Option(help="The optimizer.", rich_help_panel=RECIPE)]
LearningRate = Annotated[
    float | None, typer.Option(help="Its peak; lower it if the loss jumps.", rich_help_panel=RECIPE)
]
Schedule = Annotated[
    Literal["exponential", "cosine"] | None,
    typer.Option(help="exponential: × --decay after each epoch; cosine: warm-up, then to 0.", rich_help_panel=RECIPE),
]
Decay = Annotated[float | None, typer.Option(help="Of the exponential schedule.", rich_help_panel=RECIPE)]
WeightDecay = Annotated[float | None, typer.Option(help="Pull of all weights towards 0.", rich_help_panel=RECIPE)]
Average = Annotated[
    float | None,
    typer.Option(help="Decay of the weights' moving average, which is then kept; 0 for none.", rich_help_panel=RECIPE),
]
ClDice = Annotated[
    float | None,
    typer.Option(help="Weight of clDice, 0 to 1, beside Dice + BCE: for what is thin.", rich_help_panel=RECIPE),
]
Thin = Annotated[
    Literal["foreground", "background"] | None, typer.Option(help="What clDice takes for thin.", rich_help_panel=RECIPE)
]
ValidateEvery = Annotated[int | None, typer.Option(help="Epochs between validations.", rich_help_panel=RECIPE)]

Shift = Annotated[
    int | None,
    typer.Option("--shift", help="Up, down, left or right by so many pixels, or not.", rich_help_panel=CHANGES),
]
Scale = Annotated[
    float | None, typer.Option(help="Zoom of each axis, to 1 / (1 ± up to this).", rich_help_panel=CHANGES)
]
Zoom = Annotated[
    float | None, typer.Option(help="Zoom of all, to up to 1 + this times closer or farther.", rich_help_panel=CHANGES)
]
Rotation = Annotated[
    float | None, typer.Option("--rotation", help="Rotation by up to so many degrees.", rich_help_panel=CHANGES)
]
Elastic = Annotated[
    float | None,
    typer.Option(
        "--elastic",
        help="Elastic deformation: its offsets, normal, deviate by up to so many pixels.",
        rich_help_panel=CHANGES,
    ),
]
Colour = Annotated[
    float | None,
    typer.Option(
        help="Gain and offset of each channel, one gamma for the image, noise; 0 to 1.", rich_help_panel=CHANGES
    ),
]
Illumination = Annotated[
    float | None,
    typer.Option(help="Smooth shading: each coefficient of its logarithm is up to this.", rich_help_panel=CHANGES),
]
Camera = Annotated[
    float | None,
    typer.Option(help="Contrast, saturation, noise and JPEG, as of other cameras, 0 to 1.", rich_help_panel=CHANGES),
]
Frames = Annotated[
    float | None,
    typer.Option(
        help="Share of the views with a margin of one colour or dark corners, 0 to 1.", rich_help_panel=CHANGES
    ),
]
Hairs = Annotated[
    float | None,
    typer.Option(help="Share of the views that hairs are drawn over, as over skin, 0 to 1.", rich_help_panel=CHANGES),
]
Blur = Annotated[
    float | None,
    typer.Option("--blur", help="Gaussian blur of a deviation of up to so many pixels.", rich_help_panel=CHANGES),
]

Precision = Annotated[
    Literal["auto", "float32", "bfloat16"] | None,
    typer.Option(help="auto: bfloat16 where the device is faster in it.", rich_help_panel=MACHINE),
]
Workers = Annotated[
    int | None, typer.Option(help="Data-loading processes beside each training process.", rich_help_panel=MACHINE)
]
CacheGib = Annotated[
    float | None,
    typer.Option(help="Decoded images kept in memory by each such process, GiB.", rich_help_panel=MACHINE),
]


Run = Annotated[
    Path | None,
    typer.Option(
        "--run",
        "--run-folder",
        parser=path_of("--run", "a folder"),
        metavar="PATH",
        help="Run folder; runs/MODALITY-PRESET by default, and -foldN behind it for a fold. Interrupted runs go on.",
        rich_help_panel=RUN,
    ),
]
EncoderRun = Annotated[
    Path | None,
    typer.Option(
        "--run",
        "--run-folder",
        parser=path_of("--run", "a folder"),
        metavar="PATH",
        help="Run folder; runs/MODALITY-encoder by default, and -foldN behind it for a fold. Interrupted runs go on.",
        rich_help_panel=RUN,
    ),
]
Store = Annotated[Path, store_option("Model store to publish into, as the next version.", RUN)]
Publish = Annotated[bool, typer.Option(help="Or leave the checkpoint in the run folder.", rich_help_panel=RUN)]


def drawn_modality(data: str) -> str | None:
    """Return what `--data drawn:NAME` draws, whether it can be drawn or not; None for a folder."""
    return data.split(":")[1] if data.startswith("drawn:") else None


def given(parameters: Mapping[str, object], **parsed: object) -> dict[str, object]:
    """Return the changes to a configuration that were asked for, from a command's `parameters`, by its fields' names.

    What `configure` is told apart from them is left out; `parsed` is what takes the place of a parameter, or of one
    of another name. None changes nothing, and 0 makes None of what is in `ZERO_IS`.
    """
    from service.training.config import ZERO_IS, Config

    fields = Config.model_fields.keys() - {"data", "modality", "preset"}
    return {
        name: (value or None) if name in ZERO_IS else value
        for name, value in {**parameters, **parsed}.items()
        if name in fields and value is not None
    }
