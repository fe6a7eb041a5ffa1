"""One thread for PyTorch, for tests whose tensors are tiny: more would mostly wait for each other."""

from collections.abc import Iterator

import torch


def one_thread() -> Iterator[None]:
    """Compute in one thread until resumed. A module makes a fixture of it, as wide as it needs."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
