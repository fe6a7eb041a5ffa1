"""What TensorBoard shows of a run: loss, learning rate, validation scores and seconds of each epoch."""

import time
import warnings
from collections.abc import Iterator
from pathlib import Path

with warnings.catch_warnings():  # its own imports use what its dependencies deprecate
    warnings.simplefilter("ignore")
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.summary import scalar

from service.training.state import EpochRecord, Progress, make_alike


class ScalarLog:
    """One event file in `folder`. It holds each epoch once, however often the run was interrupted.

    What an earlier start left there is replaced, from the progress that it saved, when the first epoch is recorded.
    Epochs are numbered from 1, as on the command line.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: EventsWriter | None = None
        self._recorded = 0

    def record(self, progress: Progress) -> None:
        """Write the epochs that are not in the file yet.

        Raises:
            OSError: the folder cannot be written.
        """
        if self._writer is None:
            self._writer = self._begin()
        for epoch in progress.history[self._recorded :]:
            ended = time.time() - sum(later.seconds for later in progress.history[epoch.epoch + 1 :])
            for tag, value in _scalars(epoch):
                event = Event(wall_time=ended, step=epoch.epoch + 1, summary=scalar(tag, value))
                self._writer.write_event(event)
        self._recorded = len(progress.history)
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()

    def _begin(self) -> EventsWriter:
        make_alike(self._folder)
        for earlier in self._folder.glob("events.out.tfevents.*"):
            earlier.unlink()
        return EventsWriter(str(self._folder / "events"))


def _scalars(epoch: EpochRecord) -> Iterator[tuple[str, float]]:
    yield "loss/train", epoch.loss
    yield "learning_rate", epoch.learning_rate
    yield "seconds", epoch.seconds
    if epoch.validation_iou is not None and epoch.validation_accuracy is not None:
        yield "validation/IoU", epoch.validation_iou
        yield "validation/accuracy", epoch.validation_accuracy
