from pico_celery_client.testing import Call as Call
from pico_celery_client.testing import NoOutcomeError as NoOutcomeError
from pico_celery_client.testing import RecordingCelery as RecordingCelery
from pico_celery_worker.testing import OpenTaskScope as OpenTaskScope
from pico_celery_worker.testing import TaskRunner as TaskRunner
from pico_celery_worker.testing import TasksStillRunError as TasksStillRunError
from pico_celery_worker.testing import task_scope as task_scope
