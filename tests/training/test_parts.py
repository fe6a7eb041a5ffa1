"""The data of one run: what is said of them."""

from pathlib import Path

import pytest

from service.training.config import configure
from service.training.parts import read_parts
from service.training.run_folder import RunFolder
from tests.training.folders import images_and_masks, slices


@pytest.mark.parametrize(("series", "is_said"), [(None, True), (True, False), (False, False)])
def test_what_is_taken_for_slices_without_being_asked_for_is_said(
    tmp_path: Path, series: bool | None, is_said: bool
) -> None:
    config = configure(str(slices(tmp_path / "data", 8)), "own", "quick", {"series": series})
    said: list[str] = []
    read_parts(config, RunFolder(tmp_path / "run"), said.append)
    assert ("taken for slices of one volume (if they are none: --no-series)" in said[0]) == is_said


@pytest.mark.parametrize(("series", "is_said"), [(None, True), (True, False), (False, False)])
def test_what_is_numbered_and_not_taken_for_slices_is_said(tmp_path: Path, series: bool | None, is_said: bool) -> None:
    data = images_and_masks(tmp_path / "data", [f"slice-{page}" for page in range(8)])
    said: list[str] = []
    read_parts(configure(str(data), "own", "quick", {"series": series}), RunFolder(tmp_path / "run"), said.append)
    assert ("numbered, but not taken for slices of one volume (if they are: --series)" in said[0]) == is_said
