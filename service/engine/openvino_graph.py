"""From a network to an OpenVINO model that takes pixels and gives probabilities, as the engines do."""

import copy
import warnings

import numpy as np
import openvino as ov
import torch
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
from torch import Tensor, nn

from service.errors import EngineFailed
from service.network.normalise import Normalise
from service.network.on_grid import on_grid
from service.store.card import Card
from service.store.checkpoint import Int8Model


def to_openvino(card: Card, network: nn.Module) -> ov.Model:
    """Return the model of the card's re-parameterised `network` (float32, on the CPU), for one image at a time.

    Input 0: uint8 (1, h, w, 3), RGB. Output 0: uint8 (1, h, w), 255 × calibrated probability, rounded. Output 1:
    float32, the sum of the probabilities, which is no number if one of them is none.

    OpenVINO's frontend is called itself: `openvino.convert_model` would do the same, and telemetry besides.
    """
    height, width = card.input.grid
    blank = torch.zeros(1, height, width, 3, dtype=torch.uint8)
    whole = _PixelsToLevels(card, on_grid(copy.deepcopy(network), card.input.grid)).eval()
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # that shapes become constants, which is what is wanted
        traced = torch.jit.trace(whole, blank, check_trace=False)  # type: ignore[no-untyped-call]
    decoder = TorchScriptPythonDecoder(traced)  # must outlive the conversion
    frontend = FrontEndManager().load_by_framework("pytorch")
    model = frontend.convert(frontend.load(decoder))
    model.reshape([1, height, width, 3])
    return model


def read_int8(stored: Int8Model) -> ov.Model:
    """Return the model that `stored` holds.

    Raises:
        EngineFailed: this version of OpenVINO cannot read it.
    """
    constants = ov.Tensor(np.frombuffer(stored.constants, np.uint8))
    try:
        return ov.Core().read_model(stored.graph, constants)
    except RuntimeError as error:
        raise EngineFailed(f"OpenVINO {ov.__version__} cannot read the 8-bit form") from error


class _PixelsToLevels(nn.Module):
    """What `service.engine.predictor.Predictor.predict` computes."""

    def __init__(self, card: Card, network: nn.Module) -> None:
        super().__init__()
        self.normalise = Normalise(card.normalisation.mean, card.normalisation.std)
        self.network, self.temperature = network, card.temperature

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.network(self.normalise(pixels.permute(0, 3, 1, 2)))[:, 0]
        probability = torch.sigmoid(logits / self.temperature)
        return torch.round(probability * 255).to(torch.uint8), probability.sum()
