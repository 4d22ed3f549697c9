"""Where broker, results and database are. Environment variables such as CELERY_BROKER_URL win over what stands here."""

import os

from pico_ioc import DictSource, EnvSource, configuration

settings = {
    "celery": {
        "broker_url": "redis://localhost:6379/0",
        "backend_url": "redis://localhost:6379/1",
        "pico_result_timeout": 600,  # seconds
        # The schedule, for `celery beat`.
        "beat_schedule": {"stock-take": {"task": "shop.take_stock", "schedule": 5.0}},
    },
    "database": {"url": os.environ.get("DATABASE_URL", "sqlite+aiosqlite:///shop.db")},
}

config = configuration(EnvSource(), DictSource(settings))
