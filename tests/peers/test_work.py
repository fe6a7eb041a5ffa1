"""The fake engine and the work around it."""

from pathlib import Path

import numpy as np
import pytest

from peers.cases import LATE, VANISHED
from peers.fake_engine import BATCH_S, BLACK, POISON, SLOW, SLOW_S, Colour, FakeEngine, times_run
from peers.options import Options
from peers.pictures import GOOD, Malformed, flat, malformed
from peers.work import Network, Pixels, Tile
from service.errors import BadUpload, EngineFailed
from tests.doubles import fake_engine_card, read_png


def tile(colour: Colour) -> Tile:
    return np.full((64, 64, 3), colour, np.uint8)


def test_options_come_through_the_environment_as_they_were(tmp_path: Path) -> None:
    options = Options(port=1, store=tmp_path, modality="skin", engine="fake", timeout_s=0.3, seen=tmp_path / "seen")
    assert Options.read(options.environ) == options


def test_the_fake_engine_counts_what_it_is_given_also_what_it_fails_on(tmp_path: Path) -> None:
    engine = FakeEngine(fake_engine_card(), tmp_path / "seen")
    engine.predict([tile(GOOD), tile(GOOD)])
    with pytest.raises(EngineFailed):
        engine.predict([tile(GOOD), tile(POISON)])
    assert times_run(tmp_path / "seen", GOOD) == 3
    assert times_run(tmp_path / "seen", POISON) == 1


def test_the_fake_engine_takes_its_time_but_not_for_warm_up(tmp_path: Path) -> None:
    slept: list[float] = []
    engine = FakeEngine(fake_engine_card(), tmp_path / "seen", sleep=slept.append)
    for colour in (BLACK, GOOD, SLOW):
        engine.predict([tile(colour)])
    assert slept == [BATCH_S, SLOW_S]
    assert times_run(tmp_path / "seen", BLACK) == 0


def test_maps_of_one_batch_go_back_to_their_uploads(tmp_path: Path) -> None:
    network = Network(FakeEngine(fake_engine_card(), tmp_path / "seen"), largest_batch=2)
    maps = network.run([[tile((0, 1, 0)), tile((0, 2, 0))], [tile((0, 3, 0))]])
    assert [[map_[0, 0] for map_ in own] for own in maps] == [[1, 2], [3]]


@pytest.mark.parametrize("colour", [GOOD, POISON, SLOW, VANISHED, LATE])
def test_a_flat_picture_keeps_the_colour_by_which_it_is_counted_up_to_the_engine(
    colour: Colour, tmp_path: Path
) -> None:
    prepared = Pixels(FakeEngine(fake_engine_card(), tmp_path / "seen").card).decode(flat(colour))
    assert (prepared.tiles[0] == colour).all()  # a dark one would be made lighter


def test_a_flat_picture_becomes_a_whole_mask(tmp_path: Path) -> None:
    pixels = Pixels(FakeEngine(fake_engine_card(), tmp_path / "seen").card)
    prepared = pixels.decode(flat(GOOD))
    mask = read_png(pixels.encode(prepared, [np.full((64, 64), 200, np.uint8)]))
    assert mask.shape == (64, 64)
    assert (mask == 255).all()


@pytest.mark.parametrize("request_", [one for one in malformed() if not one.headers], ids=lambda one: one.name)
def test_malformed_bodies_cannot_be_decoded(request_: Malformed, tmp_path: Path) -> None:
    pixels = Pixels(FakeEngine(fake_engine_card(), tmp_path / "seen").card)
    with pytest.raises(BadUpload):
        pixels.decode(request_.body)
