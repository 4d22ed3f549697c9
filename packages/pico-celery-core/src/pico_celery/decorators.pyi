from pico_celery_core.legacy import PICO_CELERY_METHOD_META as PICO_CELERY_METHOD_META
from pico_celery_core.legacy import task as task
