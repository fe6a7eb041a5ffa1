"""The soak, made short: it passes with a sound server, and fails with one that leaks."""

from dataclasses import replace

import pytest

from tests.soak.soak import main
from tests.soak.vitals import MOST_GROWTH, MOST_GROWTH_MIB, Vitals, growth

pytestmark = pytest.mark.timed

SHORT = ["--seconds", "11", "--warm-up-s", "5", "--upload-timeout-s", "3", "--requests", "50"]
"""Callers who stall hear so after the timeout, and each part of a soak lasts until the last of them has heard."""

VITALS = Vitals(memory_mib=290, peak_mib=300, files=14, threads=9, tasks=7)


@pytest.mark.slow
def test_a_sound_server_passes(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(SHORT)
    printed = capsys.readouterr().out
    assert "FAULT" not in printed
    assert code == 0


@pytest.mark.slow
def test_a_server_that_leaks_fails(capsys: pytest.CaptureFixture[str]) -> None:
    code = main([*SHORT, "--leak", "memory", "files", "threads", "tasks"])
    printed = capsys.readouterr().out
    assert code == 1
    for what in ("memory", "files", "threads", "tasks"):
        assert f"FAULT: {what} grew by" in printed


def test_memory_may_grow_a_little_but_not_more() -> None:
    assert growth(VITALS, replace(VITALS, peak_mib=VITALS.peak_mib + MOST_GROWTH_MIB)) == []
    assert growth(VITALS, replace(VITALS, peak_mib=VITALS.peak_mib + MOST_GROWTH_MIB + 1)) != []


@pytest.mark.parametrize(("name", "most"), MOST_GROWTH.items())
def test_more_of_anything_that_is_counted_is_a_leak(name: str, most: int) -> None:
    assert growth(VITALS, replace(VITALS, **{name: getattr(VITALS, name) + most})) == []
    assert growth(VITALS, replace(VITALS, **{name: getattr(VITALS, name) + most + 1})) == [f"{name} grew by {most + 1}"]
    assert growth(VITALS, replace(VITALS, **{name: getattr(VITALS, name) - 1})) == []
