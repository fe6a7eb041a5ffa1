"""The job of `alnet pretrain`: from unlabelled images and another network's weights to an encoder to begin with."""

import math
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format
from torch.optim import AdamW
from tqdm import tqdm

with warnings.catch_warnings():  # their own imports use what their dependencies deprecate
    warnings.simplefilter("ignore")
    from lightning_fabric import Fabric

from service.errors import BadConfig
from service.network.normalise import Normalise
from service.store.durable import naming
from service.training.augment import TrainingItems
from service.training.beginning import begin
from service.training.config import Config
from service.training.encoder_weights import OURS
from service.training.fit import set_learning_rate
from service.training.imitation import Imitation, Model
from service.training.initial import begin_with, build_network, check_batch, settle_beginning
from service.training.loading import Batches, loaded, make_batches
from service.training.order import EpochOrder
from service.training.parts import Say, read_parts, study
from service.training.processes import agreed_precision, make_fabric
from service.training.resources import memory_for_a_step, room_on_disk
from service.training.run_folder import RunFolder
from service.training.run_lock import held
from service.training.state import BEST, STATE, EpochRecord, Progress, load_state, save_state, write_atomically
from service.training.watch import Watch

LARGEST_GRADIENT = 5.0
"""The norm to which gradients are clipped: an encoder that knows nothing yet has steep ones."""

RECIPE: dict[str, object] = {
    "epochs": 20,
    "steps_per_epoch": 200,
    "batch_size": 8,
    "crop_px": 192,
    "learning_rate": 1.5e-3,
    "weight_decay": 0.01,
    "scale": 0.4,
    "rotation_deg": 45,
    "colour": 0.3,
    "camera": 0.3,
    "workers": 1,
}
"""What pre-training changes in preset `quick`."""


@dataclass(frozen=True, slots=True)
class _Lessons:
    """All that the loop works on."""

    config: Config
    fabric: Fabric
    model: Model
    imitation: Imitation
    wrapped: nn.Module
    optimizer: torch.optim.Optimizer
    normalise: Normalise
    batches: Batches
    order: EpochOrder


@room_on_disk()
def pretrain(config: Config, path: Path, weights: Path, say: Say, *, encoder_weights: Path | None = None) -> Path:
    """Let the encoder of `config` imitate the one in `weights` on its data's train part; return the encoder's file.

    If the data have no masks, all images are the train part.

    The file is BEST in the run folder `path`, for `--encoder-weights`. An interrupted run goes on from its last epoch;
    a new one may take its encoder from `encoder_weights`. Validation and test images are not looked at.

    Raises:
        BadConfig: `path` holds another run, or one still in progress; `weights` are no encoder that can be imitated;
            the network has no encoder that could imitate one; `encoder_weights` do not fit, or know images that are to
            validate or test; the loss is no number.
        BadDataset: a file of the dataset cannot be used; the message names it.
        OSError: the run folder cannot be written. Whatever was written before is intact.
    """
    folder = RunFolder(path)
    config = folder.settle(config, agreed_precision)
    fabric = make_fabric(config)
    if fabric.world_size > 1:
        raise BadConfig("pre-training runs in one process; start it without torchrun")
    with held(path, say), naming(path):
        begun_with = [] if encoder_weights is None else [encoder_weights]
        _pretrain(config, folder, fabric, weights, say, begun_with=begun_with)
    return path / BEST


def _pretrain(
    config: Config, folder: RunFolder, fabric: Fabric, weights: Path, say: Say, *, begun_with: Sequence[Path]
) -> None:
    folder.check(config)
    folder.check_writable()
    model, network = Model.of(weights), build_network(config)
    if config.encoder_weights and not folder.has_begun:
        say(begin_with(network, begun_with))
    imitation = Imitation(network, model.encoder.widths)
    check_batch(imitation.encoder, config)
    parts = read_parts(config, folder, say, needs_masks=False)
    begin(config, folder, parts, say, begun_with=begun_with, teacher=None)
    watch = Watch(folder, parts.dataset, parts.caches)
    normalisation = study(parts.train, config.input).normalisation
    watch.check()  # no file changed between opening the data and caching them
    items = TrainingItems(parts.train, len(parts.train), config)
    if not folder.has_begun:
        settle_beginning(network, items, normalisation)
    normalise = Normalise(normalisation.mean, normalisation.std)
    lessons = _prepare(config, fabric, model, imitation, normalise=normalise, items=items)
    _learn(lessons, folder, say, watch)


