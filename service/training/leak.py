"""What another run has learnt from must not judge this one: a test image is one that nothing has been fitted to.

Images are compared by their pixels, so one saved in another format is recognised; one that was scaled or compressed
anew is not. Runs from before pixels were recorded know only the files of their images, or only their names. For these
the same file, or the same name within a modality, counts as the same image.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from service.errors import BadConfig
from service.training.config import Config
from service.training.dataset import Dataset
from service.training.encoder_weights import OURS
from service.training.origins import Origin, card_beside
from service.training.run_folder import CHECKPOINT, SPLIT, RunFolder
from service.training.split import Split
from service.training.split_file import Seen, SplitFile
from service.training.tensor_file import read_tensors

SEEN_PARTS = ("train", "validation")
NAMED = "name:"
"""Precedes an image's name where no digest of the image is known."""

Contents = Mapping[str, Collection[str]]
"""The digests of images by name: `Dataset.contents`."""


def check_unseen(run: Path, config: Config, split: Split, images: Contents, who: str) -> None:
    """Check that what the run in the folder `run` left may begin or teach a run of `config` on `split`.

    `images` are the new run's; `who` says in messages what was left. What the old run began with, or was taught by,
    counts as its own.

    Raises:
        BadConfig: images that test the new run taught the old one, or chose its best epoch; or images that validate the
            new run taught the old one; or the old run's split cannot be read.
    """
    seen = seen_by(run, config.modality)
    for known, unseen, what in (
        ({*seen["train"], *seen["validation"]}, split.test, "tests"),
        (set(seen["train"]), split.validation, "validates with"),
    ):
        shared = sorted(name for name in unseen if not known.isdisjoint({*images.get(name, ()), NAMED + name}))
        if shared:
            raise BadConfig(f"{who} in {run} knows {shared[0]}, which this run {what}; train it on the same split")


def check_encoder_unseen(file: Path, config: Config, split: Split, images: Contents) -> None:
    """Check the run that left `file`, if it lies in a run folder, or is a link to one that does.

    Raises:
        BadConfig: see `check_unseen`.
    """
    if (run := run_of(file)) is not None:
        check_unseen(run, config, split, images, "the encoder")


def caution_of_unknown(file: Path, *, whole: bool = False) -> str | None:
    """Return a caution if `file` is from a run of ours, but nothing beside it shows any more what taught it; else None.

    Weights that others trained on ImageNet have no names of ours; a `whole` network is always one of ours.

    Raises:
        BadConfig: the file, or a card beside it, cannot be read.
    """
    if run_of(file) is not None or card_beside(file) is not None:
        return None
    if not (whole or any(name.startswith(OURS) for name in read_tensors(file))):
        return None
    return (
        f"nothing beside {file} tells which images have taught it: if any of them test or validate this run, its scores"
        " are too good. Give the file in its run folder, or a published one in its folder, with its card"
    )


def origins_of(files: Sequence[Path], *, teacher: Path | None) -> tuple[Origin, ...]:
    """Return the published checkpoints that the `files` and the run `teacher` came from, as far as recorded.

    Raises:
        BadConfig: a run folder's files are missing or damaged; or the card beside a file cannot be read, or is not of
            these weights.
    """
    runs = [run for run in (*map(run_of, files), teacher) if run is not None]
    found = [origin for run in runs for origin in RunFolder(run).recorded_split().begun_with]
    cards = [card_beside(file) for file in files if run_of(file) is None]
    return (*found, *(Origin.of(card) for card in cards if card is not None))


def check_origins(origins: Iterable[Origin], config: Config, split: Split, dataset: Dataset) -> None:
    """Check that a run of `config` on `split` of these data may begin with what came from published checkpoints.

    A card does not name its images. On the same data only the same split is known to keep them apart; whether other
    data share images with these is left to the reader.

    Raises:
        BadConfig: one was trained on these very data, divided in another way.
    """
    for origin in origins:
        of_the_same = origin.data.digest == dataset.digest
        if of_the_same and not origin.has_split(split, dataset.images, config.fractions):
            raise BadConfig(
                "the published checkpoint that this run goes back to was trained on these images, divided in another"
                f" way ({origin.data.split}): it may know those that are to judge this run; give the --seed and"
                " --fractions that its card tells"
            )


def caution_of_origins(origins: Iterable[Origin], dataset: Dataset) -> str | None:
    """Return a caution if a published checkpoint was taught by other data (data that grew are other); else None."""
    names = sorted({origin.data.name for origin in origins if origin.data.digest != dataset.digest})
    if not names:
        return None
    return (
        f"this run goes back to a published checkpoint that was trained on {', '.join(names)}, and cards name no"
        " images: if any of those test or validate this run, its scores are too good"
    )


def inherited(modality: str, files: Sequence[Path], *, teacher: Path | None) -> Seen:
    """Return what a run of this modality inherits: what the `files` and the run `teacher` have seen."""
    return joined(seen_by(run, modality) for run in (*map(run_of, files), teacher) if run is not None)


def run_of(file: Path) -> Path | None:
    """Return the run folder that a file lies in, directly or within its checkpoint; None if it lies in none."""
    places = (file, file.resolve())  # the file, or the folder, may be a link
    folders = [folder for place in places for folder in (place.parent, *_run_of_checkpoint(place))]
    return next((folder for folder in folders if (folder / SPLIT).exists()), None)


def _run_of_checkpoint(file: Path) -> list[Path]:
    """Return the run folder of `RUN/checkpoint/MODALITY/VERSION/FILE`."""
    return [folder.parent for folder in list(file.parents)[2:3] if folder.name == CHECKPOINT]


def seen_by(run: Path, modality: str) -> Seen:
    """Return the images that taught a run's outcome, or chose it, to compare with those of a run of `modality`.

    Raises:
        BadConfig: its files are missing or damaged.
    """
    folder = RunFolder(run)
    recorded, config = folder.recorded_split(), folder.recorded_config()
    looked_at = SEEN_PARTS if config.imitates is None else ("train",)  # pre-training chooses no epoch
    own = {part: _keys(recorded, getattr(recorded.split, part)) for part in looked_at}
    seen = joined([own, recorded.inherited])
    if config.modality == modality:
        return seen
    return {part: tuple(key for key in keys if not key.startswith(NAMED)) for part, keys in seen.items()}


def _keys(recorded: SplitFile, names: Iterable[str]) -> tuple[str, ...]:
    """Return all digests that are recorded of each of these images; for one without any, its name."""
    kinds = (recorded.images, recorded.pixels)
    return tuple(key for name in names for key in [kind[name] for kind in kinds if name in kind] or [NAMED + name])


def joined(all_seen: Iterable[Seen]) -> Seen:
    """Return what any of them has seen, each image once, in order."""
    together = list(all_seen)
    return {part: tuple(sorted({key for seen in together for key in seen.get(part, ())})) for part in SEEN_PARTS}
