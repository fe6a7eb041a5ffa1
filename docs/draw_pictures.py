"""Draw docs/images: one image of each modality, its reference, and what the shipped checkpoints make of it.

`make pictures` runs this from the repository's root. All images are drawn by the code: no data set may be shipped.
"""

from pathlib import Path
from typing import get_args

import numpy as np
from PIL import Image as PillowImage

from service.engine.choosing import EXACT, load_engine
from service.engine.quality import MaskRule
from service.imaging.encode import encode_png, overlay
from service.store.model_store import ModelStore
from service.training.drawn import Kind, draw
from service.training.scores import probability_of

FOLDER = Path(__file__).parent / "images"
INDEX, SIZE = 3, 512


def main() -> None:
    """Write KIND.jpg and KIND-reference.png of each modality, and overview.jpg: images above, masks found below."""
    FOLDER.mkdir(exist_ok=True)
    columns = []
    for kind in get_args(Kind):
        image, reference = draw(kind, INDEX, size=SIZE)
        PillowImage.fromarray(image).save(FOLDER / f"{kind}.jpg", quality=90)
        (FOLDER / f"{kind}-reference.png").write_bytes(encode_png(reference * np.uint8(255)))
        engine = load_engine(ModelStore(Path("model_store")).newest(kind), EXACT)
        probability = probability_of(image, engine.predict, engine.card.input)
        mask = MaskRule.of(engine.card).mask(probability).astype(np.uint8)
        columns.append(np.concatenate([image, overlay(image, mask)], axis=0))
    PillowImage.fromarray(np.concatenate(columns, axis=1)).resize((960, 640)).save(FOLDER / "overview.jpg", quality=88)


if __name__ == "__main__":
    main()
