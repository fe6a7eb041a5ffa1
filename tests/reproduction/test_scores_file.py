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
        ("", "must be JSON of IoU, 0 to 1, by network, .*; this is none$"),
        ("[0.7]", "must be JSON of IoU, 0 to 1, by network, .*; this is none$"),
        ('{"al-net": 72}', "; that of al-net is none$"),
        ('{"al-net": "good"}', "; that of al-net is none$"),
        ('{"al-nett": 0.7}', "no network al-nett; there are al-net, "),
    ],
)
def test_what_is_no_file_of_scores_is_refused(tmp_path: Path, content: str, complaint: str) -> None:
    path = tmp_path / "scores.json"
    path.write_text(content)
    with pytest.raises(BadParameter, match=complaint):
        read_scores(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadParameter, match=r"nowhere\.json cannot be read: No such file or directory$"):
        read_scores(tmp_path / "nowhere.json")
