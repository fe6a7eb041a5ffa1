"""OpenVINO changes the stack on which a thread handles signals: engines that come and go must not take it away."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("openvino", reason="OpenVINO is not installed: the extra cpu")

COME_AND_GO = """
import faulthandler, gc, os, signal, sys, threading
from pathlib import Path
from service.engine.choosing import Wish, load_engine
from tests.checkpoints import publish_tiny

faulthandler.enable()  # a stack for signals, as a server may have one
heard = []
signal.signal(signal.SIGUSR1, lambda *_: heard.append(True))
checkpoint = publish_tiny(Path(sys.argv[1]))
wish = Wish(engine="openvino", device="cpu", precision="float32")

def load_elsewhere(engines):
    thread = threading.Thread(target=lambda: engines.append(load_engine(checkpoint, wish)))
    thread.start()
    thread.join()

engines = [load_engine(checkpoint, wish), load_engine(checkpoint, wish)]
load_elsewhere(engines)
while engines:  # the oldest first, and in another thread than the one that made the last
    del engines[0]
    gc.collect()
    os.kill(os.getpid(), signal.SIGUSR1)
print(len(heard))
"""


def test_a_process_hears_signals_after_its_engines_are_gone(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", COME_AND_GO, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert (ran.returncode, ran.stdout.split()) == (0, ["3"]), ran.stderr
