"""Where results are kept, told so that sender and worker can compare it, and without a secret."""

import pytest
from celery import Celery

from pico_celery_core.backends import result_backend_address


def address(url: str | None, **settings: object) -> str:
    app = Celery("tests", backend=url, set_as_current=False)
    app.conf.update(settings)
    return result_backend_address(app)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://cache", "redis://cache:6379/0"),
        ("redis://:s3cret@cache:7000/3?ssl_cert_reqs=none", "redis://cache:7000/3"),
        ("rediss://user:s3cret@cache/3?ssl_cert_reqs=none", "redis://cache:6379/3"),
        ("redis://127.0.0.1:6379/1", "redis://localhost:6379/1"),
        ("redis://", "redis://localhost:6379/0"),
        ("redis+socket:///run/redis.sock?virtual_host=4", "redis:///run/redis.sock/4"),
        ("sentinel://:s3cret@one:26379/2;sentinel://:s3cret@two:26379/2", "sentinel://one:26379/2"),
        ("db+postgresql://user:s3cret@127.0.0.1:5432/shop?password=s3cret", "db+postgresql://localhost:5432/shop"),
        ("db+sqlite:///results.db", "db+sqlite:///results.db"),
        ("redis://:12/s3cret@cache/1", "redis://cache:6379/1"),
        ("redis://:s3cret?#@cache/1", "redis://cache:6379/1"),
        (
            "db+oracle://user:s3cret@(DESCRIPTION=(HOST=db)(PORT=1521))",
            "db+oracle://(description=(host=db)(port=1521))",
        ),
        ("db+odd://user:s3cret@host:port", "db+odd://"),
        ("rpc://", "rpc://"),
        ("cache+memory://", "cache+memory://"),
        ("disabled://", ""),
        ("disabled", ""),
        (None, ""),
    ],
)
@pytest.mark.filterwarnings("ignore:.*RPC.*:PendingDeprecationWarning")
def test_the_address_has_kind_server_and_place_and_no_secret(url, told):
    assert address(url) == told


def test_a_prefix_of_the_keys_is_part_of_the_address():
    prefixed = address("redis://cache", result_backend_transport_options={"global_keyprefix": "shop_"})
    assert prefixed == "redis://cache:6379/0 with the prefix shop_"
