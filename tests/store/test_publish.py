"""Publishing: all or nothing, whoever else publishes and whatever ends it."""

import errno
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import ValidationError

from service.errors import AlreadyPublished, BadCheckpoint
from service.store import publish as publishing
from service.store.card import Quantised
from service.store.checkpoint import Checkpoint, Contents, Int8Model, sha256
from service.store.model_store import ModelStore, next_version
from service.store.pin import write_pin
from service.store.publish import TRIES, publish, publish_next
from service.store.readme import card_readme
from tests.cards import WEIGHTS, make_card, make_quantised
from tests.store.syncs import noted_syncs

REPOSITORY = Path(__file__).parents[2]


def _tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _publish_elsewhere(store: Path, before: str, *, size: int) -> subprocess.CompletedProcess[str]:
    """Publish retina 1 with `size` bytes of weights in another process, which first runs the code `before`."""
    code = (
        "import os, resource, signal, sys\nfrom pathlib import Path\n"
        "from service.store.checkpoint import sha256\nfrom service.store.publish import publish\n"
        "from tests.cards import make_card\n"
        f"store, weights = Path(sys.argv[1]), bytes({size})\n"
        f"card = make_card(weights_sha256=sha256(weights))\n{before}\npublish(store, card, weights)\n"
    )
    return subprocess.run(
        [sys.executable, "-c", code, store], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )


def test_publishing_writes_weights_card_and_readme(tmp_path: Path) -> None:
    folder = publish(tmp_path / "store", make_card(), WEIGHTS)
    assert folder == tmp_path / "store" / "retina" / "1"
    assert _tree(tmp_path / "store") == {
        "retina/1/weights.safetensors": WEIGHTS,
        "retina/1/card.json": (make_card().model_dump_json(indent=2) + "\n").encode(),
        "retina/1/README.md": card_readme(make_card()).encode(),
    }


def test_a_published_version_is_never_replaced(tmp_path: Path) -> None:
    publish(tmp_path, make_card(), WEIGHTS)
    before = _tree(tmp_path)
    with pytest.raises(AlreadyPublished, match="retina/1 is published already"):
        publish(tmp_path, make_card(weights_sha256=sha256(b"others")), b"others")
    assert _tree(tmp_path) == before
    assert _names(tmp_path) == ["retina"]


def test_weights_that_are_not_the_cards_are_not_published(tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match="these files have the sha256"):
        publish(tmp_path, make_card(), b"others")
    assert _names(tmp_path) == []


INT8 = Int8Model(graph=b"graph", constants=b"constants")


def test_the_integer_form_is_published_beside_the_weights(tmp_path: Path) -> None:
    folder = publish(tmp_path, make_card(int8=make_quantised()), Contents(WEIGHTS, INT8))
    assert _names(folder) == ["README.md", "card.json", "int8.bin", "int8.xml", "weights.safetensors"]
    assert Checkpoint.read(folder).contents() == Contents(WEIGHTS, INT8)


@pytest.mark.parametrize(
    ("described", "form"),
    [
        (None, INT8),
        (make_quantised(), None),
        (make_quantised(graph=b"another"), INT8),
        (make_quantised(constants=b"others"), INT8),
    ],
)
def test_an_integer_form_that_is_not_the_cards_is_not_published(
    tmp_path: Path, described: Quantised | None, form: Int8Model | None
) -> None:
    with pytest.raises(BadCheckpoint, match="these files have the sha256"):
        publish(tmp_path, make_card(int8=described), Contents(WEIGHTS, form))
    assert _names(tmp_path) == []


@pytest.mark.parametrize("changes", [{"modality": "../../up"}, {"temperature": -1.0}, {"threshold": float("nan")}])
def test_a_card_that_was_made_past_its_checks_is_not_published(tmp_path: Path, changes: dict[str, object]) -> None:
    with pytest.raises(BadCheckpoint, match=f"field {next(iter(changes))}"):
        publish(tmp_path / "store", make_card().model_copy(update=changes), WEIGHTS)
    assert _names(tmp_path) == []


@pytest.mark.parametrize("modality", ["Retina", "a/b", "..", "", "-a", "a" * 41])
def test_a_modality_that_is_no_folder_name_cannot_be_in_a_card(modality: str) -> None:
    with pytest.raises(ValidationError, match="modality"):
        make_card(modality)


def test_what_is_published_is_readable_by_all_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        folder = publish(tmp_path / "store", make_card(), WEIGHTS)
    finally:
        os.umask(before)
    assert {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "store", folder.parent, folder)} == {
        "store": 0o755,
        "retina": 0o755,
        "1": 0o755,
    }
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}


def test_a_file_system_without_modes_is_published_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    for name in ("chmod", "fchmod"):
        monkeypatch.setattr(os, name, refuse)
    folder = publish(tmp_path / "store", make_card(), WEIGHTS)
    write_pin(tmp_path / "store", "retina", "1")
    assert ModelStore(tmp_path / "store").current("retina").folder == folder


