"""Forks fake servers from a process that has imported what they need, which would take each of them seconds.

A server is a process as any other from then on: with its own arguments, environment and output, and Python's own end.
Run as `python -m tests.end_to_end.nursery` by `Forked`, it takes orders from the socket that is its standard input.
"""

import atexit
import functools
import json
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.end_to_end import fake_server

MOST_BYTES = 2**17
"""What the arguments and the environment of a server may have together."""


class Forked:
    """A server that the nursery has forked; what can be done with it is named as in subprocess.Popen."""

    def __init__(self, arguments: Sequence[str], environ: Mapping[str, str]) -> None:
        out, server_out = os.pipe()
        err, server_err = os.pipe()
        self._exit, server_exit = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        order = json.dumps({"arguments": arguments, "environ": dict(environ)}).encode()
        with server_exit:
            socket.send_fds(_nursery(), [order], [server_out, server_err, server_exit.fileno()])
        os.close(server_out)
        os.close(server_err)
        self.stdout, self.stderr = os.fdopen(out, encoding="utf-8"), os.fdopen(err, encoding="utf-8")
        self.pid = int(self._exit.recv(64))
        self._exit_code: int | None = None

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def poll(self) -> int | None:
        """Return the exit code, the negative signal that ended the server, or None while it runs."""
        if self._exit_code is None and select.select([self._exit], [], [], 0)[0]:
            return self.wait()
        return self._exit_code

    def wait(self, timeout: float | None = None) -> int:
        """Return what `poll` returns, once the server has ended.

        Raises:
            TimeoutError: it has not within `timeout` seconds.
        """
        if self._exit_code is None:
            self._exit.settimeout(timeout)
            self._exit_code = int(self._exit.recv(64))
            self._exit.close()
        return self._exit_code


@functools.cache
def _nursery() -> socket.socket:
    """Start the nursery, which ends with this process, and return the socket that takes orders."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__], cwd=Path(__file__).parents[2], stdin=theirs.fileno()
        )
    atexit.register(process.wait)
    atexit.register(ours.close)
    return ours


class Nursery:
    """The process that forks. It says which process a server is, and how it ended, to the socket that came with it."""

    def __init__(self, orders: socket.socket) -> None:
        self._orders = orders
        self._watched = selectors.DefaultSelector()
        self._watched.register(orders, selectors.EVENT_READ)

    def run(self) -> Callable[[], int] | None:
        """Return what a forked process is to do; in the nursery itself None, once nobody is left to give orders."""
        while True:
            for key, _events in self._watched.select():
                if key.fileobj is not self._orders:
                    self._bury(key)
                    continue
                order, descriptors, _flags, _sender = socket.recv_fds(self._orders, MOST_BYTES, 3)
                if not order:
                    return None
                if (pid := os.fork()) == 0:
                    self._leave()
                    return functools.partial(_serve, **json.loads(order), descriptors=descriptors)
                self._watch(pid, descriptors)

    def _watch(self, pid: int, descriptors: Sequence[int]) -> None:
        *outputs, descriptor = descriptors
        for output in outputs:
            os.close(output)
        told = socket.socket(fileno=descriptor)
        told.send(str(pid).encode())
        self._watched.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, told))

    def _bury(self, key: selectors.SelectorKey) -> None:
        pid, told = key.data
        self._watched.unregister(key.fileobj)
        os.close(key.fd)
        _, status = os.waitpid(pid, 0)
        with told:
            told.send(str(os.waitstatus_to_exitcode(status)).encode())

    def _leave(self) -> None:
        """Close, in a forked process, what is the nursery's."""
        for key in self._watched.get_map().values():
            if key.data is None:
                continue
            _pid, told = key.data
            os.close(key.fd)
            told.close()
        self._watched.close()
        self._orders.close()


def _serve(arguments: Sequence[str], environ: Mapping[str, str], descriptors: Sequence[int]) -> int:
    for standard, descriptor in enumerate([os.open(os.devnull, os.O_RDONLY), *descriptors[:2]]):
        os.dup2(descriptor, standard)
        os.close(descriptor)
    os.close(descriptors[2])
    sys.argv[1:] = arguments
    os.environ.clear()
    os.environ.update(environ)
    return fake_server.main()


if __name__ == "__main__":
    work = Nursery(socket.socket(fileno=sys.stdin.fileno())).run()
    sys.exit(0 if work is None else work())
