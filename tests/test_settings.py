"""Settings from an environment: defaults, values, and one clear line for what is wrong."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from service.errors import BadSettings
from service.settings import PREFIX, Settings

DEFAULTS = Settings.model_validate({})
NUMBERS = [name for name, field in Settings.model_fields.items() if field.annotation in (int, float)]


def test_an_empty_environment_gives_the_defaults() -> None:
    assert Settings.read({}) == DEFAULTS


def test_variables_of_others_are_passed_over() -> None:
    assert Settings.read({"PATH": "/bin", "XALNET_PORT": "1", "PORT": "80"}) == DEFAULTS


def test_values_are_read_in_their_types() -> None:
    environ = {
        "ALNET_STORE": "/srv/models",
        "ALNET_MODALITIES": "retina, cell",
        "ALNET_DEVICE": "cpu",
        "ALNET_PORT": "0",
        "ALNET_MAX_BATCH_WAIT_MS": "2.5",
        "ALNET_LOG_LEVEL": "debug",
    }
    settings = Settings.read(environ)
    assert settings.model_dump(exclude_unset=True) == {
        "store": Path("/srv/models"),
        "modalities": "retina, cell",
        "device": "cpu",
        "port": 0,
        "max_batch_wait_ms": 2.5,
        "log_level": "debug",
    }


def test_limits_are_told_in_pixels_and_bytes_too_and_one_body_always_fits() -> None:
    settings = Settings.read({}, max_image_megapixels=0.5, max_upload_mib=1.5, max_bodies_mib=3)
    assert (settings.max_pixels, settings.max_upload_bytes, settings.max_bodies_bytes) == (
        500_000,
        3 * 2**19,
        3 * 2**20,
    )
    assert Settings.read({}, max_upload_mib=1.5, max_bodies_mib=0.5).max_bodies_bytes == 3 * 2**19


def test_what_is_given_wins_over_the_environment_and_none_does_not() -> None:
    settings = Settings.read({"ALNET_PORT": "9000", "ALNET_HOST": "::1"}, port=9001, host=None)
    assert (settings.port, settings.host) == (9001, "::1")


@pytest.mark.parametrize("name", ["ALNET_PROT", "ALNET_", "ALNET_STORE_"])
def test_an_unknown_variable_is_named(name: str) -> None:
    with pytest.raises(BadSettings, match=f"unknown setting {name};"):
        Settings.read({name: "1"})


def test_all_unknown_variables_are_named_at_once() -> None:
    with pytest.raises(BadSettings, match="ALNET_A, ALNET_B"):
        Settings.read({"ALNET_B": "1", "ALNET_A": "1"})


def test_the_test_suites_own_variable_is_no_unknown_setting() -> None:
    assert Settings.read({"ALNET_TEST_DATA": "/data"}) == DEFAULTS


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALNET_DEVICE", "tpu"),
        ("ALNET_DEVICE", "CUDA"),
        ("ALNET_PRECISION", "int4"),
        ("ALNET_ENGINE", "onnx"),
        ("ALNET_LOG_LEVEL", "loud"),
        ("ALNET_PORT", "65536"),
        ("ALNET_PORT", "-1"),
        ("ALNET_PORT", "80a"),
        ("ALNET_THREADS", "1.5"),
        ("ALNET_MAX_BATCH_SIZE", "0"),
        ("ALNET_MAX_QUEUED", "0"),
        ("ALNET_MAX_UPLOAD_MIB", "0"),
        ("ALNET_MAX_IMAGE_MEGAPIXELS", "1e9"),
        ("ALNET_REQUEST_TIMEOUT_S", "0"),
    ],
)
def test_a_wrong_value_is_refused_in_one_line_that_names_the_variable_and_the_value(name: str, value: str) -> None:
    with pytest.raises(BadSettings) as caught:
        Settings.read({name: value})
    assert str(caught.value).startswith(f"{name}={value!r}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "many"])
def test_no_number_may_be_endless_or_none_at_all(name: str, value: str) -> None:
    with pytest.raises(BadSettings, match=PREFIX + name.upper()):
        Settings.read({PREFIX + name.upper(): value})


@pytest.mark.parametrize("name", sorted(Settings.model_fields.keys() - {"modalities", "cors_origins"}))
def test_an_empty_value_is_refused_instead_of_being_taken_for_something(name: str) -> None:
    with pytest.raises(BadSettings, match=f"{PREFIX}{name.upper()} is set, but empty"):
        Settings.read({PREFIX + name.upper(): ""})


@pytest.mark.parametrize("name", ["host", "store"])
def test_an_empty_option_is_refused_like_an_empty_variable(name: str) -> None:
    with pytest.raises(BadSettings, match=f"{PREFIX}{name.upper()} is set, but empty"):
        Settings.read({PREFIX + name.upper(): "x"}, **{name: ""})


def test_an_option_wins_over_an_empty_variable() -> None:
    assert Settings.read({"ALNET_HOST": ""}, host="::1").host == "::1"


def test_empty_modalities_mean_all() -> None:
    assert not Settings.read({"ALNET_MODALITIES": ""}).modalities


def test_empty_origins_mean_none() -> None:
    assert not Settings.read({"ALNET_CORS_ORIGINS": ""}).cors_origins


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        DEFAULTS.port = 1


def test_every_setting_is_described() -> None:
    assert all(field.description for field in Settings.model_fields.values())
