import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from service.errors import BadConfig, BadDataset
from service.training.dataset import Dataset, open_dataset
from service.training.pairs import MemorySource, Pair
from service.training.split import Split, split
from tests.training.folders import grey, images_and_masks, slices

FRACTIONS = (0.5, 0.2, 0.3)


def sizes(chosen: Split) -> tuple[int, int, int]:
    return len(chosen.train), len(chosen.validation), len(chosen.test)


def side(chosen: Split) -> dict[str, str]:
    parts = {"train": chosen.train, "validation": chosen.validation, "test": chosen.test, "unused": chosen.unused}
    return {name: part for part, names in parts.items() for name in names}


def opened(folder: Path, *names: str) -> Dataset:
    return open_dataset(images_and_masks(folder, list(names), size=(40, 40)))


def numbered(folder: Path, count: int) -> Dataset:
    return opened(folder, *(f"p{number}" for number in range(count)))


def series(folder: Path, count: int) -> Dataset:
    return open_dataset(slices(folder, count))


def test_every_image_is_in_exactly_one_part(tmp_path: Path) -> None:
    dataset = numbered(tmp_path, 20)
    chosen = split(dataset, fractions=FRACTIONS, seed=1)
    assert sizes(chosen) == (10, 4, 6)
    assert chosen.unused == ()
    assert sorted([*chosen.train, *chosen.validation, *chosen.test]) == sorted(pair.name for pair in dataset.pairs)


def test_the_seed_alone_decides(tmp_path: Path) -> None:
    dataset = numbered(tmp_path, 20)
    chosen = split(dataset, fractions=FRACTIONS, seed=1)
    backwards = replace(dataset, pairs=dataset.pairs[::-1])
    assert side(split(backwards, fractions=FRACTIONS, seed=1)) == side(chosen)
    assert side(split(dataset, fractions=FRACTIONS, seed=2)) != side(chosen)


def test_a_split_is_the_same_on_every_machine(tmp_path: Path) -> None:
    chosen = split(numbered(tmp_path, 8), fractions=FRACTIONS, seed=0)
    assert (chosen.validation, chosen.test) == (("p0", "p1"), ("p3", "p4"))


def test_names_keep_the_datasets_order(tmp_path: Path) -> None:
    dataset = numbered(tmp_path, 20)
    order = [pair.name for pair in dataset.pairs]
    train = split(dataset, fractions=FRACTIONS, seed=1).train
    assert list(train) == sorted(train, key=order.index)


def test_a_part_without_a_share_stays_empty(tmp_path: Path) -> None:
    assert sizes(split(numbered(tmp_path, 10), fractions=(0.8, 0.2, 0), seed=0)) == (8, 2, 0)


def test_a_small_share_still_gets_a_image(tmp_path: Path) -> None:
    assert sizes(split(numbered(tmp_path, 5), fractions=(0.98, 0.01, 0.01), seed=0)) == (3, 1, 1)


def test_too_few_images_are_counted(tmp_path: Path) -> None:
    with pytest.raises(
        BadDataset, match=r"are 2 images; 3 parts need 3\. Add images, or .*: alnet train --fractions 0"
    ):
        split(numbered(tmp_path, 2), fractions=FRACTIONS, seed=0)


@pytest.mark.parametrize("seed", range(6))
def test_near_duplicates_do_not_straddle(tmp_path: Path, seed: int) -> None:
    dataset = numbered(tmp_path, 12)
    for one, copy in (("p0", "p1"), ("p2", "p3"), ("p4", "p5")):
        (tmp_path / "images" / f"{copy}.png").write_bytes((tmp_path / "images" / f"{one}.png").read_bytes())
    part = side(split(dataset, fractions=FRACTIONS, seed=seed))
    assert (part["p0"], part["p2"], part["p4"]) == (part["p1"], part["p3"], part["p5"])


@pytest.mark.parametrize("seed", range(6))
def test_a_case_does_not_straddle(tmp_path: Path, seed: int) -> None:
    names = [f"patient{case}_{eye}" for case in range(5) for eye in ("left", "right", "again")]
    part = side(split(opened(tmp_path, *names), fractions=FRACTIONS, seed=seed, case_pattern=r"^(patient\d+)_"))
    assert all(part[name] == part[name.split("_")[0] + "_left"] for name in names)
    assert set(part.values()) == {"train", "validation", "test"}


