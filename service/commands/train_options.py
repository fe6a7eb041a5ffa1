"""The options of `alnet train`, grouped by the panels of its help."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import typer

from service.commands.options import path_of, store_option

DATA, RECIPE, CHANGES, MACHINE, RUN = "Data", "Recipe", "Random changes of the images", "Machine", "Run"

Data = Annotated[
    str,
    typer.Option(
        help="Folder with images/ and masks/ (or STARE, ISBI 2012, ISIC 2018 as shipped, or any folder with a table "
        "pairs.csv); or drawn:retina, drawn:cell or drawn:skin, for images that the code draws.",
        rich_help_panel=DATA,
    ),
]
Modality = Annotated[
    str | None,
    typer.Option(
        help="What the images show: retina, cell, skin, or a name of your own. Drawn data need no name.",
        rich_help_panel=DATA,
    ),
]
Label = Annotated[
    str | None,
    typer.Option(
        help="What the foreground is, such as vessel. By default, the modality's label.", rich_help_panel=DATA
    ),
]
Grid = Annotated[
    str | None,
    typer.Option(
        "--input",
        help="How images reach the network's grid: fit:605x700, stretch:512x512 or tile:512x512:64 (height x width : "
        "overlap, in pixels). After these, :plain cuts off a frame of one colour, :trim dark margins as well, and "
        ":stretch spreads flat pictures over all levels, as for EM. By default, the modality's own.",
        rich_help_panel=DATA,
    ),
]
Fractions = Annotated[
    tuple[float, float, float] | None,
    typer.Option(
        help="Shares of the train, validation and test images; they sum to 1. By default, the modality's own.",
        rich_help_panel=DATA,
    ),
]
CasePattern = Annotated[
    str | None,
    typer.Option(
        help="Regular expression whose first group finds the case (a patient, say) in an image's name; all images of a "
        "case stay in one part.",
        rich_help_panel=DATA,
    ),
]
Series = Annotated[
    bool | None,
    typer.Option(
        help="Whether the images are neighbouring slices of one volume, which are split into blocks. By default, the "
        "data decide.",
        rich_help_panel=DATA,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(
        help="Seed of the split, the first weights and all random changes; on a CPU, the same seed gives the same run. "
        "Default: 0.",
        rich_help_panel=DATA,
    ),
]

Folds = Annotated[
    int | None,
    typer.Option(
        help="Split the images into this many folds; --fold is the test part, and the others are divided into train "
        "and validation in the ratio of --fractions.",
        rich_help_panel=DATA,
    ),
]
Fold = Annotated[
    int | None, typer.Option(help="With --folds: which fold is the test part, counted from 1.", rich_help_panel=DATA)
]

Preset = Annotated[
    str,
    typer.Option(
        help="quick: minutes on two CPU cores; paper: the AL-Net paper's recipe, 150 epochs; best: longer, with "
        "broader random changes: half an hour on two CPU cores, hours for skin.",
        rich_help_panel=RECIPE,
    ),
]
Architecture = Annotated[
    str | None,
    typer.Option(
        help="Network to train: al-net (the default), repvgg-unet, cenet, deeplabv3plus, pyconvunet or unetplusplus.",
        rich_help_panel=RECIPE,
    ),
]
NetworkOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Option of the network, such as encoder=resnet34 or widths=16,16,32,48,64; may be repeated.",
        rich_help_panel=RECIPE,
    ),
]
FusionStride = Annotated[
    int | None,
    typer.Option(
        help="Grid on which AL-Net fuses features: 2, half the image's size (the default), or 1, its full size.",
        rich_help_panel=RECIPE,
    ),
]
EncoderWeights = Annotated[
    Path | None,
    typer.Option(
        "--encoder-weights",
        parser=path_of("--encoder-weights", "a file"),
        metavar="PATH",
        help="File that the encoder begins with: a training checkpoint of RepVGG or EfficientNet-Lite (.pth, "
        ".safetensors), best.safetensors of another run, or weights.safetensors of a published checkpoint. By default, "
        "it begins with random weights.",
        rich_help_panel=RECIPE,
    ),
]
FineTune = Annotated[
    bool | None,
    typer.Option(
        "--fine-tune",
        help="Begin with the whole network in --encoder-weights, not only its encoder. The file is a published "
        "checkpoint's weights.safetensors or a run's best.safetensors, of the same architecture and options. Use a "
        "smaller --learning-rate.",
        rich_help_panel=RECIPE,
    ),
]
Soup = Annotated[
    list[Path] | None,
    typer.Option(
        "--soup",
        parser=path_of("--soup", "a file"),
        metavar="PATH",
        help="With --fine-tune: another such file. The network begins with the mean of this file's weights and those "
        "of --encoder-weights (a model soup). May be repeated. With --epochs 0, that mean is published as it is.",
        rich_help_panel=RECIPE,
    ),
]
TeacherRun = Annotated[
    Path | None,
    typer.Option(
        "--teacher",
        parser=path_of("--teacher", "a run folder"),
        metavar="PATH",
        help="Folder of a finished run, on the same split, whose network teaches this one in addition to the masks.",
        rich_help_panel=RECIPE,
    ),
]
Teaching = Annotated[
    float | None,
    typer.Option(
        help="Weight of the teacher's answers in the loss, 0 to 1; the masks have the rest. Default: 0.5.",
        rich_help_panel=RECIPE,
    ),
]
Epochs = Annotated[
    int | None, typer.Option(help="Number of epochs; the learning rate falls over them.", rich_help_panel=RECIPE)
]
StepsPerEpoch = Annotated[
    int | None, typer.Option(help="Batches per epoch; 0 for all views of all images.", rich_help_panel=RECIPE)
]
CoarseEpochs = Annotated[
    int | None, typer.Option(help="Number of epochs, at the start, at half the resolution.", rich_help_panel=RECIPE)
]
BatchSize = Annotated[
    int | None,
    typer.Option(help="Images per step of each process; fewer need less memory.", rich_help_panel=RECIPE),
]
Crop = Annotated[
    int | None,
    typer.Option(
        "--crop",
        help="Side of the random crops in pixels, a multiple of 32; 0 for the whole grid.",
        rich_help_panel=RECIPE,
    ),
]
Optimizer = Annotated[
    Literal["adam", "adamw"] | None, typer.Option(help="Optimizer of the network.", rich_help_panel=RECIPE)
]
LearningRate = Annotated[
    float | None, typer.Option(help="Peak of the learning rate; lower it if the loss jumps.", rich_help_panel=RECIPE)
]
Schedule = Annotated[
    Literal["exponential", "cosine"] | None,
    typer.Option(
        help="How the learning rate falls. exponential: times --decay after each epoch; cosine: after a warm-up, to 0.",
        rich_help_panel=RECIPE,
    ),
]
Decay = Annotated[
    float | None,
    typer.Option(
        help="With the exponential schedule: factor of the learning rate after each epoch. Default: 0.95.",
        rich_help_panel=RECIPE,
    ),
]
WeightDecay = Annotated[
    float | None, typer.Option(help="How strongly all weights are pulled towards 0.", rich_help_panel=RECIPE)
]
Average = Annotated[
    float | None,
    typer.Option(
        help="Decay of a moving average of the weights, which is then validated and kept instead of them; 0 for none.",
        rich_help_panel=RECIPE,
    ),
]
ClDice = Annotated[
    float | None,
    typer.Option(
        help="Weight of clDice, 0 to 1, beside Dice + BCE in the loss; for thin structures. Default: 0.",
        rich_help_panel=RECIPE,
    ),
]
Thin = Annotated[
    Literal["foreground", "background"] | None,
    typer.Option(help="With --cl-dice: which of the two is thin. Default: foreground.", rich_help_panel=RECIPE),
]
ValidateEvery = Annotated[int | None, typer.Option(help="Validate once in this many epochs.", rich_help_panel=RECIPE)]

Shift = Annotated[
    int | None,
    typer.Option(
        "--shift", help="Shift by this many pixels up, down, left or right, or not at all.", rich_help_panel=CHANGES
    ),
]
Scale = Annotated[
    float | None,
    typer.Option(help="Zoom each axis on its own, to 1 / (1 ± up to this).", rich_help_panel=CHANGES),
]
Zoom = Annotated[
    float | None,
    typer.Option(help="Zoom the whole image, up to 1 + this times closer or farther.", rich_help_panel=CHANGES),
]
Rotation = Annotated[
    float | None, typer.Option("--rotation", help="Rotate by up to this many degrees.", rich_help_panel=CHANGES)
]
Elastic = Annotated[
    float | None,
    typer.Option(
        "--elastic",
        help="Deform elastically: points 32 pixels apart move by normal offsets with a standard deviation of up to "
        "this many pixels.",
        rich_help_panel=CHANGES,
    ),
]
Colour = Annotated[
    float | None,
    typer.Option(
        help="Strength, 0 to 1, of gain and offset of each channel, one gamma for the image, and noise.",
        rich_help_panel=CHANGES,
    ),
]
Illumination = Annotated[
    float | None,
    typer.Option(
        help="Smooth shading: each coefficient of its logarithm is at most this, up or down.", rich_help_panel=CHANGES
    ),
]
Camera = Annotated[
    float | None,
    typer.Option(
        help="Strength, 0 to 1, of changes as of other cameras: contrast, saturation, noise and JPEG.",
        rich_help_panel=CHANGES,
    ),
]
Frames = Annotated[
    float | None,
    typer.Option(
        help="Share of the views, 0 to 1, that get a margin of one colour or dark corners.", rich_help_panel=CHANGES
    ),
]
Hairs = Annotated[
    float | None,
    typer.Option(help="Share of the views, 0 to 1, that hairs are drawn over, as over skin.", rich_help_panel=CHANGES),
]
Blur = Annotated[
    float | None,
    typer.Option(
        "--blur", help="Gaussian blur with a standard deviation of up to this many pixels.", rich_help_panel=CHANGES
    ),
]

Precision = Annotated[
    Literal["auto", "float32", "bfloat16"] | None,
    typer.Option(
        help="Arithmetic of training. auto (the default): bfloat16 where the device is faster in it, else float32.",
        rich_help_panel=MACHINE,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        help="Data-loading processes beside each training process; 0: it loads the data itself.",
        rich_help_panel=MACHINE,
    ),
]
CacheGib = Annotated[
    float | None,
    typer.Option(
        help="Memory for decoded images in each process that loads data, in GiB. Default: 4.", rich_help_panel=MACHINE
    ),
]


Run = Annotated[
    Path | None,
    typer.Option(
        "--run",
        "--run-folder",
        parser=path_of("--run", "a folder"),
        metavar="PATH",
        help="Run folder; an interrupted run in it goes on. Default: runs/MODALITY-PRESET, with -foldN behind it for a "
        "fold.",
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
        help="Run folder; an interrupted run in it goes on. Default: runs/MODALITY-encoder, with -foldN behind it "
        "for a fold.",
        rich_help_panel=RUN,
    ),
]
Store = Annotated[Path, store_option("Model store to publish into, as the next version.", RUN)]
Publish = Annotated[
    bool, typer.Option(help="Publish into the store, or leave the checkpoint in the run folder.", rich_help_panel=RUN)
]


def drawn_modality(data: str) -> str | None:
    """Return what `--data drawn:NAME` draws, whether it can be drawn or not; None for a folder."""
    return data.split(":")[1] if data.startswith("drawn:") else None


def given(parameters: Mapping[str, object], **parsed: object) -> dict[str, object]:
    """Return the changes to a configuration that a command's `parameters` ask for, by the configuration's fields.

    Data, modality and preset are left out: `configure` takes them by themselves. `parsed` adds values under the names
    of fields, or replaces parameters of these names. None changes nothing; for the fields in `ZERO_IS`, 0 becomes None.
    """
    from service.training.config import ZERO_IS, Config

    fields = Config.model_fields.keys() - {"data", "modality", "preset"}
    return {
        name: (value or None) if name in ZERO_IS else value
        for name, value in {**parameters, **parsed}.items()
        if name in fields and value is not None
    }
