"""Run by torchrun: the loop on tiny images. Each process writes down what it saw and what came of it.

Arguments: a folder for the run and the records, and how a configuration is to be changed, as JSON.
"""

import json
import os
import sys
from pathlib import Path

from service.commands.large_imports import large_imports

with large_imports():
    from safetensors.torch import save_file

    from service.training.processes import part
    from tests.training.tiny_fit import Fit, Network, config

if __name__ == "__main__":
    folder, rank = Path(sys.argv[1]), os.environ["RANK"]
    (folder / "run").mkdir(exist_ok=True)
    run = Fit(config(**json.loads(sys.argv[2])), folder / "run", Network(dropout=0))
    fitting, progress = run.run()
    part(fitting.fabric)
    found = {"seen": run.seen, "validations": run.validations, "best_iou": progress.best_iou}
    (folder / f"{rank}.json").write_text(json.dumps(found))
    tensors = {f"network.{name}": tensor for name, tensor in fitting.network.named_parameters()}
    if fitting.average is not None:
        tensors |= {f"average.{name}": tensor for name, tensor in fitting.average.network.named_parameters()}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / f"{rank}.safetensors")
