"""What to do about a server that refuses, or does not answer as it should."""

from typing import Final

_TLS: Final = ("rediss", "amqps", "rediss+socket")
_REFUSED: Final = (
    "access_refused",
    "authentication",
    "login was refused",
    "noauth",
    "password",
    "wrongpass",
)
_NO_VHOST: Final = ("not_allowed", "vhost")
_NO_TLS: Final = ("timeout", "timed out", "did not answer", "ssl", "closed", "reset")


def connection_hint(problem: str, url: str, setting: str) -> str:
    """Return what to look at, given what was said of a connection, or an empty string.

    Args:
        problem: What was said.
        url: The server's URL; it may be masked.
        setting: The setting that has the URL.

    Example:
        >>> connection_hint("WRONGPASS invalid username-password pair", "redis://:**@cache/0", "backend_url")
        'Check user and password in backend_url.'
    """
    said = problem.lower()
    if any(word in said for word in _NO_VHOST):
        return (
            f"Check the virtual host, which is what comes after the server in {setting}, and that the user may use it."
        )
    if any(word in said for word in _REFUSED):
        return f"Check user and password in {setting}."
    scheme = url.partition("://")[0]
    if scheme in _TLS and any(word in said for word in _NO_TLS):
        plain = scheme.replace("rediss", "redis").replace("amqps", "amqp")
        return (
            f"{scheme}:// in {setting} means TLS: check that the server speaks it on this port. If it does not, write "
            f"{plain}://."
        )
    return ""
