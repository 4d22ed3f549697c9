"""What is connected to the signals of an app from a container is called, in the worker and in beat."""

from pathlib import Path

from tests import services
from tests.integration.workers import celery, running_worker


def test_periodic_tasks_that_are_set_up_when_the_app_is_configured(tmp_path: Path) -> None:
    with (
        services.redis_database() as url,
        running_worker("scheduled", "-P", "gevent", broker=url, backend=url) as worker,
    ):
        assert "finalised with True" in worker.log
        variables = {"TEST_BROKER_URL": url, "TEST_BACKEND_URL": url}
        with celery("beat", "scheduled", "-s", str(tmp_path / "schedule"), **variables) as beat:
            worker.wait_for_log(r"Task scheduled\.tick\[.*\] succeeded in .*'tick for whom it may concern'")
            assert beat.stop() == 0
        assert worker.stop() == 0
