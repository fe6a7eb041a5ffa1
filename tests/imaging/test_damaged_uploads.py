"""A damaged file either decodes or is refused with one of our errors: no other exception, no warning, no crash."""

import random
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import BadUpload
from service.imaging.decode import decode, decode_mask
from service.imaging.opening import SIGNATURES
from tests.imaging.pictures import damage, samples

LIMIT = 1_000_000


def decode_or_be_refused(upload: bytes, frame: int | None) -> None:
    """Read `upload` both ways; whatever is raised but a BadUpload fails the test, and so does a warning."""
    for read in (decode, decode_mask):
        with suppress(BadUpload):
            read(upload, max_pixels=LIMIT, frame=frame)


@pytest.fixture(scope="module")
def pictures() -> dict[str, list[bytes]]:
    return samples(seed=1)


@pytest.mark.parametrize("format_", [name.lower() for name in SIGNATURES])
def test_whole_files_decode(pictures: dict[str, list[bytes]], format_: str) -> None:
    for upload in pictures[format_]:
        assert decode(upload, max_pixels=LIMIT, frame=0).format == format_


@pytest.mark.parametrize("format_", [name.lower() for name in SIGNATURES])
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), frame=st.sampled_from([None, 0, 1]))
def test_damaged_files_decode_or_are_refused(
    pictures: dict[str, list[bytes]], format_: str, seed: int, frame: int | None
) -> None:
    rng = random.Random(seed)
    upload = damage(rng.choice(pictures[format_]), rng.choice(pictures[format_]), rng)
    decode_or_be_refused(upload, frame)


@settings(max_examples=150, deadline=None)
@given(
    start=st.sampled_from([start for starts in SIGNATURES.values() for start in starts]), rest=st.binary(max_size=400)
)
def test_bytes_that_only_begin_like_an_image_are_refused_or_decode(start: bytes, rest: bytes) -> None:
    decode_or_be_refused(start + rest, frame=None)
