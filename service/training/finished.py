"""A finished run: its result is reported, and its checkpoint published if that is still to be done."""

from dataclasses import replace
from pathlib import Path

from service.training.config import Config
from service.training.dataset import open_dataset
from service.training.parts import Say
from service.training.publication import publish_kept, published_before
from service.training.run_folder import Result, RunFolder


def finished(config: Config, folder: RunFolder, result: Result, store: Path | None, say: Say) -> Result:
    """Return the result of a finished run; publish its checkpoint into `store`, unless it lies there already.

    Raises:
        BadConfig: the data are not those of the run.
        BadCheckpoint, AlreadyPublished, OSError: as `service.training.publication.publish_kept`.
    """
    if config.data != folder.recorded_config().data:
        folder.check_data(open_dataset(config.data, series=config.series))
    say(f"{folder.path} is finished already; pick another folder with --run to train anew")
    say_caution(result, say)
    if store is None:
        return result
    if (published := published_before(folder.path, config.modality, store)) is None:
        published = publish_kept(folder.path, config.modality, store)
        say(f"published {published}")
    if (checkpoint := str(published.absolute())) != result.checkpoint:
        result = replace(result, checkpoint=checkpoint)
        try:
            folder.write_result(result)
        except OSError as error:  # the checkpoint is in the store, and will be found there again
            say(f"{folder.path} cannot be written ({error.strerror}): it does not say where this was published")
    return result


def say_caution(result: Result, say: Say) -> None:
    """Say what a user of the checkpoint should know, if there is anything."""
    if result.caution is not None:
        say(f"caution: {result.caution}")
