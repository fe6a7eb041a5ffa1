"""The paper's networks can be built, and its tables are whole."""

from collections.abc import Mapping

import pytest
import torch

from service.network import ARCHITECTURES, build, count_parameters, reparameterize
from service.reproduction.paper import (
    ACCURACY_TABLES,
    INPUT_SIZES,
    PAPER_NETWORKS,
    SPEED,
    AccuracyTable,
    Compared,
    paper_iou,
    paper_time_ms,
)

KEYS = [compared.key for compared in PAPER_NETWORKS]


@pytest.mark.parametrize("compared", PAPER_NETWORKS, ids=KEYS)
def test_every_network_has_the_parameters_that_the_paper_prints(compared: Compared) -> None:
    with torch.device("meta"):  # shapes alone: nothing is drawn at random
        network = reparameterize(build(compared.architecture, **compared.config))
    assert count_parameters(network) / 1e6 == pytest.approx(SPEED[compared.key].parameters_m, rel=0.015)


def test_every_architecture_is_compared() -> None:
    assert {compared.architecture for compared in PAPER_NETWORKS} == ARCHITECTURES.keys()


def test_every_network_stands_in_an_accuracy_table() -> None:
    assert {key for table in ACCURACY_TABLES for key in table.rows} == set(KEYS)


@pytest.mark.parametrize("table", ACCURACY_TABLES, ids=lambda table: f"table {table.number}")
def test_al_net_is_the_best_of_every_table(table: AccuracyTable) -> None:
    assert max(table.rows, key=lambda key: table.rows[key].iou.mean) == "al-net"
    accuracies = {key: row.accuracy.mean for key, row in table.rows.items() if row.accuracy is not None}
    assert not accuracies or max(accuracies, key=accuracies.__getitem__) == "al-net"


def test_tables_that_repeat_a_row_agree() -> None:
    for key in KEYS:
        for modality in INPUT_SIZES:
            printed = {t.rows[key].iou for t in ACCURACY_TABLES if t.modality == modality and key in t.rows}
            assert len(printed) <= 1, (key, modality)


def test_al_net_is_the_fastest_on_every_data_set() -> None:
    for modality in INPUT_SIZES:
        times: Mapping[str, float] = {
            key: speed.times_ms[modality] for key, speed in SPEED.items() if modality in speed.times_ms
        }
        assert min(times, key=times.__getitem__) == "al-net"


def test_figures_are_found_by_network_and_data_set() -> None:
    assert paper_iou("al-net", "retina") == 0.6851
    assert paper_iou("al-net-aspp", "cell") == 0.8941
    assert paper_iou("al-net-aspp", "retina") is None
    assert paper_time_ms("cenet", (605, 700)) == 42.4
    assert paper_time_ms("al-net-u", (512, 512)) == 41.1
    assert paper_time_ms("al-net-u", (605, 700)) is None
    assert paper_time_ms("cenet", (64, 64)) is None
