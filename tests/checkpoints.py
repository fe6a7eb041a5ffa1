"""Publishes a real, tiny checkpoint for tests: random weights, but everything else as a training job leaves it."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from service.engine.parity import probe_tile
from service.engine.predictor import Predictor
from service.engine.probing import raster
from service.network import build, count_parameters, reparameterize
from service.store.card import Probe
from service.store.checkpoint import Checkpoint, sha256
from service.store.publish import publish
from tests.cards import make_card

TINY: dict[str, Any] = {
    "blocks": [1, 1, 1, 1, 1],
    "widths": [4, 4, 4, 4, 8],
    "context_channels": 4,
    "decoder_channels": [4, 4],
    "head_channels": 4,
    "fusion_stride": 2,
}


def publish_tiny(store: Path, modality: str = "retina", *, seed: int = 0, **changes: Any) -> Checkpoint:
    """Publish a tiny AL-Net of random weights that reproduces its probe, with `changes` to its card's fields."""
    torch.manual_seed(seed)
    trained = build("al-net", **TINY)
    network = reparameterize(trained)
    weights = save(network.state_dict())
    fields = {
        "architecture_config": TINY,
        "parameters": count_parameters(network),
        "parameters_in_training": count_parameters(trained),
        "weights_sha256": sha256(weights),
    } | changes
    card = make_card(modality, **fields)
    predictor = Predictor.exact(network, card.normalisation, temperature=card.temperature)
    answer = predictor.predict([probe_tile(card)])[0] / 255.0
    recorded = Probe(rows=4, columns=4, answer=raster(answer, 4, 4), tolerance=0.02)
    return Checkpoint.read(publish(store, make_card(modality, **({"probe": recorded} | fields)), weights))