def test_cases_with_a_near_duplicate_in_common_stay_together(tmp_path: Path) -> None:
    names = [f"{case}_{number}" for case in "abcdef" for number in range(2)]
    dataset = opened(tmp_path, *names)
    (tmp_path / "images" / "b_1.png").write_bytes((tmp_path / "images" / "a_0.png").read_bytes())
    part = side(split(dataset, fractions=FRACTIONS, seed=0, case_pattern="^(.)_"))
    assert part["a_0"] == part["a_1"] == part["b_0"] == part["b_1"]


def test_a_large_group_leaves_something_for_every_part(tmp_path: Path) -> None:
    names = [*(f"a_{number}" for number in range(10)), "b_0", "c_0"]
    chosen = split(opened(tmp_path, *names), fractions=(0.7, 0.1, 0.2), seed=0, case_pattern="^(.)_")
    assert sizes(chosen) == (10, 1, 1)


@pytest.mark.parametrize(
    ("pattern", "fault"),
    [
        ("patient", "has no group"),
        ("(", "no regular expression"),
        (r"^(x\d)", "no case in 'p0'"),
        (r"^(x\d)?p", "no case in 'p0'"),
    ],
)
def test_a_case_pattern_that_does_not_fit_is_refused(tmp_path: Path, pattern: str, fault: str) -> None:
    with pytest.raises(BadConfig, match=fault):
        split(numbered(tmp_path, 4), fractions=FRACTIONS, seed=0, case_pattern=pattern)


@pytest.mark.parametrize("fractions", [(0.5, 0.2, 0.2), (1.2, -0.2, 0.0), (0.0, 0.5, 0.5), (float("nan"), 0.5, 0.5)])
def test_fractions_that_do_not_divide_a_whole_are_refused(
    tmp_path: Path, fractions: tuple[float, float, float]
) -> None:
    with pytest.raises(BadConfig, match="must sum to 1"):
        split(numbered(tmp_path, 4), fractions=fractions, seed=0)


@pytest.mark.parametrize("seed", range(8))
def test_neighbouring_slices_are_never_on_two_sides(tmp_path: Path, seed: int) -> None:
    dataset = series(tmp_path, 30)
    chosen = split(dataset, fractions=FRACTIONS, seed=seed)
    part = side(chosen)
    along = [part[pair.name] for pair in dataset.pairs]
    assert len(part) == 30
    assert len(chosen.unused) == 2
    assert sizes(chosen) == (14, 6, 8)
    assert all(here == there or "unused" in (here, there) for here, there in itertools.pairwise(along))


def test_the_seed_orders_the_blocks_of_a_series(tmp_path: Path) -> None:
    dataset = series(tmp_path, 30)
    first = {side(split(dataset, fractions=FRACTIONS, seed=seed))["0"] for seed in range(20)}
    assert first == {"train", "validation", "test"}


def test_a_series_in_two_parts_loses_one_slice(tmp_path: Path) -> None:
    assert sizes(split(series(tmp_path, 11), fractions=(0.7, 0, 0.3), seed=0)) == (7, 0, 3)


def test_no_neighbours_among_slices_with_gaps_are_on_two_sides(tmp_path: Path) -> None:
    folder = slices(tmp_path, 13)
    slices(folder, 14, first=15)
    for seed in range(6):
        chosen = split(open_dataset(folder), fractions=FRACTIONS, seed=seed)
        part = {int(name): where for name, where in side(chosen).items()}
        near = [(part[page], part[page + 1]) for page in part if page + 1 in part]
        assert all(here == there or "unused" in (here, there) for here, there in near)
        assert len(chosen.unused) == 2


def test_a_single_image_is_not_told_to_do_without_a_test_part(tmp_path: Path) -> None:
    with pytest.raises(BadDataset, match=r"^there is 1 image; 3 parts need 3\. Add images$"):
        split(numbered(tmp_path, 1), fractions=FRACTIONS, seed=0)


def test_images_that_stay_together_are_counted_as_well(tmp_path: Path) -> None:
    with pytest.raises(BadDataset, match=r"are 8 images, but since .* stay together .*, 1 to deal; 3 parts need 3\."):
        split(numbered(tmp_path, 8), fractions=FRACTIONS, seed=0, case_pattern="^(.*?)[0-9]+$")


def test_a_series_too_short_is_counted(tmp_path: Path) -> None:
    with pytest.raises(BadDataset, match=r"4 slices; 3 parts need 5.*--no-series"):
        split(series(tmp_path, 4), fractions=FRACTIONS, seed=0)


