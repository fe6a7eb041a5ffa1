"""Whether a network has learnt to find anything: one that marks nothing is published all the same, with a caution."""

from collections.abc import Sequence

import numpy as np

from service.training.dataset import Dataset

HARDLY = 0.01
"""A share of what there is to gain over empty masks; below it a network is of no use to anybody."""

ADVICE = (
    "train for more --epochs, look whether the foreground of the masks is what was meant, or try another"
    " --learning-rate, in another folder with --run"
)


def caution_of_nothing(dataset: Dataset, names: Sequence[str], iou: float, what: str) -> str | None:
    """Return a caution if a network's mean IoU on these images is hardly above that of empty masks; else None.

    `dataset` is one that `check` has read; `what` says which images `names` are, as "test". An empty mask has an IoU of
    1 where the reference is empty, too. If all references are empty, there is nothing to gain, and nothing to say.
    """
    of_empty = float(np.mean([dataset.foreground[name] == 0 for name in names]))
    if of_empty == 1 or iou >= of_empty + HARDLY * (1 - of_empty):
        return None
    found = f"its mean IoU on the {len(names)} {what} images is {iou:.4f}, where empty masks would have {of_empty:.4f}"
    return f"this network is hardly better than one that marks nothing: {found}; {ADVICE}"
