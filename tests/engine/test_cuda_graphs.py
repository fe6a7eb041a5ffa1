"""How the lanes of a GPU are used, shown without one: order, reuse, errors, and what a recording must answer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from service.engine.cuda_graphs import GraphPredictor, Lane, Recording
from service.errors import EngineFailed
from tests.doubles import draw

Pixels = NDArray[np.uint8]

PICTURE = draw(0, 32, 32)
UNFIT = 66
"""The red of a tile's first pixel on which a lane fails as it is told to."""


@dataclass
class Bench:
    """Lanes on which the red of a tile is its answer. `recorded` and `begun` list sizes with the number of the lane.

    `spoils` changes the answers of one lane and size.
    """

    fails_to_begin: bool = False
    spoils: tuple[int, int] | None = None
    spoil: str = ""
    recorded: list[tuple[int, int]] = field(default_factory=list)
    begun: list[tuple[int, int]] = field(default_factory=list)
    at_a_time: list[int] = field(default_factory=list)
    busy: set[int] = field(default_factory=set)

    def predictor(self, lanes: int = 2) -> GraphPredictor:
        return GraphPredictor([self._lane(number) for number in range(lanes)], PICTURE, torch.device("cpu"))

    def _lane(self, lane: int) -> Lane:
        def record(size: int) -> Recording:
            assert not self.busy, "a recording is made while something runs"
            self.recorded.append((lane, size))
            return FakeRecording(self, lane, size)

        return record


@dataclass
class FakeRecording:
    """Its buffers are written when it begins, and read when it ends."""

    bench: Bench
    lane: int
    size: int
    tiles: list[Pixels] = field(default_factory=list)

    def begin(self, tiles: Sequence[Pixels]) -> None:
        assert self.lane not in self.bench.busy, "its buffers are still in use"
        assert len(tiles) == self.size
        if self.bench.fails_to_begin and any(tile[0, 0, 0] == UNFIT for tile in tiles):
            raise RuntimeError("no pinned memory")
        self.bench.busy.add(self.lane)
        self.bench.begun.append((self.lane, self.size))
        self.bench.at_a_time.append(len(self.bench.busy))
        self.tiles = [tile.copy() for tile in tiles]

    def end(self) -> tuple[list[Pixels], float]:
        self.settle()
        answers = [tile[..., 0] for tile in self.tiles]
        if self.bench.spoils == (self.lane, self.size):
            answers = SPOILT[self.bench.spoil](answers)
        return answers, float("nan") if any(tile[0, 0, 0] == UNFIT for tile in self.tiles) else 1.0

    def settle(self) -> None:
        self.bench.busy.discard(self.lane)


SPOILT: dict[str, Callable[[list[Pixels]], list[Pixels]]] = {
    "what was recorded": lambda answers: [np.zeros_like(answer) for answer in answers],
    "another's place": lambda answers: answers[::-1],
    "one image of them": lambda answers: [*answers[:-1], 255 - answers[-1]],
    "a level": lambda answers: [np.where(answer > 127, answer - 1, answer) for answer in answers],
}


def tiles(count: int) -> list[Pixels]:
    return [np.full((32, 32, 3), number, np.uint8) for number in range(count)]


def unfit() -> Pixels:
    return np.full((32, 32, 3), UNFIT, np.uint8)


@pytest.mark.parametrize("lanes", [1, 2, 3])
def test_every_tile_gets_its_answer_in_order_and_no_lane_begins_before_it_has_ended(lanes: int) -> None:
    predictor = Bench().predictor(lanes)
    for count in (0, 1, 7, 25, 32, 3, 33):
        assert [int(answer[0, 0]) for answer in predictor.predict(tiles(count))] == list(range(count))


def test_portions_are_taken_by_the_lanes_in_turn() -> None:
    bench = Bench()
    predictor = bench.predictor()
    predictor.predict(tiles(15))
    bench.begun.clear()
    predictor.predict(tiles(31))
    assert bench.begun == [(0, 8), (1, 8), (0, 8), (1, 4), (0, 2), (1, 1)]


@pytest.mark.parametrize("lanes", [1, 2, 3])
def test_a_portion_is_begun_before_the_answers_of_the_other_lanes_are_waited_for(lanes: int) -> None:
    bench = Bench()
    predictor = bench.predictor(lanes)
    predictor.predict(tiles(8))
    bench.at_a_time.clear()
    predictor.predict(tiles(40))
    assert bench.at_a_time == [min(number, lanes) for number in range(1, 6)]


def test_a_size_is_recorded_once_on_each_lane() -> None:
    bench = Bench()
    predictor = bench.predictor()
    for count in (3, 1, 2, 3, 9):
        predictor.predict(tiles(count))
    assert sorted(bench.recorded) == [(lane, size) for lane in (0, 1) for size in (1, 2, 8)]


def test_nan_is_a_failure_of_the_batch_and_what_ran_beside_it_is_waited_for() -> None:
    bench = Bench()
    predictor = bench.predictor()
    with pytest.raises(EngineFailed, match="NaN"):
        predictor.predict([unfit(), *tiles(24)])
    assert not bench.busy
    assert len(predictor.predict(tiles(25))) == 25


def test_after_a_portion_that_could_not_begin_those_before_it_are_waited_for() -> None:
    bench = Bench(fails_to_begin=True)
    predictor = bench.predictor()
    with pytest.raises(RuntimeError, match="no pinned memory"):
        predictor.predict([*tiles(8), unfit()])
    assert not bench.busy
    assert len(predictor.predict(tiles(25))) == 25


@pytest.mark.parametrize("lane", [0, 1])
@pytest.mark.parametrize("size", [2, 4, 8])
@pytest.mark.parametrize("spoil", ["what was recorded", "another's place", "one image of them"])
def test_a_size_whose_answers_are_not_those_for_single_tiles_is_refused(lane: int, size: int, spoil: str) -> None:
    predictor = Bench(spoils=(lane, size), spoil=spoil).predictor()
    for _ in range(2):
        with pytest.raises(EngineFailed, match=f"portions of {size} are not answered as single images are"):
            predictor.predict(tiles(size))
    assert len(predictor.predict(tiles(1))) == 1


def test_a_second_lane_that_answers_single_tiles_otherwise_is_refused() -> None:
    predictor = Bench(spoils=(1, 1), spoil="what was recorded").predictor()
    with pytest.raises(EngineFailed, match="portions of 1 are not"):
        predictor.predict(tiles(1))


def test_the_rounding_of_other_kernels_is_forgiven() -> None:
    predictor = Bench(spoils=(1, 8), spoil="a level").predictor()
    assert len(predictor.predict(tiles(8))) == 8
