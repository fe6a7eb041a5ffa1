"""What another run has learnt from must not judge this one: a test image is one that nothing has been fitted to."""

from pathlib import Path

from service.errors import BadConfig
from service.training.config import Config
from service.training.run_folder import SPLIT, RunFolder
from service.training.split import Split


def check_unseen(run: Path, split: Split, who: str) -> None:
    """Return if what the run in the folder `run` left may begin or teach another one on `split`; `who` says what it is.

    Images are told apart by their names.

    Raises:
        BadConfig: images that test the new run have taught the other one, or chosen its best epoch; or images that
            validate it have taught the other one; or its split cannot be read.
    """
    _, theirs = RunFolder(run).recorded_split()
    for known, unseen, what in (
        ({*theirs.train, *theirs.validation}, split.test, "tests"),
        (set(theirs.train), split.validation, "validates with"),
    ):
        if shared := sorted(known.intersection(unseen)):
            raise BadConfig(f"{who} in {run} knows {shared[0]}, which this run {what}; train it on the same split")


def check_encoder_unseen(file: Path, config: Config, split: Split) -> None:
    """Check the run that left `file`, if it lies in the folder of one that had the same modality.

    Raises:
        BadConfig: see `check_unseen`.
    """
    run = RunFolder(file.parent)
    if (file.parent / SPLIT).exists() and run.recorded_config().modality == config.modality:
        check_unseen(file.parent, split, "the encoder")
