"""A whole reproduction, small: every network alike, nothing twice, what fails is said."""

import json
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image as PillowImage

from service.errors import BadConfig, BadDataset
from service.reproduction.accuracy_folder import draw_pictures, write
from service.reproduction.accuracy_report import AccuracyReport, NetworkScore, trial_checkpoint
from service.reproduction.accuracy_table import accuracy_tables
from service.reproduction.experiment import Experiment, run_experiment
from service.reproduction.paper import Compared
from service.reproduction.scores_file import read_scores
from service.training.config import Config
from service.training.run_folder import CONFIG, EPOCHS, RESULT, SPLIT
from tests.one_thread import one_thread
from tests.reproduction.experiments import NETWORKS, make_experiment
from tests.training.folders import images_and_masks, mask, picture
from tests.training.folders import write as write_image

BROKEN = Compared("cenet", "CE-Net", "cenet", {"no_such_option": 1})


_one_thread = pytest.fixture(autouse=True, scope="module")(one_thread)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    folder = tmp_path_factory.mktemp("experiment") / "retina"
    return make_experiment(folder, NETWORKS["al-net"], BROKEN, NETWORKS["al-net-u"])


@pytest.fixture(scope="module")
def scores(experiment: Experiment) -> list[NetworkScore]:
    return list(run_experiment(experiment, lambda _: None))


def test_a_network_that_fails_says_so_and_the_others_go_on(scores: list[NetworkScore]) -> None:
    assert [score.network for score in scores] == ["al-net", "cenet", "al-net-u"]
    assert [score.failure is None for score in scores] == [True, False, True]
    assert "no_such_option" in str(scores[1].failure)


def test_all_networks_have_one_split_and_one_recipe(experiment: Experiment, scores: list[NetworkScore]) -> None:
    one, other = (experiment.folder / score.network for score in scores if score.failure is None)
    assert json.loads((one / SPLIT).read_bytes()) == json.loads((other / SPLIT).read_bytes())
    of_one, of_other = (Config.model_validate_json((run / CONFIG).read_bytes()) for run in (one, other))
    assert (of_one.network, of_other.network) == ({}, {"decoder": "u"})
    assert of_one.model_dump(exclude={"network"}) == of_other.model_dump(exclude={"network"})


def test_scores_are_those_of_the_cards(experiment: Experiment, scores: list[NetworkScore]) -> None:
    for score in (score for score in scores if score.failure is None):
        card = trial_checkpoint(experiment.folder / score.network).card
        assert card.test is not None
        assert (score.iou.mean, score.iou.std) == pytest.approx((card.test.iou_mean, card.test.iou_std))
        assert (score.parameters, score.runs[0].images) == (card.parameters, card.test.n)
    assert scores[2].parameters != scores[0].parameters


def test_finished_networks_are_not_trained_again(experiment: Experiment, scores: list[NetworkScore]) -> None:
    said: list[str] = []
    again = list(run_experiment(experiment, said.append))
    assert again == scores
    assert all(line.startswith("cenet: ") for line in said)


def test_it_leaves_tables_scores_curves_and_pictures(experiment: Experiment, scores: list[NetworkScore]) -> None:
    report = AccuracyReport(command="alnet", recipe=experiment.recipe, folds=None, networks=tuple(scores))
    write(report, experiment)
    draw_pictures(report, experiment)
    folder = experiment.folder
    assert (folder / "table.md").read_text() == accuracy_tables(report)
    assert AccuracyReport.model_validate_json((folder / "table.json").read_bytes()) == report
    assert read_scores(folder / "scores.json") == {
        score.network: pytest.approx(score.iou.mean, abs=1e-4) for score in scores if score.failure is None
    }
    for name in ("curves.png", "pictures.png"):
        with PillowImage.open(folder / name) as picture:
            assert picture.format == "PNG"


def test_another_recipe_is_refused_before_anything_is_trained(
    experiment: Experiment, scores: list[NetworkScore]
) -> None:
    networks = (NETWORKS["pyconvunet"], *experiment.networks)
    other = make_experiment(experiment.folder, *networks, learning_rate=0.002)
    with pytest.raises(BadConfig, match=r"--learning-rate was 0\.001 and is now 0\.002\); pick one with --out$"):
        list(run_experiment(other, print))
    assert not (experiment.folder / "pyconvunet").exists()


