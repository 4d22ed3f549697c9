"""Text that somebody else has written, as a part of one line of a log."""

import re
from typing import Final

LONGEST: Final = 1024

_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e]")


def one_line(text: str, longest: int = LONGEST) -> str:
    r"""Return a text whose line breaks and other control characters are escaped, and which is cut off where it is long.

    Letters of any language stay as they are.

    Args:
        text: The text.
        longest: How many of its characters are kept.

    Example:
        >>> one_line("an id\n[2026-01-01: INFO] forged \x1b[2K")
        'an id\\n[2026-01-01: INFO] forged \\x1b[2K'
    """
    if len(text) > longest:
        text = text[:longest] + "..."
    return text if text.isprintable() else _UNPRINTABLE.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    return found[0] if found[0].isprintable() else found[0].encode("unicode_escape").decode()
