"""split.json: how a run split its data, what the data were, and which images its beginnings had seen before."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from service.errors import BadConfig
from service.store.reading import read_regular
from service.training.dataset import Dataset
from service.training.origins import Origin
from service.training.pairs import MAX_FILE_BYTES
from service.training.split import Split

Seen = Mapping[str, tuple[str, ...]]
"""Images that something has learnt from ("train"), or was chosen by ("validation"): see `service.training.leak`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitFile:
    """What split.json holds. Fields with a default are missing in the files of runs from before they existed.

    - `data_digest`, `pairs_digest`, `images`, `pixels`: those of `service.training.dataset.Dataset`.
    - `inherited`: what the run's encoder and its teacher had seen before it began.
    - `begun_with`: the published checkpoints among what these came from; their cards name no images.
    """

    split: Split
    data_digest: str
    pairs_digest: str | None = None
    images: Mapping[str, str] = field(default_factory=dict)
    pixels: Mapping[str, str] = field(default_factory=dict)
    inherited: Seen = field(default_factory=dict)
    begun_with: tuple[Origin, ...] = ()
    code_commit: str = "unknown"

    @classmethod
    def of(
        cls, split: Split, dataset: Dataset, inherited: Seen, code_commit: str, begun_with: tuple[Origin, ...] = ()
    ) -> Self:
        """Return what is to be written for a run that begins."""
        return cls(
            split=split,
            data_digest=dataset.digest,
            pairs_digest=dataset.pairs_digest,
            images=dataset.images,
            pixels=dataset.pixels,
            inherited=inherited,
            begun_with=begun_with,
            code_commit=code_commit,
        )

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return what the file holds.

        Raises:
            OSError: it cannot be read, or is a pipe, which could not be read more than once.
            ValueError, KeyError, TypeError, AttributeError: it is damaged.
        """
        content = json.loads(read_regular(path, MAX_FILE_BYTES))
        return cls(
            split=Split.from_json(content),
            data_digest=content.get("data_digest", ""),
            pairs_digest=content.get("pairs_digest"),
            images=dict(content.get("images", {})),
            pixels=dict(content.get("pixels", {})),
            inherited={part: tuple(seen) for part, seen in content.get("inherited", {}).items()},
            begun_with=tuple(map(Origin.from_json, content.get("begun_with", []))),
            code_commit=str(content.get("code_commit", "unknown")),
        )

    def to_bytes(self) -> bytes:
        """Return the file's content: JSON, for people to read, the longest parts last."""
        content: dict[str, object] = {
            "code_commit": self.code_commit,
            "data_digest": self.data_digest,
            "pairs_digest": self.pairs_digest,
            **self.split.to_json(),
            "begun_with": [origin.to_json() for origin in self.begun_with],
            "inherited": self.inherited,
            "images": self.images,
            "pixels": self.pixels,
        }
        return json.dumps(content, indent=2, ensure_ascii=False).encode() + b"\n"

    def check_is_of(self, dataset: Dataset, path: Path, option: str) -> None:
        """Check that the `dataset` is the one that the file at `path` describes: its files, their names and pairs.

        The message names `option` as the way to give another run folder.

        Raises:
            BadConfig: it is not. For a run from before there was a `pairs_digest`, only names and contents can tell.
        """
        names = {pair.name for pair in dataset.pairs}
        known = {*self.split.train, *self.split.validation, *self.split.test, *self.split.unused}
        if self.data_digest != dataset.digest:
            what = "the data"
        elif not known <= names or self.pairs_digest not in {None, dataset.pairs_digest}:
            what = "names of images, or which mask belongs to which,"
        else:
            return
        raise changed(what, path, option)


def changed(what: str, path: Path, option: str) -> BadConfig:
    """Return the error that `what` is no longer as it was when the file at `path` was written."""
    advice = f"bring back what was there, and the run goes on, or start anew in another folder with {option}"
    return BadConfig(f"{what} changed since {path} was written; {advice}")
