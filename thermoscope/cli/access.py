"""Who may ask a server, as the command line says it: keys, and sites whose pages may."""

import os
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from thermoscope.errors import InvalidRequest

VARIABLE = "THERMOSCOPE_API_KEY"


def keys(given: Iterable[str]) -> list[str]:
    """Keys as they stand, or those in files, as `@FILE`, a line each; or that of the environment.

    No message shows one.
    """
    if not given and os.environ.get(VARIABLE):
        given = [os.environ[VARIABLE]]
    return [key for each in given for key in _keys(each)]


def origin(given: str) -> str:
    """A site as browsers name it in the header Origin: scheme, host, port; nothing behind."""
    site = urlsplit(given)
    if given != "*" and (site.scheme not in ("http", "https") or f"{site.scheme}://{site.netloc}" != given):
        raise InvalidRequest(f"--allow-origin: got {given!r}, expected such as https://app.example, or *.")
    return given


def _keys(given: str) -> list[str]:
    keys = [given]
    if given.startswith("@"):
        try:
            lines = Path(given[1:]).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeError) as error:
            raise InvalidRequest(f"--api-key: got {given}, expected a text file ({error}).") from error
        keys = [line.strip() for line in lines if line.strip()]
        if not keys:
            raise InvalidRequest(f"--api-key: got {given}, a file without a key, expected one on each line.")
    if any(not key.isprintable() or key != key.strip() or not key for key in keys):
        raise InvalidRequest(
            "--api-key: got one that is empty or has control characters or spaces around it; "
            "make one with: openssl rand -hex 24."
        )
    return keys
