"""A plain FastAPI handler: a `def` route, which FastAPI runs in its threads, and a lock around the network.

What most people write first: no batches, no limit of its queue, no time limit. (uvicorn's `limit_concurrency` would
refuse callers by their open connections, not by their requests.)
"""

import os
import threading
from typing import Annotated

import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request, Response

from peers.options import Options
from peers.work import Network, Pixels
from service.errors import BadUpload


async def read_body(request: Request) -> bytes:
    """Return the request's body."""
    return await request.body()


def create_app(pixels: Pixels, network: Network) -> FastAPI:
    """Return the app; `network` is called by one thread at a time."""
    app = FastAPI()
    lock = threading.Lock()

    @app.post("/segment")
    def segment(body: Annotated[bytes, Depends(read_body)]) -> Response:
        try:
            prepared = pixels.decode(body)
        except BadUpload as error:
            raise HTTPException(422, str(error)) from error
        with lock:
            [maps] = network.run([prepared.tiles])
        return Response(pixels.encode(prepared, maps), media_type="image/png")

    @app.get("/health")
    def health() -> str:
        return "ok"

    return app


def main() -> None:
    """Serve until a signal ends it."""
    options = Options.read(os.environ)
    app = create_app(Pixels.of(options), Network.of(options, largest_batch=1))
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=options.port,
        access_log=False,
        timeout_graceful_shutdown=30,
    )


if __name__ == "__main__":
    main()
