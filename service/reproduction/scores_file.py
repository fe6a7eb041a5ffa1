"""A file of scores that were measured elsewhere: JSON of each network's IoU."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from service.errors import BadParameter
from service.reproduction.paper import PAPER_NETWORKS

IOU_BY_KEY = TypeAdapter(dict[str, Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]])


def read_scores(path: Path) -> dict[str, float]:
    """Return each network's IoU, 0 to 1, by its key in `PAPER_NETWORKS`; not every network need be there.

    Raises:
        BadParameter: the file is missing or no such JSON, or names a network that the paper does not compare.
    """
    try:
        scores = IOU_BY_KEY.validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise BadParameter(f'{path} is no JSON of IoU by network, as {{"al-net": 0.7}}: {error}') from error
    if unknown := scores.keys() - {compared.key for compared in PAPER_NETWORKS}:
        raise BadParameter(f"{path}: the paper does not compare {', '.join(sorted(unknown))}")
    return scores
