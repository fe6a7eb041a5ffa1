"""Data that change while a run learns from them: they would no longer be what its split and its card describe."""

import hashlib
from collections.abc import Sequence

from service.training.cache import PairCache
from service.training.dataset import Dataset
from service.training.run_folder import RunFolder
from service.training.stamps import stamps_of


class Watch:
    """The files of a `dataset` as they were when it was opened. `folder` is that of a run on it.

    The run reads only through the `caches`. Files whose content these keep may change after the next check: the run
    knows them as they were.
    """

    def __init__(self, folder: RunFolder, dataset: Dataset, caches: Sequence[PairCache]) -> None:
        self._folder, self._digests, self._caches = folder, dataset.files, caches
        self._sources = {source.file: source for pair in dataset.pairs for source in (pair.image, pair.mask)}
        self._stamps = dict(dataset.stamps)
        self._doubtful = set(self._stamps)

    def check(self) -> None:
        """Check each file whose stamp has changed since it was last looked at: it must still hold what it did.

        The files looked at are those still to be read and, once more, those that were still to be read last time: what
        is kept of them may have been read since. A file that is gone, or cannot be reached, does not count as changed:
        whoever needs it says so.

        Raises:
            BadConfig: a file holds something else now; the run goes on once the old content is back.
            BadDataset: a changed file can no longer be read.
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
