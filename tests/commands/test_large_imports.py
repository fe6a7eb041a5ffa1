"""What a command imports is set aside, so that nobody looks through it for garbage; what is made later is not."""

import gc
import subprocess
import sys

import pytest

from service.commands.large_imports import large_imports

PROGRAM = """
import gc
from service.commands.large_imports import large_imports

with large_imports():
    assert not gc.isenabled()
    import fractions
aside = gc.get_freeze_count()
assert gc.isenabled() and aside > 0
assert not any(one is fractions.Fraction for one in gc.get_objects())
circle = []
circle.append(circle)
with large_imports():
    import fractions
assert gc.get_freeze_count() == aside, "nothing came, and nothing else is set aside"
del circle
assert gc.collect() > 0
"""


def test_what_is_imported_is_set_aside_and_nothing_that_is_made_later() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_garbage_is_collected_again_if_a_library_is_missing() -> None:
    with pytest.raises(ModuleNotFoundError), large_imports():
        raise ModuleNotFoundError
    assert gc.isenabled()
