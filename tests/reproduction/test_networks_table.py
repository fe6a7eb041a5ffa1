"""The Markdown table says what was measured, and what was not."""

from service.reproduction.networks_table import networks_table
from tests.reproduction.reports import cells, measurement, report


def test_a_time_stands_beside_its_ratio_to_al_net_as_served() -> None:
    table = cells(
        networks_table(
            report(
                measurement("al-net", 30.0, form="training", size=(64, 64)),
                measurement("al-net", 20.0, size=(64, 64)),
                measurement("cenet", 5.0, size=(64, 64)),
            )
        )
    )
    assert table == [
        ["network", "parameters, M", "GMAC an image", "batch 1: ms", "batch 1: ×", "batch 1: MiB"],
        ["AL-Net (training form)", "3.45", "11.60", "30.0", "1.50", "3"],
        ["AL-Net", "3.45", "11.60", "20.0", "1.00", "3"],
        ["CE-Net", "3.45", "11.60", "5.00", "0.25", "3"],
    ]


def test_each_batch_size_has_its_own_ratio() -> None:
    found = report(
        measurement("al-net", 10.0), measurement("cenet", 20.0),
        measurement("al-net", 100.0, batch=8), measurement("cenet", 1234.5, batch=8),
    )  # fmt: skip
    row = cells(networks_table(found))[2]
    assert row[3:9] == ["20.0", "2.00", "3", "1,234.5", "12.35", "3"]


def test_a_size_of_the_paper_has_the_papers_times_beside_ours() -> None:
    found = report(
        measurement("al-net", 9.0, form="training"),
        measurement("al-net", 8.0),
        measurement("deeplabv3plus", 90.0),
        measurement("al-net-u", 9.0, size=(605, 700)),
        measurement("cenet", 9.0, size=(605, 700)),
    )
    head, training, served, peer, other_head, ablation, last = cells(networks_table(found))
    assert head[-2:] == other_head[-2:] == ["paper, P100: ms", "×"]
    assert training[-2:] == ["–", "–"]
    assert served[-2:] == ["34.3", "1.00"]
    assert peer[-2:] == ["50.6", "1.48"]
    assert ablation[-2:] == ["–", "–"]
    assert last[-2:] == ["42.4", "1.17"]


def test_a_row_says_that_memory_ran_out() -> None:
    found = report(
        measurement("al-net", 8.0),
        measurement("cenet", peak_bytes=None),
        measurement("unetplusplus", peak_bytes=1 << 30),
    )
    _, _, nothing, no_time = cells(networks_table(found))
    assert nothing[3:6] == ["out of memory", "–", "out of memory"]
    assert no_time[3:6] == ["out of memory", "–", "1,024"]


def test_there_is_no_ratio_without_al_net() -> None:
    assert cells(networks_table(report(measurement("cenet", 8.0))))[1][3:5] == ["8.00", "–"]


def test_the_head_says_where_and_how() -> None:
    text = networks_table(report(measurement("al-net", 8.0)))
    assert text.startswith("today, commit `abc`, A CPU, 2 cores, 2 threads; PyTorch 2.13, Python 3.11. Median of 10 ")
    assert "after 3 to warm up" in text
    assert "### CPU, float32, 512×512" in text
