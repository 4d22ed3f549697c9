"""Suggestions for misspelt words."""

import difflib
from collections.abc import Iterable


def near_miss(word: str, known: Iterable[str], cutoff: float = 0.7) -> str:
    """Return the known word that `word` was probably meant to be, or an empty string.

    Args:
        word: The word that is not known.
        known: The words that are.
        cutoff: How similar the two must be, from 0 to 1.

    Example:
        >>> near_miss("max_retry", ["max_retries", "queue"])
        'max_retries'
    """
    return next(iter(difflib.get_close_matches(word, known, n=1, cutoff=cutoff)), "")
