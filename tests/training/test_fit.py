"""The loop's own parts: learning rate, loss, the device's set-up, the best weights."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW

from service.engine.quality import Agreement
from service.errors import BadConfig, EngineFailed
from service.imaging.policy import InputPolicy
from service.store.card import Normalisation
from service.training.augment import VIEWS, TrainingItems
from service.training.config import Config, configure
from service.training.fit import (
    Fitting,
    best_predictor,
    load_best,
    prepare_fitting,
    scoring_precision,
    set_learning_rate,
)
from service.training.processes import make_fabric
from service.training.scores import ImageScore, Predict
from service.training.state import BEST, STATE, Progress
from tests.training.full_disk import no_file_above
from tests.training.tiny_fit import Fit, Network, config, pair

PLAIN = Normalisation(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def _config(preset: str = "paper", **changes: object) -> Config:
    grid = InputPolicy(kind="stretch", height=32, width=32)
    return configure("data", "retina", preset, {"input": grid, "precision": "float32"} | changes)


def _rates(config: Config) -> list[float]:
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    rates = [set_learning_rate(optimizer, config, epoch) for epoch in range(config.epochs)]
    assert optimizer.param_groups[0]["lr"] == rates[-1]
    return rates


def test_the_papers_learning_rate_falls_by_a_twentieth_after_each_epoch() -> None:
    rates = _rates(_config())
    assert rates[:3] == pytest.approx([5e-3, 5e-3 * 0.95, 5e-3 * 0.95**2])
    assert rates[149] == pytest.approx(5e-3 * 0.95**149)


def test_the_cosine_rises_over_a_tenth_of_the_epochs_and_falls_towards_zero() -> None:
    rates = _rates(_config("quick", epochs=50, learning_rate=1.0))
    peak = rates.index(max(rates))
    assert peak == 4
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert 0 < rates[-1] < 0.01


@pytest.mark.parametrize(("name", "kind"), [("adam", Adam), ("adamw", AdamW)])
def test_the_optimizer_and_its_pull_are_those_of_the_configuration(name: str, kind: type, tmp_path: Path) -> None:
    fitting, _ = Fit(config(optimizer=name, weight_decay=0.07, epochs=1), tmp_path).run()
    optimizer = fitting.optimizer
    assert isinstance(optimizer, kind)
    assert isinstance(optimizer, AdamW) == (kind is AdamW)  # which is an Adam
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.07]


def _items(images: int, config: Config) -> TrainingItems:
    blank = np.zeros((32, 32, 3), np.uint8), np.zeros((32, 32), np.uint8)
    return TrainingItems(lambda _: blank, images, config)


@pytest.mark.parametrize(
    ("steps", "batches"),
    [(None, 3 * VIEWS // 5), (2, 2)],
    ids=["whole pass", "two steps"],
)
def test_an_epoch_has_as_many_batches_as_it_should(steps: int | None, batches: int) -> None:
    config = _config(batch_size=5, steps_per_epoch=steps)
    fitting = prepare_fitting(config, make_fabric(config), nn.Conv2d(3, 1, 1), _items(3, config), PLAIN)
    sizes = [len(images) for images, _ in fitting.batches]
    assert sizes == [5] * batches


@pytest.mark.parametrize(
    ("steps", "most"),
    [(3, 1), (None, 2)],
    ids=["short epochs share a pass", "each epoch is a pass of its own"],
)
def test_views_are_seen_equally_often_over_short_epochs_and_none_twice_in_a_whole_pass(
    steps: int | None, most: int, tmp_path: Path
) -> None:
    """Of 24 views two epochs of 12 show each once; two of 20, in batches of 4 or 5, begin anew."""
    run = Fit(config(epochs=2, steps_per_epoch=steps, batch_size=4 if steps else 5), tmp_path)
    run.run()
    views = [[view for epoch, _, view in run.seen if epoch == number] for number in (0, 1)]
    assert all(len(set(epoch)) == len(epoch) for epoch in views)
    assert max(Counter(views[0] + views[1]).values()) == most


def test_a_whole_pass_of_too_few_views_for_one_batch_is_refused() -> None:
    config = _config(batch_size=VIEWS + 1, steps_per_epoch=None)
    with pytest.raises(BadConfig, match=rf"{VIEWS} views, too few for a batch of {VIEWS + 1} in each of 1 process"):
        prepare_fitting(config, make_fabric(config), nn.Conv2d(3, 1, 1), _items(1, config), PLAIN)


def test_convolutions_are_trained_channels_last() -> None:
    config = _config()
    fitting = prepare_fitting(config, make_fabric(config), nn.Conv2d(3, 4, 3), _items(1, config), PLAIN)
    weight = next(fitting.network.parameters())
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_a_predictor_leaves_the_network_in_training() -> None:
    network = nn.Sequential(nn.Conv2d(3, 1, 1), nn.BatchNorm2d(1)).train()
    predictor = best_predictor(network, PLAIN, torch.device("cpu"), precision="bfloat16")
    predictor.predict([np.zeros((32, 32, 3), np.uint8)])
    assert network.training
    assert next(network.parameters()).dtype == torch.float32


def test_the_best_weights_are_read_back(tmp_path: Path) -> None:
    network = nn.Linear(2, 2)
    save_file({"weight": torch.ones(2, 2), "bias": torch.zeros(2)}, tmp_path / BEST)
    assert bool((load_best(tmp_path, network).get_parameter("weight") == 1).all())


@pytest.mark.parametrize("content", [None, b"damaged"])
def test_best_weights_that_are_gone_are_named(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / BEST).write_bytes(content)
    with pytest.raises(BadConfig, match=BEST):
        load_best(tmp_path, nn.Linear(2, 2))


@pytest.mark.parametrize(("has_bfloat16", "expected"), [(True, "bfloat16"), (False, "float32")])
def test_a_network_half_trained_on_a_gpu_is_not_scored_in_float16_which_it_may_overflow(
    has_bfloat16: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before Ampere GPUs have no bfloat16 of their own."""
    monkeypatch.setattr("service.training.fit.gpu_has_bfloat16", lambda: has_bfloat16)
    assert scoring_precision(torch.device("cuda")) == expected
    assert scoring_precision(torch.device("cpu")) in {"bfloat16", "float32"}


