"""The plot shows each network where its time and IoU are."""

from pathlib import Path

from PIL import Image as PillowImage

from service.reproduction.networks_plot import draw_speed_accuracy, speed_accuracy
from service.reproduction.networks_report import Report
from tests.reproduction.reports import measurement, report


def _whole() -> Report:
    sizes = ((512, 512), (605, 700), (64, 64))
    return report(
        *(
            measurement(network, 10.0, size=size, batch=batch)
            for size in sizes
            for batch in (1, 8)
            for network in ("al-net", "al-net-u", "cenet")
        )
    )


def test_without_scores_each_data_set_of_the_paper_has_a_panel() -> None:
    panels = list(speed_accuracy(_whole(), None))
    assert [panel.title.split("\n") for panel in panels] == [
        ["CPU, float32, 512×512", "IoU: the paper's, cell data"],
        ["CPU, float32, 512×512", "IoU: the paper's, skin data"],
        ["CPU, float32, 605×700", "IoU: the paper's, retina data"],
        ["CPU, float32, 64×64", "IoU: the paper's, cell data"],
    ]
    assert [one.network for one in panels[0].measured] == ["al-net", "al-net-u", "cenet"]
    assert [one.network for one in panels[1].measured] == ["al-net", "cenet"]
    assert panels[1].iou["cenet"] == 0.7760


def test_with_scores_each_size_has_a_panel() -> None:
    panels = list(speed_accuracy(_whole(), {"cenet": 0.5}))
    assert [panel.title for panel in panels] == [f"CPU, float32, {size}" for size in ("512×512", "605×700", "64×64")]
    assert [[(one.network, one.setting.batch) for one in panel.measured] for panel in panels] == [[("cenet", 1)]] * 3


def test_a_network_without_a_time_is_not_shown() -> None:
    (panel,) = speed_accuracy(report(measurement("al-net", 8.0), measurement("cenet")), {"al-net": 0.6, "cenet": 0.5})
    assert [one.network for one in panel.measured] == ["al-net"]


def test_the_plot_is_a_png_even_of_little(tmp_path: Path) -> None:
    for name, found in (("whole.png", _whole()), ("nothing.png", report(measurement("cenet")))):
        draw_speed_accuracy(found, tmp_path / name)
        with PillowImage.open(tmp_path / name) as picture:
            assert picture.format == "PNG"


def test_more_panels_than_columns_take_a_second_row(tmp_path: Path) -> None:
    draw_speed_accuracy(report(measurement("al-net", 8.0)), tmp_path / "one.png", {"al-net": 0.7})
    draw_speed_accuracy(_whole(), tmp_path / "four.png")
    with PillowImage.open(tmp_path / "one.png") as one, PillowImage.open(tmp_path / "four.png") as four:
        assert four.height > 1.5 * one.height
        assert four.width > 1.5 * one.width
