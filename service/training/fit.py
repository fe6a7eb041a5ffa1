"""The training loop: epochs of Dice + BCE (paper, Eqs. 4 to 6), best by validation IoU, resumable after any epoch."""

import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format
from torch.optim import Adam, AdamW, Optimizer
from tqdm import tqdm

with warnings.catch_warnings():  # their own imports use what their dependencies deprecate
    warnings.simplefilter("ignore")
    from lightning_fabric import Fabric

from service.engine.predictor import DTYPES, Predictor
from service.engine.torch_engine import gpu_has_bfloat16, precisions
from service.errors import BadConfig, EngineFailed
from service.network import reparameterize
from service.network.normalise import Normalise
from service.store.card import Normalisation
from service.training.augment import TrainingItems
from service.training.average import WeightAverage
from service.training.config import Config
from service.training.loading import Batch, Batches, loaded, make_batches
from service.training.losses import make_loss
from service.training.order import EpochOrder
from service.training.processes import check_shared
from service.training.resources import memory_for_a_step, memory_for_validation
from service.training.scores import ImageScore, Predict, mean_and_std
from service.training.state import BEST, STATE, EpochRecord, Progress, load_state, save_state, write_atomically
from service.training.teacher import Teacher

SMALLER_STEPS = "start anew with a smaller --learning-rate, in another folder with --run"

Validate = Callable[[Predict], Sequence[ImageScore]]


@dataclass(frozen=True, slots=True)
class Fitting:
    """All that the loop works on. `network` is in training form, on its device; `wrapped` is what Fabric made of it.

    `average` follows `network`, if the configuration wants an average of its weights. `teacher` is on the same device.
    """

    config: Config
    fabric: Fabric
    network: nn.Module
    wrapped: nn.Module
    average: WeightAverage | None
    optimizer: Optimizer
    normalise: Normalise
    batches: Batches
    order: EpochOrder
    teacher: Teacher | None = None

    @property
    def scored(self) -> nn.Module:
        """The network that is validated and kept: the average, or the one that is trained."""
        return self.network if self.average is None else self.average.network


