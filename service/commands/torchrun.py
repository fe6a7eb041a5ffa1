"""What one of several processes that torchrun has started does about the others."""

import os
import time

LEADER_SPEAKS_S = 5.0
"""How long the other processes wait for the first one to report an error that all of them have found."""

LOST_CONNECTION = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Socket closed",
    "NCCL communicator was aborted",
)
"""What gloo's or NCCL's RuntimeErrors say if a process that was to take part has ended."""


def is_one_of_several() -> bool:
    """Return whether torchrun has started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def let_the_leader_speak() -> None:
    """Wait, in a process that is not the first: when the first ends in an error, torchrun ends all others.

    All processes find what is wrong with the call or the data, but it should be reported once. What only one of them
    finds is still reported.
    """
    if is_one_of_several() and os.environ.get("RANK") != "0":
        time.sleep(LEADER_SPEAKS_S)


def has_lost_another(error: Exception) -> bool:
    """Return whether `error` only says that another process has ended; that one has reported why."""
    return is_one_of_several() and any(words in str(error) for words in LOST_CONNECTION)
