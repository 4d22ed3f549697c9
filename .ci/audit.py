"""Looks the installed dependencies up among the known vulnerabilities, if the service that knows them can be reached.

Without it nothing can be said, and nothing fails: it needs the network, which the other checks do not.
"""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from typing import Final

# What each service answers about a version with known vulnerabilities has to mention them.
_SERVICES: Final = {
    "pypi": ("https://pypi.org/pypi/celery/4.4.0/json", None, "vulnerabilities"),
    "osv": (
        "https://api.osv.dev/v1/query",
        json.dumps({"package": {"name": "celery", "ecosystem": "PyPI"}, "version": "4.4.0"}).encode(),
        "vulns",
    ),
}
_TIMEOUT: Final = 10


def answers(url: str, data: bytes | None, key: str) -> bool:
    """Tell whether a service can be reached, and knows what it should."""
    try:
        with urllib.request.urlopen(url, data, timeout=_TIMEOUT) as response:  # noqa: S310  # of those above
            return bool(json.load(response).get(key))
    except (urllib.error.URLError, TimeoutError, ValueError, OSError):
        return False


def main() -> int:
    """Audit this environment."""
    service = next((name for name, request in _SERVICES.items() if answers(*request)), None)
    if service is None:
        sys.stdout.write("audit: SKIPPED, no service that knows vulnerabilities can be reached\n")
        return 0
    command = ["--vulnerability-service", service, "--skip-editable", "--progress-spinner", "off"]
    return subprocess.run([sys.executable, "-m", "pip_audit", *command], check=False).returncode  # noqa: S603


if __name__ == "__main__":
    sys.exit(main())
