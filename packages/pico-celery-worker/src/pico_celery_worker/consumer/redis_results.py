"""Results in Redis, of which those that are ready at the same time are stored together.

Celery 5.7 makes two round trips for a result: it looks whether a success is stored already, which nothing may
overwrite, and then stores the result and announces it. Here a script does that for all results that wait, in one. The
keys, and what is stored and announced, are Celery's.

Read in Celery 5.7.0; tests/unit/worker/consumer/test_redis_results.py holds it to Celery's backend.
"""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Final, TypeAlias

from celery import states
from celery.backends.redis import CHORD_PART_RETURN_LUA, RedisBackend, SentinelBackend
from kombu.utils.encoding import bytes_to_str
from redis.exceptions import NoPermissionError, NoScriptError
from redis.exceptions import TimeoutError as RedisTimeoutError

from pico_celery_worker.consumer.attempts import LONGEST_DELAY, attempt, attempt_with_connection
from pico_celery_worker.group_commit import GroupCommit
from pico_celery_worker.pools import in_cold_shutdown

logger = logging.getLogger(__name__)

# Part of kombu has types, and this has not.
_text: Any = bytes_to_str

# KEYS: where the results are kept. ARGV: for each, the result, and for how many seconds to keep it; 0 for ever.
# It returns for each what has become of it, or an error.
_STORE: Final = """
local outcomes = {}
local function store(key, result, seconds)
  local present = redis.pcall('GET', key)
  if type(present) == 'table' then return present end
  if present then
    local ok, meta = pcall(cjson.decode, present)
    if not ok or type(meta) ~= 'table' or type(meta.status) ~= 'string' then return 'unknown' end
    if meta.status == 'SUCCESS' then return 'kept' end
  end
  local stored
  if seconds == '0' then
    stored = redis.pcall('SET', key, result)
  else
    stored = redis.pcall('SETEX', key, seconds, result)
  end
  if stored.err then return stored end
  local announced = redis.pcall('PUBLISH', key, result)
  if type(announced) == 'table' then return announced end
  return 'stored'
end
for i, key in ipairs(KEYS) do
  outcomes[i] = store(key, ARGV[2 * i - 1], ARGV[2 * i])
end
return outcomes
"""

# What the script says of a result where it cannot tell what is stored already: it is left to Celery.
_UNKNOWN: Final = b"unknown"


@dataclass(frozen=True, slots=True)
class _Result:
    key: Any
    value: Any
    seconds: int


@dataclass(frozen=True, slots=True)
class _ChordPart:
    keys: Sequence[Any]
    args: Sequence[Any]


_Item: TypeAlias = _Result | _ChordPart


def can_store_together(kind: type[Any]) -> bool:
    """Tell whether a backend is Celery's to Redis, or to Redis with Sentinel. One derived from it may store otherwise.

    Args:
        kind: The backend's class, which may be what the core has made of it.
    """
    return getattr(kind, "plain_backend", kind) in (RedisBackend, SentinelBackend)


class StoresTogether:
    """Comes before one of Celery's backends to Redis."""

    _MAX_STR_VALUE_SIZE: int

    app: Any
    client: Any
    compression: Any
    current_task_children: Callable[[Any], Any]
    encode: Callable[[Any], Any]
    ensure: Callable[..., Any]
    expires: int | None
    failure_expires: int | None
    get_key_for_task: Callable[[str], Any]
    serializer: str

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._commits: GroupCommit[_Item, Any] = GroupCommit("store", self._commit, (TimeoutError, RedisTimeoutError))
        # The script can read what is stored in JSON alone.
        self._may_run_script = self.serializer == "json" and not self.compression

    def _store_result(
        self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **kwargs: Any
    ) -> Any:
        """Store a result together with those that wait: Celery's hook for what a backend does to store one."""
        backend: Any = super()
        is_patient = state in states.READY_STATES and not in_cold_shutdown()
        longest = math.inf if is_patient else LONGEST_DELAY
        if self._may_run_script:
            meta = self._meta(result, state, traceback, request)
            meta["task_id"] = _text(task_id)
            value = self.encode(meta)
            if len(value) <= self._MAX_STR_VALUE_SIZE:
                seconds = self.failure_expires if state == states.FAILURE else self.expires
                item = _Result(self.get_key_for_task(task_id), value, seconds or 0)
                if self._commits.submit(item, size=len(value), longest=longest) != _UNKNOWN:
                    return result
        with attempt_with_connection(longest):
            return backend._store_result(task_id, result, state, traceback, request=request, **kwargs)  # noqa: SLF001

    def _meta(self, result: Any, state: str, traceback: Any, request: Any) -> dict[str, Any]:
        """Return what Celery stores of a result. It looks up its settings for each."""
        if self._is_extended:
            backend: Any = super()
            meta: dict[str, Any] = backend._get_result_meta(  # noqa: SLF001
                result=result, state=state, traceback=traceback, request=request
            )
            return meta
        is_ready = state in states.READY_STATES
        meta = {
            "status": state,
            "result": result,
            "traceback": traceback,
            "children": self.current_task_children(request),
            "date_done": datetime.now(self.app.timezone).isoformat() if is_ready else None,
        }
        if request and getattr(request, "group", None):
            meta["group_id"] = request.group
        if request and getattr(request, "parent_id", None):
            meta["parent_id"] = request.parent_id
        return meta

    @cached_property
    def _is_extended(self) -> bool:
        return bool(self.app.conf.result_extended)

    @cached_property
    def _chord_part_return_script(self) -> Callable[..., Any]:
        """What notes in Redis that a task of a chord has ended, together with what waits to be stored."""

        def note(keys: Sequence[Any], args: Sequence[Any], client: Any) -> Any:
            try:
                return self._commits.submit(_ChordPart(keys, args), size=len(args[1]))
            except NoScriptError:
                # Redis does not know the script yet.
                return self._chord_part_script(keys=keys, args=args, client=client)

        return note

    @cached_property
    def _chord_part_script(self) -> Any:
        return self.client.register_script(CHORD_PART_RETURN_LUA)

    def _commit(self, items: Sequence[_Item]) -> Sequence[Any]:
        with attempt():
            outcomes: Sequence[Any] = self.ensure(self._run, (items,))
        return outcomes

    def _run(self, items: Sequence[_Item]) -> Sequence[Any]:
        results = [item for item in items if isinstance(item, _Result)]
        parts = [item for item in items if isinstance(item, _ChordPart)]
        with self.client.pipeline(transaction=False) as pipe:
            if results:
                keys = [result.key for result in results]
                pipe.eval(_STORE, len(keys), *keys, *(arg for r in results for arg in (r.value, r.seconds)))
            for part in parts:
                pipe.evalsha(self._chord_part_script.sha, len(part.keys), *part.keys, *part.args)
            answers = pipe.execute(raise_on_error=False)
        stored = iter(self._outcomes(answers.pop(0), len(results)) if results else ())
        noted = iter(answers)
        return [next(stored) if isinstance(item, _Result) else next(noted) for item in items]

    def _outcomes(self, answer: Any, count: int) -> Sequence[Any]:
        """Return what has become of each result that the script was given."""
        if isinstance(answer, NoPermissionError):
            logger.warning("Redis lets results be stored one by one only (%s). Allow the worker's user EVAL.", answer)
            self._may_run_script = False
            return [_UNKNOWN] * count
        return [answer] * count if isinstance(answer, Exception) else answer
