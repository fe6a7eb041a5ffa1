"""Ray Serve: one replica with an HTTP proxy before it; batches by `@serve.batch`."""

import asyncio
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import ray
from ray import serve
from ray.serve.config import BackpressureConfig, HTTPOptions
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from peers.options import BATCH_SIZE, BATCH_WAIT_S, QUEUE, Options
from peers.work import Network, Pixels, ProbabilityMap
from service.engine.image_work import Prepared
from service.errors import BadUpload

CORES = os.cpu_count() or 1


class Segment:
    """Decodes and encodes in threads; the network has a thread of its own."""

    def __init__(self) -> None:
        options = Options.read(os.environ)
        self._pixels = Pixels.of(options)
        self._thread = ThreadPoolExecutor(1)
        self._network = self._thread.submit(Network.of, options, largest_batch=BATCH_SIZE).result()

    async def __call__(self, request: Request) -> Response:
        """Answer one upload."""
        body = await request.body()
        try:
            prepared = await asyncio.to_thread(self._pixels.decode, body)
        except BadUpload as error:
            return PlainTextResponse(str(error), 422)
        maps = await self.predict(prepared)
        png = await asyncio.to_thread(self._pixels.encode, prepared, maps)
        return Response(png, media_type="image/png")

    @serve.batch(max_batch_size=BATCH_SIZE, batch_wait_timeout_s=BATCH_WAIT_S)
    async def predict(self, uploads: list[Prepared]) -> list[list[ProbabilityMap]]:
        """Run one batch."""
        tiles = [prepared.tiles for prepared in uploads]
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._network.run, tiles)


def main() -> None:
    """Serve until a signal ends it: SIGTERM as Ctrl-C, upon which Ray's own `serve run` shuts the replicas down."""
    options = Options.read(os.environ)
    ray.init(num_cpus=CORES, include_dashboard=False)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # Ray's own, set by init, ends the cluster at once
    serve.start(
        http_options=HTTPOptions(host="127.0.0.1", port=options.port, request_timeout_s=options.timeout_s),
        logging_config={"enable_access_log": False},
    )
    deployment = serve.deployment(
        num_replicas=1,
        max_ongoing_requests=2 * BATCH_SIZE,
        max_queued_requests=QUEUE,
        backpressure_config=BackpressureConfig(status_code=429, retry_after_s=1),
        ray_actor_options={"num_cpus": CORES},
    )(Segment)
    try:
        serve.run(deployment.bind(), route_prefix="/segment", blocking=True)
    except KeyboardInterrupt:
        serve.shutdown()


if __name__ == "__main__":
    main()