@pytest.mark.parametrize("chmods", range(3))
def test_a_publisher_killed_under_any_umask_leaves_no_folder_that_others_cannot_read(
    tmp_path: Path, chmods: int
) -> None:
    die = (
        f"os.umask(0o077)\nleft = [None] * {chmods}\n"
        "def die(event, arguments):\n"
        "    if event == 'os.chmod' and Path(str(arguments[0])).is_dir() and not left:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    elif event == 'os.chmod' and left:\n        left.pop()\n"
        "sys.addaudithook(die)"
    )
    assert _publish_elsewhere(tmp_path / "store", die, size=1000).returncode == -9
    folders = [path for path in tmp_path.rglob("*") if path.is_dir() and ".draft-" not in str(path)]
    assert [path.stat().st_mode & 0o777 for path in folders] == [0o755] * len(folders)


def test_a_disk_that_fails_once_all_is_published_is_named_and_so_is_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path, make_card(), WEIGHTS)
    sync = os.fsync

    def fail(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink() == tmp_path / "retina":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="it is published, but may be lost if the machine goes down now"):
        publish(tmp_path, make_card(version="2"), WEIGHTS)
    assert ModelStore(tmp_path).versions("retina") == [1, 2]


def test_of_many_publishers_of_one_version_one_wins(tmp_path: Path) -> None:
    publishers = 8
    barrier = threading.Barrier(publishers)

    def attempt(number: int) -> bool:
        weights = bytes([number]) * 100_000
        card = make_card(label=f"label {number}", weights_sha256=sha256(weights))
        barrier.wait()
        try:
            publish(tmp_path, card, weights)
        except AlreadyPublished:
            return False
        return True

    with ThreadPoolExecutor(publishers) as pool:
        won = list(pool.map(attempt, range(publishers)))
    assert sum(won) == 1
    checkpoint = ModelStore(tmp_path).newest("retina")
    assert checkpoint.card.label == f"label {won.index(True)}"
    assert checkpoint.read_weights() == bytes([won.index(True)]) * 100_000
    assert _names(tmp_path) == ["retina"]


def test_publishers_of_different_versions_do_not_disturb_each_other(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda version: publish(tmp_path, make_card(version=str(version)), WEIGHTS), range(1, 25)))
    assert ModelStore(tmp_path).versions("retina") == list(range(1, 25))
    assert _names(tmp_path) == ["retina"]


@pytest.mark.parametrize("event", ["os.rename", "weights.safetensors", "card.json", "README.md"])
def test_a_publisher_killed_on_the_way_leaves_only_a_draft(tmp_path: Path, event: str) -> None:
    publish(tmp_path, make_card("cell"), WEIGHTS)
    die = (
        "def die(event, arguments):\n"
        f"    if event == {event!r} or event == 'open' and str(arguments[0]).endswith({event!r}):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "sys.addaudithook(die)"
    )
    assert _publish_elsewhere(tmp_path, die, size=1000).returncode == -9
    assert ModelStore(tmp_path).modalities() == ["cell"]
    assert ModelStore(tmp_path).versions("retina") == []
    left = [name for name in _names(tmp_path) if name != "cell"]
    assert left
    assert all(name.startswith(".draft-") for name in left)
    publish(tmp_path, make_card("retina"), WEIGHTS)
    assert Checkpoint.read(tmp_path / "retina" / "1").read_weights() == WEIGHTS


KILLED_WHILE_PUBLISHING = """
import itertools, os, random, signal, sys, time
from pathlib import Path
from service.store.checkpoint import sha256
from service.store.model_store import ModelStore, next_version
from service.store.pin import write_pin
from service.store.publish import publish
from tests.cards import make_card

store = Path(sys.argv[1])

def publish_next():
    version = next_version(store, "retina")
    weights = version.encode() * 300_000
    publish(store, make_card(version=version, weights_sha256=sha256(weights)), weights)

started = time.monotonic()
publish_next()
takes_s = time.monotonic() - started
for kill in range(12):
    publisher = os.fork()
    if not publisher:
        while True:
            publish_next()
    time.sleep(random.Random(kill).uniform(0.3, 3) * takes_s)
    os.kill(publisher, signal.SIGKILL)
    os.waitpid(publisher, 0)
    versions = ModelStore(store).versions("retina")
    assert versions == list(range(1, len(versions) + 1))
    for version in versions[-2:]:
        checkpoint = ModelStore(store).open("retina", str(version))
        assert checkpoint.read_weights() == str(version).encode() * 300_000
    others = [path.name for path in store.iterdir() if path.name != "retina"]
    assert all(name.startswith(".draft-") for name in others)
publish_next()
assert len(versions) > 1
"""


