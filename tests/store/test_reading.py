"""Reading files whose size nobody may trust."""

import os
from pathlib import Path

import pytest

from service.store.reading import read_regular


def test_no_more_of_a_file_is_read_than_allowed_however_much_it_grows(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert read_regular(tmp_path / "a", 2) == b"ab"
    assert read_regular(tmp_path / "a", 4) == b"abc"


def test_a_device_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no regular file"):
        read_regular(Path(os.devnull), 4)
