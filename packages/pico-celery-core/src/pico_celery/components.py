"""What `init(modules=["pico_celery", ...])` finds: the components of every installed package of pico-celery.

The client and the worker each have a `components` module that names the same, so naming any of the three packages wires
all that is installed.
"""

from importlib.util import find_spec

from pico_celery_core import CeleryFactory, CelerySettings

__all__ = ["CeleryFactory", "CelerySettings"]

if find_spec("pico_celery_client"):
    from pico_celery_client import CeleryClientInterceptor

    __all__ += ["CeleryClientInterceptor"]

if find_spec("pico_celery_worker"):
    from pico_celery_worker import PicoTaskRegistrar, TaskContext
    from pico_celery_worker.execution.interceptors import TaskInterceptors

    __all__ += ["PicoTaskRegistrar", "TaskContext", "TaskInterceptors"]
