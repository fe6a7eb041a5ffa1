"""The real server with fake engines, as a process: `python -m tests.end_to_end.fake_server`; `--help` has its options.

Settings come from ALNET_ variables as always. SIGUSR2 holds the engines: a batch that they have begun, or begin, ends
only after SIGUSR1. SIGHUP is a fault planted on purpose: it stops the event loop for STALL_S.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import IO, Any

from service.api import server
from service.engine.engine import Engine
from service.imaging.policy import InputPolicy
from service.settings import Settings
from tests.doubles import Colour, FakeEngine, Pixels, fake_engine_card

STALL_S = 0.1
TILES = InputPolicy(kind="tile", height=512, width=512, overlap=64)
"""How the shipped checkpoint for cells takes large images."""

CUDA_FAULT: Colour = (0, 255, 255)
"""A tile of this colour is what CUDA's device-side asserts trip over."""

BLACK: Colour = (0, 0, 0)
"""The colour of the tiles of the warm-up."""

HELD = "a batch has begun and is held"

END_OF_THREAD: Colour = (255, 255, 0)
"""A tile of this colour ends the thread that works for the device."""

RAISES: dict[Colour, BaseException] = {
    CUDA_FAULT: RuntimeError("CUDA error: device-side assert triggered\nCompile with `TORCH_USE_CUDA_DSA`"),
    END_OF_THREAD: SystemExit(),
}

Listener = Callable[[Sequence[Pixels]], None]


class OverheardEngine(FakeEngine):
    """A FakeEngine whose `listeners` get every batch before it is run."""

    def __init__(self, listeners: Sequence[Listener], *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._listeners = listeners

    def predict(self, tiles: Sequence[Pixels]) -> list[Pixels]:
        for listener in self._listeners:
            listener(tiles)
        return super().predict(tiles)


def log_batch(tiles: Sequence[Pixels]) -> None:
    """Print the colours of the tiles' first pixels, as one line."""
    sys.stdout.write(json.dumps({"batch": [tile[0, 0].tolist() for tile in tiles]}) + "\n")
    sys.stdout.flush()


def tell_if_held(gate: threading.Event) -> Listener:
    """Return what says HELD on stderr for each batch that begins while the engine is held."""

    def tell(_tiles: Sequence[Pixels]) -> None:
        if not gate.is_set():
            sys.stderr.write(HELD + "\n")
            sys.stderr.flush()

    return tell


def leak_memory() -> Listener:
    kept: list[bytes] = []
    return lambda tiles: kept.append(b"x" * LEAK_BYTES)


def leak_files() -> Listener:
    kept: list[IO[bytes]] = []
    return lambda tiles: kept.append(Path(os.devnull).open("rb"))


def leak_threads() -> Listener:
    return lambda tiles: threading.Thread(target=threading.Event().wait, daemon=True).start()


def leak_tasks() -> Listener:
    """The event loop's thread starts the tasks: engines run in another, which a signal leaves."""
    kept: list[asyncio.Task[bool]] = []
    signal.signal(
        signal.SIGALRM, lambda *_: kept.append(asyncio.get_running_loop().create_task(asyncio.Event().wait()))
    )
    return lambda tiles: signal.raise_signal(signal.SIGALRM)


def use_up_threads(_tiles: Sequence[Pixels]) -> None:
    """From now on no thread can be started: none has room for so large a stack."""
    threading.stack_size(2**46)


LEAKS: dict[str, Callable[[], Listener]] = {
    "memory": leak_memory,
    "files": leak_files,
    "threads": leak_threads,
    "tasks": leak_tasks,
}
LEAK_BYTES = 2**20


def main() -> int:
    options = _options()
    gates = {modality: threading.Event() for modality in options.modalities}
    for modality in set(gates) - set(options.held):
        gates[modality].set()

    def on_signal(number: int, _frame: FrameType | None) -> None:
        for gate in gates.values():
            gate.set() if number == signal.SIGUSR1 else gate.clear()

    signal.signal(signal.SIGUSR1, on_signal)
    signal.signal(signal.SIGUSR2, on_signal)
    signal.signal(signal.SIGHUP, lambda _number, _frame: time.sleep(STALL_S))
    server.SEND_TIMEOUT_S, server.LET_GO_S = options.send_timeout_s, options.let_go_s
    return server.serve(
        Settings.read(os.environ), {modality: _engine(modality, gates[modality], options) for modality in gates}
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--modalities", nargs="+", default=["retina", "cell"], help="which to serve, loaded in turn")
    parser.add_argument("--held", nargs="+", default=[], help="modalities whose engines are held from the start")
    parser.add_argument("--broken", nargs="+", default=[], help="modalities whose engines answer with wrong shapes")
    parser.add_argument("--lost", action="store_true", help="the warm-up already trips over a CUDA fault")
    parser.add_argument("--delay-s", type=float, default=0.0, help="what each batch takes")
    parser.add_argument(
        "--tiled", nargs="+", default=[], help="modalities that take large images in tiles of 512 × 512"
    )
    parser.add_argument("--log-batches", action="store_true", help="print the first pixel of each tile of each batch")
    parser.add_argument("--leak", nargs="+", default=[], choices=LEAKS, help="what each batch leaves behind")
    parser.add_argument("--threadless", action="store_true", help="no thread can be started after the first batch")
    parser.add_argument("--room", type=int, default=1000, help="how many tiles the memory holds")
    parser.add_argument("--slots", type=int, default=1, help="how many single tiles run side by side")
    parser.add_argument(
        "--send-timeout-s", type=int, default=server.SEND_TIMEOUT_S, help="in place of the server's own"
    )
    parser.add_argument("--let-go-s", type=int, default=server.LET_GO_S, help="in place of the server's own")
    return parser.parse_args()


def _engine(modality: str, gate: threading.Event, options: argparse.Namespace) -> Engine:
    card = fake_engine_card(modality, input=TILES) if modality in options.tiled else fake_engine_card(modality)
    listeners = [LEAKS[kind]() for kind in options.leak] + ([log_batch] if options.log_batches else [])
    listeners += [use_up_threads] if options.threadless else []
    listeners.append(tell_if_held(gate))
    return OverheardEngine(
        listeners,
        card,
        delay_s=options.delay_s,
        gate=gate,
        room=options.room,
        slots=options.slots,
        raises=RAISES | ({BLACK: RAISES[CUDA_FAULT]} if options.lost else {}),
        answers_of=(32, 64) if modality in options.broken else None,
    )


if __name__ == "__main__":
    sys.exit(main())
