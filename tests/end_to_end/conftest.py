"""The server that tests share which do not end it."""

from collections.abc import Iterator

import pytest

from tests.end_to_end.server_process import ServerProcess


@pytest.fixture(scope="session")
def server() -> Iterator[ServerProcess]:
    """A server of batches of 4, queues of 20 and bodies of 1 MiB that have three seconds to arrive.

    Whatever tests do to it, it must have no bug to report and end well.
    """
    with ServerProcess(max_batch_size=4, max_queued=20, max_upload_mib=1, upload_timeout_s=3) as running:
        running.wait_ready()
        yield running
        running.terminate()
        assert running.exit_code() == 0
    assert "Exception in ASGI application" not in "".join(running.err)
