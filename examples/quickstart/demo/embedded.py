"""A broker and a result backend in a folder, so that the examples need no server."""

import json
import os
import shutil
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from uuid import uuid4

from celery.backends.filesystem import FilesystemBackend
from kombu.transport import filesystem
from kombu.utils.json import dumps

# Celery takes some settings from these by itself; what the folder replaces must not leak in from elsewhere.
_REPLACED = ("BROKER_URL", "BACKEND_URL", "RESULT_BACKEND", "CELERY_RESULT_BACKEND")


@contextmanager
def broker_in_the_environment() -> Generator[str]:
    """Let this process, and those it starts, use the broker of CELERY_BROKER_URL, or else one in a new folder.

    Yields a line that says which.
    """
    if os.environ.get("CELERY_BROKER_URL"):
        yield "the broker that CELERY_BROKER_URL names"
        return
    folder = Path(mkdtemp(prefix="quickstart-"))
    try:
        for part in ("queues", "control", "results"):
            (folder / part).mkdir()
        for variable in _REPLACED:
            os.environ.pop(variable, None)
        os.environ.update(_settings(folder))
        yield "a broker in a temporary folder"
    finally:
        # A thread may still be sending. Under another name, nothing more comes into the folder while it is removed.
        shutil.rmtree(folder.rename(folder.with_name(f"{folder.name}-ended")))


def _settings(folder: Path) -> dict[str, str]:
    options = {
        "data_folder_in": str(folder / "queues"),
        "data_folder_out": str(folder / "queues"),
        "control_folder": str(folder / "control"),
        "polling_interval": 0.02,
    }
    return {
        "CELERY_BROKER_URL": "filesystem://localhost",
        "CELERY_BROKER_TRANSPORT": f"{__name__}:Transport",
        "CELERY_BROKER_TRANSPORT_OPTIONS": json.dumps(options),
        "CELERY_BACKEND_URL": f"{__name__}.Results+file://{folder / 'results'}",
        # Commands such as `celery inspect` would go through the folder, too, and slow the worker's start.
        "CELERY_WORKER_ENABLE_REMOTE_CONTROL": "false",
    }


class Channel(filesystem.Channel):
    """Kombu's channel of files, but a message is complete when it becomes visible.

    Kombu 5.7 opens a message's file under its final name before it writes to it: a quick worker takes an empty message
    and stops.
    """

    def _put(self, queue: str, payload: dict[str, Any], **_: Any) -> None:
        draft = self.control_folder / f"{uuid4()}.draft"
        draft.write_text(dumps(payload))
        # Messages are read in the order of their names, and the queue is what stands behind the first dot.
        draft.rename(Path(self.data_folder_out, f"{time.monotonic_ns():020}_{draft.stem}.{queue}.msg"))


class Results(FilesystemBackend):  # type: ignore[misc]  # Celery has no types
    """Celery's backend of files, but a result is complete when it becomes visible.

    Celery 5.7 empties a result's file before it writes to it: who reads meanwhile finds nothing that can be decoded.
    """

    def set(self, key: bytes, value: Any) -> None:
        draft = key + f".{uuid4()}.draft".encode()
        super().set(draft, value)
        Path(os.fsdecode(self._filename(draft))).replace(os.fsdecode(self._filename(key)))


class Transport(filesystem.Transport):
    """Kombu's transport of files, from which a worker is back often enough to stop without delay."""

    Channel = Channel

    def drain_events(self, connection: Any, timeout: float | None = None) -> None:
        super().drain_events(connection, timeout=timeout and min(timeout, 0.2))
