"""What torchrun tells each process that it starts, and what one of them does about the others. Needs no torch."""

import os
import time

from service.errors import BadConfig

LEADER_SPEAKS_S = 5.0
"""How long the other processes wait for the first one to report an error that all of them have found."""

LOST_CONNECTION = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Socket closed",
    "NCCL communicator was aborted",
)
"""What gloo's or NCCL's RuntimeErrors say if a process that was to take part has ended."""


def by_torchrun() -> bool:
    """Return whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def leads() -> bool:
    """Return whether this process is the one that writes and speaks: that of rank 0, or the only one."""
    return not by_torchrun() or os.environ["RANK"] == "0"


def here_and_nodes() -> tuple[int, int]:
    """Return the number of processes on this node, and the number of nodes.

    Raises:
        BadConfig: torchrun did not start the same number of processes on every node.
    """
    if not by_torchrun():
        return 1, 1
    here, world = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
    if world % here:
        raise BadConfig(f"{here} of {world} processes are on this node: start as many on every node")
    return here, world // here


def let_the_leader_speak() -> None:
    """Wait, in a process that is not the first: when the first ends in an error, torchrun ends all others.

    All processes find what is wrong with the call or the data, but it should be reported once. What only one of them
    finds is still reported.
    """
    if not leads():
        time.sleep(LEADER_SPEAKS_S)


def has_lost_another(error: Exception) -> bool:
    """Return whether `error` only says that another process has ended; that one has reported why."""
    return by_torchrun() and any(words in str(error) for words in LOST_CONNECTION)
