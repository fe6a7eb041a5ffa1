"""The table of what a checkpoint bears: the image as it is stands in it, but is no change."""

from service.training.robustness import robustness_table


def test_the_mean_is_over_the_changes_and_not_over_the_images_as_they_are() -> None:
    found = {"none": [0.9, 0.8], "darker": [0.5, 0.4], "closer": [0.7, 0.6]}
    lines = robustness_table(found, ["skin 1", "skin 2"]).splitlines()
    assert lines[:3] == ["| change | skin 1 | skin 2 |", "| --- | ---: | ---: |", "| none | 0.9000 | 0.8000 |"]
    assert lines[-1] == "| mean of all changes | 0.6000 | 0.5000 |"
    assert len(lines) == 6
