"""What libtiff and Pillow have to say of an upload reaches no log: looked at from outside, for libtiff is no Python."""

import subprocess
import sys
import warnings
from pathlib import Path

from service.imaging.quiet import QuietPillow

REPOSITORY = Path(__file__).parents[2]

READ_BROKEN_TIFFS = """
import logging, random, struct
from concurrent.futures import ThreadPoolExecutor
from service.errors import DamagedImage
from service.imaging.decode import decode

def tiff(compression, pixels):
    tags = {256: 8, 257: 600, 258: 1, 259: compression, 262: 0, 273: 8, 277: 1, 278: 600, 279: len(pixels), 296: 4098}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\\0" + struct.pack("<I", 8 + len(pixels)) + pixels + struct.pack("<H", 10) + entries + bytes(4)

def read(compression):
    try:
        return str(decode(tiff(compression, random.Random(0).randbytes(600)), max_pixels=4800).pixels.shape)
    except DamagedImage:
        return "damaged"

logging.basicConfig(level=logging.INFO)
with ThreadPoolExecutor(4) as threads:
    print(*threads.map(read, [FAX := 2, DEFLATE := 8] * 2), read(FAX), read(DEFLATE), sep="; ")
"""


def test_broken_tiffs_are_refused_or_filled_up_without_a_word_on_stderr() -> None:
    command = [sys.executable, "-c", READ_BROKEN_TIFFS]
    ran = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert ran.stdout == "; ".join(["(600, 8, 3)", "damaged"] * 3) + "\n"
    assert ran.stderr == ""


def test_it_is_quiet_until_the_last_has_left() -> None:
    quiet = QuietPillow()
    with warnings.catch_warnings():
        warnings.resetwarnings()
        with quiet:
            with quiet:
                pass
            assert ("ignore", r"PIL\.") in {
                (kind, module.pattern) for kind, _, _, module, _ in warnings.filters if module
            }
        assert warnings.filters == []