def test_the_last_epoch_is_validated_however_rarely_others_are(tmp_path: Path) -> None:
    run = Fit(config(validate_every=7), tmp_path)
    _, progress = run.run()
    assert [record.validation_iou is not None for record in progress.history] == [False, False, False, True]
    assert (run.validations, progress.best_epoch) == (1, 3)
    assert (tmp_path / BEST).exists()


def test_a_network_that_finds_nothing_still_has_a_best_epoch(tmp_path: Path) -> None:
    class Nothing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.tensor(-9.0))

        def forward(self, images: Tensor) -> Tensor:
            return images[:, :1] * 0 + self.bias

    _, progress = Fit(config(learning_rate=1e-6), tmp_path, Nothing()).run()
    assert (progress.best_epoch, progress.best_iou) == (0, 0)
    load_best(tmp_path, Nothing())


def test_coarse_epochs_see_half_the_resolution_and_are_not_validated(tmp_path: Path) -> None:
    network = Network()
    run = Fit(config(coarse_epochs=2), tmp_path, network)
    _, progress = run.run()
    assert network.trained_on == [(2, 3, 16, 16)] * 4 + [(2, 3, 32, 32)] * 4
    assert [record.validation_iou is not None for record in progress.history] == [False, False, True, True]
    assert run.validations == 2
    assert progress.best_epoch >= 2


def _everything(fitting: Fitting) -> dict[str, Tensor]:
    """Return all that the loop changes: weights, statistics, moments, average."""
    tensors = {f"network.{name}": tensor for name, tensor in fitting.network.state_dict().items()}
    for index, values in fitting.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in values.items()}
    if fitting.average is not None:
        tensors |= {f"average.{name}": tensor for name, tensor in fitting.average.network.state_dict().items()}
    return tensors


@pytest.mark.parametrize("changes", [{}, {"average": 0.9}, {"average": 0.9, "coarse_epochs": 2}], ids=str)
def test_an_interrupted_run_ends_exactly_as_an_undisturbed_one(tmp_path: Path, changes: dict[str, object]) -> None:
    """With dropout in the network, so that its randomness is resumed, too."""

    def interrupt(progress: Progress) -> None:
        if progress.next_epoch == 2:
            raise KeyboardInterrupt

    for name in ("undisturbed", "disturbed"):
        (tmp_path / name).mkdir()
    undisturbed, progress = Fit(config(**changes), tmp_path / "undisturbed").run()
    with pytest.raises(KeyboardInterrupt):
        Fit(config(**changes), tmp_path / "disturbed", on_epoch=interrupt).run()
    torch.manual_seed(1)
    resumed, resumed_progress = Fit(config(**changes), tmp_path / "disturbed").run()
    for name, tensor in _everything(undisturbed).items():
        assert torch.equal(tensor, _everything(resumed)[name]), name
    assert [(r.loss, r.validation_iou) for r in resumed_progress.history] == [
        (r.loss, r.validation_iou) for r in progress.history
    ]
    assert (tmp_path / "disturbed" / BEST).read_bytes() == (tmp_path / "undisturbed" / BEST).read_bytes()


def test_of_a_run_with_an_average_the_average_is_kept(tmp_path: Path) -> None:
    fitting, _ = Fit(config(average=0.9, validate_every=4), tmp_path).run()
    assert fitting.average is not None
    kept = load_best(tmp_path, Network()).state_dict()
    for name, tensor in fitting.average.network.state_dict().items():
        assert torch.equal(kept[name], tensor), name
    weight = "layers.0.weight"
    assert not torch.equal(kept[weight], fitting.network.state_dict()[weight])


