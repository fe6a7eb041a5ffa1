"""The PyTorch engine: one checkpoint on CUDA or on the CPU, in half precision where the machine computes in it."""

import logging
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from service.engine.probing import mean_difference, raster
from service.engine.steps import Steps, to_end
from service.errors import AlnetError, BadCheckpoint, BadConfig, BadSettings, DeviceLost, EngineFailed
from service.imaging.probe import probe
from service.network import build_reparameterized
from service.network.normalise import Normalise
from service.store.card import Card, Normalisation
from service.store.checkpoint import Checkpoint

log = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Predictor(nn.Module):
    """A network with what lies around it: uint8 pixels in, uint8 probabilities out. All on one device, in one dtype."""

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

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits, float32 (N, h, w), for uint8 pixels (N, h, w, 3) on the device. Temperature is not applied.

        The pixels' own memory layout is channels-last already, so no copy is made to get there.
        """
        logits: Tensor = self.network(self.normalise(pixels.permute(0, 3, 1, 2)))
        return logits[:, 0].float()

    @torch.inference_mode()
    def logits(self, tiles: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return logits, float32 (N, h, w), for tiles of uint8 (h, w, 3)."""
        result: NDArray[np.float32] = self(self._on_device(tiles)).cpu().numpy()
        return result

    @torch.inference_mode()
    def predict(self, tiles: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
        """Return 255 × calibrated probability, rounded, uint8 (h, w), for each tile of uint8 (h, w, 3)."""
        probability = torch.sigmoid(self(self._on_device(tiles)) / self.temperature)
        if not bool(torch.isfinite(probability.sum())):
            raise EngineFailed("the network answered with NaN")
        return list(probability.mul_(255).round_().to(torch.uint8).cpu().numpy())

    def _on_device(self, tiles: Sequence[NDArray[np.uint8]]) -> Tensor:
        return torch.from_numpy(np.stack(tiles)).to(self.device, non_blocking=True)


class TorchEngine:
    """One published checkpoint, ready to answer; see `service.engine.engine.Engine` for the contract."""

    def __init__(self, card: Card, predictor: Predictor, device: str) -> None:
        self.card, self.device, self._predictor = card, device, predictor

    @classmethod
    def load(
        cls, checkpoint: Checkpoint, *, device: str = "auto", precision: str = "auto", threads: int = 0
    ) -> "TorchEngine":
        """Read the checkpoint's weights and do all that `loading` does, without a pause.

        Raises:
            BadCheckpoint, BadSettings: as `loading`; BadCheckpoint also if the weights' digest is not the card's.
        """
        steps = cls.loading(
            checkpoint.card, checkpoint.read_weights(), device=device, precision=precision, threads=threads
        )
        return to_end(steps)

    @classmethod
    def loading(
        cls, card: Card, weights: bytes, *, device: str = "auto", precision: str = "auto", threads: int = 0
    ) -> Steps["TorchEngine"]:
        """Build the card's network with `weights`, and compare it with the card's recorded probe answer, in steps.

        With `precision` "auto", half precision is tried first where the device has it in hardware, and float32 serves
        if half precision does not reproduce the probe. `threads` above 0 sets the CPU threads of this process.

        Raises:
            BadCheckpoint: weights and card contradict each other, or the answer to the probe is not the recorded one.
            BadSettings: the device asked for is not there.
        """
        if threads:
            torch.set_num_threads(threads)
        where = pick_device(device)
        state = parse_state(card, weights)
        fault = ""
        for name in precisions(where, precision):
            yield
            predictor = _predictor(card, state, where, DTYPES[name])
            yield
            engine = cls(card, predictor, f"{where} {name}")
            fault = engine.probe_fault()
            if not fault:
                log.info("%s version %s runs on %s", card.modality, card.version, engine.device)
                return engine
            log.warning("%s version %s on %s: %s", card.modality, card.version, engine.device, fault)
        raise BadCheckpoint(f"{card.modality}/{card.version}: it does not reproduce its recorded probe: {fault}")

    def predict(self, tiles: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
        """Return one probability map for each tile; see `service.engine.engine.Engine.predict`."""
        try:
            return self._predictor.predict(tiles)
        except (AlnetError, torch.OutOfMemoryError):  # the batcher answers a lack of memory with smaller batches
            raise
        except RuntimeError as error:
            if not _answers(self._predictor.device):
                raise DeviceLost(f"{self.device} does not answer any more") from error
            raise EngineFailed(f"{self.device} could not run a batch of {len(tiles)}") from error

    def probe_difference(self) -> float:
        """Return the mean absolute difference, in probability, of this engine's answer to the probe from the card's."""
        card = self.card
        image = probe(card.input.grid, card.normalisation.mean, card.normalisation.std)
        answer = self.predict([image])[0] / 255.0
        return mean_difference(raster(answer, card.probe.rows, card.probe.columns), card.probe.answer)

    def probe_fault(self) -> str:
        """Return what is wrong with this engine's answer to the probe; empty if it is the card's."""
        try:
            difference = self.probe_difference()
        except EngineFailed as error:  # half precision may overflow where float32 does not
            return str(error)
        if difference <= self.card.probe.tolerance:
            return ""
        return f"mean difference {difference:.4f}, allowed {self.card.probe.tolerance}"


def pick_device(name: str) -> torch.device:
    """Return the device for "auto", "cpu" or "cuda"; BadSettings if CUDA is asked for and not there."""
    if name == "cuda" and not torch.cuda.is_available():
        raise BadSettings("ALNET_DEVICE=cuda, but PyTorch sees no CUDA device; use auto or cpu, or check the driver")
    if name != "cpu" and torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def _answers(device: torch.device) -> bool:
    """Whether `device` still works; after a fault of CUDA's every further call in the process fails."""
    if device.type != "cuda":
        return True
    try:
        torch.cuda.synchronize(device)
    except RuntimeError:
        return False
    return True


def memory_held_bytes() -> int:
    """Return the GPU memory that PyTorch holds for this process, whether in use or kept for reuse; 0 on the CPU."""
    return torch.cuda.memory_reserved() if torch.cuda.is_available() else 0


def precisions(device: torch.device, asked: str) -> list[str]:
    """Return the names of the dtypes to try, best first: what was asked for, or what the device has in hardware."""
    if asked != "auto":
        return [asked]
    if device.type == "cuda":
        return ["float16", "float32"]
    return ["bfloat16", "float32"] if _cpu_has_bfloat16() else ["float32"]


def _cpu_has_bfloat16() -> bool:
    if not hasattr(torch.cpu, "get_capabilities"):  # public since a release about 2.11; without it float32 is safe
        return False
    capabilities: Mapping[str, object] = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def read_state(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Return the checkpoint's tensors. Raises BadCheckpoint if they cannot be read or are not the card's."""
    return parse_state(checkpoint.card, checkpoint.read_weights())


def parse_state(card: Card, weights: bytes) -> dict[str, Tensor]:
    """Return the tensors in `weights`, a safetensors archive. Raises BadCheckpoint if it is none."""
    try:
        return load(weights)
    except (SafetensorError, ValueError, KeyError) as error:  # KeyError: a dtype that safetensors cannot give to torch
        raise BadCheckpoint(f"{card.modality}/{card.version}: weights.safetensors is damaged: {error}") from error


def _predictor(card: Card, weights: Mapping[str, Tensor], device: torch.device, dtype: torch.dtype) -> Predictor:
    network = _network(card, weights)
    return Predictor(network, card.normalisation, temperature=card.temperature, device=device, dtype=dtype)


def _network(card: Card, weights: Mapping[str, Tensor]) -> nn.Module:
    """Return the card's network with these weights, in float32 on the CPU."""
    name = f"{card.modality}/{card.version}"
    try:
        network = build_reparameterized(card.architecture, **card.architecture_config)
        network.load_state_dict(weights, strict=True)
    except BadConfig as error:
        raise BadCheckpoint(f"{name}: this version cannot build its network: {error}") from error
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise BadCheckpoint(f"{name}: weights do not fit {card.architecture}: {first}") from error
    if not all(bool(tensor.isfinite().all()) for tensor in network.state_dict().values()):
        raise BadCheckpoint(f"{name}: weights hold NaN or infinity")
    return network
