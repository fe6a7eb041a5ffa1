"""What a run begins with, and who teaches it: it must know no image that judges the run, and is written down."""

from pathlib import Path

from service.training.config import Config
from service.training.leak import (
    caution_of_unknown,
    check_encoder_unseen,
    check_origins,
    check_unseen,
    inherited,
    origins_of,
)
from service.training.parts import Parts, Say
from service.training.run_folder import RunFolder


def begin(
    config: Config, folder: RunFolder, parts: Parts, say: Say, *, encoder: Path | None, teacher: Path | None
) -> None:
    """Check the file `encoder`, unless the run has begun, and the run `teacher`; write down what the run is.

    Raises:
        BadConfig: one of them knows images that judge the run, or tells too little of that; or cannot be read.
    """
    encoder, split = None if folder.has_begun else encoder, parts.split
    if teacher is not None:
        check_unseen(teacher, config, split, parts.dataset.contents, "the teacher")
    if encoder is not None:
        check_encoder_unseen(encoder, config, split, parts.dataset.contents)
        if caution := caution_of_unknown(encoder, whole=config.fine_tune):
            say(f"caution: {caution}")
    origins = () if folder.has_begun else origins_of(encoder=encoder, teacher=teacher)
    check_origins(origins, config, split, parts.dataset)
    seen = {} if folder.has_begun else inherited(config.modality, encoder=encoder, teacher=teacher)
    folder.begin(config, split, parts.dataset, seen, origins)
