"""The network that a run begins with."""

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from service.errors import BadConfig
from service.network import build
from service.network.normalise import Normalise
from service.store.card import Normalisation
from service.training.augment import TrainingItems
from service.training.config import Config
from service.training.encoder_weights import load_encoder_weights
from service.training.leak import run_of
from service.training.origins import card_beside
from service.training.plain_encoder import plain_encoder, settle
from service.training.plain_network import load_network, load_soup
from service.training.run_folder import RunFolder

SETTLED_BY = 32
"""The most training views that the batch norms of a published network are settled by."""

SETTLED_BY_PIXELS = 2**22
"""The most pixels of all these views together, unless one view has more: some 300 MB of an encoder's features."""

DECODED = 4
"""How many times more memory a decoder's features take: a whole network is shown this many times fewer pixels."""


def build_network(config: Config) -> nn.Module:
    """Return the network with the random weights of the configuration's seed.

    Raises:
        BadConfig: there is no such architecture, or it does not take these options.
    """
    torch.manual_seed(config.seed)
    return build(config.architecture, **architecture_config(config))


def settle_beginning(
    network: nn.Module, items: TrainingItems, normalisation: Normalisation, *, whole: bool = False
) -> None:
    """Call `settle` with some training views on what comes from another network: the `whole` of it, or its encoder.

    An encoder that still has its batch norms, since it was not published, stays as it is.

    Raises:
        AlnetError: an image cannot be read.
    """
    if (begun := network if whole else plain_encoder(network)) is None:
        return
    first, _ = items[0, 0, 0]
    most = SETTLED_BY_PIXELS // (DECODED if whole else 1)
    count = max(1, min(len(items), SETTLED_BY, most // first[0].numel()))
    views = [items[0, number, number * len(items) // count][0] for number in range(count)]
    settle(begun, Normalise(normalisation.mean, normalisation.std)(torch.stack(views)))


def check_batch(network: nn.Module, config: Config) -> None:
    """Check that the smallest batch of `config` is large enough for batch norms and convolutions. Nothing is run.

    A batch norm needs more than one value per channel. In bfloat16 on a CPU, a convolution that halves needs more than
    one pixel: see `_refuse_one_pixel`. The batch is shown to a copy of the network without weights, so that neither its
    depth nor the place of its layers matters.

    Raises:
        BadConfig: the batch has so few pixels that a coarse stage sees only one.
    """
    in_bfloat16 = config.precision == "bfloat16" and not torch.cuda.is_available()
    if config.batch_size > 1 and not in_bfloat16:
        return
    height, width = (min(side, config.crop_px or side) for side in config.input.grid)
    times = 2 if config.coarse_epochs else 1
    smallest = torch.empty(min(2, config.batch_size), 3, height // times, width // times, device="meta")
    shown = copy.deepcopy(network).to("meta").train()
    if in_bfloat16:
        _refuse_one_pixel(shown)
    too_small = f"{height // times} × {width // times} pixels are too small"
    larger = "or a larger --crop or --input" + (" or --coarse-epochs 0" if config.coarse_epochs else "")
    try:
        shown(smallest)
    except _OnePixel as error:
        advice = f"--precision float32, {larger}"
        raise BadConfig(f"images of {too_small} for this network in bfloat16: {advice}") from error
    except ValueError as error:  # what a batch norm raises; nothing else checks sizes here
        raise BadConfig(f"batches of one image of {too_small} to normalise by: --batch-size 2, {larger}") from error


class _OnePixel(Exception):
    """A convolution that halves was shown a single pixel."""


def _refuse_one_pixel(network: nn.Module) -> None:
    """Make each convolution that halves and sees neighbours raise _OnePixel if it is shown an image of one pixel.

    In that case oneDNN, in bfloat16 on CPUs, leaves uninitialised memory in the gradient of the weights (PyTorch 2.13).
    """

    def look(_convolution: nn.Module, features: tuple[Tensor, ...]) -> None:
        if features[0].shape[2:].numel() == 1:
            raise _OnePixel

    for part in network.modules():
        if isinstance(part, nn.Conv2d) and max(part.stride) > 1 and max(part.kernel_size) > 1:
            part.register_forward_pre_hook(look)


def architecture_config(config: Config) -> dict[str, int | str | list[int]]:
    """Return what the architecture is built with; only AL-Net has a fusion stride."""
    own = {"fusion_stride": config.fusion_stride} if config.architecture == "al-net" else {}
    return own | config.network


def check_built_alike(file: Path, config: Config) -> None:
    """Check options by the card beside `file`, or the run that left it: not all of them show in the tensors' shapes.

    Raises:
        BadConfig: that network differs from the configuration's; or as for `card_beside`; or the run's own
            configuration cannot be read.
    """
    if (known := _known_build(file)) is None:
        return
    architecture, options = known
    own = architecture_config(config)
    other = {key: value for key, value in options.items() if own.get(key, value) != value}
    if architecture != config.architecture or other:
        built = " ".join([architecture, *(f"{key}={value}" for key, value in options.items())])
        raise BadConfig(f"--fine-tune trains on what is built alike, and {file.name} is of another network: {built}")


def _known_build(file: Path) -> tuple[str, dict[str, int | str | list[int]]] | None:
    """Return architecture and options of the network in `file`, if anything beside it tells them."""
    if (card := card_beside(file)) is not None:
        return card.architecture, card.architecture_config
    if (run := run_of(file)) is None:
        return None
    config = RunFolder(run).recorded_config()
    return config.architecture, architecture_config(config)


def begin_with(network: nn.Module, files: Sequence[Path], *, whole: bool = False) -> str:
    """Give the network's encoder the file's weights, or the `whole` network those of all files; return a log line.

    Raises:
        BadConfig: there is no file, or one does not fit; see `load_encoder_weights`, `load_network`, `load_soup`.
    """
    if not files:
        raise BadConfig("this run begins with an encoder from a file: give it with --encoder-weights")
    if len(files) > 1:
        return load_soup(network, files)
    return (load_network if whole else load_encoder_weights)(network, files[0])
