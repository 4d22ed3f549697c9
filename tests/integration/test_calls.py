"""How many functions of ours one message passes in a gevent worker with Redis."""

import json
import re

import pytest

from tests.integration.stations import station
from tests.waiting import eventually

pytestmark = [pytest.mark.services, pytest.mark.timeout(420)]

TASKS = 200

# Fewer is better: whoever adds one looks for one to take away. The handler's component has a dependency that is shared
# in the scope "task", and a hook.
MOST_CALLED = 120

# On the stacks of the greenlet that waits and of the coroutine, when the handler begins.
MOST_FRAMES = 12


def test_a_message_passes_only_so_many_functions_and_frames() -> None:
    with station("redis") as place:
        place.let_go("key")
        with place.worker("--without-mingle", "--without-gossip", app="calls") as worker:
            tasks = [place.send("late", "key") for _ in range(TASKS)]
            place.until("cleaned up", *tasks)
            eventually(lambda: {place.state(task) for task in tasks} == {"SUCCESS"})
            worker.stop()
        [counted] = re.findall(r"CALLS (\{.*\})", worker.log)
        calls: dict[str, int] = json.loads(counted)
        # Comprehensions are functions of their own up to Python 3.11.
        passed = sorted(name for name, count in calls.items() if count >= TASKS and "comp>" not in name)
        assert 20 < len(passed) <= MOST_CALLED, "\n".join(passed)
        [counted] = re.findall(r"FRAMES (\{.*\})", worker.log)
        frames: dict[str, int] = json.loads(counted)
        assert len(frames) == 2, frames
        assert sum(frames.values()) <= MOST_FRAMES, frames
