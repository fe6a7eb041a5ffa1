"""Whatever the OpenAPI document lets callers send, and much that it does not: the answers are those that it describes.

Schemathesis runs as a command of its own, so that neither its hooks nor its warnings reach other tests.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass

import pytest

from tests.end_to_end.server_process import ROOT, ServerProcess

CONFIG = """
continue-on-failure = true

[generation]
deterministic = true
max-examples = 100

[dictionaries.modality]
values = ["retina"]

[parameters]
"path.modality" = { dictionary = "modality", probability = 0.9 }

[checks.not_a_server_error]
# 504: a caller may ask for an answer within the shortest of times.
expected-statuses = ["2xx", "3xx", "4xx", 504]

[checks.positive_data_acceptance]
# No schema can tell an image from other bytes, the number of its frames, or the modalities that there are.
expected-statuses = ["2xx", 404, 413, 415, 422, 504]
"""


KINDS = {200, 400, 404, 405, 415, 422}


@dataclass(frozen=True)
class Run:
    """What became of one run of Schemathesis, and how many answers of each status the server says that it gave."""

    exit_code: int
    said: str
    answers: Counter[int]


@pytest.fixture(scope="module")
def run(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("schemathesis")  # its own files go there too
    (folder / "schemathesis.toml").write_text(CONFIG)
    lines_before = len(server.out)
    ran = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json", "--no-color"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": "tests.end_to_end.fuzz_bodies"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    answers = Counter(json.loads(line)["status"] for line in server.out[lines_before:])
    return Run(ran.returncode, ran.stdout + ran.stderr, answers)


def test_every_answer_is_one_that_the_openapi_document_describes(run: Run) -> None:
    assert run.exit_code == 0, run.said
    assert "6 selected / 6 total" in run.said


def test_the_requests_reach_every_kind_of_answer(run: Run) -> None:
    assert min(run.answers[status] for status in KINDS) >= 3, run
