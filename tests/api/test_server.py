"""The server's own end, where that is not to be seen from outside; see tests/end_to_end/test_drain.py for the rest."""

import pytest

from service.api.server import _end_in
from tests.engine.no_threads import start_threads_that_die


@pytest.mark.timeout(20)
def test_a_server_that_stops_waits_for_no_word_of_the_thread_that_is_to_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where memory is short that never comes, and the event loop would stand still for good."""
    start_threads_that_die(monkeypatch)
    _end_in(0)
