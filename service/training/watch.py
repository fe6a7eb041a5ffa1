"""Data that change while a run learns from them: they would be none that its split and its card tell of."""

from collections.abc import Sequence

from service.training.cache import PairCache
from service.training.config import Config
from service.training.dataset import Dataset, open_dataset
from service.training.run_folder import RunFolder
from service.training.stamps import stamps_of


class Watch:
    """The files of a `dataset` as they were when it was opened. `folder` is that of a run of `config` on it.

    What the `caches`, through which alone the run reads, have read and keep may change from the next look on: the run
    knows it as it was.
    """

    def __init__(
        self,
        config: Config,
        folder: RunFolder,
        dataset: Dataset,
        caches: Sequence[PairCache],
        *,
        needs_masks: bool = True,
    ) -> None:
        self._config, self._folder, self._needs_masks = config, folder, needs_masks
        self._stamps, self._caches = dict(dataset.stamps), caches
        self._doubtful = set(self._stamps)

    def check(self) -> None:
        """Check the data as a run that goes on does, if a file has another stamp than when it was last looked at.

        Looked at are the files that are still to be read, and, once more, those that were when last looked at: what is
        kept of them may be what they are now. One that is gone, or cannot be reached, is none that has changed: who
        needs it says so.

        Raises:
            BadConfig: they are others now; the run goes on once they are back.
            BadDataset: they cannot be read any more.
        """
        pairs = [pair for cache in self._caches for pair in cache.still_to_read]
        to_read = self._stamps.keys() & {source.file for pair in pairs for source in (pair.image, pair.mask)}
        now = stamps_of(to_read | self._doubtful)
        if any(self._stamps[file] != stamp for file, stamp in now.items()):
            config = self._config
            found = open_dataset(config.data, series=config.series, needs_masks=self._needs_masks)
            self._folder.check_data(found)
            self._stamps |= now
        self._doubtful = to_read
