"""What every architecture keeps, whatever its paper."""

import copy
from dataclasses import dataclass, field
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from service.errors import BadConfig
from service.network import ARCHITECTURES, build, build_reparameterized, count_parameters, reparameterize
from tests.network.as_if_trained import as_if_trained


@dataclass(frozen=True)
class Case:
    """An architecture or a variant, and the parameters that its paper counts, in millions, in one of its forms."""

    name: str
    form: Literal["trained", "served"]
    millions: str
    config: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return "-".join([self.name, *self.config.values()])


# The papers count what RepVGG's re-parameterisation gives, where there is a RepVGG, and batch norms with their two
# parameters a channel elsewhere.
CASES = [
    Case("al-net", "served", "3.45"),
    Case("al-net", "trained", "21.51", {"encoder": "resnet34"}),
    Case("al-net", "trained", "3.07", {"encoder": "efficientnet-lite0"}),  # ours, not a paper's
    Case("al-net", "served", "5.39", {"context": "aspp"}),
    Case("al-net", "served", "3.45", {"decoder": "u"}),
    Case("repvgg-unet", "served", "3.45"),
    Case("deeplabv3plus", "trained", "59.34"),
    Case("cenet", "trained", "29.00"),
    Case("unetplusplus", "trained", "9.16"),
    Case("pyconvunet", "trained", "3.7"),
]


@dataclass(frozen=True)
class Forms:
    """A network in both its forms, float64, in evaluation mode. No test changes them."""

    case: Case
    trained: nn.Module
    served: nn.Module


@pytest.fixture(scope="module", params=CASES, ids=str)
def forms(request: pytest.FixtureRequest) -> Forms:
    torch.manual_seed(0)
    case: Case = request.param
    trained = as_if_trained(build(case.name, **case.config).double())
    return Forms(case, trained, reparameterize(trained))


def test_the_contract_is_tested_on_every_architecture() -> None:
    assert {case.name for case in CASES} == set(ARCHITECTURES)


def test_it_has_the_parameters_of_its_paper(forms: Forms) -> None:
    counted = count_parameters(forms.served if forms.case.form == "served" else forms.trained)
    decimals = len(forms.case.millions.partition(".")[2])
    assert f"{counted / 1e6:.{decimals}f}" == forms.case.millions


@pytest.mark.parametrize("size", [(64, 96), (61, 47), (1, 1)], ids=["even", "odd", "one pixel"])
def test_both_forms_give_the_same_logits_of_the_images_size(forms: Forms, size: tuple[int, int]) -> None:
    images = torch.randn(2, 3, *size, dtype=torch.double)
    with torch.inference_mode():
        trained, served = forms.trained(images), forms.served(images)
    assert trained.shape == (2, 1, *size)
    assert float(trained.abs().max()) > 0
    assert _difference(served, trained) < 1e-9


def test_the_served_form_has_no_batch_norms(forms: Forms) -> None:
    assert [name for name, module in forms.served.named_modules() if isinstance(module, nn.BatchNorm2d)] == []


def test_an_answer_does_not_depend_on_its_batch_mates(forms: Forms) -> None:
    batch = torch.randn(3, 3, 64, 33, dtype=torch.double)
    for network in (forms.trained, forms.served):
        with torch.inference_mode():
            alone = torch.cat([network(one[None]) for one in batch])
            assert _difference(network(batch), alone) < 1e-9


def test_every_parameter_is_trained_even_by_a_batch_of_one(forms: Forms) -> None:
    network = copy.deepcopy(forms.trained).train()
    network(torch.randn(1, 3, 64, 64, dtype=torch.double)).square().mean().backward()
    still = [name for name, value in network.named_parameters() if value.grad is None or not bool(value.grad.any())]
    assert still == []
    assert all(bool(value.grad.isfinite().all()) for value in network.parameters() if value.grad is not None)


def test_state_dicts_bring_back_both_forms(forms: Forms) -> None:
    """On the meta device a network has no weights at all, so that everything comes from the state dict."""
    with torch.device("meta"):
        trained = build(forms.case.name, **forms.case.config)
        served = build_reparameterized(forms.case.name, **forms.case.config)
    trained.load_state_dict(forms.trained.state_dict(), assign=True)
    served.load_state_dict(forms.served.state_dict(), assign=True)
    image = torch.randn(1, 3, 33, 64, dtype=torch.double)
    with torch.inference_mode():
        assert torch.equal(trained.eval()(image), forms.trained(image))
        assert torch.equal(served(image), forms.served(image))


