"""What `init(modules=["pico_celery_worker", ...])` finds: the components of every installed package of pico-celery."""

from pico_celery import components as _installed

globals().update({name: getattr(_installed, name) for name in _installed.__all__})
