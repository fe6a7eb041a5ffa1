"""What another run has learnt from must not judge this one: a test image is one that nothing has been fitted to.

Images are told apart by their content. Runs from before contents were recorded know the names of their images alone;
there the same name counts as the same image, as long as the modality is the same.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from service.errors import BadConfig
from service.training.config import Config
from service.training.run_folder import SPLIT, RunFolder
from service.training.split import Split
from service.training.split_file import Seen

SEEN_PARTS = ("train", "validation")
NAMED = "name:"
"""Stands before an image's name where the digest of its content is not known."""


def check_unseen(run: Path, config: Config, split: Split, images: Mapping[str, str], who: str) -> None:
    """Return if what the run in the folder `run` left may begin or teach one of `config` on `split`.

    `images` are the digests of the new run's images by name (`Dataset.images`); `who` says what it is that was left.
    What that run began with, or was taught by, counts as its own.

    Raises:
        BadConfig: images that test the new run have taught the other one, or chosen its best epoch; or images that
            validate it have taught the other one; or its split cannot be read.
    """
    seen = seen_by(run, config.modality)
    for known, unseen, what in (
        ({*seen["train"], *seen["validation"]}, split.test, "tests"),
        (set(seen["train"]), split.validation, "validates with"),
    ):
        shared = sorted(name for name in unseen if not known.isdisjoint({images.get(name), NAMED + name}))
        if shared:
            raise BadConfig(f"{who} in {run} knows {shared[0]}, which this run {what}; train it on the same split")


def check_encoder_unseen(file: Path, config: Config, split: Split, images: Mapping[str, str]) -> None:
    """Check the run that left `file`, if it lies in a run folder.

    Raises:
        BadConfig: see `check_unseen`.
    """
    if (file.parent / SPLIT).exists():
        check_unseen(file.parent, config, split, images, "the encoder")


def inherited(modality: str, *, encoder: Path | None, teacher: Path | None) -> Seen:
    """Return what a run of this modality takes over: what the file `encoder` and the run `teacher` have seen."""
    runs = [] if encoder is None or not (encoder.parent / SPLIT).exists() else [encoder.parent]
    return joined(seen_by(run, modality) for run in (*runs, *([] if teacher is None else [teacher])))


def seen_by(run: Path, modality: str) -> Seen:
    """Return what has taught the outcome of a run, or chosen it, for one of `modality` to be compared with.

    Raises:
        BadConfig: its files are missing or damaged.
    """
    folder = RunFolder(run)
    recorded = folder.recorded_split()
    own = {
        part: tuple(recorded.images.get(name, NAMED + name) for name in getattr(recorded.split, part))
        for part in SEEN_PARTS
    }
    seen = joined([own, recorded.inherited])
    if folder.recorded_config().modality == modality:
        return seen
    return {part: tuple(key for key in keys if not key.startswith(NAMED)) for part, keys in seen.items()}


def joined(all_seen: Iterable[Seen]) -> Seen:
    """Return what any of them has seen, each image once, in order."""
    together = list(all_seen)
    return {part: tuple(sorted({key for seen in together for key in seen.get(part, ())})) for part in SEEN_PARTS}
