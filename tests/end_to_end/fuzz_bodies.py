"""What Schemathesis sends where the OpenAPI document says that a body is an image: sound ones, damaged ones, no images.

A hook of Schemathesis' command line, which imports it before it draws anything; see test_fuzz_contract.py.
"""

import random

import schemathesis
from hypothesis import strategies

from service.api.openapi import IMAGE_TYPES
from tests.imaging.pictures import damage, samples

SOUND = strategies.sampled_from([picture for pictures in samples(seed=0).values() for picture in pictures])
ACCIDENTS = strategies.integers(0, 2**32).map(random.Random)
DAMAGED = strategies.builds(damage, SOUND, SOUND, ACCIDENTS)

for media_type in IMAGE_TYPES:
    schemathesis.openapi.media_type(media_type, SOUND | DAMAGED | strategies.binary())
