"""A whole network of ours is trained on, published or not: it computes the same at first, in both modes."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from service.errors import BadConfig
from service.imaging.policy import InputPolicy
from service.network import build, reparameterize
from service.store.checkpoint import WEIGHTS, Checkpoint
from service.training.config import Config, configure, file_identity
from service.training.initial import build_network
from service.training.job import run as train
from service.training.plain_encoder import settle
from service.training.plain_network import load_network, load_soup
from service.training.run_folder import CURVES
from service.training.state import BEST
from tests.network.as_if_trained import as_if_trained

SMALL: dict[str, Any] = {"blocks": [1, 2, 1, 2, 1], "widths": [4, 6, 8, 10, 12]}
NETWORKS: list[tuple[str, dict[str, Any]]] = [
    ("al-net", SMALL),
    ("al-net", {**SMALL, "fusion_stride": 1}),
    ("al-net", {**SMALL, "context": "aspp"}),
    ("al-net", {**SMALL, "decoder": "u"}),
    ("al-net", {"encoder": "efficientnet-lite0"}),
    ("al-net", {"encoder": "resnet34"}),
    ("repvgg-unet", {}),
    ("deeplabv3plus", {}),
    ("cenet", {}),
    ("unetplusplus", {}),
    ("pyconvunet", {}),
]


def trained(name: str = "al-net", **options: object) -> nn.Module:
    torch.manual_seed(3)
    return as_if_trained(build(name, **options)).eval()


def saved(network: nn.Module, file: Path) -> Path:
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, file)
    return file


def closeness(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize(("name", "options"), NETWORKS)
def test_it_computes_what_was_published_and_settled_the_same_in_training(
    name: str, options: dict[str, Any], tmp_path: Path
) -> None:
    before = trained(name, **options)
    file = saved(reparameterize(before), tmp_path / WEIGHTS)
    torch.manual_seed(0)
    network, images = build(name, **options), torch.randn(4, 3, 64, 64)
    assert load_network(network, file) == f"weights from {WEIGHTS}: all of them, from a published network of ours"
    with torch.no_grad():
        expected = before(images)
        assert closeness(network.eval()(images), expected) < 1e-4
        settle(network.train(), images)
        assert network.training
        assert closeness(network(images), expected) < 1e-3


def test_every_part_learns(tmp_path: Path) -> None:
    file = saved(reparameterize(trained(**SMALL)), tmp_path / WEIGHTS)
    network, images = build("al-net", **SMALL), torch.randn(4, 3, 64, 64)
    load_network(network, file)
    settle(network.train(), images)
    before = {name: tensor.clone() for name, tensor in network.named_parameters()}
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(3):  # in the first only the scales of branches that were silent do
        optimizer.zero_grad()
        network(images).square().mean().backward()
        optimizer.step()
    assert [name for name, tensor in network.named_parameters() if torch.equal(tensor, before[name])] == []


def test_a_runs_own_network_is_taken_as_it_is(tmp_path: Path) -> None:
    before = trained(**SMALL)
    network = build("al-net", **SMALL)
    line = load_network(network, saved(before, tmp_path / BEST))
    assert line == f"weights from {BEST}: all of them, from a network of ours"
    assert all(torch.equal(tensor, before.state_dict()[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({**SMALL, "widths": [4, 6, 8, 10, 14]}, r"encoder\.stages\.4\.0\.0\.weight is \(12, 10, 3, 3\), not"),
        ({**SMALL, "decoder_channels": [16, 32]}, r"decoder\.0\.0\.weight is \(32, 28, 3, 3\), not \(16, 28, 3, 3\)"),
        ({**SMALL, "context": "aspp"}, r"it lacks context\.branches"),
        ({"blocks": [1, 2, 1, 1, 1], "widths": SMALL["widths"]}, r"it has encoder\.stages\.3\.1\.0\.bias beyond it"),
    ],
)
def test_another_network_is_refused_and_nothing_is_changed(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    file = saved(reparameterize(trained(**SMALL)), tmp_path / WEIGHTS)
    network = build("al-net", **options)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(BadConfig, match=message):
        load_network(network, file)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize(("name", "options"), [NETWORKS[0], NETWORKS[4], ("pyconvunet", {})])
def test_a_soup_is_the_mean_of_what_would_be_published(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    """Of a published network and one of a run, whose weights differ before they are re-parameterised."""
    torch.manual_seed(5)
    one, other = as_if_trained(build(name, **options)).eval(), trained(name, **options)
    files = saved(reparameterize(one), tmp_path / WEIGHTS), saved(other, tmp_path / BEST)
    network = build(name, **options)
    assert load_soup(network, files) == f"weights: the mean of 2 networks of ours, {WEIGHTS}, {BEST}"
    plain, parts = reparameterize(build(name, **options)), [reparameterize(part).state_dict() for part in (one, other)]
    plain.load_state_dict({name: (tensor.double() + parts[1][name].double()) / 2 for name, tensor in parts[0].items()})
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert closeness(network.eval()(images), plain.eval()(images)) < 1e-4


def test_a_file_counts_in_a_soup_as_often_as_it_comes(tmp_path: Path) -> None:
    one, other = (saved(reparameterize(trained(**SMALL)), tmp_path / name) for name in ("a.safetensors", WEIGHTS))
    tensors = load_file(other)
    save_file({name: 5 * tensor for name, tensor in tensors.items()}, other)
    network = build("al-net", **SMALL)
    load_soup(network, [one, one, one, other])
    found = reparameterize(network).state_dict()
    for name in ("encoder.stages.2.0.0.weight", "low.weight", "high.bias"):
        torch.testing.assert_close(found[name], 2 * tensors[name], rtol=1e-4, atol=1e-5)


def test_a_soup_with_another_network_in_it_is_refused_and_nothing_is_changed(tmp_path: Path) -> None:
    one = saved(reparameterize(trained(**SMALL)), tmp_path / WEIGHTS)
    other = saved(trained(**{**SMALL, "widths": [4, 6, 8, 10, 14]}), tmp_path / BEST)
    network = build("al-net", **SMALL)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(BadConfig, match=r"encoder\.stages\.4"):
        load_soup(network, [one, other])
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def _config(**changes: object) -> Config:
    own: dict[str, object] = {
        "input": InputPolicy(kind="stretch", height=64, width=64),
        "network": SMALL,
        "epochs": 2,
        "steps_per_epoch": 4,
        "batch_size": 2,
        "crop_px": 64,
        "precision": "float32",
        "workers": 0,
    }
    return configure("drawn:retina:9", "retina", "quick", own | changes)


@pytest.mark.parametrize("begins", ["stage0.rbr_dense.conv.weight", "encoder.stages.0.0.dense.conv.weight"])
def test_an_encoder_alone_is_told_from_a_whole_network(tmp_path: Path, begins: str) -> None:
    file = tmp_path / BEST
    save_file({begins: torch.zeros(4, 3, 3, 3)}, file)
    with pytest.raises(BadConfig, match=r"no whole network of ours; an encoder alone, .* without --fine-tune"):
        load_network(trained(**SMALL), file)


def test_a_run_goes_on_with_the_whole_network_of_a_checkpoint(tmp_path: Path) -> None:
    """With next to no learning rate all that changes is what batch norms see, and that is much like what they saw."""
    first = train(_config(), tmp_path / "first", tmp_path / "store", print)
    assert first is not None
    weights = Path(first.checkpoint) / WEIGHTS
    changes = {"encoder_weights": file_identity(weights), "fine_tune": True}
    config = _config(epochs=1, learning_rate=1e-9, steps_per_epoch=20, **changes)
    said: list[str] = []
    train(config, tmp_path / "run", None, said.append, encoder_weights=weights)
    assert said[0] == f"weights from {WEIGHTS}: all of them, from a published network of ours"
    kept, plain = build_network(config), reparameterize(build_network(config))
    kept.load_state_dict(load_file(tmp_path / "run" / BEST))
    plain.load_state_dict(load_file(weights))
    images = torch.randn(4, 3, 64, 64)
    with torch.inference_mode():
        found, expected = kept.eval()(images), plain(images)
    assert float((found - expected).abs().mean()) < 0.5 * float(expected.std())
    with pytest.raises(BadConfig, match=r"trained on these images, divided in another way"):
        train(_config(seed=1, **changes), tmp_path / "other", None, print, encoder_weights=weights)
    finer = _config(fusion_stride=1, **changes)
    for file in (weights, tmp_path / "run" / BEST):  # the card tells it, or the run
        with pytest.raises(BadConfig, match=rf"{file.name} is of another network: al-net .*fusion_stride=2"):
            train(finer, tmp_path / "finer", None, print, encoder_weights=file)


def test_fine_tuning_needs_a_file() -> None:
    with pytest.raises(BadConfig, match="give it with --encoder-weights"):
        _config(fine_tune=True)


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """The weights of a checkpoint."""
    result = train(_config(), tmp_path / "first", tmp_path / "store", print)
    assert result is not None
    return Path(result.checkpoint) / WEIGHTS


def test_a_run_of_no_epochs_publishes_what_it_began_with(published: Path, tmp_path: Path) -> None:
    config = _config(epochs=0, encoder_weights=file_identity(published), fine_tune=True)
    said: list[str] = []
    result = train(config, tmp_path / "run", tmp_path / "store", said.append, encoder_weights=published)
    assert result is not None
    assert result.summary.startswith("not trained, validation IoU 0.")
    assert re.search(r"^not trained  validation IoU 0\.\d{4}$", "\n".join(said), re.MULTILINE)
    card, before = (Checkpoint.read(folder).card for folder in (Path(result.checkpoint), published.parent))
    assert (card.version, card.training.epochs, card.training.best_epoch) == ("2", 0, 0)
    assert card.training.config["encoder_weights"] == file_identity(published)
    assert card.test is not None
    assert before.test is not None
    assert card.test.iou_mean == pytest.approx(before.test.iou_mean, abs=1e-3)
    assert (card.threshold, card.normalisation) == (before.threshold, before.normalisation)
    found, expected = load_file(Path(result.checkpoint) / WEIGHTS), load_file(published)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-5)
    assert not (tmp_path / "run" / CURVES).exists()


def test_the_same_network_is_published_for_another_grid_too(published: Path, tmp_path: Path) -> None:
    """It took no time to train in either run, by which runs are told apart otherwise."""
    grids = {side: InputPolicy(kind="stretch", height=side, width=side) for side in (64, 96)}
    changes = {"epochs": 0, "encoder_weights": file_identity(published), "fine_tune": True}
    for side, grid in grids.items():
        config = _config(input=grid, **changes)
        train(config, tmp_path / str(side), tmp_path / "store", print, encoder_weights=published)
    cards = [Checkpoint.read(tmp_path / "store" / "retina" / version).card for version in ("2", "3")]
    assert [card.input for card in cards] == list(grids.values())
    assert cards[0].weights_sha256 == cards[1].weights_sha256


def test_each_network_of_a_soup_must_not_know_what_judges_it(published: Path, tmp_path: Path) -> None:
    other = _config(seed=1, epochs=1)  # of another split
    train(other, tmp_path / "other", None, print)
    files = {"encoder_weights": published, "soup": [tmp_path / "other" / BEST]}
    config = _config(
        epochs=0,
        encoder_weights=file_identity(published),
        soup=file_identity(tmp_path / "other" / BEST),
        fine_tune=True,
    )
    with pytest.raises(BadConfig, match=r"other knows retina-.*, which this run (tests|validates with)"):
        train(config, tmp_path / "run", None, print, **files)  # type: ignore[arg-type]


def test_a_soup_whose_answers_are_no_numbers_is_refused(published: Path, tmp_path: Path) -> None:
    tensors = load_file(published)
    wild = tmp_path / "wild.safetensors"
    save_file({name: tensor * 1e30 for name, tensor in tensors.items()}, wild)
    config = _config(epochs=0, encoder_weights=file_identity(wild), fine_tune=True)
    with pytest.raises(BadConfig, match=r"begins with is no sound network: .*NaN"):
        train(config, tmp_path / "run", None, print, encoder_weights=wild)
    assert not (tmp_path / "run" / BEST).exists()
