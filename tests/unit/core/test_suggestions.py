"""A misspelt word gets a suggestion, and another one none."""

import pytest

from pico_celery_core.suggestions import near_miss


@pytest.mark.parametrize(("word", "meant"), [("max_retry", "max_retries"), ("que", "queue"), ("xyzzy", ""), ("", "")])
def test_a_near_miss_is_the_known_word_that_was_probably_meant(word, meant):
    assert near_miss(word, ["max_retries", "queue", "priority"]) == meant