def test_killed_at_any_moment_publishers_leave_whole_versions_and_hidden_drafts(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED_WHILE_PUBLISHING, str(tmp_path)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr


def test_a_full_disk_leaves_the_store_as_it_was_and_is_named(tmp_path: Path) -> None:
    publish(tmp_path, make_card("cell"), WEIGHTS)
    before = _tree(tmp_path)
    no_room = "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))"
    failed = _publish_elsewhere(tmp_path, no_room, size=200_000)
    assert failed.returncode == 1
    assert "OSError: [Errno 27] File too large; nothing was published" in failed.stderr
    assert _tree(tmp_path) == before
    assert _names(tmp_path) == ["cell"]


def test_a_store_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("kept")
    with pytest.raises(NotADirectoryError, match="nothing was published"):
        publish(tmp_path / "store", make_card(), WEIGHTS)
    assert (tmp_path / "store").read_text() == "kept"


def test_what_stands_in_a_versions_place_and_is_none_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "retina").mkdir()
    (tmp_path / "retina" / "1").write_text("kept")
    with pytest.raises(NotADirectoryError, match="nothing was published"):
        publish(tmp_path, make_card(), WEIGHTS)
    assert (tmp_path / "retina" / "1").read_text() == "kept"
    assert _names(tmp_path) == ["retina"]


@pytest.mark.parametrize("number", [errno.EEXIST, errno.ENOTEMPTY])
def test_a_version_that_is_there_is_told_in_whichever_way_the_system_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(_draft: Path, _target: Path) -> Path:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(AlreadyPublished):
        publish(tmp_path, make_card(), WEIGHTS)


def test_the_next_version_is_looked_for_until_there_is_one_that_no_other_publisher_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def next_that_is_taken(store: Path, modality: str) -> str:
        version = next_version(store, modality)
        asked.append(version)
        if len(asked) <= taken:
            publish(store, make_card(version=version), WEIGHTS)
        return version

    monkeypatch.setattr(publishing, "next_version", next_that_is_taken)
    taken = TRIES - 1
    assert publish_next(tmp_path, make_card(), WEIGHTS) == tmp_path / "retina" / str(TRIES)
    asked.clear()
    taken = TRIES + 1
    with pytest.raises(AlreadyPublished):
        publish_next(tmp_path, make_card(), WEIGHTS)
    assert len(asked) == TRIES


def test_files_are_on_the_disk_before_the_folder_takes_its_name_and_then_that_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncs = noted_syncs(monkeypatch, tmp_path)
    folder = publish(tmp_path, make_card(), WEIGHTS)
    names = ["weights.safetensors", "card.json", "README.md"]
    assert [(path.name, held) for path, held in syncs[:3]] == [(name, (folder / name).read_bytes()) for name in names]
    draft = syncs[0][0].parent
    assert draft.name.startswith(".draft-")
    assert syncs[3:] == [(draft, sorted(names)), (folder.parent, ["1"]), (tmp_path, ["retina"])]


def test_drafts_of_the_dead_are_cleared_away_after_a_day(tmp_path: Path) -> None:
    for name, age_h in ((".draft-old", 24.01), (".draft-new", 23.99), ("old", 25)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "card.json").write_text("{}")
        then = time.time() - age_h * 3600
        os.utime(tmp_path / name, (then, then))
    publish(tmp_path, make_card(), WEIGHTS)
    assert _names(tmp_path) == [".draft-new", "old", "retina"]


def test_a_draft_that_cannot_be_cleared_away_keeps_nobody_from_publishing(tmp_path: Path) -> None:
    (tmp_path / ".draft-note").write_text("a file")
    os.utime(tmp_path / ".draft-note", (0, 0))
    publish(tmp_path, make_card(), WEIGHTS)
    assert _names(tmp_path) == [".draft-note", "retina"]


def test_a_publisher_killed_while_it_makes_the_store_leaves_a_folder_beside_it_that_is_cleared_away(
    tmp_path: Path,
) -> None:
    die = (
        "def die(event, arguments):\n"
        "    if event == 'os.rename':\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "sys.addaudithook(die)"
    )
    assert _publish_elsewhere(tmp_path / "store", die, size=10).returncode == -9
    [left] = tmp_path.iterdir()
    publish(tmp_path / "store", make_card(), WEIGHTS)
    assert _names(tmp_path) == [left.name, "store"], "its publisher may be at it still"
    os.utime(left, (0, 0))
    publish(tmp_path / "store", make_card(version="2"), WEIGHTS)
    assert _names(tmp_path) == ["store"]


def test_beside_the_store_nothing_is_cleared_away_that_holds_anything(tmp_path: Path) -> None:
    (tmp_path / ".draft-thesis").mkdir()
    (tmp_path / ".draft-thesis" / "chapter").write_text("years of work")
    (tmp_path / ".draft-note").write_text("")
    (tmp_path / ".draft-link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "elsewhere").mkdir()
    for path in tmp_path.iterdir():
        os.utime(path, (0, 0))
    before = _names(tmp_path)
    publish(tmp_path / "store", make_card(), WEIGHTS)
    assert _names(tmp_path) == sorted([*before, "store"])
