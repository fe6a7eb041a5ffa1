import re

from service.reproduction.accuracy_report import AccuracyReport, NetworkScore
from service.reproduction.accuracy_table import COLUMNS, accuracy_tables, heading, network_row, paper_row
from service.reproduction.paper import Spread
from service.training.config import configure
from tests.reproduction.experiments import make_run, make_score

AL_NET = "| AL-Net | 0.9700 ± 0.0100 | 0.9728 ± 0.0065 | 0.7000 ± 0.0500 | 0.6851 ± 0.0577 | 3.45 | 3.45 | 10.0 |"


def report(modality: str, *scores: NetworkScore, folds: int | None = None, preset: str = "quick") -> AccuracyReport:
    recipe = configure("/data", modality, preset, {})
    return AccuracyReport(command="alnet reproduce", recipe=recipe, folds=folds, networks=scores)


def sections(text: str) -> dict[str, list[str]]:
    """Return the networks of each table, by its title."""
    return {
        part.splitlines()[0]: [line.split("|")[1].strip() for line in part.splitlines()[4:] if line]
        for part in text.split("## ")[1:]
    }


def test_our_figures_stand_beside_the_papers() -> None:
    text = accuracy_tables(report("retina", make_score("al-net", make_run())))
    assert AL_NET in text.splitlines()
    assert network_row(make_score("al-net", make_run()), paper_row("al-net", "retina")) == AL_NET


def test_every_line_has_a_cell_for_each_column() -> None:
    failed = make_score("cenet", failure="out of memory on cuda: take a smaller\n--batch-size | --crop")
    lines = [*heading().splitlines(), network_row(failed, None), AL_NET]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {len(COLUMNS) + 1}
    assert lines[2].startswith(r"| CE-Net | failed: out of memory on cuda: take a smaller --batch-size \| --crop |")


def test_each_of_the_papers_tables_has_its_networks_in_its_order() -> None:
    keys = ("al-net", "al-net-u", "cenet", "deeplabv3plus")
    text = accuracy_tables(report("cell", *(make_score(key, make_run()) for key in keys)))
    assert sections(text) == {
        "Table 2: Ablation of the encoder": ["AL-Net"],
        "Table 3: Ablation of the context extractor": ["AL-Net"],
        "Table 4: Ablation of the decoder": ["AL-Net", "AL-Net, U-Decoder"],
        "Table 7: Cell contours": ["DeepLabv3+", "CE-Net", "AL-Net"],
    }


def test_a_network_without_a_figure_in_the_paper_has_a_table_of_its_own() -> None:
    text = accuracy_tables(report("skin", make_score("al-net-aspp", make_run())))
    assert list(sections(text).values()) == [["AL-Net, ASPP context"]]
    assert "| – |" in text


def test_an_ablation_has_no_accuracy_in_the_paper() -> None:
    row = paper_row("al-net-resnet34", "cell")
    assert row is not None
    assert (row.accuracy, row.iou) == (None, Spread(0.8960, 0.0147))


def test_beside_a_network_of_several_tables_stands_the_row_that_tells_most() -> None:
    row = paper_row("al-net", "cell")
    assert row is not None
    assert row.accuracy == Spread(0.9406, 0.0148)
    assert paper_row("al-net-aspp", "skin") is None


def test_the_head_says_how_the_figures_came_to_be() -> None:
    head = accuracy_tables(report("retina", make_score("al-net", make_run()))).split("## ")[0]
    for said in ("`alnet reproduce`", "`quick`", "STARE; 10 training, 4 validation and 6 test images", "a GPU"):
        assert said in head
    assert "`0123456789ab`" in head
    assert "a smaller budget than the paper's" in head
    assert "which these data are not" not in head


def test_the_head_tells_of_the_first_folds_images_and_each_machine_once() -> None:
    other = make_run().data.model_copy(update={"n_train": 11, "n_validation": 3})
    runs = (make_run(folder="fold-1"), make_run(folder="fold-2", data=other), make_run(folder="fold-3", device="a CPU"))
    head = accuracy_tables(report("retina", make_score("al-net", *runs), folds=3)).split("## ")[0]
    assert "STARE; 10 training, 4 validation and 6 test images in the first fold" in head
    assert "Trained on: a GPU, a CPU\n" in head
    assert "The paper's: 150 epochs of 10 images" in head


def test_other_data_than_the_papers_are_pointed_out() -> None:
    data = make_run().data.model_copy(update={"name": "drawn:retina"})
    head = accuracy_tables(report("retina", make_score("al-net", make_run(data=data)))).split("## ")[0]
    assert "The paper's figures are of STARE, which these data are not." in head


def test_each_fold_has_a_line_below() -> None:
    runs = (make_run(folder="fold-1"), make_run(folder="fold-2", iou=Spread(0.6, 0.0)))
    text = accuracy_tables(report("retina", make_score("al-net", *runs), folds=2))
    assert "| AL-Net | 2 | 10, 4, 6 | 0.9700 ± 0.0100 | 0.6000 ± 0.0000 | 20 | 10.0 |" in text.splitlines()
    assert "0.6500 ± 0.0612" in text  # over all images
    assert "test images in the first fold" in text


def test_a_report_in_which_all_failed_still_says_why() -> None:
    text = accuracy_tables(report("retina", make_score("al-net", failure="the loss is nan in epoch 1: start anew")))
    assert "| AL-Net | failed: the loss is nan in epoch 1: start anew |" in text
