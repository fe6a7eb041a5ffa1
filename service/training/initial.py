"""The network that a run begins with."""

from pathlib import Path

import torch
from torch import nn

from service.errors import BadConfig
from service.network import build
from service.training.config import Config
from service.training.encoder_weights import load_encoder_weights


def build_network(config: Config) -> nn.Module:
    """Return the network with the random weights of the configuration's seed.

    Raises:
        BadConfig: there is no such architecture, or it does not take these options.
    """
    torch.manual_seed(config.seed)
    return build(config.architecture, **architecture_config(config))


def architecture_config(config: Config) -> dict[str, int | str | list[int]]:
    """Return what the architecture is built with; only AL-Net has a fusion stride."""
    own = {"fusion_stride": config.fusion_stride} if config.architecture == "al-net" else {}
    return own | config.network


def begin_encoder(network: nn.Module, file: Path | None) -> str:
    """Give the network's encoder the weights of `file`; return a line about it.

    Raises:
        BadConfig: there is no file, or it does not fit; see `load_encoder_weights`.
    """
    if file is None:
        raise BadConfig("this run begins with an encoder from a file: give it with --encoder-weights")
    return load_encoder_weights(network, file)