def test_volumes_named_by_a_case_pattern_stay_whole(tmp_path: Path) -> None:
    names = [f"v{volume}-{page}" for volume in range(4) for page in range(5)]
    dataset = replace(opened(tmp_path, *names), is_series=True)
    chosen = split(dataset, fractions=FRACTIONS, seed=0, case_pattern="^(v.)-")
    assert chosen.unused == ()
    assert all(side(chosen)[name] == side(chosen)[name[:2] + "-0"] for name in names)


def test_a_split_comes_back_from_json(tmp_path: Path) -> None:
    chosen = split(series(tmp_path, 10), fractions=FRACTIONS, seed=0)
    assert Split.from_json(json.loads(json.dumps(chosen.to_json()))) == chosen


def test_a_split_says_how_it_was_made(tmp_path: Path) -> None:
    assert "blocks of slices" in split(series(tmp_path / "s", 10), fractions=FRACTIONS, seed=7).how
    how = split(numbered(tmp_path / "p", 6), fractions=FRACTIONS, seed=7).how
    assert "seed 7" in how
    assert "6 images in 6 groups" in how


def drawn_in_memory(name: str, seed: int) -> Pair:
    """Return a pair of an image of noise, unlike those of other seeds and alike to itself."""
    pixels = grey(seed, height=40, width=40)
    image, mask = (MemorySource(f"{name}.{kind}.pgm", b"P5\n40 40\n255\n" + pixels.tobytes()) for kind in "im")
    return Pair(name=name, image=image, mask=mask)


def in_folds(dataset: Dataset, folds: int, seed: int) -> list[Split]:
    return [split(dataset, fractions=FRACTIONS, seed=seed, fold=(fold, folds)) for fold in range(1, folds + 1)]


@settings(max_examples=15)
@given(
    copies=st.lists(st.integers(1, 4), min_size=3, max_size=8),
    folds=st.integers(3, 8),
    seed=st.integers(0, 9),
)
def test_folds_test_each_image_once_and_leave_near_duplicates_together(
    copies: list[int], folds: int, seed: int
) -> None:
    assume(folds <= len(copies))
    pairs = [drawn_in_memory(f"p{image}-{copy}", image) for image, count in enumerate(copies) for copy in range(count)]
    dataset = Dataset(name="noise", pairs=tuple(pairs), is_series=False, digest="")
    names = sorted(pair.name for pair in pairs)
    splits = in_folds(dataset, folds, seed)
    assert sorted(name for chosen in splits for name in chosen.test) == names
    for chosen in splits:
        part = side(chosen)
        assert sorted(part) == names
        assert chosen.unused == ()
        assert min(sizes(chosen)) > 0
        assert all(part[name] == part[name.split("-")[0] + "-0"] for name in names)


@given(
    slices_and_folds=st.integers(2, 12).flatmap(
        lambda folds: st.tuples(st.integers(max(folds, 8), 60), st.just(folds))
    ),
    seed=st.integers(0, 99),
    validation=st.floats(0.05, 0.9),
)
def test_folds_of_a_series_test_each_slice_once_and_guard_every_border(
    slices_and_folds: tuple[int, int], seed: int, validation: float
) -> None:
    count, folds = slices_and_folds
    pairs = tuple(drawn_in_memory(str(index), index) for index in range(count))
    dataset = Dataset(name="volume", pairs=pairs, is_series=True, digest="")
    tested: list[str] = []
    for fold in range(1, folds + 1):
        chosen = split(dataset, fractions=(0.95 - validation, validation, 0.05), seed=seed, fold=(fold, folds))
        part = side(chosen)
        along = [part[pair.name] for pair in pairs]
        assert len(part) == count
        assert min(sizes(chosen)) > 0
        assert [int(name) for name in chosen.test] == list(range(int(chosen.test[0]), int(chosen.test[-1]) + 1))
        assert all(here == there or "unused" in (here, there) for here, there in itertools.pairwise(along))
        assert len(chosen.unused) <= 3
        tested += chosen.test
    assert tested == [pair.name for pair in pairs]


def test_folds_are_about_as_large_as_each_other(tmp_path: Path) -> None:
    dataset = numbered(tmp_path, 20)
    assert [sizes(chosen) for chosen in in_folds(dataset, 5, seed=0)] == [(11, 5, 4)] * 5
    volume = series(tmp_path / "s", 30)
    assert [sizes(chosen) for chosen in in_folds(volume, 5, seed=0)] == [
        (16, 6, 6),
        (15, 6, 6),
        (15, 6, 6),
        (15, 6, 6),
        (16, 6, 6),
    ]


