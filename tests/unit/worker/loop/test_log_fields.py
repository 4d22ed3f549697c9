"""Records about tasks tell what has happened, and to which task, in fields of their own."""

import re
from pathlib import Path

import pytest

from pico_celery_worker.loop.log_fields import fields_of_label, log_fields

ROOT = Path(__file__).parents[4]


def test_fields_that_are_not_known_are_there():
    assert log_fields("result-waits") == {"event": "result-waits", "task_name": None, "task_id": None}


@pytest.mark.parametrize(
    ("label", "name", "task_id"),
    [("orders.confirm[4f5e]", "orders.confirm", "4f5e"), ("a[b[c]]", "a", "b[c]"), ("clean-up", "clean-up", None)],
)
def test_an_executions_label_has_both(label, name, task_id):
    assert fields_of_label("x", label) == {"event": "x", "task_name": name, "task_id": task_id}


def test_every_event_is_documented():
    sources = (ROOT / "packages" / "pico-celery-worker" / "src").rglob("*.py")
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    logged = set(re.findall(r'(?:log_fields|fields_of_label)\(\s*"([\w-]+)"', text))
    logged |= set(re.findall(r'_log_redelivered\(\w+, "([\w-]+)"', text))
    section = (ROOT / "docs" / "how-to" / "worker.md").read_text(encoding="utf-8").partition("## Structured logs")[2]
    table = section.partition("\n## ")[0]
    assert logged
    assert logged == set(re.findall(r"`([a-z]+(?:-[a-z]+)+)`", table))
