"""Text of others is one line, of a length that one can read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_celery_core.one_line import LONGEST, one_line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("an id", "an id"),
        ("größer 注文 ✓", "größer 注文 ✓"),
        ("a\nb\r\x1b[2K\0", "a\\nb\\r\\x1b[2K\\x00"),
        ("a\u2028b\u202ec\x85d\ud800", "a\\u2028b\\u202ec\\x85d\\ud800"),
        ("x" * LONGEST, "x" * LONGEST),
        ("x" * 200_000, "x" * LONGEST + "..."),
    ],
)
def test_what_would_leave_the_line_is_escaped(text, shown):
    assert one_line(text) == shown


@given(st.text())
def test_it_is_one_line_whatever_it_is(text):
    assert one_line(text).isprintable()
    assert len(one_line(text, 10)) <= 10 * len("\\U0001f600") + 3
