"""The servers that are compared: how each is started, and where it takes uploads."""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from peers.environments import REQUIREMENTS, ROOT, install, pinned
from peers.options import BATCH_SIZE, MAX_UPLOAD_BYTES, QUEUE, Options

SILENCE = {"BENTOML_DO_NOT_TRACK": "1", "RAY_USAGE_STATS_ENABLED": "0"}
"""None of them may send statistics anywhere."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """One server. `package` None: it runs in this project's own environment; else it has one of the name `name`.

    `command` gets the interpreter and the options; `path` is where uploads are POSTed, with {modality} to be filled in.
    With `takes_deadlines` a request may say how long it has; else there is at most one limit for all of them.
    """

    name: str
    title: str
    package: str | None
    command: Callable[[Path, Options], list[str]]
    path: str = "/segment"
    takes_deadlines: bool = False

    @property
    def label(self) -> str:
        """Its name and version, for a table."""
        if self.package is None:
            return self.title
        version = pinned((REQUIREMENTS / f"{self.name}.txt").read_text())[self.package]
        return f"{self.title} {version}"

    def python(self) -> Path:
        """Return its interpreter, with everything that it needs installed. Raises NotInstalled."""
        return Path(sys.executable) if self.package is None else install(self.name)

    def url(self, options: Options) -> str:
        """Return the URL to which uploads are POSTed."""
        return f"http://127.0.0.1:{options.port}{self.path.format(modality=options.modality)}"


def environ_of(options: Options) -> Mapping[str, str]:
    """Return the environment of a server: this process's, without settings of our server that happen to be there."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ALNET_")}
    ours = {
        "ALNET_PORT": str(options.port),
        "ALNET_STORE": str(options.store.resolve()),
        "ALNET_MODALITIES": options.modality,
        "ALNET_MAX_QUEUED": str(QUEUE),
        "ALNET_MAX_BATCH_SIZE": str(BATCH_SIZE),
        "ALNET_REQUEST_TIMEOUT_S": str(options.timeout_s),
    }
    path = os.pathsep.join(filter(None, [str(ROOT), inherited.get("PYTHONPATH")]))
    return inherited | SILENCE | options.environ | ours | {"PYTHONPATH": path}


def _ours(python: Path, options: Options) -> list[str]:
    if options.engine == "fake":
        return [str(python), "-m", "peers.our_server"]
    return [str(python), "-m", "service.cli", "serve"]


def _module(name: str) -> Callable[[Path, Options], list[str]]:
    return lambda python, _options: [str(python), "-m", name]


def _mosec(python: Path, options: Options) -> list[str]:
    return [
        *(str(python), "-m", "peers.mosec_server"),
        *("--address", "127.0.0.1", "--port", str(options.port)),
        *("--capacity", str(QUEUE + BATCH_SIZE), "--timeout", str(round(1000 * options.timeout_s))),
        *("--max-request-size", str(MAX_UPLOAD_BYTES), "--log-level", "warning"),
    ]


def _bentoml(python: Path, options: Options) -> list[str]:
    return [
        *(str(python), "-m", "bentoml", "serve", "peers.bentoml_server:SegmentService"),
        *("--host", "127.0.0.1", "--port", str(options.port), "--timeout-graceful-shutdown", "30"),
    ]


OURS = Contestant("ours", "alnet-service", None, _ours, path="/segment/{modality}", takes_deadlines=True)
PLAIN = Contestant("plain", "plain FastAPI handler", "fastapi", _module("peers.plain_server"))
LITSERVE = Contestant("litserve", "LitServe", "litserve", _module("peers.litserve_server"))
BENTOML = Contestant("bentoml", "BentoML", "bentoml", _bentoml)
RAY = Contestant("ray", "Ray Serve", "ray", _module("peers.ray_server"))
MOSEC = Contestant("mosec", "mosec", "mosec", _mosec)

CONTESTANTS = {one.name: one for one in (OURS, PLAIN, LITSERVE, BENTOML, RAY, MOSEC)}
"""In the order in which they run."""
