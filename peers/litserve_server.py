"""LitServe: decode, predict and encode as its LitAPI has them, batched by its own loop."""

import os
from collections.abc import Sequence
from typing import Annotated

import litserve
from fastapi import Body, HTTPException, Response

from peers.options import BATCH_SIZE, BATCH_WAIT_S, MAX_UPLOAD_BYTES, Options
from peers.work import Network, Pixels, ProbabilityMap
from service.engine.image_work import Prepared
from service.errors import BadUpload

Answer = tuple[Prepared, list[ProbabilityMap]]

WORKERS = 1
"""Processes that decode, predict and encode. Each has an engine of its own, which uses all cores by itself."""


class SegmentAPI(litserve.LitAPI):
    """The hooks that LitServe calls in its worker process, in the order in which they stand here."""

    def setup(self, device: str) -> None:  # noqa: ARG002 -- the engine picks its device itself, alike for all
        """Build what a worker needs."""
        options = Options.read(os.environ)
        self._pixels, self._network = Pixels.of(options), Network.of(options, largest_batch=BATCH_SIZE)

    def decode_request(self, request: Annotated[bytes, Body(media_type="image/png")]) -> Prepared:
        """Return one upload, decoded."""
        try:
            return self._pixels.decode(request)
        except BadUpload as error:
            raise HTTPException(422, str(error)) from error

    def batch(self, inputs: Sequence[Prepared]) -> Sequence[Prepared]:
        """Return the batch as it is: the network takes lists."""
        return inputs

    def predict(self, x: Sequence[Prepared]) -> list[Answer]:
        """Run one batch."""
        maps = self._network.run([prepared.tiles for prepared in x])
        return list(zip(x, maps, strict=True))

    def unbatch(self, output: list[Answer]) -> list[Answer]:
        """Return the batch as it is."""
        return output

    def encode_response(self, output: Answer) -> Response:
        """Return one answer as PNG."""
        return Response(self._pixels.encode(*output), media_type="image/png")


def main() -> None:
    """Serve until a signal ends it."""
    options = Options.read(os.environ)
    server = litserve.LitServer(
        SegmentAPI(max_batch_size=BATCH_SIZE, batch_timeout=BATCH_WAIT_S, api_path="/segment"),
        accelerator="cpu",
        workers_per_device=WORKERS if options.engine == "real" else 1,  # a fake engine stands for the one device
        timeout=options.timeout_s,
        max_payload_size=MAX_UPLOAD_BYTES,
        fast_queue=True,
    )
    server.run(
        host="127.0.0.1",
        port=options.port,
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main()