def prepare_fitting(
    config: Config,
    fabric: Fabric,
    network: nn.Module,
    items: TrainingItems,
    normalisation: Normalisation,
    *,
    teacher: Teacher | None = None,
) -> Fitting:
    """Join network, optimizer and loader on the fabric's device.

    With several processes `batch_size` is per process, and all take the same number of steps: one that took fewer would
    leave the others waiting for its gradients. So views that do not fill a last batch in all of them are left out; each
    epoch's shuffle leaves out different ones.

    Batch norms are not synchronised: each process normalises by its own batch, as a process that trains alone does. The
    running statistics are those of rank 0: they are handed to the others before each step, and they are what is
    validated and kept.

    Raises:
        BadConfig: an epoch is to be a whole pass, but has too few views for one batch in each process.
    """
    kind = {"adam": Adam, "adamw": AdamW}[config.optimizer]
    optimizer = kind(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    convert_conv2d_weight_memory_format(network.to(fabric.device, torch.float32), torch.channels_last)
    average = WeightAverage(network, config.average) if config.average else None
    wrapped, optimizer = fabric.setup(network, optimizer)
    at_once = config.batch_size * fabric.world_size
    order = EpochOrder(
        len(items),
        length=(config.steps_per_epoch or _steps_of_an_epoch(len(items), config, fabric.world_size)) * at_once,
        seed=config.seed,
        anew=config.steps_per_epoch is None,
        rank=fabric.global_rank,
        world=fabric.world_size,
    )
    batches = make_batches(items, order, config, fabric.device)
    normalise = Normalise(normalisation.mean, normalisation.std).to(fabric.device)
    return Fitting(config, fabric, network, wrapped, average, optimizer, normalise, batches, order, teacher)


def _steps_of_an_epoch(views: int, config: Config, processes: int) -> int:
    if steps := views // (config.batch_size * processes):
        return steps
    raise BadConfig(
        f"an epoch has {views} views, too few for a batch of {config.batch_size} in each of {processes} process(es)"
        " without seeing one twice: give a smaller --batch-size, fewer processes, or --steps-per-epoch"
    )


def fit(
    fitting: Fitting,
    folder: Path,
    normalisation: Normalisation,
    validate: Validate,
    on_epoch: Callable[[Progress], None],
    *,
    check: Callable[[], None] = lambda: None,
) -> Progress:
    """Train to the last epoch, from where `folder`'s state left off; the best network's weights lie in BEST afterwards.

    `validate` scores a predictor on the validation images; `on_epoch` sees the progress after each epoch is saved. If
    `check` raises, nothing of the epoch just run is kept. Of several processes only rank 0 checks, validates and
    writes, while the others wait; it alone returns the whole progress.

    The best weights are written after the state that refers to them. As long as the best epoch is the last one
    finished, the state holds the same weights, so a run killed between the two writes makes up for the second when it
    resumes. No state ever refers to weights that are lost.

    Raises:
        BadConfig: the state in `folder` is of another network, or not the one that rank 0 found; memory does not
            suffice; a loading process died; or the loss, or what the network answers, is no longer a number.
        BadDataset: an image can no longer be read.
        OSError: `folder` cannot be written; what was there before is intact.
    """
    state, trained = folder / STATE, (fitting.network, fitting.optimizer)
    progress = load_state(state, *trained, fitting.average) if state.exists() else Progress()
    check_shared(fitting.fabric, progress.next_epoch)
    _keep_best(fitting, folder, progress)
    for epoch in range(progress.next_epoch, fitting.config.epochs):
        started = time.monotonic()
        rate = set_learning_rate(fitting.optimizer, fitting.config, epoch)
        loss = _train_epoch(fitting, epoch, progress)
        if fitting.fabric.is_global_zero:
            check()
            iou, accuracy = _validated(fitting, epoch, normalisation, validate)
            if iou is not None and iou > progress.best_iou:
                progress.best_iou, progress.best_epoch = iou, epoch
            progress.history.append(EpochRecord(epoch, rate, loss, iou, accuracy, time.monotonic() - started))
            save_state(state, *trained, progress, fitting.average)
            _keep_best(fitting, folder, progress)
            on_epoch(progress)
        fitting.fabric.barrier()
    return progress


def _keep_best(fitting: Fitting, folder: Path, progress: Progress) -> None:
    """Write the best weights, if they are those of the last epoch that was finished."""
    if fitting.fabric.is_global_zero and 0 <= progress.best_epoch == progress.next_epoch - 1:
        write_atomically(folder / BEST, save(weights_of(fitting.scored)))


def load_best(folder: Path, network: nn.Module) -> nn.Module:
    """Return `network` with the weights of the best epoch.

    Raises:
        BadConfig: they are missing or damaged.
    """
    try:
        network.load_state_dict(load_file(folder / BEST))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise BadConfig(f"{folder / BEST} cannot be read ({error}); start anew in another folder with --run") from error
    return network


def set_learning_rate(optimizer: Optimizer, config: Config, epoch: int) -> float:
    """Set and return the epoch's learning rate: ×decay after each epoch (paper, § 4.2), or half a cosine to zero.

    The cosine starts with a short warm-up. It depends on the epoch alone, so that a resumed run gets the same rates.
    """
    if config.schedule == "exponential":
        rate = config.learning_rate * config.decay**epoch
    else:
        warm = min(1.0, (epoch + 1) / max(1.0, 0.1 * config.epochs))
        cosine = 0.5 * (1 + torch.cos(torch.tensor(torch.pi * epoch / config.epochs)).item())
        rate = config.learning_rate * warm * cosine
    for group in optimizer.param_groups:
        group["lr"] = rate
    return rate


def _train_epoch(fitting: Fitting, epoch: int, progress: Progress) -> float:
    """Take one step per batch; return the mean loss over all processes, which is finite."""
    config, fabric = fitting.config, fitting.fabric
    loss_of, coarse = make_loss(config), epoch < config.coarse_epochs
    torch.manual_seed(_seed(config.seed, epoch, fabric.global_rank))
    fitting.order.start(epoch)
    fitting.wrapped.train()
    total = torch.zeros((), device=fabric.device)
    title, steps = f"epoch {epoch + 1}/{config.epochs}", len(fitting.batches)
    hidden = None if fabric.is_global_zero else True  # None: shown only to a terminal
    bar = tqdm(loaded(fitting.batches), title, steps, unit="step", leave=False, disable=hidden)
    for step, batch in enumerate(bar, start=1):
        with memory_for_a_step(config, fabric.device):
            total += _step(fitting, batch, loss_of, halved=coarse)
        if step % 5 == 0 or step == steps:
            best = f"{progress.best_iou:.3f}" if progress.history else "–"
            bar.set_postfix(loss=f"{total.item() / step:.3f}", best_IoU=best, left=_time_left(fitting, progress))
    loss = float(torch.as_tensor(fabric.all_reduce(total / steps)))  # the mean of the processes' means
    if not math.isfinite(loss):
        raise BadConfig(f"the loss is {loss} in epoch {epoch + 1}: {SMALLER_STEPS}")
    return loss


def _step(fitting: Fitting, batch: Batch, loss_of: nn.Module, *, halved: bool) -> Tensor:
    """Take one step; if `halved`, at half the resolution, with masks as shares of foreground, 0 to 1."""
    device, weight = fitting.fabric.device, fitting.config.teaching
    images, masks = (part.to(device, non_blocking=True) for part in batch)
    taught = None if fitting.teacher is None else fitting.teacher(images)  # it knows only the full resolution
    if halved:
        images, masks = F.avg_pool2d(images, 2), F.avg_pool2d(masks, 2)
        taught = None if taught is None else F.avg_pool2d(taught, 2)
    pixels = images.to(memory_format=torch.channels_last)
    logits = fitting.wrapped(fitting.normalise(pixels)).float()
    loss: Tensor = loss_of(logits, masks)
    if taught is not None:
        loss = (1 - weight) * loss + weight * loss_of(logits, taught)
    fitting.optimizer.zero_grad(set_to_none=True)
    fitting.fabric.backward(loss)
    fitting.optimizer.step()
    if fitting.average is not None:
        fitting.average.update()
    return loss.detach()


def _validated(
    fitting: Fitting, epoch: int, normalisation: Normalisation, validate: Validate
) -> tuple[float, float] | tuple[None, None]:
    """Return mean IoU and accuracy of the network in the form in which it would be served.

    Both are None in epochs between validations, and while the network has seen only half the resolution.

    Raises:
        BadConfig: the network's answers are no longer numbers, or memory does not suffice.
    """
    last = epoch + 1 == fitting.config.epochs
    if epoch < fitting.config.coarse_epochs or ((epoch + 1) % fitting.config.validate_every and not last):
        return None, None
    device = fitting.fabric.device
    try:
        with memory_for_validation(fitting.config, device):
            precision = scoring_precision(device)
            scores = validate(best_predictor(fitting.scored, normalisation, device, precision=precision).predict)
    except EngineFailed as error:
        raise BadConfig(f"{error} after epoch {epoch + 1}: {SMALLER_STEPS}") from error
    agreements = [score.agreement for score in scores]
    return mean_and_std(a.iou for a in agreements)[0], mean_and_std(a.accuracy for a in agreements)[0]


def _seed(seed: int, epoch: int, rank: int) -> int:
    """Return the seed of the network's own randomness (dropout) in an epoch; it differs between processes."""
    return int(np.random.default_rng([seed, epoch, rank]).integers(2**31))


def best_predictor(
    network: nn.Module, normalisation: Normalisation, device: torch.device, *, precision: str, temperature: float = 1.0
) -> Predictor:
    """Return the predictor that scores this network, re-parameterised, on this device."""
    dtype = DTYPES[precision]
    return Predictor(reparameterize(network), normalisation, temperature=temperature, device=device, dtype=dtype)


def scoring_precision(device: torch.device) -> str:
    """Return the precision for comparing epochs: bfloat16 where half precision is faster on the device, else float32.

    Never float16, in which a GPU serves: a half-trained network may overflow it, and that must not end a run. The run's
    result is measured in float32, which the answers of every engine have to match.
    """
    if device.type == "cuda":
        return "bfloat16" if gpu_has_bfloat16() else "float32"
    return "float32" if precisions(device, "auto")[0] == "float32" else "bfloat16"


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    """Return the network's tensors as a file holds them."""
    return {name: tensor.contiguous() for name, tensor in network.state_dict().items()}


def _time_left(fitting: Fitting, progress: Progress) -> str:
    if not progress.history:
        return "?"
    return tqdm.format_interval(progress.seconds_left(fitting.config.epochs, fitting.config.coarse_epochs))
