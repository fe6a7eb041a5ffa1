"""A file of scores that were measured elsewhere: JSON of each network's IoU."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from service.errors import BadParameter
from service.reproduction.paper import PAPER_NETWORKS

IOU_BY_KEY = TypeAdapter(dict[str, Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]])


def read_scores(path: Path) -> dict[str, float]:
    """Return each network's IoU, 0 to 1, by its key in `PAPER_NETWORKS`; networks may be missing.

    Raises:
        BadParameter: the file is missing or no such JSON, or names a network that the paper does not compare.
    """
    try:
        scores = IOU_BY_KEY.validate_json(path.read_bytes())
    except OSError as error:
        raise BadParameter(f"--scores {path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        where = error.errors()[0]["loc"]
        fault = f"that of {where[0]} is none" if where else "this is none"
        raise BadParameter(
            f'--scores {path} must be JSON of IoU, 0 to 1, by network, as {{"al-net": 0.7}}; {fault}'
        ) from error
    if unknown := scores.keys() - {compared.key for compared in PAPER_NETWORKS}:
        known = ", ".join(compared.key for compared in PAPER_NETWORKS)
        raise BadParameter(f"--scores {path}: no network {', '.join(sorted(unknown))}; there are {known}")
    return scores
