"""Where a worker serves its health: off by default, and on this machine alone where it is on."""

import pytest

from pico_celery_core.errors import SettingsError
from pico_celery_core.http_endpoint import HttpEndpoint


def test_nothing_is_served_by_default():
    assert HttpEndpoint.read({}) == HttpEndpoint("127.0.0.1", 0)


def test_the_settings_of_an_environment_are_text():
    settings = {"pico_http_port": "8080", "pico_http_host": "0.0.0.0"}

    assert HttpEndpoint.read(settings) == HttpEndpoint("0.0.0.0", 8080)


@pytest.mark.parametrize(
    ("setting", "value", "hint"),
    [
        ("pico_http_port", "http", "Give a port from 1 to 65535, or 0 for no server."),
        ("pico_http_port", -1, "Give a port from 1 to 65535"),
        ("pico_http_port", 65536, "Give a port from 1 to 65535"),
        ("pico_http_port", float("inf"), "Give a port from 1 to 65535"),
        ("pico_http_host", "", "Give an address such as 127.0.0.1"),
        ("pico_http_host", 7, "Give an address such as 127.0.0.1"),
    ],
)
def test_what_is_no_address_is_refused(setting, value, hint):
    with pytest.raises(SettingsError, match=setting) as error:
        HttpEndpoint.read({setting: value})

    assert hint in error.value.hint
