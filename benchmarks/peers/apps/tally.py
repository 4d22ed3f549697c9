"""Counts the tasks that a worker has executed, in its one process.

The time is taken from the first tenth of the tasks to the last, so that neither the worker's start nor its first
messages are in it, and for tasks that wait from the first that begins to the last that ends.
"""

import json
import os
import time
from pathlib import Path
from typing import Final

_TASKS: Final = int(os.environ.get("PEERS_TASKS", "0"))
_TOLD: Final = Path(os.environ.get("PEERS_TOLD", ""))


class Tally:
    """The tasks of one run."""

    def __init__(self) -> None:
        self._ended = 0
        self._began: float | None = None
        self._tenth = (0.0, 0.0)

    def begin(self) -> None:
        """Say that a task that waits begins."""
        if self._began is None:
            self._began = time.perf_counter()

    def end(self) -> None:
        """Say that a task ends."""
        self._ended += 1
        if self._ended == _TASKS // 10:
            self._tenth = (time.perf_counter(), time.process_time())
        elif self._ended == _TASKS:
            self._tell()

    def _tell(self) -> None:
        now, processor = time.perf_counter(), time.process_time()
        if self._began is None:
            counted = _TASKS - _TASKS // 10
            began, processor_before = self._tenth
        else:
            counted, began, processor_before = _TASKS, self._began, 0.0
        told = {"rate": counted / (now - began), "processor": (processor - processor_before) / counted * 1e6}
        unfinished = _TOLD.with_suffix(".new")
        unfinished.write_text(json.dumps(told), encoding="utf-8")
        unfinished.rename(_TOLD)


tally: Final = Tally()
