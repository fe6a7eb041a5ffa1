from pathlib import Path

import numpy as np
import pytest

from service.engine.choosing import EXACT, load_engine
from service.engine.parity import probe_difference, probe_tile
from service.imaging.share import UsualShare
from service.imaging.statistics import FEATURES, Likeness
from service.network import build
from service.reproduction.accuracy_report import trial_checkpoint
from service.reproduction.paper import PAPER_NETWORKS, Compared
from service.store.card import Data, Normalisation
from service.training.initial import architecture_config
from service.training.parts import Usual
from service.training.publication import Trained, describe, prove_and_publish
from tests.network.as_if_trained import as_if_trained
from tests.reproduction.experiments import make_experiment


@pytest.mark.parametrize("compared", PAPER_NETWORKS, ids=lambda compared: compared.key)
def test_what_a_run_keeps_of_any_network_is_served_as_it_was_trained(tmp_path: Path, compared: Compared) -> None:
    (planned,) = make_experiment(tmp_path, compared).runs(compared)
    config = planned.config
    options = architecture_config(config)
    trained = Trained(
        config=config,
        network=as_if_trained(build(config.architecture, **options)),
        architecture_config=options,
        usual=Usual(
            Normalisation(mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2)),
            Likeness(np.ones(len(FEATURES)), np.ones(len(FEATURES)), 2.0),
            UsualShare(0.0, 1.0),
        ),
        temperature=1.0,
        threshold=0.5,
        data=Data(name="mine", digest="a" * 64, n_train=5, n_validation=2, n_test=0, split="by hand"),
        commit="unknown",
        best_epoch=0,
        seconds=1.0,
        device="a CPU",
        test=None,
    )
    card, weights = describe(trained)
    prove_and_publish(card, weights, None, planned.path, lambda _: [])
    engine = load_engine(trial_checkpoint(planned.path), EXACT)
    assert engine.card.architecture == compared.architecture
    assert probe_difference(engine.card, engine.predict([probe_tile(engine.card)])[0]) < 1e-4
