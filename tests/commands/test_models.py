"""alnet models: list, show, verify, import, pin, unpin, rollback."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load, save
from typer.testing import CliRunner, Result

from service.commands.models import app
from service.errors import BadCheckpoint, UnknownModality
from service.settings import Settings
from service.store.card import Probe
from service.store.checkpoint import Checkpoint, sha256
from service.store.model_store import ModelStore
from service.store.pin import read_pin, write_pin
from service.store.publish import publish
from service.store.readme import card_readme
from tests.cards import WEIGHTS, make_card
from tests.checkpoints import publish_tiny


def _run(*arguments: str | Path, store: Path) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments), "--store", str(store)])


def test_the_default_store_is_the_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(tmp_path / Settings.model_fields["store"].default, make_card("skin"), WEIGHTS)
    monkeypatch.chdir(tmp_path)
    assert "skin" in CliRunner().invoke(app, ["list"]).stdout


def test_the_store_is_taken_from_the_environment(tmp_path: Path) -> None:
    publish(tmp_path, make_card("skin"), WEIGHTS)
    assert "skin" in CliRunner().invoke(app, ["list"], env={"ALNET_STORE": str(tmp_path)}).stdout


def test_list_prints_a_line_for_each_checkpoint(tmp_path: Path) -> None:
    for modality, version in (("skin", "2"), ("retina", "10"), ("retina", "9")):
        publish(tmp_path, make_card(modality, version=version), WEIGHTS)
    head, *lines = _run("list", store=tmp_path).stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [["retina", "9"], ["retina", "10"], ["skin", "2"]]
    assert [line.split()[2] for line in lines] == ["no", "yes", "yes"]
    assert lines[2].split() == ["skin", "2", "yes", "lesion", "al-net", "3,453,000", "0.700", "(n=3)", "0.0", "MiB"]
    assert {line.index("al-net") for line in lines} == {head.index("ARCHITECTURE")}


def test_list_says_when_nothing_was_held_out(tmp_path: Path) -> None:
    publish(tmp_path, make_card(test=None), WEIGHTS)
    assert " none " in _run("list", store=tmp_path).stdout


def test_list_counts_the_size_on_disk(tmp_path: Path) -> None:
    weights = bytes(3 << 20)
    publish(tmp_path, make_card(weights_sha256=sha256(weights)), weights)
    assert _run("list", store=tmp_path).stdout.endswith("3.0 MiB\n")


def test_list_of_an_empty_store_says_where_it_looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    expected = f"no checkpoints in {tmp_path / 'empty'}; --store or ALNET_STORE names another store\n"
    for store in (tmp_path / "empty", Path("empty")):
        result = _run("list", store=store)
        assert (result.exit_code, result.stdout) == (0, expected)


def test_show_prints_the_newest_card(tmp_path: Path) -> None:
    for version in ("1", "2"):
        publish(tmp_path, make_card(version=version), WEIGHTS)
    assert _run("show", "retina", store=tmp_path).stdout == card_readme(make_card(version="2"))
    assert _run("show", "retina", "--version", "1", store=tmp_path).stdout == card_readme(make_card(version="1"))


def test_show_as_json_is_the_card_as_published(tmp_path: Path) -> None:
    folder = publish(tmp_path, make_card(), WEIGHTS)
    shown = _run("show", "retina", "--json", store=tmp_path).stdout
    assert shown == (folder / "card.json").read_text()
    assert json.loads(shown)["modality"] == "retina"


def test_show_of_an_unknown_modality_lists_those_that_exist(tmp_path: Path) -> None:
    publish(tmp_path, make_card(), WEIGHTS)
    result = _run("show", "liver", store=tmp_path)
    assert isinstance(result.exception, UnknownModality)
    assert "it has: retina" in str(result.exception)


def test_list_shows_what_is_sound_and_a_line_for_each_thing_that_is_broken(tmp_path: Path) -> None:
    _publish_versions(tmp_path, "1", "3")
    publish(tmp_path, make_card("skin"), WEIGHTS)
    (tmp_path / "retina" / "2").mkdir()
    (tmp_path / "retina" / "3" / "card.json").write_text("{")
    (tmp_path / "skin" / "pin").write_text("latest")
    (tmp_path / "cell").symlink_to("x" * 300)  # cannot be listed, whoever asks
    result = _run("list", store=tmp_path)
    _head, *lines = result.stdout.splitlines()
    assert result.exit_code == 1
    assert [line.split()[:3] for line in lines[:2]] == [["retina", "1", "no"], ["skin", "1", "no"]]
    assert [line.partition(": FAILED: ")[0] for line in lines[2:]] == ["cell", "retina 2", "retina 3", "skin"]
    for line, reason in zip(lines[2:], ("cannot be listed", "is missing", "card.json: ", "no version"), strict=True):
        assert reason in line


def test_list_shows_the_others_beside_one_whose_size_cannot_be_told(tmp_path: Path) -> None:
    _publish_versions(tmp_path, "1", "2")
    (tmp_path / "retina" / "1" / "notes").symlink_to("x" * 300)  # cannot be looked at, whoever asks
    result = _run("list", store=tmp_path)
    _head, sound, broken = result.stdout.splitlines()
    assert (result.exit_code, sound.split()[:3]) == (1, ["retina", "2", "yes"])
    assert broken.startswith("retina 1: FAILED: OSError: ")


def test_list_and_verify_tell_of_a_pin_to_a_version_that_is_not_published(tmp_path: Path) -> None:
    publish_tiny(tmp_path)
    write_pin(tmp_path, "retina", "7")
    for command in ("list", "verify"):
        result = _run(command, store=tmp_path)
        assert result.exit_code == 1
        assert "retina: FAILED: retina is pinned to version 7, which is not published" in result.stdout


def test_verify_goes_on_past_what_cannot_be_listed(tmp_path: Path) -> None:
    (tmp_path / "cell").symlink_to("x" * 300)
    publish_tiny(tmp_path, "retina")
    result = _run("verify", store=tmp_path)
    assert result.exit_code == 1
    assert [line.partition(": FAILED: ")[0] for line in result.stdout.splitlines()] == ["retina 1: sound", "cell"]


def test_verify_tells_a_grid_that_no_memory_holds_in_a_line(tmp_path: Path) -> None:
    """Its probe alone would have terabytes."""
    path = publish_tiny(tmp_path).folder / "card.json"
    card = json.loads(path.read_text())
    card["input"] |= {"kind": "tile", "height": 32 * 10**5, "width": 32 * 10**5, "overlap": 0}
    path.write_text(json.dumps(card))
    result = _run("verify", store=tmp_path)
    assert result.exit_code == 1
    assert "retina 1: FAILED: " in result.stdout
    assert "Traceback" not in result.output


@pytest.mark.parametrize("fault", [MemoryError(), RuntimeError("can't allocate\nframe #0"), OverflowError("too large")])
def test_verify_tells_whatever_fails_in_a_line_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def fails_for_cell(checkpoint: Checkpoint, _wish: object) -> None:
        if checkpoint.card.modality == "cell":
            raise fault

    monkeypatch.setattr("service.engine.choosing.load_engine", fails_for_cell)
    for modality in ("cell", "retina"):
        publish(tmp_path, make_card(modality), WEIGHTS)
    result = _run("verify", store=tmp_path)
    assert result.exit_code == 1
    cell, retina = result.stdout.splitlines()
    assert cell.startswith(f"cell 1: FAILED: {type(fault).__name__}")
    assert retina == "retina 1: sound"


def test_a_broken_checkpoint_is_an_error_of_show(tmp_path: Path) -> None:
    (tmp_path / "retina" / "1").mkdir(parents=True)
    assert isinstance(_run("show", "retina", store=tmp_path).exception, BadCheckpoint)


def test_verify_passes_sound_checkpoints(tmp_path: Path) -> None:
    publish_tiny(tmp_path, "retina")
    publish_tiny(tmp_path, "cell")
    result = _run("verify", store=tmp_path)
    assert (result.exit_code, result.stdout) == (0, "cell 1: sound\nretina 1: sound\n")


def test_verify_names_what_is_wrong_and_goes_on(tmp_path: Path) -> None:
    damaged = publish_tiny(tmp_path, "cell").weights_path
    damaged.write_bytes(damaged.read_bytes()[:-1])
    publish_tiny(tmp_path, "retina", probe=Probe(rows=4, columns=4, answer=(0.9,) * 16, tolerance=0.02))
    publish_tiny(tmp_path, "skin")
    (tmp_path / "skin" / "2").mkdir()
    result = _run("verify", store=tmp_path)
    cell, retina, skin, draft = result.stdout.splitlines()
    assert result.exit_code == 1
    assert cell.startswith("cell 1: FAILED: ")
    assert "weights.safetensors has sha256" in cell
    assert "does not reproduce its recorded probe" in retina
    assert skin == "skin 1: sound"
    assert "card.json is missing" in draft


def test_verify_refuses_weights_that_are_not_the_architectures(tmp_path: Path) -> None:
    tiny = publish_tiny(tmp_path)
    state = load(tiny.read_weights())
    state.pop(next(iter(state)))
    weights = save(state)
    publish(tmp_path, tiny.card.model_copy(update={"version": "2", "weights_sha256": sha256(weights)}), weights)
    result = _run("verify", store=tmp_path)
    assert result.exit_code == 1
    assert "retina 2: FAILED: retina/2: weights do not fit al-net" in result.stdout


@pytest.mark.parametrize("content", [b"", b"\x80\x04pickle", bytes(100)], ids=["empty", "pickle", "zeros"])
def test_verify_refuses_what_is_no_safetensors_archive(tmp_path: Path, content: bytes) -> None:
    publish(tmp_path, make_card(weights_sha256=sha256(content)), content)
    result = _run("verify", store=tmp_path)
    assert result.exit_code == 1
    assert "damaged" in result.stdout


def test_verify_checks_one_modality_if_asked(tmp_path: Path) -> None:
    publish_tiny(tmp_path, "cell")
    publish(tmp_path, make_card("retina"), WEIGHTS)
    result = _run("verify", "cell", store=tmp_path)
    assert (result.exit_code, result.stdout) == (0, "cell 1: sound\n")


@pytest.mark.parametrize("modality", [[], ["liver"]])
def test_verify_of_nothing_does_not_pass(tmp_path: Path, modality: list[str]) -> None:
    assert isinstance(_run("verify", *modality, store=tmp_path).exception, UnknownModality)


def test_import_publishes_a_copy_under_the_next_free_version(tmp_path: Path) -> None:
    store, arrived = tmp_path / "store", tmp_path / "arrived"
    _publish_versions(store, "1", "4")
    publish(tmp_path, make_card(version="4"), WEIGHTS).rename(arrived)
    said = _run("import", arrived, store=store).stdout
    assert said == f"retina: version 5, a copy of version 4 in {arrived}\n"
    copy = ModelStore(store).open("retina", "5")
    assert copy.card == make_card(version="5")
    assert copy.read_weights() == WEIGHTS
    assert (copy.folder / "README.md").read_text() == card_readme(make_card(version="5"))


def test_import_of_what_is_damaged_publishes_nothing(tmp_path: Path) -> None:
    folder = publish(tmp_path / "other", make_card(), WEIGHTS)
    (folder / "weights.safetensors").write_bytes(b"damaged")
    result = _run("import", folder, store=tmp_path / "store")
    assert isinstance(result.exception, BadCheckpoint)
    assert not (tmp_path / "store").exists()


def _publish_versions(store: Path, *versions: str) -> None:
    for version in versions:
        publish(store, make_card(version=version), WEIGHTS)


def test_pin_unpin_and_rollback_say_and_decide_what_is_to_be_served(tmp_path: Path) -> None:
    _publish_versions(tmp_path, "1", "2", "10")
    said, wanted = [], []
    for call in (["rollback", "retina"], ["rollback", "retina"], ["pin", "retina", "10"], ["unpin", "retina"]):
        said.append(_run(*call, store=tmp_path).stdout.strip())
        wanted.append(ModelStore(tmp_path).wanted("retina").version)
    assert said == [
        "retina: pinned to version 2",
        "retina: pinned to version 1",
        "retina: pinned to version 10",
        "retina: no longer pinned; version 10 is to be served",
    ]
    assert wanted == ["2", "1", "10", "10"]
    assert "was not pinned" in _run("unpin", "retina", store=tmp_path).stdout


def test_list_shows_which_version_is_pinned(tmp_path: Path) -> None:
    _publish_versions(tmp_path, "1", "2")
    _run("pin", "retina", "1", store=tmp_path)
    assert [line.split()[2] for line in _run("list", store=tmp_path).stdout.splitlines()] == ["SERVED", "pinned", "no"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (["pin", "retina", "3"], "no version '3' of retina; it has: 1"),
        (["pin", "liver", "1"], "no modality 'liver'"),
        (["unpin", "../retina"], "no modality '../retina'"),
        (["rollback", "retina"], "no version of retina before 1"),
        (["rollback", "liver"], "no modality 'liver'"),
    ],
)
def test_what_does_not_exist_can_be_neither_pinned_nor_rolled_back_to(
    tmp_path: Path, call: list[str], message: str
) -> None:
    _publish_versions(tmp_path, "1")
    result = _run(*call, store=tmp_path)
    assert isinstance(result.exception, UnknownModality)
    assert message in str(result.exception)
    assert read_pin(tmp_path, "retina") is None


def test_a_damaged_version_cannot_be_pinned(tmp_path: Path) -> None:
    _publish_versions(tmp_path, "1", "2")
    (tmp_path / "retina" / "1" / "weights.safetensors").write_bytes(b"damaged")
    assert isinstance(_run("rollback", "retina", store=tmp_path).exception, BadCheckpoint)
    assert read_pin(tmp_path, "retina") is None


@pytest.mark.parametrize("make", [lambda pin: pin.write_text("latest"), os.mkfifo, Path.mkdir])
def test_a_pin_that_holds_nonsense_can_be_lifted_and_replaced(tmp_path: Path, make: Callable[[Path], None]) -> None:
    _publish_versions(tmp_path, "1", "2")
    make(tmp_path / "retina" / "pin")
    assert "`alnet models pin`" in str(_run("rollback", "retina", store=tmp_path).exception)
    assert "pinned to version 1" in _run("pin", "retina", "1", store=tmp_path).stdout
    _run("unpin", "retina", store=tmp_path)
    make(tmp_path / "retina" / "pin")
    assert "no longer pinned; version 2 is to be served" in _run("unpin", "retina", store=tmp_path).stdout
    assert read_pin(tmp_path, "retina") is None
