"""The thread that writes a log's lines: their order, a reader who stalls, and what is told of lines that are lost."""

import logging
import os
from collections.abc import Iterator
from contextlib import closing

import pytest

from service.api import line_writer
from service.api.line_writer import LineWriter

WHAT = {"what": "access lines", "where": "stdout"}


class Pipe:
    """A pipe whose reading end the test holds, and the handler that writes into the other."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        self._stream = os.fdopen(self.writing, "w", encoding="utf-8")
        self.handler = LineWriter(self._stream, **WHAT)

    def read(self, lines: int) -> list[str]:
        """Wait for as many lines, and return what has come by then."""
        content = b""
        while content.count(b"\n") < lines:
            content += os.read(self.reading, 4096)
        return content.decode().splitlines()

    def leave(self) -> None:
        """Read no more: what is still to be written is lost."""
        if self.reading:
            os.close(self.reading)
            self.reading = 0
            self.handler.flush()

    def close(self) -> None:
        self.leave()
        self._stream.close()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    with closing(Pipe()) as one:
        yield one


def log(handler: LineWriter, *lines: str) -> None:
    for line in lines:
        handler.handle(logging.LogRecord("test", logging.INFO, "", 0, line, None, None))


def test_lines_are_written_in_their_order(pipe: Pipe) -> None:
    lines = [f"line {number} é \udcff" for number in range(2000)]
    handler = pipe.handler
    log(handler, *lines[:3])
    handler.flush()
    log(handler, *lines[3:])
    assert pipe.read(2000) == [line.replace("\udcff", r"\udcff") for line in lines]


def test_a_reader_who_stalls_holds_up_nobody_and_loses_only_what_there_is_no_room_for(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(line_writer, "MOST_WAITING", 1000)
    handler = pipe.handler
    long = "x" * 1000
    log(handler, *[long] * 1000)
    handler.flush()  # returns, though the pipe holds 64 of them
    log(handler, *[long] * 500)
    [told] = caplog.messages
    assert told == "access lines are lost, stdout cannot be written: nobody reads it"
    pipe.read(1000)
    handler.flush()
    log(handler, "sound")
    handler.flush()
    assert pipe.read(1)[-1] == "sound"
    assert caplog.messages[1].startswith("stdout can be written again; ")
    assert 0 < int(caplog.messages[1].split()[5]) <= 500


def test_lines_that_are_written_make_room_for_others(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(line_writer, "MOST_WAITING", 100)
    for _ in range(5):
        log(pipe.handler, *["line"] * 100)
        assert pipe.read(100) == ["line"] * 100
        pipe.handler.flush()
    assert caplog.messages == []


def test_a_file_that_someone_else_made_non_blocking_loses_nothing(pipe: Pipe) -> None:
    os.set_blocking(pipe.writing, False)
    handler = pipe.handler
    log(handler, *["x" * 1000] * 200)
    assert len(pipe.read(200)) == 200


def test_a_reader_who_is_gone_is_told_of_once(pipe: Pipe, caplog: pytest.LogCaptureFixture) -> None:
    pipe.leave()
    for _ in range(3):
        log(pipe.handler, "line")
        pipe.handler.flush()
    assert caplog.messages == ["access lines are lost, stdout cannot be written: [Errno 32] Broken pipe"]


def test_where_memory_runs_out_lines_are_lost_and_those_after_them_are_not(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def short(_descriptor: int, _content: memoryview) -> int:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", short)
        log(pipe.handler, "lost")
        pipe.handler.flush()
    log(pipe.handler, "written")
    assert pipe.read(1) == ["written"]
    pipe.handler.flush()
    assert caplog.messages == [
        "access lines are lost, stdout cannot be written: memory is short",
        "stdout can be written again; 1 lines were lost",
    ]


def test_a_stream_that_was_closed_before_the_process_began_takes_no_lines(caplog: pytest.LogCaptureFixture) -> None:
    handler = LineWriter(None, **WHAT)
    log(handler, "one", "two")
    handler.flush()
    assert caplog.messages == ["access lines are lost, stdout cannot be written: it is closed"]


def test_a_line_that_cannot_be_made_stops_neither_its_caller_nor_the_lines_after_it(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)  # says what is wrong on stderr otherwise
    pipe.handler.handle(logging.LogRecord("test", logging.INFO, "", 0, "%d", ("no number",), None))
    log(pipe.handler, "next")
    assert pipe.read(1) == ["next"]
