"""A run's folder: what it was asked, how it split the data, how each epoch went, and what came of it."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path

from pydantic import ValidationError

from service.errors import BadConfig
from service.training.config import Config
from service.training.dataset import Dataset
from service.training.split import Split
from service.training.state import EpochRecord, Progress, write_atomically

CONFIG, SPLIT, EPOCHS, RESULT = "config.json", "split.json", "epochs.csv", "result.json"


@dataclass(frozen=True, slots=True)
class Result:
    """What a finished run gave: its test scores (None without test images) and where its checkpoint lies."""

    best_epoch: int
    validation_iou: float
    test_iou_mean: float | None
    test_iou_std: float | None
    test_accuracy_mean: float | None
    test_accuracy_std: float | None
    test_images: int
    temperature: float
    checkpoint: str

    @property
    def summary(self) -> str:
        """The result in one line, for people."""
        best = f"best epoch {self.best_epoch}, validation IoU {self.validation_iou:.4f}"
        if self.test_iou_mean is None:
            return f"{best}; no test images"
        iou = f"IoU {self.test_iou_mean:.4f} ± {self.test_iou_std:.4f}"
        accuracy = f"accuracy {self.test_accuracy_mean:.4f} ± {self.test_accuracy_std:.4f}"
        return f"{best}; test {iou}, {accuracy} ({self.test_images} images)"


class RunFolder:
    """The files of one run under `path`. Each is written as a whole or not at all."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self, config: Config) -> None:
        """Make the folder for `config`, or check that it was made for the very same one.

        Raises:
            BadConfig: the folder holds a run of another configuration; the message names the first difference.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        recorded = self.path / CONFIG
        if not recorded.exists():
            write_atomically(recorded, config.model_dump_json(indent=2).encode() + b"\n")
            return
        try:
            before = Config.model_validate_json(recorded.read_bytes())
        except ValidationError as error:
            raise BadConfig(f"{recorded} is damaged; remove {self.path} or pick another folder with --run") from error
        if before != config:
            raise BadConfig(f"{self.path} holds another run ({_difference(before, config)}); pick one with --run")

    def split(self, dataset: Dataset, make: Callable[[], Split]) -> Split:
        """Return the split that the run began with, or `make` it and write it down.

        Raises:
            BadConfig: the data changed since the run began, or the file is damaged.
        """
        path = self.path / SPLIT
        if not path.exists():
            chosen = make()
            content = {"data_digest": dataset.digest, **chosen.to_json()}
            write_atomically(path, json.dumps(content, indent=2, ensure_ascii=False).encode() + b"\n")
            return chosen
        try:
            recorded = json.loads(path.read_bytes())
            digest, chosen = recorded.pop("data_digest"), Split.from_json(recorded)
        except (ValueError, KeyError, TypeError) as error:
            raise BadConfig(f"{path} is damaged; start anew in another folder with --run") from error
        if digest != dataset.digest:
            raise BadConfig(f"the data changed since {path} was written; start anew in another folder with --run")
        return chosen

    def write_epochs(self, progress: Progress) -> None:
        """Write epochs.csv, one line an epoch."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(field.name for field in fields(EpochRecord))
        writer.writerows(astuple(record) for record in progress.history)
        write_atomically(self.path / EPOCHS, text.getvalue().encode())

    def write_result(self, result: Result) -> None:
        """Write result.json: with it the run is finished."""
        write_atomically(self.path / RESULT, json.dumps(asdict(result), indent=2).encode() + b"\n")

    def result(self) -> Result | None:
        """Return the result of a finished run, else None."""
        path = self.path / RESULT
        return Result(**json.loads(path.read_bytes())) if path.exists() else None


def _difference(before: Config, now: Config) -> str:
    old, new = before.model_dump(), now.model_dump()
    name = next(name for name in old if old[name] != new[name])
    return f"{name} was {old[name]!r} and is now {new[name]!r}"
