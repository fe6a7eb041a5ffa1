"""A run of no epochs: what it begins with, such as the mean of several networks, is what it keeps."""

from pathlib import Path

import torch
from safetensors.torch import save
from torch import nn

from service.errors import BadConfig, EngineFailed
from service.store.card import Normalisation
from service.training.fit import Validate, best_predictor, scoring_precision, weights_of
from service.training.scores import mean_and_std
from service.training.state import BEST, Progress, write_atomically


def keep_untrained(
    network: nn.Module, folder: Path, normalisation: Normalisation, device: torch.device, validate: Validate
) -> Progress:
    """Write the network's weights as BEST of the run in `folder`; return a progress of no epochs, with its IoU.

    Raises:
        BadConfig: the network's answers are no numbers.
        OSError: `folder` cannot be written.
    """
    try:
        predictor = best_predictor(network, normalisation, device, precision=scoring_precision(device))
        iou = mean_and_std(score.agreement.iou for score in validate(predictor.predict))[0]
    except EngineFailed as error:
        raise BadConfig(f"what this run begins with is no sound network: {error}") from error
    write_atomically(folder / BEST, save(weights_of(network)))
    return Progress(best_iou=iou)
