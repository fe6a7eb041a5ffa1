"""A run's folder: what it was asked, how it split the data, how each epoch went, and what came of it."""

import csv
import errno
import io
import json
import os
from collections.abc import Callable, Collection
from dataclasses import asdict, astuple, dataclass, fields, replace
from pathlib import Path

from pydantic import ValidationError

from service.errors import BadConfig
from service.training.code_version import code_commit
from service.training.config import ZERO_IS, Config, option_of, spelt
from service.training.dataset import Dataset
from service.training.listed import TABLE
from service.training.origins import Origin
from service.training.split import Split
from service.training.split_file import Seen, SplitFile, changed
from service.training.state import BEST, STATE, EpochRecord, Progress, write_atomically

CONFIG, SPLIT, EPOCHS, RESULT = "config.json", "split.json", "epochs.csv", "result.json"
CHECKPOINT = "checkpoint"
"""The folder, a model store of its own, with what the run published."""
CURVES, EXPECTED, SAMPLES, TENSORBOARD = "curves.png", "expected_iou.png", "samples", "tensorboard"

KNOWN_BY = {CONFIG: ("modality", "preset"), SPLIT: ("train", "how")}
"""Fields of the files that a run writes before all others: another program's files may have the same names."""

WRITTEN_LATER = (EPOCHS, CHECKPOINT, BEST, CURVES, EXPECTED, SAMPLES, TENSORBOARD)


@dataclass(frozen=True, slots=True)
class Result:
    """What a finished run gave: its test scores (None without test images) and where its checkpoint lies.

    The last four have defaults, for results of runs that finished before these fields existed. `caution` is what a user
    of the checkpoint should know, if there is anything.
    """

    best_epoch: int
    validation_iou: float
    test_iou_mean: float | None
    test_iou_std: float | None
    test_accuracy_mean: float | None
    test_accuracy_std: float | None
    test_images: int
    temperature: float
    checkpoint: str
    threshold: float = 0.5
    calibration_error: float | None = None
    expected_iou_error: float | None = None
    caution: str | None = None

    @property
    def summary(self) -> str:
        """The result in one line, for people."""
        epoch = f"best epoch {self.best_epoch}" if self.best_epoch else "not trained"
        best = f"{epoch}, validation IoU {self.validation_iou:.4f}"
        if self.test_iou_mean is None:
            return f"{best}; no test images"
        iou = f"IoU {self.test_iou_mean:.4f} ± {self.test_iou_std:.4f}"
        accuracy = f"accuracy {self.test_accuracy_mean:.4f} ± {self.test_accuracy_std:.4f}"
        images = "1 image" if self.test_images == 1 else f"{self.test_images} images"
        return f"{best}; test {iou}, {accuracy} ({images})"


