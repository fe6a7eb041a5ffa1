"""Tensors by name from a file of weights, whoever wrote it; nothing in it is ever run."""

import pickle
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from service.errors import BadConfig

FLOATS = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})
"""The types that weights may have; for some 8-bit floats torch cannot even tell which are finite."""

COUNTS = FLOATS | {torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}
"""The types that a counter, which has no dimension, may have."""


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the file's tensors by name, without what wraps them ("state_dict", "model", "module.").

    Raises:
        BadConfig: it is missing, unreadable, no PyTorch checkpoint or safetensors, or holds more than tensors.
    """
    try:
        with path.open("rb") as file:
            is_safetensors = file.read(9)[8:] == b"{"  # eight bytes of length, then JSON
        with warnings.catch_warnings():  # torch warns if a file is old, or is TorchScript
            warnings.simplefilter("ignore")
            content: object = load_file(path) if is_safetensors else torch.load(path, "cpu", weights_only=True)
    except OSError as error:
        raise BadConfig(f"encoder weights {path} cannot be read: {error.strerror or error}") from error
    except pickle.UnpicklingError as error:
        raise BadConfig(f"{path.name} holds more than tensors (nothing of it was run), or is damaged") from error
    except Exception as error:  # torch and safetensors raise a dozen kinds on damaged files
        raise BadConfig(f"{path.name} is neither a PyTorch checkpoint nor safetensors, or is damaged") from error
    for wrapper in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping):
        raise BadConfig(f"{path.name} holds no state dict")
    tensors = {str(name): tensor for name, tensor in content.items() if isinstance(tensor, Tensor)}
    return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}


def checked_tensor(tensors: Mapping[str, Tensor], name: str, file: str, *, kind: str, dimensions: int) -> Tensor:
    """Return the tensor `name`, finite and of `dimensions` dimensions; `kind` says what the `file` should be.

    Raises:
        BadConfig: it is missing, not finite or of other dimensions; it is sparse, nested or quantised, has no data, or
            is of a type that is not in `FLOATS` (in `COUNTS`, if it is to have no dimension); or it is a variance, and
            negative.
    """
    if name not in tensors:
        raise BadConfig(f"{file} is no {kind}: it lacks {name}")
    tensor = tensors[name]
    is_dense = tensor.layout is torch.strided and not (tensor.is_nested or tensor.is_meta)
    if not is_dense or tensor.dtype not in (FLOATS if dimensions else COUNTS):
        raise BadConfig(
            f"{file}: {name} is no dense tensor of floats in 16 bits or more, but {tensor.layout} of {tensor.dtype}"
        )
    if name.endswith("running_var") and bool((tensor < 0).any()):
        raise BadConfig(f"{file}: {name} is negative, which no variance is")
    if tensor.ndim != dimensions or not bool(tensor.isfinite().all()):
        raise BadConfig(f"{file}: {name} has not {dimensions} dimensions, or holds NaN or infinity")
    return tensor


def tensor_like(ours: Tensor, tensors: Mapping[str, Tensor], name: str, file: str, *, kind: str) -> Tensor:
    """Return the tensor `name`, finite and of the shape of `ours`.

    Raises:
        BadConfig: as `checked_tensor`, or it has another shape.
    """
    theirs = checked_tensor(tensors, name, file, kind=kind, dimensions=ours.ndim)
    if theirs.shape != ours.shape:
        raise BadConfig(f"{file}: {name} is {tuple(theirs.shape)}, not {tuple(ours.shape)}")
    return theirs


def listed(values: Sequence[int]) -> str:
    """Return the values with commas between them."""
    return ", ".join(str(value) for value in values)
