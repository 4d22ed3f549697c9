from pico_celery_client import CeleryClient as CeleryClient
from pico_celery_client import CeleryClientInterceptor as CeleryClientInterceptor
from pico_celery_client import TaskResult as TaskResult
from pico_celery_client import TaskSignature as TaskSignature
from pico_celery_client import celery as celery
from pico_celery_client import gather_results as gather_results
from pico_celery_client import partial_signature as partial_signature
from pico_celery_client import signature as signature
from pico_celery_client import with_options as with_options
from pico_celery_core import CeleryFactory as CeleryFactory
from pico_celery_core import CelerySettings as CelerySettings
from pico_celery_core import Progress as Progress
from pico_celery_core import SendOptions as SendOptions
from pico_celery_core import Sensitive as Sensitive
from pico_celery_core import TaskOptions as TaskOptions
from pico_celery_core import schedule as schedule
from pico_celery_core import send_task as send_task
from pico_celery_core import task as task
from pico_celery_worker import AsyncTask as AsyncTask
from pico_celery_worker import DeadLetter as DeadLetter
from pico_celery_worker import DeadLetters as DeadLetters
from pico_celery_worker import PicoTaskRegistrar as PicoTaskRegistrar
from pico_celery_worker import TaskContext as TaskContext
from pico_celery_worker import TaskLogFilter as TaskLogFilter
from pico_celery_worker import run_blocking as run_blocking

__version__: str
