"""What a run begins with, and what teaches it: neither may know an image that judges the run; both are recorded."""

from collections.abc import Sequence
from pathlib import Path

from service.training.config import Config
from service.training.leak import (
    caution_of_origins,
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
    config: Config, folder: RunFolder, parts: Parts, say: Say, *, begun_with: Sequence[Path], teacher: Path | None
) -> None:
    """Check the files `begun_with`, unless the run has begun, and the run `teacher`; then record the run.

    Raises:
        BadConfig: one of them knows images that judge the run, does not tell enough to rule that out, or cannot be
            read.
    """
    begun_with, split = () if folder.has_begun else begun_with, parts.split
    if teacher is not None:
        check_unseen(teacher, config, split, parts.dataset.contents, "the teacher")
    for file in begun_with:
        check_encoder_unseen(file, config, split, parts.dataset.contents)
        if caution := caution_of_unknown(file, whole=config.fine_tune):
            say(f"caution: {caution}")
    origins = () if folder.has_begun else origins_of(begun_with, teacher=teacher)
    check_origins(origins, config, split, parts.dataset)
    if caution := caution_of_origins(origins, parts.dataset):
        say(f"caution: {caution}")
    seen = {} if folder.has_begun else inherited(config.modality, begun_with, teacher=teacher)
    folder.begin(config, split, parts.dataset, seen, origins)
