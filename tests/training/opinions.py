"""What torchrun starts to see which arithmetic two processes compute in that find different ones faster."""

import os

from service.commands.large_imports import large_imports

with large_imports():
    from service.training.config import configure
    from service.training.processes import Precision, agreed_precision, make_fabric, part


def find() -> Precision:
    return "bfloat16" if os.environ["RANK"] == "0" else "float32"


if __name__ == "__main__":
    precision = agreed_precision(find)
    fabric = make_fabric(configure("data", "retina", "paper", {"precision": precision}))
    print(f"rank {fabric.global_rank} of {fabric.world_size}: {precision}", flush=True)
    part(fabric)
