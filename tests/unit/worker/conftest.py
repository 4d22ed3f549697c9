"""What the worker's tests share: a Celery app in memory, containers of a few components, and plans."""

from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakSet

import pytest
from celery import Celery
from celery.backends import cache
from pico_ioc import DictSource, PicoContainer, configuration, init

from pico_celery_core import metadata
from pico_celery_worker.loop import close_runner
from tests.unit.worker.containers import module_of


@pytest.fixture(autouse=True)
def declare_again(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Forget what `@task` stood on in other tests; what is returned declares the methods of given classes again."""
    monkeypatch.setattr(metadata, "_declared", WeakSet())

    def declare(*classes: type) -> None:
        for cls in classes:
            for name, spec in metadata.handlers(cls):
                metadata.declare_task(getattr(cls, name), spec)

    return declare


MakeContainer = Callable[..., PicoContainer]


@pytest.fixture
def make_app() -> Iterator[Callable[..., Celery]]:
    """Make a Celery app whose broker and result backend are in memory, and whose calls run at once."""
    apps = []

    def make(**settings: Any) -> Celery:
        app = Celery("tests", broker="memory://", backend="cache+memory://", set_as_current=False)
        app.conf.update({"task_always_eager": True, "task_store_eager_result": True, **settings})
        apps.append(app)
        return app

    yield make
    for app in apps:
        app.close()
    cache._DUMMY_CLIENT_CACHE.clear()
    close_runner()


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    return make_app()


@pytest.fixture
def container(app: Celery) -> MakeContainer:
    """Make a container of the given components, the worker package and the app."""

    def make(
        *components: Any, overrides: dict[Any, Any] | None = None, on: Celery = app, **options: Any
    ) -> PicoContainer:
        return init(
            modules=["pico_celery_worker", module_of(*components)],
            config=configuration(DictSource({"celery": {}})),
            overrides={Celery: on, **(overrides or {})},
            **options,
        )

    return make
