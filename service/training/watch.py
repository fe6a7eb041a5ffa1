"""Data that change while a run learns from them: they would be none that its split and its card tell of."""

import hashlib
from collections.abc import Sequence

from service.training.cache import PairCache
from service.training.dataset import Dataset
from service.training.run_folder import RunFolder
from service.training.stamps import stamps_of


class Watch:
    """The files of a `dataset` as they were when it was opened. `folder` is that of a run on it.

    What the `caches`, through which alone the run reads, have read and keep may change from the next look on: the run
    knows it as it was.
    """

    def __init__(self, folder: RunFolder, dataset: Dataset, caches: Sequence[PairCache]) -> None:
        self._folder, self._digests, self._caches = folder, dataset.files, caches
        self._sources = {source.file: source for pair in dataset.pairs for source in (pair.image, pair.mask)}
        self._stamps = dict(dataset.stamps)
        self._doubtful = set(self._stamps)

    def check(self) -> None:
        """Check each file that has another stamp than when it was last looked at: it must hold what it did.

        Looked at are the files that are still to be read, and, once more, those that were when last looked at: what is
        kept of them may be what they are now. One that is gone, or cannot be reached, is none that has changed: who
        needs it says so.

        Raises:
            BadConfig: one holds something else now; the run goes on once it is back.
            BadDataset: it cannot be read any more.
        """
        pairs = [pair for cache in self._caches for pair in cache.still_to_read]
        to_read = self._stamps.keys() & {source.file for pair in pairs for source in (pair.image, pair.mask)}
        for file, stamp in sorted(stamps_of(to_read | self._doubtful).items()):
            if self._stamps[file] != stamp:
                self._check_content(file)
                self._stamps[file] = stamp
        self._doubtful = to_read

    def _check_content(self, file: str) -> None:
        if hashlib.sha256(self._sources[file].read()).hexdigest() != self._digests[file]:
            raise self._folder.data_changed(file)
