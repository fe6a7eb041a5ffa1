"""The folder that a reproduction leaves: table.md to read, table.json and scores.json to compute with, and pictures."""

import json
from pathlib import Path

from service.reproduction.accuracy_report import AccuracyReport
from service.reproduction.accuracy_table import accuracy_tables
from service.reproduction.experiment import Experiment
from service.reproduction.gallery import choose_examples, draw_gallery
from service.reproduction.learning_curves import draw_learning_curves
from service.training.dataset import open_dataset

EXAMPLES = 3


def write(report: AccuracyReport, experiment: Experiment) -> None:
    """Write tables, scores and learning curves into the experiment's folder, replacing those that are there.

    scores.json holds each network's mean IoU by its key, as `alnet benchmark networks --scores` reads it.
    """
    folder = experiment.folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.md").write_text(accuracy_tables(report), encoding="utf-8")
    (folder / "table.json").write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
    scores = {score.network: round(score.iou.mean, 4) for score in report.scored}
    (folder / "scores.json").write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")
    if runs := _run_folders(report, experiment):
        draw_learning_curves(runs, folder / "curves.png")


def draw_pictures(report: AccuracyReport, experiment: Experiment) -> None:
    """Draw pictures.png: a few test images, and what each network that was trained makes of them."""
    if runs := _run_folders(report, experiment):
        dataset = open_dataset(experiment.recipe.data, series=experiment.recipe.series)
        examples = choose_examples(dataset, next(iter(runs.values())), EXAMPLES)
        draw_gallery(examples, runs, experiment.folder / "pictures.png")


def _run_folders(report: AccuracyReport, experiment: Experiment) -> dict[str, list[Path]]:
    scored = {score.network for score in report.scored}
    return {
        compared.key: [run.path for run in experiment.runs(compared)]
        for compared in experiment.networks
        if compared.key in scored
    }
