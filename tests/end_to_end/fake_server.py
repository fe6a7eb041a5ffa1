"""The real server with fake engines, as a process: `python -m tests.end_to_end.fake_server`; `--help` has its options.

Settings come from ALNET_ variables as always. SIGUSR2 holds the engines: a batch that they have begun, or begin, ends
only after SIGUSR1.
"""

import argparse
import os
import signal
import sys
import threading
from types import FrameType

from service.api.server import serve
from service.engine.engine import Engine
from service.settings import Settings
from tests.doubles import Colour, FakeEngine, make_card

CUDA_FAULT: Colour = (0, 255, 255)
"""A tile of this colour is what CUDA's device-side asserts trip over."""

BLACK: Colour = (0, 0, 0)
"""The colour of the tiles of the warm-up."""

END_OF_THREAD: Colour = (255, 255, 0)
"""A tile of this colour ends the thread that works for the device."""

RAISES: dict[Colour, BaseException] = {
    CUDA_FAULT: RuntimeError("CUDA error: device-side assert triggered\nCompile with `TORCH_USE_CUDA_DSA`"),
    END_OF_THREAD: SystemExit(),
}


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
    return serve(
        Settings.read(os.environ), {modality: _engine(modality, gates[modality], options) for modality in gates}
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--modalities", nargs="+", default=["retina", "cell"], help="which to serve, loaded in turn")
    parser.add_argument("--held", nargs="+", default=[], help="modalities whose engines are held from the start")
    parser.add_argument("--broken", nargs="+", default=[], help="modalities whose engines answer with wrong shapes")
    parser.add_argument("--lost", action="store_true", help="the warm-up already trips over a CUDA fault")
    parser.add_argument("--delay-s", type=float, default=0.0, help="what each batch takes")
    parser.add_argument("--room", type=int, default=1000, help="how many tiles the memory holds")
    return parser.parse_args()


def _engine(modality: str, gate: threading.Event, options: argparse.Namespace) -> Engine:
    return FakeEngine(
        make_card(modality),
        delay_s=options.delay_s,
        gate=gate,
        room=options.room,
        raises=RAISES | ({BLACK: RAISES[CUDA_FAULT]} if options.lost else {}),
        answers_of=(32, 64) if modality in options.broken else None,
    )


if __name__ == "__main__":
    sys.exit(main())
