"""What a model store lists and opens."""

import errno
import os
import threading
from contextlib import nullcontext
from pathlib import Path

import pytest

from service.errors import BadCheckpoint, UnknownModality
from service.store.model_store import ModelStore, next_version
from service.store.pin import read_pin, write_pin
from service.store.publish import publish
from tests.cards import WEIGHTS, make_card


def _publish(store: Path, modality: str, *versions: int) -> None:
    for version in versions:
        publish(store, make_card(modality, version=str(version)), WEIGHTS)


def test_a_missing_store_has_no_modalities(tmp_path: Path) -> None:
    assert ModelStore(tmp_path / "none").modalities() == []


def test_an_empty_store_has_no_modalities(tmp_path: Path) -> None:
    assert ModelStore(tmp_path).modalities() == []


def test_modalities_are_sorted(tmp_path: Path) -> None:
    for modality in ("skin", "cell", "retina"):
        _publish(tmp_path, modality, 1)
    assert ModelStore(tmp_path).modalities() == ["cell", "retina", "skin"]


def test_a_modality_without_a_published_version_is_not_listed(tmp_path: Path) -> None:
    (tmp_path / "cell" / ".draft-x").mkdir(parents=True)
    assert ModelStore(tmp_path).modalities() == []


def test_versions_are_sorted_as_numbers(tmp_path: Path) -> None:
    _publish(tmp_path, "retina", 10, 9, 1)
    assert ModelStore(tmp_path).versions("retina") == [1, 9, 10]
    assert ModelStore(tmp_path).newest("retina").card.version == "10"


def test_what_is_no_version_is_passed_over(tmp_path: Path) -> None:
    _publish(tmp_path, "retina", 2)
    for name in (".3", ".draft-x", "03", "0", "4-old", "latest", "-5", "٣", "6\n"):
        (tmp_path / "retina" / name).mkdir()
    (tmp_path / "retina" / "7").write_text("a file")
    assert ModelStore(tmp_path).versions("retina") == [2]


def test_what_is_no_modality_is_passed_over(tmp_path: Path) -> None:
    _publish(tmp_path, "retina", 1)
    for name in (".git", "lost+found", "Retina", "two words", "cell\n"):
        (tmp_path / name / "1").mkdir(parents=True)
    (tmp_path / "skin").write_text("a file")
    assert ModelStore(tmp_path).modalities() == ["retina"]


@pytest.mark.parametrize("modality", ["../retina", "retina/../retina", "/retina", "retina\n", ".", "", "\0"])
def test_a_name_cannot_lead_out_of_the_store(tmp_path: Path, modality: str) -> None:
    _publish(tmp_path, "retina", 1)
    _publish(tmp_path / "store", "retina", 1)
    with pytest.raises(UnknownModality, match="it has: retina"):
        ModelStore(tmp_path / "store").open(modality)


def test_an_unknown_modality_is_answered_with_those_that_exist(tmp_path: Path) -> None:
    _publish(tmp_path, "skin", 1)
    _publish(tmp_path, "cell", 1)
    with pytest.raises(UnknownModality, match="no modality 'liver' in the model store; it has: cell, skin"):
        ModelStore(tmp_path).newest("liver")


def test_a_folder_without_a_version_is_not_told_as_one_to_ask_for_instead_of_itself(tmp_path: Path) -> None:
    _publish(tmp_path, "skin", 1)
    (tmp_path / "cell").mkdir()
    with pytest.raises(UnknownModality, match=r"no modality 'cell' in the model store; it has: skin$"):
        ModelStore(tmp_path).newest("cell")


