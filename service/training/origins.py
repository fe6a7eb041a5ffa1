"""Published checkpoints that a run began with, and what their cards tell of the data that taught them."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from service.errors import BadCheckpoint, BadConfig
from service.store.card import Card, Data
from service.store.checkpoint import CARD, WEIGHTS, Checkpoint
from service.training.split import PARTS, Split


@dataclass(frozen=True, slots=True)
class Origin:
    """The data of a published checkpoint and how they were divided; `fractions` is None if its card does not tell."""

    data: Data
    fractions: tuple[float, ...] | None

    @classmethod
    def of(cls, card: Card) -> Self:
        """Return what the card tells."""
        fractions = card.training.config.get("fractions")
        return cls(card.data, tuple(fractions) if isinstance(fractions, list) else None)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Return what `to_json` wrote. Raises ValueError, KeyError, TypeError if `content` is something else."""
        fractions = content["fractions"]
        return cls(Data.model_validate(content["data"]), None if fractions is None else tuple(fractions))

    def to_json(self) -> dict[str, object]:
        """Return what `from_json` takes, for a file."""
        return {"data": self.data.model_dump(), "fractions": self.fractions}

    def has_split(self, split: Split, images: Mapping[str, str], fractions: tuple[float, ...] | None = None) -> bool:
        """Return whether its data were divided as by `split`; `images` are the digests of the data's images by name.

        Cards from before there was a digest of the parts tell only the wording and sizes of their split, and perhaps
        the `fractions` that were asked for (None: not known of `split`). Renamed files are dealt out anew, which such
        cards do not show.
        """
        if self.data.parts_digest is not None:
            return self.data.parts_digest == parts_digest(split, images)
        own = self.data.split, self.data.n_train, self.data.n_validation, self.data.n_test
        found = split.how, len(split.train), len(split.validation), len(split.test)
        return own == found and (None in {self.fractions, fractions} or self.fractions == fractions)


def parts_digest(split: Split, images: Mapping[str, str]) -> str:
    """Return a sha256 of which image files train, validate and test, whatever their names."""
    parts = [sorted(images.get(name, name) for name in getattr(split, part)) for part in PARTS]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def card_beside(file: Path) -> Card | None:
    """Return the card of the published checkpoint in whose folder `file` lies; None if there is no card.

    Raises:
        BadConfig: the card cannot be read, or `file` is its weights and has another digest.
    """
    if not (file.parent / CARD).exists():
        return None
    try:
        checkpoint = Checkpoint.read_anywhere(file.parent)
        if file.name == WEIGHTS:
            checkpoint.read_weights()
    except BadCheckpoint as error:
        raise BadConfig(f"the encoder in {file}: {error}") from error
    return checkpoint.card
