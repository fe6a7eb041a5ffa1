"""Who is let in, and how a running server follows its key file."""

import asyncio
import logging
import os
import threading
from pathlib import Path

import pytest
from starlette.datastructures import Headers

from service.api import keys
from service.api.key_file import StoredKey, add_key, remove_key
from service.api.keys import LOOK_EVERY_S, FileState, KeyRing, _state_of
from service.errors import BadSettings, KeyNeeded
from tests.waiting import until


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "api-keys"


@pytest.fixture
def clock() -> Clock:
    return Clock()


def bearer(key: str) -> Headers:
    return Headers({"Authorization": f"Bearer {key}"})


def is_let_in(ring: KeyRing, key: str) -> bool:
    try:
        ring.holder(bearer(key))
    except KeyNeeded:
        return False
    return True


def followed(file: Path, clock: Clock) -> KeyRing:
    return KeyRing(file, clock=clock, prompt_s=60)


def test_each_holder_is_known_by_his_key(file: Path) -> None:
    keys = {name: add_key(file, name) for name in ("a", "b", "c")}
    ring = KeyRing(file)
    assert {name: ring.holder(bearer(key)) for name, key in keys.items()} == {"a": "a", "b": "b", "c": "c"}


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer KEY"},
        {"Authorization": "bearer KEY"},
        {"Authorization": "Bearer  KEY "},
        {"X-API-Key": "KEY"},
        {"X-API-Key": "KEY", "Authorization": "Basic dXNlcjpwYXNz"},
        {"X-API-Key": "KEY", "Authorization": "Bearer "},
    ],
)
def test_a_key_may_be_sent_in_either_header(file: Path, headers: dict[str, str]) -> None:
    key = add_key(file, "a")
    sent = {name: value.replace("KEY", key) for name, value in headers.items()}
    assert KeyRing(file).holder(Headers(sent)) == "a"


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Basic KEY"}, {"Authorization": "Bearer"}, {"X-API-Key": ""}]
)
def test_a_request_without_a_key_is_refused(file: Path, headers: dict[str, str]) -> None:
    key = add_key(file, "a")
    sent = {name: value.replace("KEY", key) for name, value in headers.items()}
    with pytest.raises(KeyNeeded, match="send an API key") as caught:
        KeyRing(file).holder(Headers(sent))
    assert not caught.value.was_sent


@pytest.mark.parametrize("wrong", ["alnet_", "{}x", "x{}", "{} {}", "\xe4", "y" * 60_000])
def test_a_key_that_is_not_known_is_refused(file: Path, wrong: str) -> None:
    key = add_key(file, "a")
    with pytest.raises(KeyNeeded, match="not known") as caught:
        KeyRing(file).holder(bearer(wrong.format(key, key)))
    assert caught.value.was_sent
    assert key not in str(caught.value)


def test_the_digest_that_the_file_holds_is_no_key(file: Path) -> None:
    add_key(file, "a")
    digest = file.read_text().split()[-2]
    assert not is_let_in(KeyRing(file), digest)


def test_every_bit_of_a_digest_counts(file: Path) -> None:
    key = add_key(file, "a")
    text = file.read_text()
    digest = text.split()[-2]
    file.write_text(text.replace(digest, digest[:-1] + ("0" if digest[-1] != "0" else "1")))
    assert not is_let_in(KeyRing(file), key)


