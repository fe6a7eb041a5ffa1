"""What is known of the data of a published checkpoint that a run goes back to."""

from dataclasses import replace

import pytest

from service.training.dataset import Dataset, open_dataset
from service.training.origins import Origin, parts_digest
from service.training.split import Split, split
from tests.cards import make_card


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return open_dataset("drawn:retina:20")


def origin(dataset: Dataset, own: Split, *, fractions: list[float] | None, is_old: bool) -> Origin:
    """Return what the card tells of a run that had `own` split; an old one has no digest of the parts."""
    card = make_card()
    data = card.data.model_copy(
        update={
            "digest": dataset.digest,
            "split": own.how,
            "n_train": len(own.train),
            "n_validation": len(own.validation),
            "n_test": len(own.test),
            "parts_digest": None if is_old else parts_digest(own, dataset.images),
        }
    )
    config = {} if fractions is None else {"fractions": fractions}
    training = card.training.model_copy(update={"config": config})
    return Origin.of(card.model_copy(update={"data": data, "training": training}))


@pytest.mark.parametrize("is_old", [False, True])
def test_other_fractions_are_another_split_though_the_parts_are_as_large(dataset: Dataset, *, is_old: bool) -> None:
    own = split(dataset, fractions=(0.5, 0.2, 0.3), seed=0)
    other = split(dataset, fractions=(0.49, 0.2, 0.31), seed=0)
    assert (len(own.train), len(own.test), own.how) == (len(other.train), len(other.test), other.how)
    assert set(own.train) & set(other.test)
    found = origin(dataset, own, fractions=[0.5, 0.2, 0.3], is_old=is_old)
    assert found.has_split(own, dataset.images, (0.5, 0.2, 0.3))
    assert not found.has_split(other, dataset.images, (0.49, 0.2, 0.31))


def test_images_that_were_renamed_are_the_same_images_and_dealt_otherwise_another_split(dataset: Dataset) -> None:
    own = split(dataset, fractions=(0.5, 0.2, 0.3), seed=0)
    found = origin(dataset, own, fractions=None, is_old=False)
    renamed = {f"new-{name}": digest for name, digest in dataset.images.items()}
    parts = {part: tuple(f"new-{name}" for name in getattr(own, part)) for part in ("train", "validation", "test")}
    as_before = Split(**parts, how=own.how)
    assert found.has_split(as_before, renamed)
    assert not found.has_split(replace(as_before, train=as_before.test, test=as_before.train), renamed)


def test_of_an_old_card_words_and_sizes_have_to_do_where_no_fractions_are_known(dataset: Dataset) -> None:
    own = split(dataset, fractions=(0.5, 0.2, 0.3), seed=0)
    for found in (
        origin(dataset, own, fractions=None, is_old=True),
        origin(dataset, own, fractions=[0.5, 0.2, 0.3], is_old=True),
    ):
        assert found.has_split(own, dataset.images)
        assert not found.has_split(split(dataset, fractions=(0.5, 0.2, 0.3), seed=1), dataset.images)


def test_it_is_written_and_read_without_loss(dataset: Dataset) -> None:
    own = split(dataset, fractions=(0.5, 0.2, 0.3), seed=0)
    for fractions in (None, [0.5, 0.2, 0.3]):
        found = origin(dataset, own, fractions=fractions, is_old=False)
        assert Origin.from_json(found.to_json()) == found
