"""What is installed for each server, and in which versions."""

import pytest

from peers.contestants import CONTESTANTS
from peers.environments import REQUIREMENTS, constraints_beside, pinned

CONSTRAINTS = "# tested with\nnumpy==2.4.6\nopentelemetry-api==1.45.2\nPyYAML==6.0.3\n"


def test_names_are_compared_as_pypi_does_and_extras_and_comments_do_not_count() -> None:
    assert pinned("ray[serve]==2.60.0  # newest\nTomli_W==1.2.0\n# a note\n") == {"ray": "2.60.0", "tomli-w": "1.2.0"}


def test_what_a_server_pins_itself_is_no_constraint_for_it_and_all_else_stays() -> None:
    assert (
        constraints_beside(CONSTRAINTS, "opentelemetry_api==1.45.1\npyyaml==6.0.1\n") == "# tested with\nnumpy==2.4.6\n"
    )


@pytest.mark.parametrize("name", [one.name for one in CONTESTANTS.values() if one.package is not None])
def test_every_requirement_of_a_server_is_pinned_exactly(name: str) -> None:
    lines = (REQUIREMENTS / f"{name}.txt").read_text().splitlines()
    assert len(pinned("\n".join(lines))) == len(lines) > 0


def test_every_server_has_a_label_with_the_version_that_is_compared() -> None:
    assert (
        CONTESTANTS["litserve"].label == f"LitServe {pinned((REQUIREMENTS / 'litserve.txt').read_text())['litserve']}"
    )