def _prepare(
    config: Config, fabric: Fabric, model: Model, imitation: Imitation, *, normalise: Normalise, items: TrainingItems
) -> _Lessons:
    """Join networks, optimizer and loader on the fabric's device."""
    for part in (model, imitation, normalise):
        convert_conv2d_weight_memory_format(part.to(fabric.device), torch.channels_last)
    optimizer = AdamW(imitation.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    wrapped, wrapped_optimizer = fabric.setup(imitation, optimizer)
    length = (config.steps_per_epoch or max(1, len(items) // config.batch_size)) * config.batch_size
    order = EpochOrder(len(items), length=length, seed=config.seed)
    batches = make_batches(items, order, config, fabric.device)
    return _Lessons(config, fabric, model, imitation, wrapped, wrapped_optimizer, normalise, batches, order)


def _learn(lessons: _Lessons, folder: RunFolder, say: Say, watch: Watch) -> None:
    """Run the remaining epochs; after each, say and write down how it went, and keep the encoder."""
    config, state = lessons.config, folder.path / STATE
    trained = lessons.imitation, lessons.optimizer
    progress = load_state(state, *trained) if state.exists() else Progress()
    if progress.history:
        folder.write_epochs(progress)  # again: a run killed right after saving its state lacks that epoch's line
    if progress.history and not (folder.path / BEST).exists():  # someone has moved it
        write_atomically(folder.path / BEST, save(_encoder_tensors(lessons.imitation)))
    for epoch in range(progress.next_epoch, config.epochs):
        started = time.monotonic()
        rate = set_learning_rate(lessons.optimizer, config, epoch)
        errors = _epoch(lessons, epoch)
        watch.check()
        loss = sum(errors) / len(errors)
        progress.history.append(EpochRecord(epoch, rate, loss, None, None, time.monotonic() - started))
        write_atomically(folder.path / BEST, save(_encoder_tensors(lessons.imitation)))
        save_state(state, *trained, progress)
        folder.write_epochs(progress)
        left = tqdm.format_interval(progress.seconds_left(config.epochs))
        stages = " ".join(f"{error:.3f}" for error in errors)
        say(f"epoch {epoch + 1}/{config.epochs}  unlike the model {loss:.4f} (stages: {stages})  {left} left")


def _epoch(lessons: _Lessons, epoch: int) -> list[float]:
    """Take one step per batch; return each stage's mean error.

    Raises:
        BadConfig: an error is no number.
    """
    config, fabric = lessons.config, lessons.fabric
    lessons.order.start(epoch)
    lessons.wrapped.train()
    total = torch.zeros(len(lessons.model.encoder.widths), device=fabric.device)
    steps = len(lessons.batches)
    for images, _ in tqdm(
        loaded(lessons.batches), f"epoch {epoch + 1}/{config.epochs}", steps, unit="step", leave=False, disable=None
    ):
        with memory_for_a_step(config, fabric.device):
            total += _step(lessons, images.to(fabric.device, non_blocking=True))
    errors: list[float] = (total / steps).tolist()
    if not all(math.isfinite(error) for error in errors):
        raise BadConfig(f"the loss is no number in epoch {epoch + 1}: start anew with a smaller --learning-rate")
    return errors


def _step(lessons: _Lessons, images: Tensor) -> Tensor:
    """Take one step; return each stage's error."""
    pixels = images.to(memory_format=torch.channels_last)
    with lessons.fabric.autocast():
        shown = lessons.model(pixels)
    errors: Tensor = lessons.wrapped(lessons.normalise(pixels), shown)
    lessons.optimizer.zero_grad(set_to_none=True)
    lessons.fabric.backward(errors.sum())
    nn.utils.clip_grad_norm_(lessons.imitation.parameters(), LARGEST_GRADIENT)
    lessons.optimizer.step()
    return errors.detach()


def _encoder_tensors(imitation: Imitation) -> dict[str, Tensor]:
    """Return the encoder's tensors by the names that they have in a network."""
    return {OURS + name: tensor.contiguous() for name, tensor in imitation.encoder.state_dict().items()}
