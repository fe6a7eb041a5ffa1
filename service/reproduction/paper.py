"""What the AL-Net paper compares, and the figures that it prints (Du et al., Front. Signal Process. 2:842925, 2022).

Data only; knows no torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Compared:
    """A network of the paper: its key here, its title in tables, and what `service.network.build` builds it from."""

    key: str
    title: str
    architecture: str
    config: Mapping[str, object] = field(default_factory=dict)


PAPER_NETWORKS = (
    Compared("al-net", "AL-Net", "al-net"),
    Compared("al-net-resnet34", "AL-Net, ResNet-34 encoder", "al-net", {"encoder": "resnet34"}),
    Compared("al-net-aspp", "AL-Net, ASPP context", "al-net", {"context": "aspp"}),
    Compared("al-net-u", "AL-Net, U-Decoder", "al-net", {"decoder": "u"}),
    Compared("repvgg-unet", "Baseline (RepVGG-UNet)", "repvgg-unet"),
    Compared("deeplabv3plus", "DeepLabv3+", "deeplabv3plus"),
    Compared("cenet", "CE-Net", "cenet"),
    Compared("unetplusplus", "U-Net++", "unetplusplus"),
    Compared("pyconvunet", "PyConvU-Net", "pyconvunet"),
)
"""Every network of Tables 2 to 8, AL-Net first."""

INPUT_SIZES = {"retina": (605, 700), "cell": (512, 512), "skin": (512, 512)}
"""Height and width of each data set's images (Table 1)."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean ± standard deviation over test images, both fractions."""

    mean: float
    std: float


@dataclass(frozen=True, slots=True)
class Accuracy:
    """One row of an accuracy table (Eqs. 7 and 8); the ablations print no pixel accuracy."""

    iou: Spread
    accuracy: Spread | None = None


@dataclass(frozen=True, slots=True)
class AccuracyTable:
    """One of Tables 2, 3, 4, 6, 7 and 8: its number, subject, data set, and a row for each network's key."""

    number: int
    title: str
    modality: str
    rows: Mapping[str, Accuracy]


