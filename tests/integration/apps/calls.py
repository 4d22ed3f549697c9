"""The tasks of endurance.py, in a worker that counts calls and frames of ours, and prints them at its end."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from types import FrameType
from typing import Any

from celery import signals

from tests.integration.apps.endurance import app

__all__ = ["app"]

calls: Counter[str] = Counter()
frames: dict[str, int] = {}

# Where the greenlet of a task hands over to the loop, and where its coroutine has come to the handler.
ENDS = {"GeventRunner._start", "EnduranceTasks.late"}


def is_ours(frame: FrameType) -> bool:
    return "/src/pico_celery" in frame.f_code.co_filename


def count(frame: FrameType, event: str, _: Any) -> None:
    if event != "call":
        return
    name = frame.f_code.co_qualname
    if is_ours(frame):
        calls[f"{frame.f_code.co_filename.partition('/src/')[2]} {name}"] += 1
    if name in ENDS:
        frames[name] = sum(is_ours(each) for each in stack(frame))


def stack(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


@signals.worker_ready.connect(weak=False)
def begin(**_: Any) -> None:
    sys.setprofile(count)


@signals.worker_shutting_down.connect(weak=False)
def end(**_: Any) -> None:
    sys.setprofile(None)
    sys.stdout.write(f"CALLS {json.dumps(calls)}\nFRAMES {json.dumps(frames)}\n")
    sys.stdout.flush()
