"""The paper's accuracy experiments (§§ 4.4, 4.5.2): networks trained alike, on one data set and one split."""

import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.errors import AlnetError, BadConfig, BadDataset
from service.reproduction.accuracy_report import FinishedRun, NetworkScore, read_finished
from service.reproduction.paper import Compared
from service.training.config import Config
from service.training.dataset import open_dataset
from service.training.job import run as run_job
from service.training.run_folder import SPLIT, RunFolder
from service.training.run_lock import held
from service.training.torchrun import leads

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One training: a run folder, and what is to be trained in it."""

    path: Path
    config: Config


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """Networks to compare, by one recipe.

    `recipe` is the configuration of every run, apart from its network and its fold. With `folds` every network is
    trained this many times, and every image is a test image once. Each run has a folder of its own below `folder`.
    """

    networks: tuple[Compared, ...]
    recipe: Config
    folds: int | None
    folder: Path

    def runs(self, compared: Compared) -> list[PlannedRun]:
        """Return the trainings of one network: one, or one per fold."""
        network: dict[str, object] = {"architecture": compared.architecture, "network": dict(compared.config)}
        path = self.folder / compared.key
        if self.folds is None:
            return [PlannedRun(path, self._config(network))]
        return [
            PlannedRun(path / f"fold-{fold}", self._config(network | {"fold": fold, "folds": self.folds}))
            for fold in range(1, self.folds + 1)
        ]

    def check(self) -> None:
        """Check that no run folder holds a training by another recipe or on other data, before anything is trained.

        Raises:
            BadConfig: one does; the message says which, and what differs.
            BadDataset: runs have begun, but the data cannot be read to compare with theirs.
        """
        planned = [planned for compared in self.networks for planned in self.runs(compared)]
        folders = [RunFolder(one.path, option="--out") for one in planned]
        for folder, one in zip(folders, planned, strict=True):
            folder.check(one.config)
        self._check_data([folder for folder in folders if (folder.path / SPLIT).exists()])

    def _check_data(self, folders: Sequence[RunFolder]) -> None:
        begun = [folder for folder in folders if folder.has_begun]
        if begun:
            dataset = open_dataset(self.recipe.data, series=self.recipe.series)
            for folder in begun:
                folder.check_data(dataset)

    def _config(self, changes: dict[str, object]) -> Config:
        return Config.model_validate(self.recipe.model_dump() | changes)


def run_experiment(experiment: Experiment, say: Say) -> Iterator[NetworkScore]:
    """Train network after network, and yield each one's scores as soon as its last run is finished.

    Finished runs are read, not repeated; an interrupted one goes on. A network that cannot be trained is yielded with
    the reason, and the next has its turn.

    Raises:
        BadConfig: a run folder holds a training by another recipe or on other data; another `alnet reproduce` works
            there; or torchrun started several processes.
        BadDataset: the data cannot be used, by any network.
    """
    if not leads():
        raise BadConfig("networks are trained one after another, in one process; torchrun is for `alnet train`")
    experiment.check()
    with held(experiment.folder, say, option="--out"):
        for compared in experiment.networks:
            yield _train(experiment, compared, say)


def _train(experiment: Experiment, compared: Compared, say: Say) -> NetworkScore:
    finished: list[FinishedRun] = []
    failure: str | None = None
    try:
        for planned in experiment.runs(compared):
            if (run := read_finished(planned.path)) is None:
                run_job(planned.config, planned.path, None, lambda line: say(f"{compared.key}: {line}"))
                run = read_finished(planned.path)
            finished += [run] if run else []
    except BadDataset:
        raise
    except (AlnetError, RuntimeError, ValueError, MemoryError) as error:  # PyTorch raises either for what does not fit
        failure = " ".join(str(error).split()) or type(error).__name__
        say(f"{compared.key}: {failure}")
        gc.collect()  # what did not fit must be gone before the next network is built
    return NetworkScore(network=compared.key, runs=tuple(finished), failure=failure)
