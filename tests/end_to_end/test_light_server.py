"""A server process holds nothing that belongs to training."""

import json
import subprocess
import sys

from tests.end_to_end.server_process import ROOT

ANSWER_ONE_UPLOAD = """
import asyncio, json, sys
import service.api.server
from tests.api.client import fake_app, running
from tests.doubles import draw, png

async def main():
    async with running(fake_app()) as client:
        return (await client.post("/segment/retina", content=png(draw()))).status_code

status = asyncio.run(main())
print(json.dumps({"status": status, "modules": sorted(sys.modules)}))
"""


def test_serving_an_upload_loads_no_training_code() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", ANSWER_ONE_UPLOAD], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    report = json.loads(ran.stdout)
    assert report["status"] == 200
    forbidden = {"service.training", "monai", "lightning_fabric", "matplotlib"}
    assert forbidden.isdisjoint(report["modules"])


LOAD_A_CHECKPOINT = """
import json, sys
from pathlib import Path
from service.engine.choosing import Wish, load_engine
from service.store.model_store import ModelStore

load_engine(ModelStore(Path("model_store")).newest("skin"), Wish(device="cpu"))
print(json.dumps({"modules": sorted(sys.modules)}))
"""


def test_loading_a_checkpoint_loads_no_compiler() -> None:
    """What PyTorch imports to compute with tensors that have no values: seconds of a start, and 50 MB."""
    ran = subprocess.run(
        [sys.executable, "-c", LOAD_A_CHECKPOINT], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    report = json.loads(ran.stdout)
    assert {"torch._dynamo", "sympy"}.isdisjoint(report["modules"])
