"""Nobody reads what the server writes: it answers all the same, and stops when it is told to."""

from tests.end_to_end.server_process import ServerProcess

MORE_THAN_A_PIPE_HOLDS = 1000
"""Lines: 64 KiB are some 360 of them."""


class UnreadServer(ServerProcess):
    """Nobody takes what it writes to stdout."""

    reads_out = False


def test_a_stdout_that_nobody_reads_holds_up_neither_answers_nor_the_way_to_stop() -> None:
    with UnreadServer() as server:
        server.wait_ready()
        with server.client() as client:
            answers = {client.get("/models").status_code for _ in range(MORE_THAN_A_PIPE_HOLDS)}
        server.terminate()
        assert server.exit_code() == 0
    assert answers == {200}