def test_other_data_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    """Runs on different data in one table would compare what cannot be compared."""
    data = images_and_masks(tmp_path / "data", ["a", "b", "c", "d"], size=(40, 40))
    first = make_experiment(tmp_path / "retina", NETWORKS["al-net"], data=str(data))
    list(run_experiment(first, lambda _: None))
    write_image(data / "images" / "e.png", picture(9, height=40, width=40))
    write_image(data / "masks" / "e.png", mask(9, height=40, width=40))
    both = make_experiment(tmp_path / "retina", NETWORKS["al-net"], NETWORKS["al-net-u"], data=str(data))
    message = (
        r"the data changed since .*retina/al-net/split\.json was written; .* start anew in another folder with --out$"
    )
    with pytest.raises(BadConfig, match=message):
        list(run_experiment(both, print))
    assert not (tmp_path / "retina" / "al-net-u").exists()


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        (EPOCHS, r"al-net has lost epochs\.csv, .*; remove result\.json there, and the run finishes again"),
        (SPLIT, r"al-net has lost split\.json, .*; bring it back, or remove the folder"),
    ],
)
def test_a_finished_run_that_lost_a_file_fails_alone(
    experiment: Experiment, scores: list[NetworkScore], tmp_path: Path, lost: str, message: str
) -> None:
    folder = Path(shutil.copytree(experiment.folder, tmp_path / "retina"))
    (folder / "al-net" / lost).unlink()
    moved = make_experiment(folder, NETWORKS["al-net"], NETWORKS["al-net-u"])
    broken, whole = run_experiment(moved, lambda _: None)
    assert re.search(message, str(broken.failure))
    assert whole == scores[2]
    report = AccuracyReport(command="alnet", recipe=moved.recipe, folds=None, networks=(broken, whole))
    write(report, moved)
    draw_pictures(report, moved)
    assert (folder / "pictures.png").exists()


def test_epochs_that_were_lost_are_there_again_once_the_run_has_finished_again(
    experiment: Experiment, scores: list[NetworkScore], tmp_path: Path
) -> None:
    run = shutil.copytree(experiment.folder, tmp_path / "retina") / "al-net"
    epochs = (run / EPOCHS).read_bytes()
    for name in (EPOCHS, RESULT):
        (run / name).unlink()
    (again,) = run_experiment(make_experiment(run.parent, NETWORKS["al-net"]), lambda _: None)
    assert again == scores[0]
    assert (run / EPOCHS).read_bytes() == epochs


def test_folds_test_every_image_once_and_are_scored_together(tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path / "retina", NETWORKS["al-net"], folds=2)
    (score,) = run_experiment(experiment, lambda _: None)
    runs = [planned.path for planned in experiment.runs(NETWORKS["al-net"])]
    assert [path.relative_to(tmp_path / "retina" / "al-net").name for path in runs] == ["fold-1", "fold-2"]
    tested = [name for path in runs for name in json.loads((path / SPLIT).read_bytes())["test"]]
    assert sorted(tested) == [f"retina-{index:03}" for index in range(6)]
    assert [(run.folder, run.images) for run in score.runs] == [("fold-1", 3), ("fold-2", 3)]
    assert score.iou.mean == pytest.approx(sum(run.iou.mean for run in score.runs) / 2)
    draw_pictures(AccuracyReport(command="", recipe=experiment.recipe, folds=2, networks=(score,)), experiment)
    assert (tmp_path / "retina" / "pictures.png").exists()


def test_a_network_for_which_batches_are_too_small_fails_alone(tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path, NETWORKS["al-net"], batch_size=1, crop_px=32)
    (score,) = run_experiment(experiment, lambda _: None)
    assert "--batch-size 2" in str(score.failure)


def test_data_that_no_network_can_use_end_it(tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path, NETWORKS["al-net"], NETWORKS["cenet"], data="drawn:retina:2")
    with pytest.raises(BadDataset, match="3 parts need 3"):
        list(run_experiment(experiment, print))
