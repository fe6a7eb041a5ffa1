"""Data are watched from before they are read, and looked into again only where a file's stamp is another one."""

import os
from pathlib import Path

import pytest
import torch

from service.errors import BadConfig
from service.training.cache import PairCache
from service.training.config import Config, configure
from service.training.dataset import open_dataset
from service.training.pairs import FileSource
from service.training.pretraining import RECIPE, pretrain
from service.training.run_folder import EPOCHS, RunFolder
from service.training.split import Split
from service.training.watch import Watch
from tests.network.published_efficientnet import LITE0, random_weights
from tests.training.folders import images_and_masks, mask, picture, write

SIZE = (40, 30)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return images_and_masks(tmp_path / "data", ["a", "b", "c"], size=SIZE)


def _config(data: Path, **changes: object) -> Config:
    return configure(str(data), "own", "quick", {"crop_px": None, **changes})


@pytest.fixture
def watch(data: Path, tmp_path: Path) -> Watch:
    """That of a run which has begun."""
    folder, dataset = RunFolder(tmp_path / "run"), open_dataset(data)
    folder.begin(_config(data), Split(train=("a",), validation=("b",), test=("c",), how="by hand"), dataset, {})
    return Watch(folder, dataset, [PairCache(dataset.pairs, limit_bytes=0)])


def test_files_with_other_stamps_but_the_same_content_are_read_once_and_no_others(
    watch: Watch, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, plain = list[Path](), FileSource.read

    def recorded(source: FileSource) -> bytes:
        read.append(source.path)
        return plain(source)

    monkeypatch.setattr(FileSource, "read", recorded)
    watch.check()
    assert read == []
    os.utime(data / "images" / "a.png", (0, 0))
    watch.check()
    watch.check()
    assert read == [data / "images" / "a.png"]


def test_what_has_another_content_is_refused_until_it_is_back(watch: Watch, data: Path) -> None:
    file = data / "masks" / "b.png"
    before = file.read_bytes()
    write(file, mask(9, height=SIZE[0], width=SIZE[1]))
    for _ in range(2):
        with pytest.raises(BadConfig, match=r"the data \(.*\.png\) changed since"):
            watch.check()
    file.write_bytes(before)
    watch.check()


def test_a_file_of_another_size_has_changed_though_its_time_is_the_same(watch: Watch, data: Path) -> None:
    file = data / "masks" / "b.png"
    before = file.stat()
    write(file, mask(9, height=SIZE[0], width=SIZE[1]))
    assert file.stat().st_size != before.st_size
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(BadConfig, match=r"the data \(.*\.png\) changed since"):
        watch.check()


def test_images_alone_that_were_touched_are_looked_into(tmp_path: Path) -> None:
    for index in range(3):
        write(tmp_path / "data" / f"{index}.png", picture(index))
    dataset, folder = open_dataset(tmp_path / "data", needs_masks=False), RunFolder(tmp_path / "run")
    config = _config(tmp_path / "data")
    folder.begin(config, Split(train=("0", "1", "2"), validation=(), test=(), how="by hand"), dataset, {})
    watch = Watch(folder, dataset, [PairCache(dataset.pairs, limit_bytes=0)])
    (tmp_path / "data" / "1.png").touch()
    watch.check()
    write(tmp_path / "data" / "1.png", picture(9))
    with pytest.raises(BadConfig, match=r"the data \(.*\.png\) changed since"):
        watch.check()


def test_a_file_that_is_gone_is_missed_by_who_needs_it_alone(watch: Watch, data: Path) -> None:
    (data / "images" / "a.png").unlink()
    watch.check()


def test_what_was_read_and_is_kept_may_change(data: Path, tmp_path: Path) -> None:
    dataset, folder = open_dataset(data), RunFolder(tmp_path / "run")
    folder.begin(_config(data), Split(train=("a",), validation=("b",), test=("c",), how="by hand"), dataset, {})
    cache = PairCache(dataset.pairs, limit_bytes=2 * SIZE[0] * SIZE[1] * 4)
    cache.fill()
    watch = Watch(folder, dataset, [cache])
    watch.check()
    write(data / "masks" / "b.png", mask(9, height=SIZE[0], width=SIZE[1]))
    watch.check()
    (data / "masks" / "c.png").touch()  # to be read, and what it was, whatever became of others
    watch.check()
    write(data / "masks" / "c.png", mask(9, height=SIZE[0], width=SIZE[1]))
    with pytest.raises(BadConfig, match=r"the data \(.*\.png\) changed since"):
        watch.check()


@pytest.mark.parametrize("limit_bytes", [0, 1e9], ids=["read again each time", "kept as it is now"])
def test_a_change_while_the_data_are_read_is_one_too(limit_bytes: float, data: Path, tmp_path: Path) -> None:
    dataset, folder = open_dataset(data), RunFolder(tmp_path / "run")
    write(data / "masks" / "b.png", mask(9, height=SIZE[0], width=SIZE[1]))  # as while all is checked
    folder.begin(_config(data), Split(train=("a",), validation=("b",), test=("c",), how="by hand"), dataset, {})
    cache = PairCache(dataset.pairs, limit_bytes)
    cache.fill()
    watch = Watch(folder, dataset, [cache])
    for _ in range(2):
        with pytest.raises(BadConfig, match=r"the data \(.*\.png\) changed since"):
            watch.check()


def test_what_is_kept_only_now_may_have_changed_before(data: Path, tmp_path: Path) -> None:
    dataset, folder = open_dataset(data), RunFolder(tmp_path / "run")
    folder.begin(_config(data), Split(train=("a",), validation=("b",), test=("c",), how="by hand"), dataset, {})
    cache = PairCache(dataset.pairs, limit_bytes=1e9)
    watch = Watch(folder, dataset, [cache])
    watch.check()
    write(data / "masks" / "b.png", mask(9, height=SIZE[0], width=SIZE[1]))
    cache.fill()
    with pytest.raises(BadConfig, match=r"the data \(.*\.png\) changed since"):
        watch.check()


def test_pre_training_watches_its_images_too(data: Path, tmp_path: Path) -> None:
    torch.save(random_weights(LITE0), tmp_path / "lite.pth")
    small = {"blocks": [1] * 5, "widths": [8] * 5}
    tiny = {
        "steps_per_epoch": 1,
        "batch_size": 2,
        "crop_px": 64,
        "precision": "float32",
        "workers": 0,
        "epochs": 3,
        "cache_gib": 0,
    }
    config = _config(data, **{**RECIPE, **tiny, "network": small})

    def say(line: str) -> None:
        if line.startswith("epoch 1"):
            write(data / "masks" / "b.png", mask(9, height=SIZE[0], width=SIZE[1]))

    with pytest.raises(BadConfig, match=r"the data \(.*\.png\) changed since"):
        pretrain(config, tmp_path / "run", tmp_path / "lite.pth", say)
    assert (tmp_path / "run" / EPOCHS).read_text().count("\n") == 2
