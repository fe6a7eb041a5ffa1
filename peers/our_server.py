"""Our server with the fake engine and the limits that all servers here have."""

import os
import sys

from peers.fake_engine import FakeEngine
from peers.options import BATCH_SIZE, QUEUE, Options
from service.api.server import serve
from service.settings import Settings
from service.store.model_store import ModelStore


def main() -> int:
    """Serve until a signal ends it; return the exit code."""
    options = Options.read(os.environ)
    settings = Settings.read(
        {}, port=options.port, max_batch_size=BATCH_SIZE, max_queued=QUEUE, request_timeout_s=options.timeout_s
    )
    card = ModelStore(options.store).current(options.modality).card
    return serve(settings, {options.modality: FakeEngine(card, options.seen)})


if __name__ == "__main__":
    sys.exit(main())