@pytest.mark.parametrize("average", [0.9, 0.0])
def test_what_is_validated_is_what_is_kept(average: float, tmp_path: Path) -> None:
    """The average of the weights, where there is one, and not the weights of the moment."""
    tile, cpu = pair(5)[0], torch.device("cpu")
    seen: list[bytes] = []

    class Shown(Fit):
        def _validate(self, predict: Predict) -> Sequence[ImageScore]:
            seen.append(predict([tile])[0].tobytes())
            return super()._validate(predict)

    fitting, _ = Shown(config(average=average, epochs=1, learning_rate=0.1), tmp_path).run()
    kept, of_the_moment = (
        best_predictor(network, PLAIN, cpu, precision=scoring_precision(cpu)).predict([tile])[0].tobytes()
        for network in (load_best(tmp_path, Network()), fitting.network)
    )
    assert seen == [kept]
    assert (kept == of_the_moment) == (not average)


class Greedy(nn.Module):
    """Fails in training, or else in validation."""

    def __init__(self, error: Exception, *, in_training: bool) -> None:
        super().__init__()
        self.layer, self.error, self.in_training = nn.Conv2d(3, 1, 1), error, in_training

    def forward(self, images: Tensor) -> Tensor:
        if self.training == self.in_training:
            raise self.error
        logits: Tensor = self.layer(images)
        return logits


NO_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    MemoryError(),
]


@pytest.mark.parametrize("error", NO_MEMORY, ids=["cuda", "cpu", "cublas", "python"])
@pytest.mark.parametrize(
    ("in_training", "advice"), [(True, "smaller --batch-size or --crop"), (False, "in validation.*smaller --input")]
)
def test_out_of_memory_is_answered_with_what_needs_less(
    tmp_path: Path, error: Exception, in_training: bool, advice: str
) -> None:
    with pytest.raises(BadConfig, match=f"out of memory on cpu.*{advice}"):
        Fit(config(), tmp_path, Greedy(error, in_training=in_training)).run()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("in_training", [True, False])
def test_what_is_no_lack_of_memory_is_not_taken_for_one(tmp_path: Path, in_training: bool) -> None:
    with pytest.raises(RuntimeError, match="sizes differ"):
        Fit(config(), tmp_path, Greedy(RuntimeError("sizes differ"), in_training=in_training)).run()


def test_a_network_that_answers_with_no_numbers_in_validation_ends_the_run_with_advice(tmp_path: Path) -> None:
    answers = EngineFailed("the network answered with NaN")
    with pytest.raises(BadConfig, match="NaN after epoch 1: start anew with a smaller --learning-rate"):
        Fit(config(), tmp_path, Greedy(answers, in_training=False)).run()


class Scored(Fit):
    """A run whose validations give what is wished for."""

    ious: Sequence[float] = ()

    def _validate(self, predict: Predict) -> Sequence[ImageScore]:  # noqa: ARG002, as the base class
        self.validations += 1
        return [ImageScore("validation", Agreement(iou=self.ious[self.validations - 1], accuracy=0.5, dice=0.5), 0.5)]


def _scored(folder: Path, *ious: float, epochs: int, **changes: object) -> Progress:
    run = Scored(config(epochs=epochs, schedule="exponential", **changes), folder)
    run.ious = ious
    return run.run()[1]


def test_a_state_that_cannot_be_written_leaves_the_best_weights_that_it_speaks_of(tmp_path: Path) -> None:
    _scored(tmp_path, 0.5, epochs=1)
    best = (tmp_path / BEST).read_bytes()
    between = (len(best) + (tmp_path / STATE).stat().st_size) // 2
    with no_file_above(between), pytest.raises(OSError, match="too large"):
        _scored(tmp_path, 0.9, epochs=2)
    assert (tmp_path / BEST).read_bytes() == best
    progress = _scored(tmp_path, 0.4, epochs=2)
    assert (progress.best_epoch, progress.best_iou) == (0, 0.5)
    assert (tmp_path / BEST).read_bytes() == best


@pytest.mark.parametrize("changes", [{}, {"average": 0.9}], ids=str)
def test_best_weights_that_a_killed_run_did_not_come_to_write_are_written_when_it_goes_on(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    _scored(tmp_path, 0.5, epochs=1, **changes)
    before = (tmp_path / BEST).read_bytes()
    _scored(tmp_path, 0.9, epochs=2, **changes)
    best = (tmp_path / BEST).read_bytes()
    assert best != before
    (tmp_path / BEST).write_bytes(before)
    progress = _scored(tmp_path, 0.1, epochs=3, **changes)
    assert (progress.best_epoch, progress.best_iou) == (1, 0.9)
    assert (tmp_path / BEST).read_bytes() == best


def test_a_full_disk_leaves_the_state_and_the_best_weights_of_the_epoch_before(tmp_path: Path) -> None:
    Fit(config(epochs=1), tmp_path).run()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with no_file_above(100), pytest.raises(OSError, match="too large"):
        Fit(config(epochs=2), tmp_path).run()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    _, progress = Fit(config(epochs=2), tmp_path).run()
    assert progress.next_epoch == 2
