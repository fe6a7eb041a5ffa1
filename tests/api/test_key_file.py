"""The file of API keys: what is in it, what is refused, and that changing it is all or nothing."""

import os
import re
import stat
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from service.api.key_file import LARGEST_BYTES, MOST_KEYS, add_key, digest_of, read_keys, remove_key
from service.errors import BadParameter, BadSettings

DIGEST = "ab" * 32


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "api-keys"


def names(file: Path) -> list[str]:
    return [key.name for key in read_keys(file)]


def test_a_new_key_is_256_random_bits_and_only_its_hash_is_kept(file: Path) -> None:
    key, other = add_key(file, "ward-3"), add_key(file, "ward-4")
    assert re.fullmatch(r"alnet_[A-Za-z0-9_-]{43}", key)
    assert key != other
    assert key.removeprefix("alnet_") not in file.read_text()
    first, second = read_keys(file)
    assert (first.name, first.digest, second.name) == ("ward-3", digest_of(key.encode()), "ward-4")
    assert abs((datetime.now(UTC).date() - first.created).days) <= 1


def test_only_its_owner_may_read_the_file(file: Path) -> None:
    add_key(file, "a")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o644)
    add_key(file, "b")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_file_stays_its_owners_whoever_changes_it(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owners: list[tuple[int, ...]] = []
    monkeypatch.setattr(os, "fchown", lambda _descriptor, *owner: owners.append(owner))
    add_key(file, "a")
    found = file.stat()
    remove_key(file, "a")
    assert owners == [(found.st_uid, found.st_gid)]


def test_a_revoked_key_is_gone_and_all_else_stays(file: Path) -> None:
    file.write_text(f"# ours\n\na sha256 {DIGEST} 2026-01-02\n# theirs\nb sha256 {'cd' * 32} 2026-01-03\n")
    remove_key(file, "a")
    assert file.read_text() == f"# ours\n\n# theirs\nb sha256 {'cd' * 32} 2026-01-03\n"
    remove_key(file, "b")
    assert names(file) == []


def test_a_change_replaces_the_file_as_a_whole_and_leaves_nothing_beside_it(file: Path) -> None:
    add_key(file, "a")
    with file.open() as old:
        add_key(file, "b")
        assert "\nb " not in old.read()
    assert list(file.parent.iterdir()) == [file]


def test_a_symbolic_link_stays_one(file: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    file.symlink_to(tmp_path / "elsewhere" / "keys")
    add_key(file, "a")
    assert file.is_symlink()
    assert names(tmp_path / "elsewhere" / "keys") == ["a"]


def test_changes_at_the_same_time_are_all_kept(file: Path) -> None:
    wanted = [f"n{i}" for i in range(8)]
    threads = [threading.Thread(target=add_key, args=(file, name)) for name in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(names(file)) == wanted


@pytest.mark.parametrize("name", ["", "a b", "a\nb", "-a", ".a", "#a", "ä", "x" * 65, "a/b"])
def test_a_name_that_is_no_plain_word_is_refused(file: Path, name: str) -> None:
    with pytest.raises(BadParameter, match="name is 1 to 64"):
        add_key(file, name)
    assert not file.exists()


def test_a_name_is_given_once(file: Path) -> None:
    add_key(file, "a")
    before = file.read_text()
    with pytest.raises(BadParameter, match="'a' already"):
        add_key(file, "a")
    assert file.read_text() == before


def test_who_is_not_there_cannot_be_revoked(file: Path) -> None:
    add_key(file, "a")
    with pytest.raises(BadParameter, match="no key 'b'"):
        remove_key(file, "b")


def test_there_are_at_most_a_thousand(file: Path) -> None:
    lines = [f"n{i} sha256 {i:064x} 2026-01-02\n" for i in range(MOST_KEYS)]
    file.write_text("".join(lines))
    assert len(read_keys(file)) == MOST_KEYS
    with pytest.raises(BadParameter, match="1000 keys already"):
        add_key(file, "more")
    file.write_text("".join([*lines, f"more sha256 {DIGEST} 2026-01-02\n"]))
    with pytest.raises(BadSettings, match="more than 1000"):
        read_keys(file)


@pytest.mark.parametrize(
    "line",
    [
        f"a sha256 {DIGEST}",
        f"a sha256 {DIGEST[:-1]} 2026-01-02",
        f"a sha256 {DIGEST[:-2]} 2026-01-02",
        f"a sha256 {DIGEST.upper()} 2026-01-02",
        f"a sha256 {DIGEST[:-1]}g 2026-01-02",
        f"a md5 {DIGEST} 2026-01-02",
        f"a sha256 {DIGEST} 2026-13-02",
        f"a sha256 {DIGEST} 2026-01-02 more",
        f"a/b sha256 {DIGEST} 2026-01-02",
        "alnet_secret",
        "\x00",
        "<<<<<<< HEAD",
    ],
)
def test_a_damaged_line_is_named_by_its_number_and_not_repeated(file: Path, line: str) -> None:
    file.write_text(f"# title\nb sha256 {'cd' * 32} 2026-01-02\n{line}\n")
    with pytest.raises(BadSettings, match=r"api-keys, line 3, is no API key") as caught:
        read_keys(file)
    assert line not in str(caught.value)
    with pytest.raises(BadSettings):
        add_key(file, "c")
    with pytest.raises(BadSettings):
        remove_key(file, "b")


@pytest.mark.parametrize("line", [f"a sha256 {'cd' * 32} 2026-01-02", f"b sha256 {DIGEST} 2026-01-02"])
def test_a_name_or_digest_that_comes_twice_is_damage(file: Path, line: str) -> None:
    file.write_text(f"a sha256 {DIGEST} 2026-01-02\n{line}\n")
    with pytest.raises(BadSettings, match="line 2, repeats"):
        read_keys(file)


def test_a_missing_file_a_folder_and_bytes_are_no_key_files(file: Path, tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="No such file"):
        read_keys(file)
    with pytest.raises(BadSettings, match="no regular file"):
        read_keys(tmp_path)
    os.mkfifo(tmp_path / "fifo")  # nobody may ever write into it
    with pytest.raises(BadSettings, match="no regular file"):
        read_keys(tmp_path / "fifo")
    file.write_text(f"a sha256 {DIGEST} 2026-01-02\n" + "#\n" * (LARGEST_BYTES // 2))
    with pytest.raises(BadSettings, match=f"larger than {LARGEST_BYTES} bytes"):
        add_key(file, "b")
    assert file.stat().st_size > LARGEST_BYTES  # and nothing of it is lost
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadSettings, match="it is no text"):
        read_keys(file)