def test_the_file_is_looked_at_no_more_than_once_a_second(
    file: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = add_key(file, "a")
    ring = followed(file, clock)
    looks: list[Path] = []

    def look(file: Path) -> object:
        looks.append(file)
        return ring._state

    monkeypatch.setattr(keys, "_state_of", look)
    for _ in range(10):
        clock.now += LOOK_EVERY_S / 4
        assert is_let_in(ring, key)
    assert len(looks) == 2


def test_a_file_that_is_gone_again_is_logged_again(file: Path, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    key = add_key(file, "a")
    ring = followed(file, clock)
    for _ in range(2):
        file.rename(file.with_name("away"))
        clock.now += LOOK_EVERY_S
        assert is_let_in(ring, key)
        file.with_name("away").rename(file)
        clock.now += LOOK_EVERY_S
        assert is_let_in(ring, key)
    assert [record.levelname for record in caplog.records] == ["ERROR"] * 2


def test_new_and_revoked_keys_count_after_a_second_at_most(file: Path, clock: Clock) -> None:
    first = add_key(file, "first")
    ring = followed(file, clock)
    second = add_key(file, "second")
    remove_key(file, "first")
    assert [is_let_in(ring, first), is_let_in(ring, second)] == [True, False]
    clock.now += LOOK_EVERY_S
    assert [is_let_in(ring, first), is_let_in(ring, second)] == [False, True]


@pytest.mark.parametrize("damage", ["half a line", None])
def test_a_file_that_is_damaged_or_gone_leaves_the_keys_as_they_were_and_is_logged_once(
    file: Path, clock: Clock, damage: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    key = add_key(file, "a")
    ring = followed(file, clock)
    if damage is None:
        file.unlink()
    else:
        file.write_text(damage)
    for _ in range(3):
        clock.now += LOOK_EVERY_S
        assert is_let_in(ring, key)
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage().startswith("API keys stay as they were: ")
    assert "half" not in record.getMessage()


def test_a_file_that_could_not_be_read_for_a_while_counts_once_it_can_though_it_did_not_change(
    file: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    key = add_key(file, "a")
    ring = followed(file, clock)
    remove_key(file, "a")

    def no_descriptor_left(_file: Path) -> list[StoredKey]:
        raise BadSettings("the key file cannot be read: Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(keys, "read_keys", no_descriptor_left)
        for _ in range(2):
            clock.now += LOOK_EVERY_S
            assert is_let_in(ring, key)
    clock.now += LOOK_EVERY_S
    assert not is_let_in(ring, key)
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_a_mended_file_counts_again(file: Path, clock: Clock) -> None:
    key = add_key(file, "a")
    ring = followed(file, clock)
    file.unlink()
    clock.now += LOOK_EVERY_S
    assert is_let_in(ring, key)
    other = add_key(file, "b")
    clock.now += LOOK_EVERY_S
    assert [is_let_in(ring, key), is_let_in(ring, other)] == [False, True]


def test_an_edit_in_place_that_leaves_the_size_is_seen(file: Path, clock: Clock) -> None:
    key = add_key(file, "a")
    ring = followed(file, clock)
    text, before = file.read_text(), file.stat()
    digest = text.split()[-2]
    file.write_text(text.replace(digest, digest[::-1]))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    clock.now += LOOK_EVERY_S
    assert not is_let_in(ring, key)


def test_a_file_of_the_same_age_that_took_its_place_is_seen(file: Path, clock: Clock) -> None:
    key = add_key(file, "a")
    ring = followed(file, clock)
    before = file.stat()
    remove_key(file, "a")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    clock.now += LOOK_EVERY_S
    assert not is_let_in(ring, key)


def test_a_file_whose_disk_hangs_holds_up_nobody_and_counts_once_it_can_be_read(
    file: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    key = add_key(file, "a")
    ring = KeyRing(file, clock=clock, prompt_s=0.01)
    remove_key(file, "a")
    hanging: list[Path] = []
    mended = threading.Event()

    def hang(file: Path) -> FileState:
        hanging.append(file)
        mended.wait(60)
        return _state_of(file)

    monkeypatch.setattr(keys, "_state_of", hang)
    for _ in range(4):
        clock.now += LOOK_EVERY_S
        assert is_let_in(ring, key)
    assert len(hanging) == 1
    assert [record.getMessage() for record in caplog.records] == [
        f"API keys stay as they were: to look at {file} takes over 1 s: its disk or network hangs"
    ]
    mended.set()
    asyncio.run(until(lambda: not is_let_in(ring, key)))


def test_a_file_without_keys_lets_nobody_in_and_says_so(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    key = add_key(file, "a")
    remove_key(file, "a")
    assert not is_let_in(KeyRing(file), key)
    assert "holds no API key" in caplog.text


def test_a_missing_file_is_no_key_ring(file: Path) -> None:
    with pytest.raises(BadSettings, match="cannot read the API keys"):
        KeyRing(file)
