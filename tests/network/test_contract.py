"""What every architecture keeps, whatever its paper."""

import pytest
import torch
from torch import nn

from service.errors import BadConfig
from service.network import ARCHITECTURES, build, build_reparameterized, reparameterize
from tests.network.as_if_trained import as_if_trained

SIZES = [(64, 64), (96, 160), (61, 47)]


@pytest.fixture(params=sorted(ARCHITECTURES))
def network(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    return as_if_trained(build(request.param))


@pytest.mark.parametrize("size", SIZES, ids=["square", "wide", "odd"])
def test_logits_have_the_size_of_the_image(network: nn.Module, size: tuple[int, int]) -> None:
    with torch.inference_mode():
        assert network(torch.zeros(2, 3, *size)).shape == (2, 1, *size)


def test_an_answer_does_not_depend_on_its_batch_mates(network: nn.Module) -> None:
    batch = torch.randn(3, 3, 64, 64)
    with torch.inference_mode():
        alone = torch.cat([network(one[None]) for one in batch])
        torch.testing.assert_close(network(batch), alone, rtol=1e-4, atol=1e-4)


def test_every_parameter_is_trained(network: nn.Module) -> None:
    network.train()(torch.randn(2, 3, 64, 64)).mean().backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_a_state_dict_brings_back_both_forms(name: str) -> None:
    image = torch.randn(1, 3, 64, 64)
    network = as_if_trained(build(name))
    again = build(name).eval()
    again.load_state_dict(network.state_dict())
    served = build_reparameterized(name)
    served.load_state_dict(reparameterize(network).state_dict())
    with torch.inference_mode():
        assert torch.equal(again(image), network(image))
        torch.testing.assert_close(served(image), network(image), rtol=1e-3, atol=1e-3)


def test_an_unknown_architecture_is_named_with_those_that_exist() -> None:
    with pytest.raises(BadConfig, match=r"no architecture 'al-nett'; there are: .*al-net"):
        build("al-nett")


@pytest.mark.parametrize("config", [{"fusion_stride": 4}, {"depth": 3}, {"widths": [8, 8]}])
def test_a_configuration_that_does_not_fit_is_an_error(config: dict[str, object]) -> None:
    with pytest.raises(BadConfig, match="al-net does not take this configuration"):
        build("al-net", **config)
