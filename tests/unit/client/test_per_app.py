"""What each app has one of."""

import gc
import os
import weakref

import pytest
from celery import Celery
from pico_ioc import UnifiedComponentProxy

from pico_celery_client.per_app import PerApp


class Thing:
    pass


@pytest.fixture
def things() -> PerApp[Thing]:
    return PerApp(lambda app: Thing())


def make_app() -> Celery:
    return Celery("tests", broker="memory://", set_as_current=False)


def test_each_app_has_its_own_and_keeps_it(things):
    one, other = make_app(), make_app()
    assert things.of(one) is things.of(one)
    assert things.of(one) is not things.of(other)


def test_the_proxy_of_an_app_has_what_the_app_has(things, container):
    app = make_app()
    proxy = UnifiedComponentProxy(container=container(), object_creator=lambda: app)
    assert things.of(proxy) is things.of(app)


def test_it_goes_with_the_app(things):
    app = make_app()
    thing = weakref.ref(things.of(app))
    del app
    gc.collect()
    assert thing() is None


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_makes_its_own(things):
    app = make_app()
    thing = things.of(app)
    child = os.fork()
    if child == 0:
        os._exit(things.of(app) is thing)
    assert os.waitpid(child, 0)[1] == 0
    assert things.of(app) is thing
