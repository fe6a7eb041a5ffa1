"""The memory for bodies: taken as they arrive, given back with the answer."""

from contextlib import suppress

import pytest

from service.api.body_memory import BodyMemory
from service.errors import Overloaded


def test_what_an_upload_took_is_given_back_at_its_end_however_it_ends() -> None:
    memory = BodyMemory(10)
    with memory.upload() as take:
        take(4)
        take(6)
    with suppress(ValueError), memory.upload() as take:
        take(10)
        raise ValueError("broken")
    with memory.upload() as take:
        take(10)


def test_all_uploads_together_hold_no_more_than_the_memory_that_there_is() -> None:
    memory = BodyMemory(10)
    with memory.upload() as take_first, memory.upload() as take_second:
        take_first(8)
        with pytest.raises(Overloaded, match="try again") as refused:
            take_second(3)
        assert refused.value.retry_after_s >= 1
        take_second(2)
        with pytest.raises(Overloaded):
            take_first(1)
