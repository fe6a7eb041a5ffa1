"""What a process does about the others where torchrun has started several."""

import os
import time

LEADER_SPEAKS_S = 5.0
"""How long the other processes wait for the first one to tell what all of them have found."""

LOST_CONNECTION = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Socket closed",
    "NCCL communicator was aborted",
)
"""What a RuntimeError of gloo's or NCCL's says where a process that was to take part has ended."""


def is_one_of_several() -> bool:
    """Return whether torchrun has started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def let_the_leader_speak() -> None:
    """Wait, in a process that is not the first: when that one ends in an error, torchrun ends all others.

    What is wrong with the call or the data is found by all of them, and is to be told once; what only one of them finds
    is told all the same.
    """
    if is_one_of_several() and os.environ.get("RANK") != "0":
        time.sleep(LEADER_SPEAKS_S)


def has_lost_another(error: Exception) -> bool:
    """Return whether `error` says no more than that another process has ended, which has told why itself."""
    return is_one_of_several() and any(words in str(error) for words in LOST_CONNECTION)
