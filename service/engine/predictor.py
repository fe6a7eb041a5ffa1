"""A PyTorch network with the steps around it: uint8 pixels in, uint8 probabilities out."""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from service.errors import EngineFailed
from service.network.normalise import Normalise
from service.store.card import Normalisation

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Predictor(nn.Module):
    """A network with the steps around it: uint8 pixels in, uint8 probabilities out. All on one device, in one dtype."""

    def __init__(
        self,
        network: nn.Module,
        normalisation: Normalisation,
        *,
        temperature: float,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.network = network.eval().to(device, dtype)
        convert_conv2d_weight_memory_format(self.network, torch.channels_last)
        self.normalise = Normalise(normalisation.mean, normalisation.std, dtype=dtype).to(device)
        self.temperature, self.device = temperature, device

    @classmethod
    def exact(cls, network: nn.Module, normalisation: Normalisation, *, temperature: float) -> "Predictor":
        """Return what all others are compared with: a copy of `network` in float32 on the CPU."""
        cpu = torch.device("cpu")
        return cls(copy.deepcopy(network), normalisation, temperature=temperature, device=cpu, dtype=torch.float32)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits, float32 (N, h, w), for uint8 pixels (N, h, w, 3) on the device. Temperature is not applied.

        The pixels are channels-last in memory already, so no copy is made.
        """
        logits: Tensor = self.network(self.normalise(pixels.permute(0, 3, 1, 2)))
        return logits[:, 0].float()

    def levels(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return 255 × calibrated probability, rounded, uint8 (N, h, w), and the sum of all probabilities.

        `pixels` are as for `forward`. The sum is NaN if one of the probabilities is.
        """
        return levels_of(self(pixels), self.temperature)

    @torch.inference_mode()
    def logits(self, tiles: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return logits, float32 (N, h, w), for tiles of uint8 (h, w, 3)."""
        result: NDArray[np.float32] = self(self._on_device(tiles)).cpu().numpy()
        return result

    @torch.inference_mode()
    def predict(self, tiles: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
        """Return 255 × calibrated probability, rounded, uint8 (h, w), for each tile of uint8 (h, w, 3).

        A CPU takes one tile after another: it gains nothing from a batch, in which sums may be split differently among
        threads. So an answer is bit for bit the same whatever its batch mates.

        Raises:
            EngineFailed: the network answered with NaN.
        """
        if self.device.type == "cpu" and len(tiles) > 1:
            return [self._together([tile])[0] for tile in tiles]
        return self._together(tiles)

    def _together(self, tiles: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
        levels, total = self.levels(self._on_device(tiles))
        if not bool(torch.isfinite(total)):
            raise EngineFailed("the network answered with NaN")
        return list(levels.cpu().numpy())

    def _on_device(self, tiles: Sequence[NDArray[np.uint8]]) -> Tensor:
        return torch.from_numpy(np.stack(tiles)).to(self.device)


def levels_of(logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return what `Predictor.levels` does, from float32 logits of any shape."""
    probability = torch.sigmoid(logits / temperature)
    total = probability.sum()
    return probability.mul_(255).round_().to(torch.uint8), total
