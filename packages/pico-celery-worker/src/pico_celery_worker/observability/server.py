"""The HTTP server of a worker: its health, and its metrics where prometheus-client is installed."""

import importlib
import logging
from http import HTTPStatus
from importlib.util import find_spec
from typing import Any, Final

from pico_ioc import PicoContainer

from pico_celery_core.errors import SettingsError
from pico_celery_core.http_endpoint import HOST, PORT, HttpEndpoint
from pico_celery_worker.loop import LoopRunner
from pico_celery_worker.observability.health import Health
from pico_celery_worker.observability.http import HttpServer, Response

logger = logging.getLogger(__name__)

LIVE: Final = "/health/live"
READY: Final = "/health/ready"
METRICS: Final = "/metrics"


class WorkerServer:
    """Serves what a worker is asked about itself, on the worker's own loop.

    Args:
        worker: Celery's worker.
        container: The container of its tasks.
        endpoint: Where to serve.
    """

    def __init__(self, worker: Any, container: PicoContainer, endpoint: HttpEndpoint) -> None:
        self.health = Health(worker, container)
        self._worker = worker
        self._endpoint = endpoint
        self._metrics: Any = None
        self._server: HttpServer | None = None

    def start(self, runner: LoopRunner) -> None:
        """Begin to serve.

        Args:
            runner: Runs the loop.

        Raises:
            SettingsError: If the host and port cannot be listened on.
        """
        routes = {LIVE: self.health.live, READY: self.health.ready, METRICS: self._scrape}
        self._server = HttpServer(routes)
        host, port = self._endpoint.host, self._endpoint.port
        try:
            runner.run(self._server.start(host, port))
        except OSError as error:
            hint = f"Does another worker of this machine use it? Set another {PORT}, or {HOST}; 0 serves nothing."
            raise SettingsError(PORT, f"cannot be used: {host} port {port}: {error.strerror or error}", hint) from error
        if find_spec("prometheus_client") is not None:
            # Only now: it is optional, and with it comes Celery's consumer.
            module = importlib.import_module("pico_celery_worker.observability.metrics")
            self._metrics = module.WorkerMetrics(self._worker)
            self._metrics.start()
        paths = (LIVE, READY, *((METRICS,) if self._metrics is not None else ()))
        logger.info("Serving %s on %s port %d", ", ".join(paths), host, port)

    def stop(self, runner: LoopRunner) -> None:
        """Stop serving.

        Args:
            runner: Runs the loop.
        """
        if self._metrics is not None:
            self._metrics.stop()
            self._metrics = None
        server, self._server = self._server, None
        if server is not None:
            runner.run(server.stop())

    async def _scrape(self) -> Response:
        if self._metrics is None:
            return Response(HTTPStatus.NOT_FOUND, b"There are no metrics: pip install pico-celery-worker[metrics]\n")
        client: Any = importlib.import_module("prometheus_client")
        return Response(HTTPStatus.OK, client.generate_latest(), client.CONTENT_TYPE_LATEST)
