"""How one server of the comparison is to run: handed to its processes in PEERS_ variables, which reach all of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

BATCH_SIZE = 8
BATCH_WAIT_S = 0.004
QUEUE = 64
"""Uploads that may wait; beside them BATCH_SIZE may be under way."""

MAX_PIXELS = 40_000_000
MAX_UPLOAD_BYTES = 32 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """One server's port, checkpoint and limits.

    `engine` "fake" stands for a FakeEngine that notes what it is given in the file `seen`; a real one leaves there
    where it runs. `timeout_s` is the longest time that a request may take; servers without such a limit do not look
    at it.
    """

    port: int
    store: Path
    modality: str
    engine: Literal["real", "fake"] = "real"
    timeout_s: float = 30.0
    seen: Path = Path("/dev/null")

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Self:
        """Return the options that `environ` holds. Raises KeyError if one is missing, ValueError if it is no number."""
        engine: Literal["real", "fake"] = "fake" if environ["PEERS_ENGINE"] == "fake" else "real"
        return cls(
            port=int(environ["PEERS_PORT"]),
            store=Path(environ["PEERS_STORE"]),
            modality=environ["PEERS_MODALITY"],
            engine=engine,
            timeout_s=float(environ["PEERS_TIMEOUT_S"]),
            seen=Path(environ["PEERS_SEEN"]),
        )

    @property
    def environ(self) -> dict[str, str]:
        """The variables from which `read` makes these options again."""
        return {
            "PEERS_PORT": str(self.port),
            "PEERS_STORE": str(self.store.resolve()),
            "PEERS_MODALITY": self.modality,
            "PEERS_ENGINE": self.engine,
            "PEERS_TIMEOUT_S": str(self.timeout_s),
            "PEERS_SEEN": str(self.seen.resolve()),
        }