class RunFolder:
    """The files of one run under `path`, which was given by `option`. Each is written as a whole or not at all."""

    def __init__(self, path: Path, *, option: str = "--run") -> None:
        self.path, self._option = path, option

    @property
    def has_begun(self) -> bool:
        """Whether an epoch has been finished here; once the whole run is finished, its state may be gone."""
        return any((self.path / name).exists() for name in (STATE, RESULT))

    def check(self, config: Config) -> None:
        """Check that the folder holds no finished epoch of another run, and no files of anything but a run.

        Nothing is written.

        Raises:
            BadConfig: the folder holds a run of another configuration; the message names the first difference. Or it
                has lost the file that would tell, or the split of an unfinished run. Or it holds what a run would
                overwrite but no run has written.
        """
        if not self.has_begun:
            self._check_nothing_of_others()
            return
        self._check_not_lost(CONFIG)
        if not (self.path / RESULT).exists():  # a finished run no longer needs its split
            self._check_not_lost(SPLIT)
        before = self.recorded_config()
        if config.precision == "auto":  # "auto" stands for what the run began with
            config = config.model_copy(update={"precision": before.precision})
        if not config.is_same_run(before):
            raise BadConfig(
                f"{self.path} holds another run ({_difference(before, config)}); pick one with {self._option}"
            )

    def _check_nothing_of_others(self) -> None:
        """Raise BadConfig if a run would overwrite what is not its own, as a project's config.json or checkpoint/."""
        first = [name for name in KNOWN_BY if (self.path / name).exists()]
        others = [name for name in first if not _holds(self.path / name, KNOWN_BY[name])]
        if not first:
            others = [name for name in WRITTEN_LATER if _is_taken(self.path / name)]
        if others:
            raise BadConfig(
                f"{self.path / others[0]} is of no run that has begun there, which would write over it; pick another"
                f" folder with {self._option}, or move that away"
            )

    def _check_not_lost(self, name: str) -> None:
        if not (self.path / name).exists():
            raise BadConfig(
                f"{self.path} has lost {name}, without which nobody can tell whether this is the run that began there;"
                f" bring it back, and the run goes on, or start anew in another folder with {self._option}"
            )

    def check_writable(self) -> None:
        """Check that the folder, which exists, can be written, before hours are spent on what is to lie in it.

        The same goes for the folders in it: another user may have begun the run.

        Raises:
            OSError: one of them cannot be written.
        """
        inside = (self.path / name for name in (CHECKPOINT, SAMPLES, TENSORBOARD))
        for folder in (self.path, *(path for path in inside if path.exists())):
            if not os.access(folder, os.W_OK | os.X_OK):
                advice = f"mend that, or pick another folder with {self._option}; nothing was trained"
                raise OSError(errno.EACCES, f"{os.strerror(errno.EACCES)}: {advice}", str(folder))

    def check_apart(self, data: str, dataset: Dataset) -> None:
        """Check that the pictures of a run that is to begin will not lie among the images of its `data`.

        Raises:
            BadConfig: they would, and no table says which images are meant: once interrupted, the run could not go on.
        """
        if self.has_begun or (Path(data) / TABLE).is_file():
            return
        if self.path.resolve() in {folder.resolve() for folder in {Path(file).parent for file in dataset.stamps}}:
            raise BadConfig(
                f"{self.path} is where images of the data lie, and the run's own pictures would be taken for such;"
                f" pick another folder with {self._option}"
            )

    def settle(self, config: Config, fastest: Callable[[], str]) -> Config:
        """Return the configuration with its precision settled: the one that the run began with, or else the `fastest`.

        So a run goes on in the same precision on any machine, and its card names it. Runs from before it was settled
        left it to each machine, and still do.
        """
        if config.precision != "auto":
            return config
        has_config = self.has_begun and (self.path / CONFIG).exists()
        return config.model_copy(update={"precision": self.recorded_config().precision if has_config else fastest()})

    def recorded_config(self) -> Config:
        """Return the configuration that the run began with.

        Raises:
            BadConfig: the file is missing or damaged.
        """
        path = self.path / CONFIG
        try:
            return Config.model_validate_json(path.read_bytes())
        except OSError as error:
            raise BadConfig(f"{path} cannot be read: {error.strerror}") from error
        except ValidationError as error:
            advice = f"remove {self.path} or pick another folder with {self._option}"
            raise BadConfig(f"{path} is damaged; {advice}") from error

    def split(self, dataset: Dataset, make: Callable[[], Split]) -> Split:
        """Return the split that the run began with, or `make` one if it has not finished an epoch. Nothing is written.

        Raises:
            BadConfig: the data changed since the run began, or the file is missing or damaged.
        """
        if not self.has_begun:
            return make()
        self.check_data(dataset)
        return self.recorded_split().split

    def check_data(self, dataset: Dataset) -> None:
        """Check that the data are those that the run split.

        Raises:
            BadConfig: they changed since, or the file is missing or damaged.
        """
        self.recorded_split().check_is_of(dataset, self.path / SPLIT, self._option)

    def data_changed(self, file: str) -> BadConfig:
        """Return the error for a `file` of the data that is no longer what it was when the run split the data."""
        return changed(f"the data ({file})", self.path / SPLIT, self._option)

    def recorded_split(self) -> SplitFile:
        """Return how the run split its data, and what they were.

        Raises:
            BadConfig: the file is missing or damaged.
        """
        path = self.path / SPLIT
        try:
            return SplitFile.read(path)
        except OSError as error:
            raise BadConfig(f"{path} cannot be read: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadConfig(f"{path} is damaged; start anew in another folder with {self._option}") from error

    @property
    def commit(self) -> str:
        """The commit of the code that the run began with, or that of the running code if the run has not begun."""
        if not self.has_begun:
            return code_commit()
        return self.recorded_split().code_commit

    def begin(
        self, config: Config, split: Split, dataset: Dataset, inherited: Seen, begun_with: tuple[Origin, ...] = ()
    ) -> None:
        """Write down configuration and split, over those of a run that never finished an epoch.

        A run that goes on keeps what it has recorded as `inherited` and `begun_with`.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        if self.has_begun:
            recorded = self.recorded_split()
            inherited, begun_with = recorded.inherited, recorded.begun_with
        content = SplitFile.of(split, dataset, inherited, self.commit, begun_with)
        write_atomically(self.path / SPLIT, content.to_bytes())
        write_atomically(self.path / CONFIG, config.model_dump_json(indent=2).encode() + b"\n")

    def write_epochs(self, progress: Progress) -> None:
        """Write epochs.csv, one line per epoch, counted from 1."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(field.name for field in fields(EpochRecord))
        writer.writerows(astuple(replace(record, epoch=record.epoch + 1)) for record in progress.history)
        write_atomically(self.path / EPOCHS, text.getvalue().encode())

    def write_result(self, result: Result) -> None:
        """Write result.json, which marks the run as finished."""
        write_atomically(self.path / RESULT, json.dumps(asdict(result), indent=2).encode() + b"\n")

    def result(self) -> Result | None:
        """Return the result of a finished run, else None.

        Raises:
            BadConfig: what is recorded is no result.
        """
        path = self.path / RESULT
        if not path.exists():
            return None
        try:
            return Result(**json.loads(path.read_bytes()))
        except (ValueError, TypeError) as error:
            raise BadConfig(f"{path} is damaged; remove it, and the same command finishes the run again") from error


def _holds(path: Path, fields: Collection[str]) -> bool:
    """Return whether a file is JSON that has these fields."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.keys() >= set(fields)


def _is_taken(path: Path) -> bool:
    """Return whether a file lies there, or a folder that holds anything."""
    return any(path.iterdir()) if path.is_dir() else path.exists()


def _difference(before: Config, now: Config) -> str:
    old, new = before.of_the_run(), now.of_the_run()
    name = next((name for name in old if old[name] != new.get(name)), "data")
    return f"{option_of(name)} was {_given(before, name)} and is now {_given(now, name)}"


def _given(config: Config, field: str) -> str:
    """Return the value of a field as it was given to its option."""
    value = spelt(config.input) if field == "input" else config.model_dump()[field]
    if value is None or value == {}:
        return "0" if field in ZERO_IS else "not given"
    if isinstance(value, dict):
        return " ".join(
            f"{key}={','.join(map(str, one)) if isinstance(one, list) else one}" for key, one in value.items()
        )
    return repr(value)
