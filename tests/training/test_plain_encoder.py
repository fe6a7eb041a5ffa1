"""What was published is trained on: its encoder computes the same at first, in both modes, and then learns."""

import copy
from pathlib import Path
from typing import cast

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from service.errors import BadConfig
from service.imaging.policy import InputPolicy
from service.network import build, reparameterize
from service.network.repvgg import Encoder
from service.store.checkpoint import CARD, WEIGHTS
from service.training.config import Config, configure, file_identity
from service.training.encoder_weights import load_encoder_weights
from service.training.initial import build_network
from service.training.job import run as train
from service.training.leak import origins_of
from service.training.plain_encoder import plain_encoder, settle
from service.training.pretraining import pretrain
from service.training.state import BEST
from tests.network.published_efficientnet import LITE0, random_weights

SMALL = {"blocks": [1, 2, 1, 2, 1], "widths": [4, 6, 8, 10, 12]}
GRID = InputPolicy(kind="stretch", height=64, width=64)
TINY = {"steps_per_epoch": 4, "batch_size": 2, "crop_px": 64, "precision": "float32", "workers": 0}


def encoder_of(network: nn.Module) -> Encoder:
    return cast("Encoder", network.encoder)


@pytest.fixture
def trained() -> nn.Module:
    """Return a network whose batch norms have seen something, as after training."""
    torch.manual_seed(3)
    network = build("al-net", **SMALL)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 2)
            nn.init.normal_(norm.bias)
            assert norm.running_mean is not None
            assert norm.running_var is not None
            nn.init.normal_(norm.running_mean)
            nn.init.uniform_(norm.running_var, 0.5, 2)
    return network.eval()


@pytest.fixture
def published(trained: nn.Module, tmp_path: Path) -> Path:
    """Return the file of the network's published form."""
    file = tmp_path / WEIGHTS
    save_file({name: tensor.contiguous() for name, tensor in reparameterize(trained).state_dict().items()}, file)
    return file


def begun(file: Path) -> nn.Module:
    torch.manual_seed(0)
    network = build("al-net", **SMALL)
    load_encoder_weights(network, file)
    return network


