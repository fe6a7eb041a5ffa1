"""Keep Pillow, and libtiff in it, from writing about what they read: their texts quote the upload.

For a damaged TIFF of 60 kB, libtiff writes megabytes to stderr, past Python and its logging.
"""

import ctypes
import functools
import logging
import threading
import warnings

from PIL import _imaging

logger = logging.getLogger(__name__)


class QuietPillow:
    """Ignores Pillow's warnings while at least one thread is inside; its logs and libtiff's are off once one has been.

    Warning filters belong to the process: two threads that each used `warnings.catch_warnings` could restore them in
    the wrong order, for good. Here the first thread to enter changes them, and the last to leave puts them back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._saved = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            _silence_logs()
            self._inside += 1
            if self._inside == 1:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._saved.__exit__(None, None, None)


@functools.cache
def _silence_logs() -> None:
    """Turn off Pillow's loggers and libtiff's handlers, for good and for the whole process; reading fails as before.

    libtiff's handlers are looked up in the copy that Pillow is linked with, since another copy has its own.
    """
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    try:
        library = ctypes.CDLL(_imaging.__file__)
        for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            library[name].restype = ctypes.c_void_p
            library[name](None)
    except (AttributeError, OSError):
        logger.warning("libtiff is not found in Pillow: what it says of damaged TIFFs goes to stderr")
