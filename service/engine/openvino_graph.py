"""From a network to an OpenVINO model that takes pixels and gives probabilities, as the engines do.

PyTorch never forgets a module that it has traced: each trace of this network takes 2 MB for good, which a server would
lose with each version it swaps in. So the network is traced as a function of its weights, once for each structure, and
every checkpoint's weights are put into a copy of the result.
"""

import copy
import re
import warnings
from collections.abc import Iterator
from functools import cache

import numpy as np
import openvino as ov
import torch
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
from openvino.passes import ConstantFolding, Manager
from torch import Tensor, nn

from service.engine.memory import is_out_of_memory
from service.errors import EngineFailed
from service.network.normalise import Normalise
from service.network.on_grid import on_grid
from service.store.card import Card
from service.store.checkpoint import Int8Model


@cache
def core() -> ov.Core:
    """Return the process's one and only OpenVINO core, which is never released.

    Its CPU plugin gives the thread that loads it another stack for signals, and takes that stack away again in whatever
    thread releases the plugin. If several plugins are released in another order than they were loaded, the next signal
    that has a handler (SIGTERM, or SIGCHLD of a data-loading worker) finds no stack, and Linux ends the process with
    SIGSEGV.
    """
    return ov.Core()


class OpenVinoFault(Exception):
    """What OpenVINO said."""


def said(error: RuntimeError) -> Exception:
    """Return what OpenVINO said, as an error that another may be raised from.

    It quotes names of layers from a checkpoint's files. These may read like a CUDA fault, and a RuntimeError that does
    so ends the process (service/engine/device_loss.py).
    """
    return error if is_out_of_memory(error) else OpenVinoFault(str(error))


_structures: dict[str, ov.Model] = {}
"""What was traced, by what the structure depends on. The inputs are the pixels, then the weights in order."""


def to_openvino(card: Card, network: nn.Module) -> ov.Model:
    """Return the model of the card's re-parameterised `network` (float32, on the CPU), for one image at a time.

    Input 0: uint8 (1, h, w, 3), RGB. Output 0: uint8 (1, h, w), 255 × calibrated probability, rounded. Output 1:
    float32, the sum of the probabilities, which is NaN if one of them is.

    Traced as a function, the network has no names of layers; its weights are constants with the network's own names.

    OpenVINO's frontend is called directly: `openvino.convert_model` would do the same, and telemetry besides.
    """
    whole = _PixelsToLevels(card, on_grid(copy.deepcopy(network), card.input.grid)).eval()
    weights = {name: tensor.detach() for name, tensor in [*whole.named_parameters(), *whole.named_buffers()]}
    key = f"{card.architecture} {sorted(card.architecture_config.items())} {card.input.grid}"
    if key not in _structures:
        _structures[key] = _trace(whole, weights, card.input.grid)
    model = _structures[key].clone()
    for parameter, (name, tensor) in zip(model.get_parameters()[1:], weights.items(), strict=True):
        constant = ov.op.Constant(tensor.numpy(), shared_memory=False)
        constant.set_friendly_name(name)
        parameter.output(0).replace(constant.output(0))
        model.remove_parameter(parameter)
    return model


def convolutions_of(model: ov.Model, weights: re.Pattern[str]) -> list[str]:
    """Return the names of the convolutions whose weights' names match `weights`, in a model of `to_openvino`."""

    def behind(node: ov.Node) -> Iterator[str]:
        for taker in (entry.get_node() for entry in node.output(0).get_target_inputs()):
            if "Convolution" in taker.get_type_name():
                yield taker.get_friendly_name()
            elif taker.get_type_name() != "ShapeOf":  # kernels of groups are reshaped first, by their own shape
                yield from behind(taker)

    constants = (node for node in model.get_ordered_ops() if weights.search(node.get_friendly_name()))
    return [name for constant in constants for name in behind(constant)]


def fold_constants(model: ov.Model) -> None:
    """Compute in the `model` what does not depend on the image, such as the shape in which a bias is added.

    NNCF recognises only a constant as a bias, which it shifts by what integers change in a layer's mean.
    """
    manager = Manager()
    manager.register_pass(ConstantFolding())
    manager.run_passes(model)


def _trace(whole: nn.Module, weights: dict[str, Tensor], grid: tuple[int, int]) -> ov.Model:
    """Return `whole` as a function of the pixels and its `weights`, whose shapes are fixed. It uses up `whole`."""

    def compute(pixels: Tensor, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        for name, tensor in zip(weights, tensors, strict=True):  # torch.func.functional_call cannot be traced
            module, _, attribute = name.rpartition(".")
            delattr(whole.get_submodule(module), attribute)
            setattr(whole.get_submodule(module), attribute, tensor)
        answer: tuple[Tensor, Tensor] = whole(pixels)
        return answer

    inputs = (torch.zeros(1, *grid, 3, dtype=torch.uint8), *weights.values())
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # about shapes that become constants, which is what is wanted
        traced = torch.jit.trace(compute, inputs, check_trace=False)  # type: ignore[no-untyped-call]
    decoder = TorchScriptPythonDecoder(traced)  # must outlive the conversion
    frontend = FrontEndManager().load_by_framework("pytorch")
    model = frontend.convert(frontend.load(decoder))
    model.reshape({number: list(tensor.shape) for number, tensor in enumerate(inputs)})
    return model


def read_int8(stored: Int8Model) -> ov.Model:
    """Return the model that `stored` holds.

    Raises:
        EngineFailed: this version of OpenVINO cannot read it.
    """
    constants = ov.Tensor(np.frombuffer(stored.constants, np.uint8))
    try:
        return core().read_model(stored.graph, constants)
    except RuntimeError as error:
        raise EngineFailed(f"OpenVINO {ov.__version__} cannot read the 8-bit form") from said(error)


class _PixelsToLevels(nn.Module):
    """What `service.engine.predictor.Predictor.predict` computes."""

    temperature: Tensor

    def __init__(self, card: Card, network: nn.Module) -> None:
        super().__init__()
        self.normalise = Normalise(card.normalisation.mean, card.normalisation.std)
        self.network = network
        self.register_buffer("temperature", torch.tensor(card.temperature), persistent=False)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.network(self.normalise(pixels.permute(0, 3, 1, 2)))[:, 0]
        probability = torch.sigmoid(logits / self.temperature)
        return torch.round(probability * 255).to(torch.uint8), probability.sum()
