"""Options that contradict each other: what another one makes meaningless is refused, not passed over in silence."""

from collections.abc import Mapping

from service.commands.train_options import drawn_modality
from service.errors import BadParameter

NEEDED = {
    "teaching": (
        "teacher",
        "--teaching is the weight of a teacher's answers: give the teacher's run folder with --teacher",
    ),
    "thin": ("cl_dice", "--thin says what clDice takes for thin: give clDice a weight, as --cl-dice 0.5"),
}
"""Parameters that mean nothing without another one, and what is said then."""


def check_options(parameters: Mapping[str, object]) -> None:
    """Check those of a command's `parameters`, by name, that mean something only with others, or without them.

    Raises:
        BadParameter: one of them would change nothing.
    """
    for name, (other, message) in NEEDED.items():
        if parameters.get(name) is not None and not parameters.get(other):
            raise BadParameter(message)
    if parameters.get("series") and parameters.get("case_pattern") is not None:
        raise BadParameter(
            "--series and --case-pattern: one volume is cut into blocks, several are dealt out as wholes; give --series"
            " alone for one volume, --case-pattern alone for several"
        )


def check_drawn(data: str, modality: str | None) -> None:
    """Check that what the code draws is not taken for another of the three modalities; a name of one's own is sound.

    Raises:
        BadParameter: it is: cells would be published as retina, say.
    """
    from service.training.config import MODALITIES

    drawn = drawn_modality(data)
    if drawn in MODALITIES and modality in MODALITIES and drawn != modality:
        raise BadParameter(
            f"--data {data} is {drawn}, not {modality}: leave --modality out, give it a name of your own, or give"
            f" --data drawn:{modality}"
        )