def test_an_unknown_architecture_is_named_with_those_that_exist() -> None:
    with pytest.raises(BadConfig, match=r"no architecture 'al-nett'; there are: .*al-net"):
        build("al-nett")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"fusion_stride": 4}, "fusion_stride must be 1 or 2, not 4"),
        ({"depth": 3}, "depth"),
        ({"widths": [8, 8]}, "blocks and widths are one of each a stage, not 5 and 2"),
        ({"widths": [8], "blocks": [1]}, "needs two stages"),
        ({"widths": 8}, "widths must be whole numbers from 1 to 65536 with commas between them"),
        ({"widths": [0, 8, 8, 8, 8]}, r"widths must be .*, not \[0, 8, 8, 8, 8\]"),
        ({"blocks": [0, 1, 1, 1, 1]}, "blocks must be whole numbers from 1 to 65536"),
        ({"context_channels": 0}, "context_channels must be a whole number from 1 to 65536, not 0"),
        ({"context_channels": "big"}, "context_channels must be a whole number from 1 to 65536, not 'big'"),
        ({"head_channels": 0}, "head_channels must be"),
        ({"head_channels": 65_537}, "head_channels must be"),
        ({"widths": [8] * 17, "blocks": [1] * 17}, "widths must be .*, 16 at most"),
        ({"blocks": [1, 2, 4, 14, 236]}, "257 blocks are more than 256"),
        ({"name": "al-net"}, "name"),
        ({"encoder": 34}, "encoder must be a word, not 34"),
        ({"decoder_channels": [8]}, "the a-decoder has two decoder_channels, not 1"),
        ({"encoder": "vgg16"}, "encoder must be repvgg-a1 or resnet34 or .*, not 'vgg16'"),
        ({"encoder": "resnet34", "widths": [8, 8, 8, 8, 8]}, "resnet34 has its own"),
        ({"context": "psp"}, "context must be lr-aspp or aspp, not 'psp'"),
        ({"decoder": "fpn"}, "decoder must be a or u, not 'fpn'"),
        ({"decoder": "u", "fusion_stride": 1}, "fusion_stride is the a-decoder's"),
        ({"fusion_stride": True}, "fusion_stride must be a whole number from 1 to 65536, not True"),
        ({"decoder": "u", "head_channels": 32}, "head_channels are the a-decoder's"),
        ({"decoder": "u", "decoder_channels": [8, 8]}, "decoder_channels are one for each of 4 levels, not 2"),
        ({"decoder": "u", "decoder_channels": [8] * 5}, "decoder_channels are one for each of 4 levels, not 5"),
    ],
    ids=str,
)
def test_a_configuration_that_does_not_fit_is_an_error(config: dict[str, object], message: str) -> None:
    with pytest.raises(BadConfig, match=f"al-net does not take this configuration: .*{message}"):
        build("al-net", **config)


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("al-net", "there are encoder, context, decoder, "),
        ("pyconvunet", "there are widths, narrowing"),
        ("cenet", "there are none"),
    ],
)
def test_an_option_that_an_architecture_does_not_have_is_told_with_those_that_it_has(name: str, known: str) -> None:
    with pytest.raises(
        BadConfig, match=f"^{name} does not take this configuration: it has no option 'colour'; {known}"
    ):
        build(name, colour=1)


@pytest.mark.parametrize(
    ("name", "config"),
    [("repvgg-unet", {"widths": 8}), ("deeplabv3plus", {"context": 0}), ("pyconvunet", {"narrowing": [4]})],
)
def test_the_values_of_every_architecture_are_checked(name: str, config: dict[str, object]) -> None:
    (option,) = config
    with pytest.raises(BadConfig, match=f"{name} does not take this configuration: {option} must be"):
        build(name, **config)


def _difference(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference, relative to the largest expected value."""
    return float((found - expected).abs().max() / expected.abs().max())
