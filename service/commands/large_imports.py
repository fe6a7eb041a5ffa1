"""Importing what a command needs: torch alone is 200,000 objects, with what training needs it is twice as many."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def large_imports() -> Iterator[None]:
    """Import in the block without looking for garbage, and set aside what came: it stays to the end.

    Python goes through all of it else, several times while it comes, and again when the process ends: of the 5 s that a
    process takes that imports training and does nothing, that is 2; of the 3.4 s that it takes with the server, 1.2.
    """
    known, was_enabled = len(sys.modules), gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > known:
            gc.freeze()
        if was_enabled:
            gc.enable()
