"""What torchrun tells each process that it starts. Needs no torch, so callers need not import it."""

import os

from service.errors import BadConfig


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
