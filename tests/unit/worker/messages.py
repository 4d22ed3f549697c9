"""Strategies for messages: as Celery sends them, nearly so, and not at all."""

import json
from typing import Any

from hypothesis import strategies as st

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)
limits = st.none() | st.lists(st.none() | st.integers(-1, 100), max_size=3) | values

# What Celery says of a message, and what a message might say instead.
OTHER_HEADERS = {
    "lang": values,
    "root_id": values,
    "parent_id": values,
    "group": values,
    "meth": values,
    "shadow": values,
    "eta": st.datetimes().map(str) | values,
    "expires": st.datetimes().map(str) | values,
    "retries": st.integers(0, 3) | values,
    "timelimit": limits,
    "argsrepr": values,
    "kwargsrepr": values,
    "origin": values,
    "ignore_result": values,
    "replaced_task_nesting": values,
    "stamped_headers": values,
    "stamps": values,
    "compression": st.sampled_from(["application/x-gzip", "application/x-nothing"]) | values,
    "called_directly": values,
    "is_eager": values,
    "callbacks": values,
    "chord": values,
    "args": values,
    "kwargs": values,
    "hostname": values,
    "delivery_info": values,
}
LINKS = ("callbacks", "errbacks", "chain", "chord")

content_types = st.sampled_from(["application/json"] * 6 + ["application/x-python-serialize", "text/plain", "", "x"])
encodings = st.sampled_from(["utf-8"] * 6 + ["binary", "utf-16", "nothing-8"])


def headers(task: str, *, without: tuple[str, ...] = ()) -> st.SearchStrategy[dict[str, Any]]:
    """Return headers of messages for a task, or for anything."""
    optional = {name: strategy for name, strategy in OTHER_HEADERS.items() if name not in without}
    required = {"task": st.just(task) | values, "id": st.uuids().map(str) | values}
    return st.fixed_dictionaries(required, optional=optional)


def payloads(task: str) -> st.SearchStrategy[bytes]:
    """Return bodies of messages for a task, or for anything."""
    embedded = st.fixed_dictionaries({}, optional=dict.fromkeys(LINKS, values))
    bodies = st.one_of(
        st.tuples(st.lists(values, max_size=3), st.dictionaries(st.text(max_size=5), values, max_size=2), embedded),
        st.tuples(values, values, values),
        st.fixed_dictionaries({"task": st.just(task) | values, "id": values, "args": values, "kwargs": values}),
        values,
    )
    return bodies.map(json.dumps).map(str.encode) | st.binary(max_size=40)
