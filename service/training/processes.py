"""The processes of one run: one by itself, or those that torchrun started, on one node or several."""

import logging
import warnings
from collections.abc import Callable
from datetime import timedelta
from typing import Literal

import torch
import torch.distributed

with warnings.catch_warnings():  # their own imports use what their dependencies deprecate
    warnings.simplefilter("ignore")
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
    from lightning_fabric.strategies.ddp import DDPStrategy

from service.engine.torch_engine import gpu_has_bfloat16, precisions
from service.errors import BadConfig
from service.training.config import Config, option_of
from service.training.torchrun import by_torchrun, here_and_nodes, leads

Precision = Literal["float32", "bfloat16"]

LONGEST_WAIT = timedelta(days=1)
"""How long the others wait for the process of rank 0, which alone validates and writes.

Only processes that hang reach this limit: when one ends in an error, torchrun ends the others.
"""


def make_fabric(config: Config) -> Fabric:
    """Return Lightning Fabric: it picks device and precision, and joins the processes that torchrun started.

    A process that torchrun did not start trains alone, on one device, whatever else the machine has.

    Raises:
        BadConfig: torchrun started more processes on this node than it has GPUs, or not the same number on every node.
    """
    cuda = torch.cuda.is_available()
    here, nodes = here_and_nodes()
    if cuda and here > torch.cuda.device_count():
        raise BadConfig(f"{here} processes on a node with {torch.cuda.device_count()} GPUs: start one for each GPU")
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces the precision again and again
    with warnings.catch_warnings():  # Fabric tells CPU users that they have no GPU, and so on
        warnings.simplefilter("ignore")
        fabric = Fabric(
            accelerator="cuda" if cuda else "cpu",
            devices=here,
            num_nodes=nodes,
            strategy=DDPStrategy(timeout=LONGEST_WAIT) if here * nodes > 1 else "auto",
            precision="bf16-mixed" if _in_bfloat16(config) else "32-true",
            plugins=[TorchElasticEnvironment() if by_torchrun() else LightningEnvironment()],
        )
        fabric.launch()
    return fabric


def fastest_precision() -> Precision:
    """Return in which precision this machine trains faster, bfloat16 or float32; a CPU times both, once a process."""
    if torch.cuda.is_available():
        return "bfloat16" if gpu_has_bfloat16() else "float32"
    return "bfloat16" if precisions(torch.device("cpu"), "auto")[0] == "bfloat16" else "float32"


def agreed_precision(find: Callable[[], Precision] = fastest_precision) -> Precision:
    """Return the precision that rank 0 finds faster, for all processes: on CPUs, two that time it may disagree.

    It joins the processes before Fabric exists, which then takes them as it finds them.

    Raises:
        BadConfig: torchrun did not start the same number of processes on every node.
    """
    here, nodes = here_and_nodes()
    if here * nodes == 1 or torch.cuda.is_available():
        return find()
    torch.distributed.init_process_group("gloo", timeout=LONGEST_WAIT)
    found = [find() if leads() else None]
    torch.distributed.broadcast_object_list(found, src=0)
    assert found[0] is not None  # noqa: S101 -- rank 0 sent it
    return found[0]


def part(fabric: Fabric) -> None:
    """Let the processes go their own ways, once all have come here."""
    fabric.barrier()
    if fabric.world_size > 1:
        torch.distributed.destroy_process_group()


def check_shared(fabric: Fabric, epochs_done: int) -> None:
    """Check that all processes go on from the same epoch: one that does not see the run folder starts with the first.

    Raises:
        BadConfig: this process found another state than rank 0 did.
    """
    of_rank_0 = fabric.broadcast(epochs_done)
    if epochs_done != of_rank_0:
        raise BadConfig(
            f"rank {fabric.global_rank} found {epochs_done} finished epochs in the run folder, rank 0 {of_rank_0}: "
            "--run must be a folder that all nodes share"
        )


def check_agreed(fabric: Fabric, config: Config) -> None:
    """Check that all processes are of one run: each node is given its own command, and may choose its own precision.

    Raises:
        BadConfig: this process was asked for another run than rank 0 was, or has another precision.
    """
    of_rank_0 = Config.model_validate_json(fabric.broadcast(config.model_dump_json()))
    if config.precision != of_rank_0.precision:
        found = f"rank {fabric.global_rank} found {config.precision} faster, rank 0 {of_rank_0.precision}"
        raise BadConfig(f"{found}: choose one for all with --precision")
    if not config.is_same_run(of_rank_0):
        ours, theirs = config.of_the_run(), of_rank_0.of_the_run()
        field = next(field for field in {**ours, **theirs} if ours.get(field) != theirs.get(field))
        given = f"rank {fabric.global_rank} was given another {option_of(field)} than rank 0"
        raise BadConfig(f"{given}: start the same command on every node")


def check_same_data(fabric: Fabric, pairs_digest: str) -> None:
    """Check that all processes read the same data: from different data each would make a split of its own.

    Raises:
        BadConfig: this process reads other data than rank 0 does.
    """
    if pairs_digest != fabric.broadcast(pairs_digest):
        raise BadConfig(
            f"rank {fabric.global_rank} finds other images, masks or names of them in --data than rank 0, and might"
            " learn from images that test: give all nodes the same data"
        )


def _in_bfloat16(config: Config) -> bool:
    return (fastest_precision() if config.precision == "auto" else config.precision) == "bfloat16"
