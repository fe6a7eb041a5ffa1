"""mosec: three stages, each a process of its own, with batches in the middle one."""

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mosec import Server, ValidationError, Worker

from peers.options import BATCH_SIZE, BATCH_WAIT_S, Options
from peers.work import Network, Pixels, ProbabilityMap
from service.engine.image_work import Prepared
from service.errors import BadUpload

Answer = tuple[Prepared, list[ProbabilityMap]]


class Decode(Worker):
    """Upload to tiles."""

    def __init__(self) -> None:
        super().__init__()
        self._pixels = Pixels.of(Options.read(os.environ))

    def deserialize(self, data: bytes) -> bytes:
        """Return the body, of which mosec gives a view, as bytes."""
        return bytes(data)

    def forward(self, data: bytes) -> Prepared:
        """Return one upload, decoded."""
        try:
            return self._pixels.decode(data)
        except BadUpload as error:
            raise ValidationError(str(error)) from error


class Predict(Worker):
    """Tiles to maps, in batches."""

    def __init__(self) -> None:
        super().__init__()
        self._network = Network.of(Options.read(os.environ), largest_batch=BATCH_SIZE)

    def forward(self, data: Sequence[Prepared]) -> list[Answer]:
        """Run one batch."""
        maps = self._network.run([prepared.tiles for prepared in data])
        return [(without_tiles(prepared), own) for prepared, own in zip(data, maps, strict=True)]


class Encode(Worker):
    """Maps to PNG."""

    resp_mime_type = "image/png"

    def __init__(self) -> None:
        super().__init__()
        self._pixels = Pixels.of(Options.read(os.environ))

    def forward(self, data: Answer) -> bytes:
        """Return one answer as PNG."""
        return self._pixels.encode(*data)

    def serialize(self, data: Any) -> bytes:
        """Return the PNG as it is."""
        return bytes(data)


def without_tiles(prepared: Prepared) -> Prepared:
    """Return what encoding needs, so that the tiles are not copied to the next process."""
    return replace(prepared, tiles=[])


def main() -> None:
    """Serve until a signal ends it; port, queue and time limit come on the command line, as mosec wants them."""
    server = Server()
    wait_ms = round(1000 * BATCH_WAIT_S)
    beside = max(1, (os.cpu_count() or 1) // 2)  # it decodes in processes, and encodes in others
    server.append_worker(Decode, num=beside, route="/segment")
    server.append_worker(Predict, num=1, max_batch_size=BATCH_SIZE, max_wait_time=wait_ms, route="/segment")
    server.append_worker(Encode, num=beside, route="/segment")
    server.run()


if __name__ == "__main__":
    main()
