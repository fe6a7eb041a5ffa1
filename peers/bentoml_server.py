"""BentoML: one service for HTTP and pixels, and behind it one for the network, with BentoML's adaptive batching."""

import asyncio
import os
from http import HTTPStatus
from pathlib import Path
from typing import Annotated

import bentoml
import numpy as np
from bentoml.exceptions import BentoMLException
from bentoml.validators import ContentType
from numpy.typing import NDArray

from peers.options import BATCH_SIZE, QUEUE, Options
from peers.work import Network, Pixels
from service.errors import BadUpload

OPTIONS = Options.read(os.environ)
QUIET = {"access": {"enabled": False}}


@bentoml.service(name="network", workers=1, traffic={"timeout": OPTIONS.timeout_s}, logging=QUIET)
class NetworkService:
    """The network, in a process of its own."""

    def __init__(self) -> None:
        self._network = Network.of(OPTIONS, largest_batch=BATCH_SIZE)

    @bentoml.api(batchable=True, max_batch_size=BATCH_SIZE)
    def predict(self, tiles: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return maps, uint8 (N, h, w), for tiles of uint8 (N, h, w, 3)."""
        [maps] = self._network.run([list(tiles)])
        return np.stack(maps)


@bentoml.service(
    name="segment",
    workers=1,
    traffic={"timeout": OPTIONS.timeout_s, "max_concurrency": QUEUE + BATCH_SIZE},
    logging=QUIET,
)
class SegmentService:
    """Decodes, asks the network's service, encodes."""

    network = bentoml.depends(NetworkService)

    def __init__(self) -> None:
        self._pixels = Pixels.of(OPTIONS)

    @bentoml.api(route="/segment")
    async def segment(
        self, image: Annotated[Path, ContentType("image/*")], /
    ) -> Annotated[bytes, ContentType("image/png")]:
        """Return the mask of the image that is the request's body."""
        try:
            prepared = await asyncio.to_thread(lambda: self._pixels.decode(image.read_bytes()))
        except BadUpload as error:
            raise BentoMLException(str(error), error_code=HTTPStatus.UNPROCESSABLE_ENTITY) from error
        maps = await self.network.to_async.predict(np.stack(prepared.tiles))
        return await asyncio.to_thread(self._pixels.encode, prepared, list(maps))