def test_cases_stay_in_one_fold(tmp_path: Path) -> None:
    names = [f"patient{case}_{eye}" for case in range(5) for eye in ("left", "right")]
    dataset = opened(tmp_path, *names)
    for fold in range(1, 4):
        chosen = split(dataset, fractions=FRACTIONS, seed=0, case_pattern=r"^(patient\d+)_", fold=(fold, 3))
        assert all(side(chosen)[name] == side(chosen)[name.split("_")[0] + "_left"] for name in names)


def test_a_fold_says_which_it_is(tmp_path: Path) -> None:
    assert split(numbered(tmp_path / "p", 6), fractions=FRACTIONS, seed=7, fold=(2, 3)).how.startswith("fold 2 of 3, ")
    how = split(series(tmp_path / "s", 20), fractions=FRACTIONS, seed=7, fold=(2, 4)).how
    assert how.startswith("fold 2 of 4, seed 7; contiguous blocks of slices around")


@pytest.mark.parametrize("fold", [(0, 5), (6, 5), (1, 1), (1, 0)])
def test_a_fold_that_does_not_exist_is_refused(tmp_path: Path, fold: tuple[int, int]) -> None:
    with pytest.raises(BadConfig, match="there is no fold"):
        split(numbered(tmp_path, 6), fractions=FRACTIONS, seed=0, fold=fold)


def test_more_folds_than_slices_are_refused(tmp_path: Path) -> None:
    volume = series(tmp_path, 12)
    with pytest.raises(BadDataset, match="12 slices are too few for 13 folds"):
        split(volume, fractions=FRACTIONS, seed=0, fold=(1, 13))


@pytest.mark.parametrize(("folds", "least"), [(2, 8), (3, 7), (4, 7), (5, 6), (6, 6), (8, 8)])
def test_a_slice_fewer_than_folds_need_is_too_few(folds: int, least: int, tmp_path: Path) -> None:
    """Beside a fold at an end one is left out, else two; two parts need a slice each and one between them."""
    found = in_folds(series(tmp_path / "enough", least), folds, seed=0)
    assert min(min(sizes(chosen)) for chosen in found) == 1
    few = series(tmp_path / "few", least - 1)
    for fold in range(1, folds + 1):
        with pytest.raises(BadDataset, match=f"{least - 1} slices are too few for {folds} folds"):
            split(few, fractions=FRACTIONS, seed=0, fold=(fold, folds))


def test_too_few_images_for_the_folds_are_counted(tmp_path: Path) -> None:
    with pytest.raises(BadDataset, match=r"are 3 images; 4 parts need 4\. Add .* fewer --folds$"):
        split(numbered(tmp_path / "p", 3), fractions=FRACTIONS, seed=0, fold=(1, 4))
    for fold in (1, 2):
        with pytest.raises(BadDataset, match=r"too few for 2 folds; add images, or give fewer --folds$"):
            split(numbered(tmp_path / "p", 3), fractions=FRACTIONS, seed=0, fold=(fold, 2))
    with pytest.raises(BadDataset, match="7 slices are too few for 2 folds"):
        split(series(tmp_path / "s", 7), fractions=FRACTIONS, seed=0, fold=(1, 2))


@pytest.mark.parametrize(
    ("folder", "fractions", "expected"),
    [
        ("stare", (0.5, 0.2, 0.3), (10, 4, 6)),
        ("isbi2012", (0.7, 0.1, 0.2), (19, 3, 6)),
        ("isic2018", (0.7, 0.1, 0.2), (70, 10, 20)),
    ],
)
def test_real_data_sets_split_as_asked(
    real_data: Path, folder: str, fractions: tuple[float, float, float], expected: tuple[int, int, int]
) -> None:
    dataset = open_dataset(real_data / folder)
    first = replace(dataset, pairs=dataset.pairs[:100])
    assert sizes(split(first, fractions=fractions, seed=0)) == expected


def test_the_two_photographs_of_one_eye_in_stare_share_a_part(real_data: Path) -> None:
    dataset = open_dataset(real_data / "stare")
    for seed in range(5):
        part = side(split(dataset, fractions=FRACTIONS, seed=seed))
        assert part["im0235"] == part["im0236"]


def test_the_folds_of_stare_keep_the_two_photographs_of_one_eye_together(real_data: Path) -> None:
    splits = in_folds(open_dataset(real_data / "stare"), 5, seed=0)
    assert sorted(len(chosen.test) for chosen in splits) == [4] * 5
    assert all(side(chosen)["im0235"] == side(chosen)["im0236"] for chosen in splits)
