"""Encoder weights from RepVGG checkpoints, against the published training code's structure, written here once more."""

import argparse
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from service.errors import BadConfig
from service.network import build, reparameterize
from service.network.repvgg import Encoder
from service.training.encoder_weights import load_encoder_weights
from service.training.tensor_file import read_tensors
from tests.network.as_if_trained import as_if_trained

A1_WIDTHS = [64, 64, 128, 256, 1280]
SMALL: dict[str, Any] = {"blocks": [1, 2, 2, 3, 1], "widths": [6, 6, 8, 10, 12]}
"""A RepVGG that is quick to write and read."""


class ConvBN(nn.Module):
    """`conv_bn` of the published code."""

    def __init__(self, in_channels: int, out_channels: int, size: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, size, stride, padding=size // 2, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.bn(self.conv(x))
        return y


class PublishedBlock(nn.Module):
    """RepVGGBlock of the published code, as it is trained."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.rbr_identity = nn.BatchNorm2d(in_channels) if out_channels == in_channels and stride == 1 else None
        self.rbr_dense = ConvBN(in_channels, out_channels, 3, stride)
        self.rbr_1x1 = ConvBN(in_channels, out_channels, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        identity = 0 if self.rbr_identity is None else self.rbr_identity(x)
        return F.relu(self.rbr_dense(x) + self.rbr_1x1(x) + identity)


class PublishedRepVGG(nn.Module):
    """RepVGG of the published code: stage0 is one block, stage1 to stage4 lists of blocks, then a classifier."""

    def __init__(self, blocks: list[int], widths: list[int]) -> None:
        super().__init__()
        self.stage0 = PublishedBlock(3, widths[0], 2)
        for stage in range(1, 5):
            first = PublishedBlock(widths[stage - 1], widths[stage], 2)
            others = [PublishedBlock(widths[stage], widths[stage], 1) for _ in range(blocks[stage] - 1)]
            setattr(self, f"stage{stage}", nn.Sequential(first, *others))
        self.linear = nn.Linear(widths[4], 10)

    def features(self, x: Tensor) -> list[Tensor]:
        features = []
        for stage in range(5):
            x = self.get_submodule(f"stage{stage}")(x)
            features.append(x)
        return features


def published(**shape: Any) -> PublishedRepVGG:
    network = as_if_trained(PublishedRepVGG(**shape))
    assert isinstance(network, PublishedRepVGG)
    return network


def encoder_of(network: nn.Module) -> Encoder:
    encoder = network.get_submodule("encoder")
    assert isinstance(encoder, Encoder)
    return encoder.eval()


def block_of(network: PublishedRepVGG, name: str) -> PublishedBlock:
    block = network.get_submodule(name)
    assert isinstance(block, PublishedBlock)
    return block


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.pth"
    torch.save(published(**SMALL).state_dict(), path)
    return path


def test_with_unreduced_widths_the_encoder_computes_what_repvgg_a1_computes(tmp_path: Path) -> None:
    reference = published(blocks=[1, 2, 4, 14, 1], widths=A1_WIDTHS)
    torch.save(reference.state_dict(), tmp_path / "RepVGG-A1-train.pth")
    network = build("al-net", widths=A1_WIDTHS)
    line = load_encoder_weights(network, tmp_path / "RepVGG-A1-train.pth")
    image = torch.randn(1, 3, 33, 64, dtype=torch.double)
    with torch.inference_mode():
        found, expected = encoder_of(network).double()(image), reference.double().features(image)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    assert line == (
        "encoder weights from RepVGG-A1-train.pth: kept 64, 64, 128, 256, 1280 of 64, 64, 128, 256, 1280 channels, "
        "which pass on 100, 100, 100, 100, 100 % of the variance"
    )


@pytest.mark.parametrize("architecture", ["al-net", "repvgg-unet"])
def test_the_full_repvgg_a1_is_reduced_to_the_networks_channels(architecture: str, tmp_path: Path) -> None:
    torch.save(published(blocks=[1, 2, 4, 14, 1], widths=A1_WIDTHS).state_dict(), tmp_path / "a1.pth")
    network = build(architecture)
    line = load_encoder_weights(network, tmp_path / "a1.pth")
    assert "kept 48, 48, 96, 144, 320 of 64, 64, 128, 256, 1280 channels" in line
    with torch.inference_mode():
        assert bool(reparameterize(network)(torch.randn(1, 3, 64, 64)).isfinite().all())


def test_every_way_to_save_a_checkpoint_is_read(tmp_path: Path) -> None:
    state = published(**SMALL).state_dict()
    wrapped = {f"module.{name}": tensor for name, tensor in state.items()}
    torch.save(state, tmp_path / "plain")
    torch.save(state, tmp_path / "old", _use_new_zipfile_serialization=False)
    torch.save({"state_dict": wrapped, "epoch": 120}, tmp_path / "wrapped")
    torch.save({"model": state}, tmp_path / "model")
    save_file(state, tmp_path / "safe")
    loaded = []
    for name in ("plain", "old", "wrapped", "model", "safe"):
        network = build("al-net", **SMALL)
        load_encoder_weights(network, tmp_path / name)
        loaded.append(encoder_of(network).state_dict())
    for other in loaded[1:]:
        assert all(torch.equal(tensor, other[name]) for name, tensor in loaded[0].items())


def test_a_checkpoint_without_the_batch_norms_counters_is_read(tmp_path: Path) -> None:
    state = published(**SMALL).state_dict()
    loaded = []
    for without in (False, True):
        kept = {name: t for name, t in state.items() if not (without and name.endswith("num_batches_tracked"))}
        torch.save(kept, tmp_path / "a.pth")
        network = build("al-net", **SMALL)
        load_encoder_weights(network, tmp_path / "a.pth")
        loaded.append(encoder_of(network).state_dict())
    with_counters, without_counters = loaded
    for name, tensor in without_counters.items():
        expected = torch.tensor(0) if name.endswith("num_batches_tracked") else with_counters[name]
        assert torch.equal(tensor, expected), name


def test_only_the_encoder_changes(small: Path) -> None:
    network = build("al-net", **SMALL)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    load_encoder_weights(network, small)
    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed
    assert all(name.startswith("encoder.") for name in changed)


def test_channels_that_pass_nothing_on_are_dropped_and_the_others_keep_their_order(tmp_path: Path) -> None:
    """Without its silenced channels the reduced encoder computes what the full one does."""
    reference = published(**SMALL)
    silent = {0: [1], 1: [0, 5], 2: [3], 3: [2, 7, 9], 4: [4, 10]}
    for stage, channels in silent.items():
        _silence(reference.get_submodule(f"stage{stage}"), channels)
    torch.save(reference.state_dict(), tmp_path / "a.pth")
    widths = [width - len(silent[stage]) for stage, width in enumerate(SMALL["widths"])]
    network = build("al-net", blocks=SMALL["blocks"], widths=widths)
    line = load_encoder_weights(network, tmp_path / "a.pth")
    image = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        found, full = encoder_of(network)(image), reference.features(image)
    for stage, (ours, theirs) in enumerate(zip(found, full, strict=True)):
        heard = [channel for channel in range(theirs.shape[1]) if channel not in silent[stage]]
        torch.testing.assert_close(ours, theirs[:, heard], rtol=1e-4, atol=1e-4)
    assert "pass on 100, 100, 100, 100, 100 %" in line


def _silence(stage: nn.Module, channels: list[int]) -> None:
    """Let these channels be 0 behind every block of the stage, of no variance, as those that die in training are."""
    with torch.no_grad():
        for norm in (module for module in stage.modules() if isinstance(module, nn.BatchNorm2d)):
            for values in (norm.weight, norm.bias, norm.running_var):
                assert values is not None
                values[channels] = 0


def test_of_two_channels_the_one_that_the_next_block_listens_to_is_kept(tmp_path: Path) -> None:
    reference = published(blocks=[1] * 5, widths=[2] * 5)
    with torch.no_grad():
        for module in reference.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.fill_(1)
                module.bias.fill_(0)
        listener = block_of(reference, "stage1.0")
        listener.rbr_dense.conv.weight[:, 0] *= 0.01
        listener.rbr_1x1.conv.weight[:, 0] *= 0.01
    torch.save(reference.state_dict(), tmp_path / "a.pth")
    network = build("al-net", blocks=[1] * 5, widths=[1, 2, 2, 2, 2])
    load_encoder_weights(network, tmp_path / "a.pth")
    kept = encoder_of(network).state_dict()["stages.0.0.conv3x3.weight"]
    assert torch.equal(kept[0], reference.stage0.rbr_dense.conv.weight[1])


def test_the_importance_is_the_variance_that_images_show(tmp_path: Path) -> None:
    """Where its assumptions hold (one branch speaks, on normal noise), the shares are those counted on images."""
    reference = published(blocks=[1] * 5, widths=[8] * 5)
    first, second = reference.stage0, block_of(reference, "stage1.0")
    images = torch.randn(64, 3, 32, 32)
    with torch.no_grad():
        first.rbr_1x1.bn.weight.zero_()
        second.rbr_1x1.bn.weight.zero_()
        first.rbr_dense.bn.weight.copy_(torch.linspace(0.2, 2, 8))
        first.rbr_dense.bn.bias.copy_(torch.linspace(1, -1, 8))
        first.rbr_dense.bn.reset_running_stats()
        first.rbr_dense.bn.momentum = None  # the plain mean over what it sees
        first.rbr_dense.bn.train()(first.rbr_dense.conv(images))
        variance = first.eval()(images).var((0, 2, 3))
        assert second.rbr_dense.bn.running_var is not None
        scale = second.rbr_dense.bn.weight / second.rbr_dense.bn.running_var.sqrt()
        passed_on = variance * (second.rbr_dense.conv.weight * scale.view(-1, 1, 1, 1)).square().sum((0, 2, 3))
    shares = (passed_on / passed_on.sum()).sort(descending=True).values
    torch.save(reference.state_dict(), tmp_path / "a.pth")
    for count in (1, 3, 5):
        network = build("repvgg-unet", blocks=[1] * 5, widths=[count, 8, 8, 8, 8])
        line = load_encoder_weights(network, tmp_path / "a.pth")
        percent = int(line.split("pass on ")[1].split(",")[0])
        assert percent == pytest.approx(100 * float(shares[:count].sum()), abs=3)


def test_a_file_that_holds_code_is_refused_and_never_run(tmp_path: Path) -> None:
    torch.save({"state_dict": published(**SMALL).state_dict(), "args": argparse.Namespace(lr=0.1)}, tmp_path / "a.pth")
    with pytest.raises(BadConfig, match=r"a\.pth holds more than tensors"):
        load_encoder_weights(build("al-net", **SMALL), tmp_path / "a.pth")


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match=r"none\.pth cannot be read: No such file"):
        load_encoder_weights(build("al-net", **SMALL), tmp_path / "none.pth")
    with pytest.raises(BadConfig, match="cannot be read: Is a directory"):
        load_encoder_weights(build("al-net", **SMALL), tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"not a checkpoint", b"PK\x03\x04" + bytes(50), bytes(8) + b"{", b"\x80\x02K\x01."]
)
def test_a_file_of_another_kind_is_an_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(BadConfig, match=r"a\.pth"):
        load_encoder_weights(build("al-net", **SMALL), tmp_path / "a.pth")


def test_what_torch_says_of_old_kinds_of_files_is_not_told(tmp_path: Path) -> None:
    old = tmp_path / "old.pth"
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        torch.jit.save(torch.jit.script(nn.Conv2d(1, 1, 1)), str(old))
        said.clear()
        with pytest.raises(BadConfig, match="neither a PyTorch checkpoint nor safetensors"):
            read_tensors(old)
    assert [str(warning.message) for warning in said] == []


@pytest.mark.parametrize("safe", [True, False])
def test_a_file_cut_short_anywhere_is_an_error(safe: bool, tmp_path: Path) -> None:
    state, path = published(**SMALL).state_dict(), tmp_path / "a"
    if safe:
        save_file(state, path)
    else:
        torch.save(state, path)
    whole = path.read_bytes()
    for length in range(0, len(whole), len(whole) // 23):
        path.write_bytes(whole[:length])
        with pytest.raises(BadConfig):
            load_encoder_weights(build("al-net", **SMALL), path)


@pytest.mark.parametrize("content", [torch.zeros(3), [torch.zeros(3)], {"state_dict": torch.zeros(3)}, {}])
def test_tensors_that_are_no_repvgg_are_an_error(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(BadConfig, match=r"a\.pth (holds no state dict|is no RepVGG training checkpoint)"):
        load_encoder_weights(build("al-net", **SMALL), tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stage2.1.rbr_1x1.bn.weight": None}, r"lacks stage2\.1\.rbr_1x1\.bn\.weight"),
        ({"stage3.1.rbr_identity.bias": torch.zeros(11)}, r"stage3\.1\.rbr_identity\.bias is \(11,\), not \(10,\)"),
        ({"stage1.0.rbr_dense.conv.weight": torch.zeros(6, 6)}, "has not 4 dimensions"),
        ({"stage0.rbr_dense.bn.running_var": torch.full([6], torch.nan)}, "holds NaN or infinity"),
        ({"stage0.rbr_dense.bn.running_var": torch.full([6], -1.0)}, r"running_var is negative"),
        ({"stage0.rbr_dense.bn.weight": torch.ones(6).to_sparse()}, "no dense tensor of floats"),
        ({"stage0.rbr_dense.bn.weight": torch.ones(6, dtype=torch.int64)}, "no dense tensor of floats"),
        ({"stage0.rbr_dense.bn.weight": torch.ones(6, dtype=torch.complex64)}, "no dense tensor of floats"),
        ({"stage0.rbr_dense.bn.running_var": torch.ones(6).to(torch.float8_e4m3fn)}, "no dense tensor of floats"),
        ({"stage0.rbr_dense.bn.weight": torch.ones(6, device="meta")}, "no dense tensor of floats"),
        ({"stage0.rbr_dense.bn.weight": [1.0] * 6}, r"lacks stage0\.rbr_dense\.bn\.weight"),
        ({"stage1.2.rbr_identity.bias": torch.zeros(6)}, r"has stage1\.2\..*: it is no RepVGG of 1, 2, 2, 3, 1 blocks"),
        ({"stage0.rbr_reparam.weight": torch.zeros(6, 3, 3, 3)}, "for deployment"),
    ],
)
def test_a_checkpoint_of_another_shape_is_an_error_and_changes_nothing(
    changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    state = published(**SMALL).state_dict() | changes
    torch.save({name: tensor for name, tensor in state.items() if tensor is not None}, tmp_path / "a.pth")
    network = build("al-net", **SMALL)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(BadConfig, match=message):
        load_encoder_weights(network, tmp_path / "a.pth")
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


KINDS = pytest.mark.parametrize("kind", ["bn.weight", "bn.running_var", "bn.num_batches_tracked", "conv.weight"])


@KINDS
@pytest.mark.parametrize("is_safetensors", [False, True], ids=["torch.save", "safetensors"])
@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.complex64], ids=str)
def test_numbers_that_are_neither_counts_nor_floats_of_16_bits_are_an_error(
    dtype: torch.dtype, is_safetensors: bool, kind: str, tmp_path: Path
) -> None:
    state = published(**SMALL).state_dict()
    state[f"stage0.rbr_dense.{kind}"] = state[f"stage0.rbr_dense.{kind}"].to(dtype)
    if is_safetensors:
        save_file(state, tmp_path / "a.pth")
    else:
        torch.save(state, tmp_path / "a.pth")
    with pytest.raises(BadConfig, match=rf"a\.pth: stage0\.rbr_dense\.{kind} is no dense tensor of floats .* {dtype}"):
        load_encoder_weights(build("al-net", **SMALL), tmp_path / "a.pth")


@KINDS
@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.quantize_per_tensor(torch.tensor(1.0), 0.1, 0, torch.qint8),
        lambda: torch.ones(2).to_sparse(),
        lambda: torch.ones(2, device="meta"),
        lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
        lambda: torch.zeros(2, dtype=torch.uint8).view(torch.bits8),
    ],
    ids=["quantised", "sparse", "meta", "nested", "bits"],
)
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor|The PyTorch API of nested tensors:UserWarning")
def test_tensors_whose_numbers_cannot_be_taken_as_they_are_are_an_error(
    make: Callable[[], Tensor], kind: str, tmp_path: Path
) -> None:
    torch.save(published(**SMALL).state_dict() | {f"stage0.rbr_dense.{kind}": make()}, tmp_path / "a.pth")
    with pytest.raises(BadConfig, match=rf"a\.pth: stage0\.rbr_dense\.{kind} is no dense tensor of floats"):
        load_encoder_weights(build("al-net", **SMALL), tmp_path / "a.pth")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_weights_in_other_floats_are_read(dtype: torch.dtype, tmp_path: Path) -> None:
    state = published(**SMALL).state_dict()
    torch.save({name: tensor.to(dtype) for name, tensor in state.items()}, tmp_path / "a.pth")
    network = build("al-net", **SMALL)
    load_encoder_weights(network, tmp_path / "a.pth")
    first = encoder_of(network).get_parameter("stages.0.0.conv3x3.weight")
    torch.testing.assert_close(first.detach(), state["stage0.rbr_dense.conv.weight"], rtol=0.01, atol=0.01)


def test_a_network_with_more_channels_than_the_file_is_an_error(small: Path) -> None:
    network = build("al-net", blocks=SMALL["blocks"], widths=[6, 6, 9, 10, 12])
    with pytest.raises(BadConfig, match="8 channels in stage 2, fewer than the network's 9"):
        load_encoder_weights(network, small)


def test_a_network_with_other_blocks_is_an_error(small: Path) -> None:
    with pytest.raises(BadConfig, match=r"small\.pth has stage1\.1\..*: it is no RepVGG of 1, 1, 1, 1, 1 blocks"):
        load_encoder_weights(build("al-net", blocks=[1] * 5, widths=SMALL["widths"]), small)


@pytest.mark.parametrize(
    "make",
    [
        lambda: build("al-net", encoder="resnet34"),
        lambda: reparameterize(build("al-net", **SMALL)),
        lambda: nn.Conv2d(3, 1, 1),
    ],
    ids=["resnet", "re-parameterised", "no encoder"],
)
def test_a_network_without_a_repvgg_in_training_form_is_an_error(make: Callable[[], nn.Module], small: Path) -> None:
    with pytest.raises(BadConfig, match="this network has neither in training form"):
        load_encoder_weights(make(), small)
