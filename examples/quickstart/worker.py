"""The worker: `celery -A examples.quickstart.worker worker -P gevent -c 100`."""

from celery import Celery
from pico_ioc import init

from examples.quickstart.config import config

container = init(modules=["pico_celery", "examples.quickstart.services", "examples.quickstart.tasks"], config=config)
app = container.get(Celery)
