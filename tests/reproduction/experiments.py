"""Reproductions so small that they take seconds, and reports that none gave."""

from pathlib import Path

from service.imaging.policy import InputPolicy
from service.reproduction.accuracy_report import FinishedRun, NetworkScore
from service.reproduction.experiment import Experiment
from service.reproduction.paper import PAPER_NETWORKS, Compared, Spread
from service.store.card import Data
from service.training.config import Config, configure

NETWORKS = {compared.key: compared for compared in PAPER_NETWORKS}


def make_recipe(**changes: object) -> Config:
    tiny = {
        "input": InputPolicy(kind="fit", height=64, width=64),
        "epochs": 1,
        "steps_per_epoch": 1,
        "batch_size": 2,
        "crop_px": 64,
        "precision": "float32",
        "learning_rate": 0.001,
    }
    data = str(changes.pop("data", "drawn:retina:6"))
    return configure(data, "retina", "quick", tiny | changes)


def make_experiment(folder: Path, *networks: Compared, folds: int | None = None, **changes: object) -> Experiment:
    return Experiment(networks=networks, recipe=make_recipe(**changes), folds=folds, folder=folder)


def make_run(**changes: object) -> FinishedRun:
    fields: dict[str, object] = {
        "folder": "al-net",
        "images": 6,
        "iou": Spread(0.7, 0.05),
        "accuracy": Spread(0.97, 0.01),
        "parameters": 3_450_000,
        "best_epoch": 20,
        "epochs": 30,
        "seconds": 600.0,
        "data": Data(name="STARE", digest="a" * 64, n_train=10, n_validation=4, n_test=6, split="seed 0"),
        "device": "a GPU",
        "commit": "0123456789ab",
        "torch": "2.13.0",
    }
    return FinishedRun.model_validate(fields | changes)


def make_score(network: str, *runs: FinishedRun, failure: str | None = None) -> NetworkScore:
    return NetworkScore(network=network, runs=runs, failure=failure)