def test_the_encoder_begins_with_what_was_published(trained: nn.Module, published: Path) -> None:
    network = build("al-net", **SMALL)
    line = load_encoder_weights(network, published)
    assert line == f"encoder weights from {WEIGHTS}: all of them, from a published network of ours"
    image = torch.randn(2, 3, 65, 64)
    with torch.inference_mode():
        for found, expected in zip(encoder_of(network).eval()(image), encoder_of(trained)(image), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_settled_it_computes_the_same_in_both_modes(trained: nn.Module, published: Path) -> None:
    network, images = begun(published), torch.randn(8, 3, 64, 64)
    encoder = encoder_of(network).train()
    with torch.no_grad():
        expected = encoder_of(trained)(images)[-1]
        unsettled = copy.deepcopy(encoder)(images)[-1]
        settle(encoder, images)
        assert encoder.training
        torch.testing.assert_close(encoder(images)[-1], expected, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(encoder.eval()(images)[-1], expected, rtol=1e-2, atol=1e-2)
    assert float((unsettled - expected).abs().mean()) > 0.1 * float(expected.abs().mean())


def test_all_branches_learn(published: Path) -> None:
    network, images = begun(published), torch.randn(4, 3, 64, 64)
    encoder = encoder_of(network).train()
    settle(encoder, images)
    assert plain_encoder(network) is encoder
    optimizer = torch.optim.Adam(encoder.parameters(), 0.01)
    before = {name: tensor.clone() for name, tensor in encoder.named_parameters()}
    for _ in range(3):  # in the first only the scales of branches that were silent do
        optimizer.zero_grad()
        encoder(images)[-1].square().mean().backward()
        optimizer.step()
    assert plain_encoder(network) is None
    assert [name for name, tensor in encoder.named_parameters() if torch.equal(tensor, before[name])] == []


def test_what_was_trained_is_published_as_any_other(published: Path) -> None:
    network, images = begun(published), torch.randn(2, 3, 64, 64)
    settle(encoder_of(network), images)
    with torch.inference_mode():
        expected = network.eval()(images)
        torch.testing.assert_close(reparameterize(network)(images), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("name", "options"), [("al-net", SMALL), ("pyconvunet", {})])
def test_an_encoder_that_was_not_published_is_none_to_settle(name: str, options: dict[str, object]) -> None:
    assert plain_encoder(build(name, **options)) is None


def test_another_encoder_is_refused_and_nothing_is_changed(published: Path, tmp_path: Path) -> None:
    for other, message in (
        ({**SMALL, "widths": [4, 6, 8, 10, 14]}, r"stages.4.0.0.weight is \(12, 10, 3, 3\), not \(14, 10, 3, 3\)"),
        ({**SMALL, "blocks": [1, 2, 2, 2, 1]}, "it lacks encoder.stages.2.1.0.weight"),
        ({**SMALL, "blocks": [1, 1, 1, 2, 1]}, r"it has encoder\.stages\.1\.1\.0\.bias beyond it"),
    ):
        network = build("al-net", **other)
        before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        with pytest.raises(BadConfig, match=message):
            load_encoder_weights(network, published)
        assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    broken = load_file(published)
    broken["encoder.stages.3.0.0.bias"][0] = torch.nan
    save_file(broken, tmp_path / "broken.safetensors")
    with pytest.raises(BadConfig, match="holds NaN"):
        load_encoder_weights(build("al-net", **SMALL), tmp_path / "broken.safetensors")
    with pytest.raises(BadConfig, match=r"it lacks encoder\.stages\.0"):
        load_encoder_weights(build("al-net", encoder="efficientnet-lite0"), published)


def _config(**changes: object) -> Config:
    own: dict[str, object] = {"input": GRID, "network": SMALL, "epochs": 2}
    return configure("drawn:retina:9", "retina", "quick", TINY | own | changes)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the weights of a checkpoint that a run of the job has published."""
    folder = tmp_path_factory.mktemp("first")
    result = train(_config(), folder / "run", folder / "store", print)
    assert result is not None
    return Path(result.checkpoint) / WEIGHTS


@pytest.mark.parametrize("job", ["train", "pretrain"])
def test_a_run_goes_on_from_a_published_checkpoint(job: str, checkpoint: Path, tmp_path: Path) -> None:
    """With next to no learning rate all that changes is what batch norms see, and that is much like what they saw."""
    said: list[str] = []
    run, lite = tmp_path / "run", tmp_path / "lite.pth"
    config = _config(epochs=1, learning_rate=1e-9, steps_per_epoch=20, encoder_weights=file_identity(checkpoint))
    if job == "train":
        train(config, run, None, said.append, encoder_weights=checkpoint)
    else:
        torch.save(random_weights(LITE0), lite)
        pretrain(config, run, lite, said.append, encoder_weights=checkpoint)
    assert said[0] == f"encoder weights from {WEIGHTS}: all of them, from a published network of ours"
    kept, plain = build_network(config), reparameterize(build_network(config))
    kept.load_state_dict(load_file(run / BEST), strict=False)
    plain.load_state_dict(load_file(checkpoint))
    images = torch.randn(4, 3, 64, 64)
    with torch.inference_mode():
        found, expected = (encoder_of(network.eval())(images)[-1] for network in (kept, plain))
    assert float((found - expected).abs().mean()) < 0.5 * float(expected.abs().mean())


def test_what_it_knows_must_not_judge(checkpoint: Path, tmp_path: Path) -> None:
    """A card names no images: of the same data only the same split will do."""
    config = _config(seed=1, encoder_weights=file_identity(checkpoint))
    with pytest.raises(BadConfig, match=r"trained on these images, divided in another way \(seed 0.*--seed"):
        train(config, tmp_path / "run", None, print, encoder_weights=checkpoint)
    shares = _config(fractions=(0.7, 0.1, 0.2), encoder_weights=file_identity(checkpoint))
    with pytest.raises(BadConfig, match="divided in another way"):
        train(shares, tmp_path / "run", None, print, encoder_weights=checkpoint)


def test_of_other_data_than_its_own_it_is_said_that_nothing_can_be_checked(checkpoint: Path, tmp_path: Path) -> None:
    """These are its own nine and one more, dealt anew: what it learnt from tests the new run."""
    said = list[str]()
    for count, cautions in ((9, 0), (10, 1)):
        config = _config(epochs=1, data=f"drawn:retina:{count}", encoder_weights=file_identity(checkpoint))
        assert train(config, tmp_path / str(count), None, said.append, encoder_weights=checkpoint) is not None
        goes_back = [line for line in said if "goes back to" in line]
        assert len(goes_back) == cautions
    assert goes_back[0].startswith("caution: this run goes back to a published checkpoint that was trained on drawn:")


def test_what_began_with_it_hands_on_what_it_must_not_judge(checkpoint: Path, tmp_path: Path) -> None:
    lesions = _config(epochs=1, encoder_weights=file_identity(checkpoint)).model_copy(
        update={"data": "drawn:skin:9", "modality": "skin"}
    )
    train(lesions, tmp_path / "skin", None, print, encoder_weights=checkpoint)
    best = tmp_path / "skin" / BEST
    back = _config(seed=1, encoder_weights=file_identity(best))
    with pytest.raises(BadConfig, match="this run goes back to was trained on these images, divided in another way"):
        train(back, tmp_path / "back", None, print, encoder_weights=best)
    origins = origins_of([best], teacher=tmp_path / "skin")
    assert [origin.data.name for origin in origins] == ["drawn:retina"] * 2


def test_a_checkpoint_that_lies_in_its_run_is_judged_by_the_runs_own_split(tmp_path: Path) -> None:
    """Whose images are known: also other data that share some of them are told."""
    first = train(_config(epochs=1), tmp_path / "first", None, print)
    assert first is not None
    weights = Path(first.checkpoint) / WEIGHTS
    assert weights.is_relative_to(tmp_path / "first")
    others = _config(data="drawn:retina:10", seed=3, encoder_weights=file_identity(weights))
    with pytest.raises(BadConfig, match=r"the encoder in .*first knows retina-0"):
        train(others, tmp_path / "second", None, print, encoder_weights=weights)


def test_a_damaged_card_is_told_of(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / WEIGHTS).write_bytes(checkpoint.read_bytes())
    assert origins_of([tmp_path / WEIGHTS], teacher=None) == ()  # without a card nothing is known
    (tmp_path / CARD).write_text("{}")
    with pytest.raises(BadConfig, match=r"the encoder in .*card\.json: field"):
        origins_of([tmp_path / WEIGHTS], teacher=None)


def test_weights_that_are_not_their_cards_are_told_of(checkpoint: Path, tmp_path: Path) -> None:
    content = bytearray(checkpoint.read_bytes())
    content[-1] ^= 1
    (tmp_path / WEIGHTS).write_bytes(content)
    (tmp_path / CARD).write_bytes((checkpoint.parent / CARD).read_bytes())
    with pytest.raises(BadConfig, match=r"the encoder in .*sha256"):
        origins_of([tmp_path / WEIGHTS], teacher=None)
