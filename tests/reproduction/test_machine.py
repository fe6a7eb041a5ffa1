"""The machine is named so that a reader knows what a time holds for."""

from pathlib import Path

import torch

from service.reproduction.machine import Machine, cpu_model, this_machine


def test_the_processor_is_named_as_linux_names_it(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(
        "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n\nprocessor\t: 1\nmodel name\t: Some CPU @ 2 GHz\n"
    )
    assert cpu_model(cpuinfo) == "Some CPU @ 2 GHz"


def test_without_such_a_file_the_processor_still_has_a_name(tmp_path: Path) -> None:
    assert cpu_model(tmp_path / "nowhere")


def test_this_machine_is_described_in_one_line() -> None:
    machine = this_machine()
    line = machine.describe()
    assert f"PyTorch {torch.__version__}" in line
    assert f"{torch.get_num_threads()} threads" in line
    assert "\n" not in line


def test_a_gpu_stands_beside_the_processor() -> None:
    machine = Machine(
        date="today", commit="abc", cpu="CPU", cores=16, threads=8, gpu="GPU", torch="2.13", python="3.11"
    )
    assert machine.describe() == "today, commit `abc`, CPU, 16 cores, 8 threads; GPU; PyTorch 2.13, Python 3.11"
