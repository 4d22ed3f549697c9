"""Where broker and results are. Environment variables such as CELERY_BROKER_URL win over what stands here."""

from pico_ioc import DictSource, EnvSource, configuration

settings = {
    "celery": {
        "broker_url": "redis://localhost:6379/0",
        "backend_url": "redis://localhost:6379/1",
        "pico_result_timeout": 60,  # seconds
    }
}

config = configuration(EnvSource(), DictSource(settings))
