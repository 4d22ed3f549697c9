"""The worker: `celery -A examples.shop.worker.app worker -P gevent -c 1000 --loglevel INFO`."""

from celery import Celery
from pico_ioc import init

from examples.shop.config import config

container = init(
    modules=[
        "pico_celery",
        "examples.shop.worker.database",
        "examples.shop.worker.services",
        "examples.shop.worker.tasks",
    ],
    config=config,
)
app = container.get(Celery)
