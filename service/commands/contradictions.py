"""Refuse options that other options make meaningless, rather than ignore them silently."""

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
"""Parameters that mean nothing without another one: that other one, and the message if it is missing."""


def check_options(parameters: Mapping[str, object]) -> None:
    """Check those of a command's `parameters` (by name) that have a meaning only with others, or only without them.

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
    """Check that drawn data are not given the name of another of the three modalities; a name of one's own is allowed.

    Raises:
        BadParameter: they are: drawn cells, say, would be published as retina.
    """
    from service.training.config import MODALITIES

    drawn = drawn_modality(data)
    if drawn in MODALITIES and modality in MODALITIES and drawn != modality:
        raise BadParameter(
            f"--data {data} is {drawn}, not {modality}: leave --modality out, give it a name of your own, or give"
            f" --data drawn:{modality}"
        )
