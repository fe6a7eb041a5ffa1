"""The 8-bit form: calibrated on training images, judged on test images, published beside the same weights."""

import json
import re
import shlex
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from service.cli import app
from service.engine.choosing import EXACT, Wish, load_engine
from service.engine.weights import build_network, read_state
from service.errors import BadCheckpoint, BadParameter, BadSettings, QuantisationLoss
from service.store.checkpoint import INT8_CONSTANTS, INT8_GRAPH, Checkpoint
from service.store.model_store import ModelStore
from service.training.dataset import open_dataset
from service.training.evaluate import evaluate
from service.training.origins import parts_digest
from service.training.quantise import _divided_anew, _judge, quantise
from service.training.run_folder import SPLIT
from service.training.scores import mean_and_std
from service.training.split import Split
from service.training.split import split as divide
from service.training.split_file import SplitFile
from tests.cards import make_card
from tests.checkpoints import publish_tiny
from tests.doubles import draw
from tests.one_thread import one_thread

if TYPE_CHECKING:
    from openvino import Model

pytestmark = pytest.mark.skipif(find_spec("nncf") is None, reason="NNCF is not installed: the extra quantize")

DATA = "drawn:retina:5"

_one_thread = pytest.fixture(scope="module", autouse=True)(one_thread)


def quantize(store: Path, split: Path, *options: str) -> str:
    arguments = ["quantize", DATA, "--modality", "retina", "--store", str(store), "--split", str(split)]
    result = CliRunner().invoke(app, [*arguments, *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "split.json"
    train, test = ("retina-000", "retina-001", "retina-004"), ("retina-002", "retina-003")
    parts = Split(train=train, validation=(), test=test, how="by hand")
    path.write_text(json.dumps(parts.to_json()))
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, split: Path) -> Path:
    """A store with version 1, and version 2 with an 8-bit form."""
    folder = publish_tiny(tmp_path_factory.mktemp("store")).folder.parents[1]
    said = quantize(folder, split, "--loss", "1")
    assert f"published: {folder / 'retina' / '2'}" in said
    assert "calibrating on 3 training images" in said
    assert len(said.splitlines()) == 4  # nothing of NNCF's own among the results
    return folder


def versions(store: Path) -> tuple[Checkpoint, Checkpoint]:
    models = ModelStore(store)
    return models.open("retina", "1"), models.open("retina", "2")


def test_the_weights_are_the_same_and_the_card_says_what_came_beside_them(store: Path) -> None:
    before, after = versions(store)
    assert after.read_weights() == before.read_weights()
    assert before.card.int8 is None
    assert after.card.int8 is not None
    assert (after.card.int8.calibration_images, after.card.int8.n) == (3, 2)
    assert set(after.card.int8.tools) == {"nncf", "openvino"}
    assert after.card.model_copy(update={"version": "1", "int8": None}) == before.card


def test_what_is_told_and_written_down_is_how_well_each_form_does_on_the_test_images(
    tmp_path: Path, split: Path
) -> None:
    contrast = make_card().normalisation.model_copy(update={"std": (0.02, 0.02, 0.02)})
    checkpoint = publish_tiny(tmp_path, normalisation=contrast, threshold=142 / 255)  # about half of the pixels
    told = quantise(checkpoint, DATA, split, tmp_path, images=3, largest_loss=1, say=lambda _: None)
    after = Checkpoint.read(told.folder)
    engines = load_engine(after, EXACT), load_engine(after, Wish(device="cpu", precision="int8"))
    exact, found = (
        mean_and_std(score.agreement.iou for score in evaluate(DATA, engine, split=split))[0] for engine in engines
    )
    assert exact != found
    assert (told.exact_iou, told.int8_iou) == pytest.approx((exact, found))
    assert after.card.int8 is not None
    assert (after.card.int8.iou_mean, after.card.int8.iou_loss) == pytest.approx((found, exact - found))


def test_the_first_two_stages_of_the_encoder_stay_as_they_are_and_no_other_convolution(store: Path) -> None:
    """Weights in integers are made floats again on their way to a convolution; those in float32 go there themselves."""
    graph = ET.fromstring((versions(store)[1].folder / INT8_GRAPH).read_bytes())
    layers = {layer.get("id"): layer for layer in graph.iter("layer")}
    second = [edge for edge in graph.iter("edge") if edge.get("to-port") == "1"]
    taken = [
        layers[edge.get("from-layer")] for edge in second if layers[edge.get("to-layer")].get("type") == "Convolution"
    ]
    exact = [layer.get("name") for layer in taken if layer.get("type") == "Const"]
    assert exact == [f"network.encoder.stages.{stage}.0.0.weight" for stage in (0, 1)]
    assert len(taken) > 8


def test_what_integers_change_of_the_mean_of_a_layer_is_made_good_by_its_bias(store: Path) -> None:
    """NNCF does so where it finds a bias: a constant that is added to a convolution."""
    from service.engine.openvino_graph import fold_constants, read_int8, to_openvino

    before, after = versions(store)
    exact = to_openvino(before.card, build_network(before.card, read_state(before)))
    fold_constants(exact)
    int8 = after.contents().int8
    assert int8 is not None
    corrected = [
        not np.array_equal(found, known) for found, known in zip(biases(read_int8(int8)), biases(exact), strict=True)
    ]
    assert len(corrected) > 8
    assert any(corrected)  # where it is worth it


def biases(model: "Model") -> list[NDArray[np.float32]]:
    """Return the constants that are added to convolutions, in the order of these."""
    convolutions = (node for node in model.get_ordered_ops() if node.get_type_name() == "Convolution")
    sums = (next(iter(node.output(0).get_target_inputs())).get_node() for node in convolutions)
    added = (node.input_value(1).get_node() for node in sums if node.get_type_name() == "Add")
    return [node.get_data() for node in added if node.get_type_name() == "Constant"]


def test_the_integers_serve_and_answer_much_like_float32(store: Path) -> None:
    _, after = versions(store)
    engine = load_engine(after, Wish(device="cpu", precision="int8"))
    assert engine.device == "cpu int8 openvino"
    tile = draw(0, *engine.card.input.grid)
    [found], [exact] = engine.predict([tile]), load_engine(after, EXACT).predict([tile])
    assert 0 < np.abs(found.astype(int) - exact).mean() < 0.05 * 255


def test_they_are_the_first_choice_on_a_cpu(store: Path) -> None:
    _, after = versions(store)
    assert load_engine(after, Wish(device="cpu")).device == "cpu int8 openvino"


def test_a_checkpoint_without_them_cannot_be_asked_for_them(store: Path) -> None:
    before, _ = versions(store)
    with pytest.raises(BadSettings, match="alnet quantize"):
        load_engine(before, Wish(device="cpu", precision="int8"))


def test_a_split_without_test_images_is_refused_before_the_calibration(store: Path, tmp_path: Path) -> None:
    parts = Split(train=("retina-000",), validation=("retina-001",), test=(), how="by hand")
    (tmp_path / "split.json").write_text(json.dumps(parts.to_json()))
    said: list[str] = []
    with pytest.raises(BadParameter, match="has no test images"):
        quantise(
            versions(store)[0],
            DATA,
            tmp_path / "split.json",
            store,
            images=1,
            largest_loss=1,
            say=said.append,
        )
    assert said == []


@pytest.mark.parametrize("refused", [".", "retina"])
def test_a_store_that_cannot_be_written_is_refused_before_the_calibration(
    store: Path, split: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    monkeypatch.setattr("os.access", lambda path, _: Path(path) != store / refused)  # root may write everywhere
    said: list[str] = []
    with pytest.raises(OSError, match="check its owner and permissions; nothing was calibrated") as failed:
        quantise(versions(store)[0], DATA, split, store, images=1, largest_loss=1, say=said.append)
    assert (Path(failed.value.filename), said) == (store / refused, [])


def test_too_great_a_loss_is_told_and_nothing_is_published(store: Path, split: Path) -> None:
    before, _ = versions(store)
    said: list[str] = []
    with pytest.raises(QuantisationLoss, match="nothing was published; more --images"):  # no loss is below -1
        quantise(before, DATA, split, store, images=1, largest_loss=-2, say=said.append)
    with pytest.raises(QuantisationLoss, match="nothing was published; all training images calibrated it"):
        quantise(before, DATA, split, store, images=3, largest_loss=-2, say=said.append)
    assert ModelStore(store).published("retina") == ["1", "2"]
    assert said[0] == "calibrating on 1 training images"


def test_a_gain_and_a_loss_as_large_as_is_allowed_are_no_loss_too_great() -> None:
    for found in (0.75, 1.0):
        _judge(0.875, found, 4, 0.125, may_use_more=True)
    with pytest.raises(QuantisationLoss, match=r"is 0\.7000, in float32 0\.8750: 0\.1750 are lost, and 0\.125 allowed"):
        _judge(0.875, 0.7, 4, 0.125, may_use_more=True)


def test_a_form_that_no_server_would_take_is_not_published(store: Path, split: Path, tmp_path: Path) -> None:
    before, _ = versions(store)
    strict = before.card.probe.model_copy(update={"tolerance": 1e-7})
    checkpoint = publish_tiny(tmp_path, probe=strict)
    with pytest.raises(QuantisationLoss, match="the probe is answered otherwise: mean difference"):
        quantise(checkpoint, DATA, split, tmp_path, images=2, largest_loss=1, say=lambda _: None)
    assert ModelStore(tmp_path).published("retina") == ["1"]


def quantise_tiny(checkpoint: Checkpoint, split: Path) -> None:
    """Quantise a checkpoint into its own store, whatever it loses by that."""
    store = checkpoint.folder.parents[1]
    quantise(checkpoint, DATA, split, store, images=1, largest_loss=1, say=lambda _: None)


def test_the_split_of_another_run_is_refused_with_the_command_that_makes_the_checkpoints_own(tmp_path: Path) -> None:
    dataset, fractions = open_dataset(DATA), (0.4, 0.2, 0.4)
    own = divide(dataset, fractions=fractions, seed=7)
    data = make_card().data.model_copy(
        update={"digest": dataset.digest, "split": own.how, "parts_digest": parts_digest(own, dataset.images)}
    )
    training = make_card().training.model_copy(update={"config": {"fractions": list(fractions), "fold": None}})
    checkpoint = publish_tiny(tmp_path / "store", data=data, training=training)
    path = tmp_path / "split.json"
    path.write_bytes(SplitFile.of(divide(dataset, fractions=fractions, seed=8), dataset, {}, "unknown").to_bytes())
    with pytest.raises(BadParameter, match="is not how the data of retina 1, drawn, were divided: it may") as refused:
        quantise_tiny(checkpoint, path)
    assert ModelStore(tmp_path / "store").published("retina") == ["1"]

    found = re.search(r"write it anew: alnet (train .* --run) NEW$", str(refused.value))
    assert found is not None
    run = tmp_path / "run"
    small = ("--input", "stretch:32x32", "--crop", "0")
    options = [DATA if word == "FOLDER" else word for word in shlex.split(found[1])]
    done = CliRunner().invoke(app, [*options, str(run), *small], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    quantise_tiny(checkpoint, run / SPLIT)
    assert ModelStore(tmp_path / "store").published("retina") == ["1", "2"]


def test_the_command_that_makes_a_split_anew_tells_all_that_it_depends_on() -> None:
    config = {"case_pattern": "^([0-9]+)_", "folds": 5, "fold": 2, "series": False, "fractions": [0.5, 0.2, 0.3]}
    training = make_card().training.model_copy(update={"config": config})
    assert _divided_anew(make_card(training=training)) == (
        "alnet train --data FOLDER --modality retina --seed 7 --fractions 0.5 0.2 0.3 --case-pattern '^([0-9]+)_' "
        "--folds 5 --fold 2 --no-series --epochs 1 --steps-per-epoch 1 --no-publish --run NEW"
    )


def test_of_an_old_card_and_other_data_it_is_said_that_nothing_shows_whose_the_split_is(
    tmp_path: Path, split: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quantise_tiny(publish_tiny(tmp_path), split)
    said = capsys.readouterr().err
    assert f"caution: {split} is of other data, so nothing shows that it is how the data of retina 1, drawn" in said
    assert "alnet train --data FOLDER --modality retina --seed 7 " in said


def test_of_an_old_card_and_its_own_data_another_split_is_cautioned_of_once(
    tmp_path: Path, split: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_card().data.model_copy(update={"digest": open_dataset(DATA).digest, "split": "seed 5"})
    quantise_tiny(publish_tiny(tmp_path, data=data), split)
    assert capsys.readouterr().err.count("is not how the checkpoint's own data were split") == 1


@pytest.fixture
def copied(store: Path, tmp_path: Path) -> Path:
    """A copy of version 2 to be damaged."""
    return shutil.copytree(versions(store)[1].folder, tmp_path / "retina" / "2")


@pytest.mark.parametrize("name", [INT8_GRAPH, INT8_CONSTANTS])
def test_a_changed_file_is_refused(name: str, copied: Path) -> None:
    (copied / name).write_bytes((copied / name).read_bytes() + b" ")
    with pytest.raises(BadCheckpoint, match=rf"{name} has sha256"):
        Checkpoint.read(copied).contents()


@pytest.mark.parametrize("name", [INT8_GRAPH, INT8_CONSTANTS])
def test_a_missing_file_is_refused(name: str, copied: Path) -> None:
    (copied / name).unlink()
    with pytest.raises(BadCheckpoint, match=f"{name} is missing"):
        Checkpoint.read(copied).contents()
