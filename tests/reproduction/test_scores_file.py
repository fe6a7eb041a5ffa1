"""A file of scores is read, or refused in one line."""

from pathlib import Path

import pytest

from service.errors import BadParameter
from service.reproduction.scores_file import read_scores


def test_scores_are_read_by_network(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    path.write_text('{"al-net": 0.72, "cenet": 1}')
    assert read_scores(path) == {"al-net": 0.72, "cenet": 1.0}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "is no JSON of IoU by network"),
        ("[0.7]", "is no JSON of IoU by network"),
        ('{"al-net": 72}', "less than or equal to 1"),
        ('{"al-net": "good"}', "valid number"),
        ('{"al-nett": 0.7}', "the paper does not compare al-nett"),
    ],
)
def test_what_is_no_file_of_scores_is_refused(tmp_path: Path, content: str, complaint: str) -> None:
    path = tmp_path / "scores.json"
    path.write_text(content)
    with pytest.raises(BadParameter, match=complaint):
        read_scores(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadParameter, match=r"nowhere\.json"):
        read_scores(tmp_path / "nowhere.json")
