import gzip
from pathlib import Path

import pytest

from service.errors import BadDataset
from service.training.pairs import FileSource


def test_a_gzipped_file_is_unpacked(tmp_path: Path) -> None:
    for name in ("a.ppm.gz", "b.PPM.GZ"):
        path = tmp_path / name
        path.write_bytes(gzip.compress(b"pixels"))
        assert FileSource(path).read() == b"pixels"


ZIPPED = gzip.compress(bytes(range(256)))


@pytest.mark.parametrize(
    "content",
    [b"no gzip", ZIPPED[:-30], ZIPPED[:10] + b"\xff" * 9 + ZIPPED[19:]],
    ids=["other", "cut short", "garbled"],
)
def test_a_damaged_gzip_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.ppm.gz"
    path.write_bytes(content)
    with pytest.raises(BadDataset, match=r"a\.ppm\.gz"):
        FileSource(path).read()


@pytest.mark.parametrize("name", ["bomb.ppm.gz", "long.ppm"])
def test_a_file_over_the_limit_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(bytes(100_001)) if name.endswith("gz") else bytes(100_001))
    with pytest.raises(BadDataset, match=rf"{name} holds more than 100,000 bytes"):
        FileSource(path).read(limit_bytes=100_000)
    assert len(FileSource(path).read(limit_bytes=100_001)) == 100_001


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadDataset, match=r"gone\.png"):
        FileSource(tmp_path / "gone.png").read()


def test_a_page_is_named_with_its_file(tmp_path: Path) -> None:
    assert str(FileSource(tmp_path / "volume.tif", 3)).endswith("volume.tif, page 3")