def test_nobody_looks_into_other_folders_to_say_that_a_modality_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of them may hang."""
    _publish(tmp_path, "cell", 1)
    asked: list[str] = []
    versions = ModelStore.versions

    def ask(store: ModelStore, modality: str) -> list[int]:
        asked.append(modality)
        return versions(store, modality)

    monkeypatch.setattr(ModelStore, "versions", ask)
    with pytest.raises(UnknownModality, match="it has: cell"):
        ModelStore(tmp_path).wanted("liver")
    assert asked == ["liver"]


def test_an_empty_store_says_that_it_has_none(tmp_path: Path) -> None:
    with pytest.raises(UnknownModality, match="it has: none"):
        ModelStore(tmp_path).newest("retina")


def test_a_version_is_opened_by_name(tmp_path: Path) -> None:
    _publish(tmp_path, "retina", 1, 2)
    assert ModelStore(tmp_path).open("retina", "1").card.version == "1"


@pytest.mark.parametrize("version", ["3", "01", "", "../2", "latest"])
def test_an_unknown_version_is_answered_with_those_that_exist(tmp_path: Path, version: str) -> None:
    _publish(tmp_path, "retina", 1, 2)
    with pytest.raises(UnknownModality, match="of retina; it has: 1, 2"):
        ModelStore(tmp_path).open("retina", version)


def test_a_newest_version_that_is_broken_is_an_error_and_not_the_one_before_it(tmp_path: Path) -> None:
    _publish(tmp_path, "retina", 1)
    (tmp_path / "retina" / "2").mkdir()
    with pytest.raises(BadCheckpoint, match=r"retina/2: card\.json is missing"):
        ModelStore(tmp_path).newest("retina")


def test_a_store_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("")
    with pytest.raises(BadCheckpoint, match="cannot be listed"):
        ModelStore(tmp_path / "store").modalities()


def test_a_modality_that_cannot_be_listed_hides_no_other_and_says_why(tmp_path: Path) -> None:
    _publish(tmp_path, "retina", 1)
    (tmp_path / "cell").symlink_to("x" * 300)  # the system takes no such name, whoever asks
    assert ModelStore(tmp_path).modalities() == ["cell", "retina"]
    with pytest.raises(BadCheckpoint, match=r"cell: cannot be listed \(File name too long\)"):
        ModelStore(tmp_path).wanted("cell")


def test_what_is_published_while_the_store_is_open_is_seen(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    assert store.modalities() == []
    _publish(tmp_path, "retina", 1)
    assert store.newest("retina").card.version == "1"


def test_versions_count_up_from_1(tmp_path: Path) -> None:
    assert next_version(tmp_path / "none", "retina") == "1"
    _publish(tmp_path, "retina", 1, 9)
    assert next_version(tmp_path, "retina") == "10"
    assert next_version(tmp_path, "cell") == "1"


def test_what_is_no_folder_keeps_its_number(tmp_path: Path) -> None:
    """Nothing could be published by it."""
    folder = tmp_path / "retina"
    folder.mkdir()
    (folder / "7").write_text("a note")
    assert next_version(tmp_path, "retina") == "8"
    (folder / "8").symlink_to(tmp_path / "nothing")
    assert next_version(tmp_path, "retina") == "9"
    (folder / "999999").mkdir()
    with pytest.raises(BadCheckpoint, match="999999 has the last number that there is"):
        next_version(tmp_path, "retina")


def test_the_newest_version_is_wanted_unless_another_is_pinned(tmp_path: Path) -> None:
    _publish(tmp_path, "retina", 2, 10, 9)
    store = ModelStore(tmp_path)
    assert (store.wanted("retina").version, store.wanted("retina").is_pinned) == ("10", False)
    write_pin(tmp_path, "retina", "2")
    assert (store.wanted("retina").version, store.wanted("retina").is_pinned) == ("2", True)
    assert read_pin(store.folder, "retina") == store.current("retina").card.version == "2"


def test_a_pin_to_a_version_that_is_not_published_is_an_error(tmp_path: Path) -> None:
    _publish(tmp_path, "retina", 1, 2)
    write_pin(tmp_path, "retina", "3")
    with pytest.raises(UnknownModality, match="retina is pinned to version 3, which is not published; it has: 1, 2"):
        ModelStore(tmp_path).wanted("retina")


def test_nothing_is_wanted_of_an_unknown_modality(tmp_path: Path) -> None:
    with pytest.raises(UnknownModality, match="no modality 'liver'"):
        ModelStore(tmp_path).wanted("liver")


def test_what_is_wanted_looks_the_same_until_its_files_change(tmp_path: Path) -> None:
    _publish(tmp_path, "retina", 1)
    before = ModelStore(tmp_path).wanted("retina")
    assert ModelStore(tmp_path).wanted("retina") == before
    (tmp_path / "retina" / "1" / "weights.safetensors").write_bytes(b"shorter")
    assert ModelStore(tmp_path).wanted("retina").stamp != before.stamp


def test_a_file_of_the_integer_form_or_its_permissions_count_as_well(tmp_path: Path) -> None:
    _publish(tmp_path, "retina", 1)
    constants = tmp_path / "retina" / "1" / "int8.bin"
    stamps = [ModelStore(tmp_path).wanted("retina").stamp]
    for change in (lambda: constants.write_bytes(b"half"), lambda: constants.chmod(0), lambda: constants.chmod(0o644)):
        change()
        stamps.append(ModelStore(tmp_path).wanted("retina").stamp)
    assert len(set(stamps)) == 4


@pytest.mark.parametrize("name", ["card.json", "weights.safetensors", "int8.xml", "int8.bin"])
def test_a_file_in_the_place_of_another_counts_though_it_is_as_large_and_as_old(tmp_path: Path, name: str) -> None:
    _publish(tmp_path, "retina", 1)
    file = tmp_path / "retina" / "1" / name
    file.write_bytes(b"one")
    before = ModelStore(tmp_path).wanted("retina").stamp
    (tmp_path / "other").write_bytes(b"two")
    os.utime(tmp_path / "other", ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    (tmp_path / "other").replace(file)
    assert ModelStore(tmp_path).wanted("retina").stamp != before


def test_the_version_before_is_the_next_older_one(tmp_path: Path) -> None:
    _publish(tmp_path, "retina", 2, 9, 10)
    store = ModelStore(tmp_path)
    assert [store.before("retina", version) for version in ("10", "9", "5")] == ["9", "2", "2"]
    with pytest.raises(UnknownModality, match="no version of retina before 2; it has: 2, 9, 10"):
        store.before("retina", "2")


@pytest.mark.timeout(20)
def test_a_folder_that_hangs_is_named_for_it_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _publish(tmp_path, "cell", 1)
    _publish(tmp_path, "retina", 1)
    ask = os.stat

    def hang(path: str | Path, **options: bool) -> os.stat_result:
        if Path(path) == tmp_path / "cell":
            threading.Event().wait()
        return ask(path, **options)

    monkeypatch.setattr(os, "stat", hang)
    assert ModelStore(tmp_path).names() == ["cell", "retina"]


def test_a_link_to_a_mount_that_has_gone_is_still_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stale:
        name = "cell"

        def is_dir(self) -> bool:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(os, "scandir", lambda _: nullcontext([Stale()]))
    assert ModelStore(tmp_path).names() == ["cell"]


def test_links_to_nothing_and_to_themselves_are_no_versions(tmp_path: Path) -> None:
    _publish(tmp_path, "retina", 1)
    (tmp_path / "retina" / "2").symlink_to("nothing")
    (tmp_path / "retina" / "3").symlink_to("3")
    (tmp_path / "retina" / "4").symlink_to("pin/under/a/file")
    (tmp_path / "retina" / "pin").write_text("1\n")
    assert ModelStore(tmp_path).versions("retina") == [1]