ACCURACY_TABLES = (
    AccuracyTable(
        2,
        "Ablation of the encoder",
        "cell",
        {"al-net": Accuracy(Spread(0.8963, 0.0142)), "al-net-resnet34": Accuracy(Spread(0.8960, 0.0147))},
    ),
    AccuracyTable(
        3,
        "Ablation of the context extractor",
        "cell",
        {"al-net": Accuracy(Spread(0.8963, 0.0142)), "al-net-aspp": Accuracy(Spread(0.8941, 0.0160))},
    ),
    AccuracyTable(
        4,
        "Ablation of the decoder",
        "cell",
        {"al-net": Accuracy(Spread(0.8963, 0.0142)), "al-net-u": Accuracy(Spread(0.8805, 0.0169))},
    ),
    AccuracyTable(
        6,
        "Retinal vessels",
        "retina",
        {
            "deeplabv3plus": Accuracy(accuracy=Spread(0.9710, 0.0060), iou=Spread(0.6704, 0.0474)),
            "cenet": Accuracy(accuracy=Spread(0.9649, 0.0056), iou=Spread(0.6374, 0.0404)),
            "unetplusplus": Accuracy(accuracy=Spread(0.9716, 0.0099), iou=Spread(0.6614, 0.0841)),
            "pyconvunet": Accuracy(accuracy=Spread(0.9130, 0.0085), iou=Spread(0.6031, 0.0752)),
            "repvgg-unet": Accuracy(accuracy=Spread(0.9673, 0.0067), iou=Spread(0.6525, 0.0412)),
            "al-net": Accuracy(accuracy=Spread(0.9728, 0.0065), iou=Spread(0.6851, 0.0577)),
        },
    ),
    AccuracyTable(
        7,
        "Cell contours",
        "cell",
        {
            "deeplabv3plus": Accuracy(accuracy=Spread(0.9315, 0.0165), iou=Spread(0.8793, 0.0137)),
            "cenet": Accuracy(accuracy=Spread(0.9144, 0.0176), iou=Spread(0.8587, 0.0188)),
            "unetplusplus": Accuracy(accuracy=Spread(0.9219, 0.0186), iou=Spread(0.8661, 0.0156)),
            "pyconvunet": Accuracy(accuracy=Spread(0.9124, 0.0146), iou=Spread(0.8563, 0.0162)),
            "repvgg-unet": Accuracy(accuracy=Spread(0.9350, 0.0161), iou=Spread(0.8789, 0.0151)),
            "al-net": Accuracy(accuracy=Spread(0.9406, 0.0148), iou=Spread(0.8963, 0.0142)),
        },
    ),
    AccuracyTable(
        8,
        "Skin lesions",
        "skin",
        {
            "deeplabv3plus": Accuracy(accuracy=Spread(0.9155, 0.1041), iou=Spread(0.7677, 0.1520)),
            "cenet": Accuracy(accuracy=Spread(0.9305, 0.0711), iou=Spread(0.7760, 0.1371)),
            "unetplusplus": Accuracy(accuracy=Spread(0.9058, 0.1073), iou=Spread(0.7255, 0.2011)),
            "pyconvunet": Accuracy(accuracy=Spread(0.8847, 0.1650), iou=Spread(0.6941, 0.1573)),
            "repvgg-unet": Accuracy(accuracy=Spread(0.9310, 0.0946), iou=Spread(0.7935, 0.1657)),
            "al-net": Accuracy(accuracy=Spread(0.9312, 0.0890), iou=Spread(0.7947, 0.1533)),
        },
    ),
)
"""Tables 2 to 4 (ablations, on the cell data) and 6 to 8 (against other networks), in the paper's order of rows."""


@dataclass(frozen=True, slots=True)
class Speed:
    """Parameters in millions, and milliseconds an image by modality, on a Tesla P100 (Tables 2 to 5)."""

    parameters_m: float
    times_ms: Mapping[str, float]


SPEED = {
    "deeplabv3plus": Speed(59.34, {"cell": 50.6, "skin": 51.2, "retina": 53.1}),
    "cenet": Speed(28.99, {"cell": 41.5, "skin": 42.1, "retina": 42.4}),
    "unetplusplus": Speed(9.16, {"cell": 1530.8, "skin": 1542.3, "retina": 1910.4}),
    "pyconvunet": Speed(3.7, {"cell": 45.7, "skin": 47.2, "retina": 50.4}),
    "repvgg-unet": Speed(3.45, {"cell": 38.7, "skin": 38.5, "retina": 39.5}),
    "al-net": Speed(3.45, {"cell": 34.3, "skin": 34.6, "retina": 36.2}),
    "al-net-resnet34": Speed(21.51, {"cell": 40.8}),
    "al-net-aspp": Speed(5.39, {"cell": 42.4}),
    "al-net-u": Speed(3.45, {"cell": 41.1}),
}
"""Table 5, then the ablations of Tables 2 to 4, which were timed on the cell data alone."""


def paper_iou(key: str, modality: str) -> float | None:
    """Return the mean IoU that the paper prints for the network `key` on a modality; None where it prints none."""
    found = [table.rows[key] for table in ACCURACY_TABLES if table.modality == modality and key in table.rows]
    return found[0].iou.mean if found else None


def paper_time_ms(key: str, size: tuple[int, int]) -> float | None:
    """Return the paper's milliseconds for one image of `size` (height, width); None where it prints none.

    Cell and skin images have one size; the time is that on the cell data, the only one that every network has.
    """
    modalities = [modality for modality in ("cell", "retina") if INPUT_SIZES[modality] == size]
    return SPEED[key].times_ms.get(modalities[0]) if modalities else None
