"""The manifests of examples/kubernetes ask a worker for what it answers, where it does."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from pico_celery_core.settings import KNOWN
from pico_celery_worker.observability import server

FOLDER = Path(__file__).parent.parent / "examples" / "kubernetes"


def manifest(name: str) -> Any:
    return yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def container() -> Any:
    [container] = manifest("worker")["spec"]["template"]["spec"]["containers"]
    return container


@pytest.mark.parametrize(
    ("probe", "path"),
    [("startupProbe", server.LIVE), ("livenessProbe", server.LIVE), ("readinessProbe", server.READY)],
)
def test_a_probe_asks_for_what_is_served(probe, path, container):
    [port] = container["ports"]

    assert container[probe]["httpGet"] == {"path": path, "port": port["name"]}


def test_what_is_set_are_settings_and_the_port_is_the_same_everywhere(container):
    settings = {variable["name"].removeprefix("CELERY_").lower(): variable for variable in container["env"]}
    annotations = manifest("worker")["spec"]["template"]["metadata"]["annotations"]

    assert settings.keys() <= KNOWN.keys() | {"backend_url"}
    ports = {settings["pico_http_port"]["value"], annotations["prometheus.io/port"]}
    assert ports == {str(container["ports"][0]["containerPort"])}
    assert annotations["prometheus.io/path"] == server.METRICS


def test_keda_scales_the_worker_by_its_queue_and_by_a_metric_that_there_is():
    spec = manifest("keda")["spec"]

    assert spec["scaleTargetRef"]["name"] == manifest("worker")["metadata"]["name"]
    queue, metric = spec["triggers"]
    assert queue["metadata"]["listName"] == KNOWN["task_default_queue"].default
    assert "pico_celery_task_queue_seconds_bucket" in metric["metadata"]["query"]


def test_every_metric_is_in_the_documentation():
    metrics = pytest.importorskip("pico_celery_worker.observability.metrics")
    page = (FOLDER.parents[1] / "docs" / "how-to" / "observability.md").read_text(encoding="utf-8")
    own = [metrics.TASKS, metrics.DURATION, metrics.QUEUED]
    names = [family.name for metric in own for family in metric.collect()]

    assert [name for name in names if f"`{name}" not in page] == []
