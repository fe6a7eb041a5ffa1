"""Every knob of the server: read once from `ALNET_*` environment variables, then frozen.

The only module that reads the environment for a server. Field names are the variables' names without the prefix, in
lower case.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.errors import BadSettings

PREFIX = "ALNET_"
MAY_BE_EMPTY = {"modalities", "cors_origins"}
"""For other settings an empty value would mean something: the current folder, or every network interface."""
Megapixels = Annotated[float, Field(gt=0, le=1000)]


class Settings(BaseModel):
    """How one server runs. Frozen; `read` makes one from an environment."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    store: Path = Field(Path("model_store"), description="Folder of checkpoints: <modality>/<version>/.")
    modalities: str = Field("", description="Comma-separated modalities to serve; empty: all that the store has.")
    store_poll_s: float = Field(
        5.0, ge=0, le=3600, description="Time between looks at the store for other versions, s; 0: only at the start."
    )
    engine: Literal["auto", "torch", "cuda-graphs", "openvino"] = Field(
        "auto", description="What runs the networks; auto: the fastest that is installed and answers like float32."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where the networks run; auto: on a CUDA GPU if there is one."
    )
    precision: Literal["auto", "float32", "bfloat16", "float16", "int8"] = Field(
        "auto", description="Arithmetic of the networks; auto: the fastest that answers like float32."
    )
    threads: int = Field(0, ge=0, le=256, description="CPU threads of the networks; 0: one for each core.")
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 picks a free one and logs it.")
    max_batch_size: int = Field(8, ge=1, le=256, description="Most tiles in one batch.")
    max_batch_wait_ms: float = Field(
        4.0, ge=0, le=1000, description="Upper limit of the wait for batch mates, ms; how long is learned."
    )
    max_queued: int = Field(64, ge=1, le=100_000, description="Uploads waiting in one modality before 429.")
    max_upload_mib: float = Field(32.0, gt=0, le=4096, description="Largest request body, MiB.")
    max_bodies_mib: float = Field(
        512.0, gt=0, le=100_000, description="Request bodies of all callers held at a time, MiB, before 429."
    )
    max_image_megapixels: Megapixels = Field(40.0, description="Largest image, megapixels; checked from its header.")
    decode_threads: int = Field(
        0,
        ge=0,
        le=256,
        description="Threads that decode and encode; 0: one for each core. Large images have one fewer of their own.",
    )
    request_timeout_s: float = Field(30.0, gt=0, le=3600, description="Longest time from arrival to answer, s.")
    upload_timeout_s: float = Field(30.0, gt=0, le=3600, description="Longest time for a request body to arrive, s.")
    drain_timeout_s: float = Field(
        25.0, ge=0, le=3600, description="Longest time to answer what is queued after SIGTERM, s."
    )
    lame_duck_s: float = Field(
        0.0, ge=0, le=3600, description="Least time after SIGTERM to go on listening, with /readyz at 503, s."
    )
    api_keys: str = Field("", description="File of API keys, made by `alnet keys new`; without one, no key is needed.")
    metrics_access: Literal["open", "key"] = Field(
        "open", description="Whether /metrics needs a key too, once there are API keys."
    )
    rate_limit: int = Field(
        0, ge=0, le=100_000, description="Requests a minute for each key (without keys: client address); 0: no limit."
    )
    rate_burst: int = Field(
        0, ge=0, le=100_000, description="Requests that may come at once; 0: as many as in a minute."
    )
    cors_origins: str = Field(
        "",
        description="Comma-separated origins whose pages may call from a browser, or *; empty: only the service's own.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lowest level that is logged.")

    @property
    def max_pixels(self) -> int:
        """Most pixels of an image."""
        return int(self.max_image_megapixels * 1_000_000)

    @property
    def max_upload_bytes(self) -> int:
        """Most bytes of a request's body."""
        return int(self.max_upload_mib * 2**20)

    @property
    def max_bodies_bytes(self) -> int:
        """Most bytes of all bodies that are held at a time; there is always room for one."""
        return max(int(self.max_bodies_mib * 2**20), self.max_upload_bytes)

    @classmethod
    def read(cls, environ: Mapping[str, str] = os.environ, **given: object) -> "Settings":
        """Return the settings in `environ`; those that are `given` as well (and not None) win.

        Raises:
            BadSettings: a value is empty or out of its range, or a variable that begins with ALNET_ is not a setting.
        """
        values: dict[str, object] = {
            name.removeprefix(PREFIX).lower(): value for name, value in environ.items() if name.startswith(PREFIX)
        }
        values.pop("test_data", None)  # ALNET_TEST_DATA is the test suite's own
        if unknown := sorted(set(values) - set(cls.model_fields)):
            names = ", ".join(PREFIX + name.upper() for name in unknown)
            raise BadSettings(f"unknown setting {names}; `alnet serve --help` lists those that exist")
        values |= {name: value for name, value in given.items() if value is not None}
        if empty := sorted(name for name, value in values.items() if value == "" and name not in MAY_BE_EMPTY):
            names = ", ".join(PREFIX + name.upper() for name in empty)
            raise BadSettings(f"{names} is set, but empty; give it a value or unset it")
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            name = PREFIX + str(first["loc"][0]).upper()
            raise BadSettings(f"{name}={first['input']!r}: {first['msg']}") from error
