"""What another server answers when it does not answer, in the one form of this program's errors."""

import json
from typing import Any

import httpx

from thermoscope.errors import UpstreamFailed, UpstreamUnreachable

TIMED_OUT = 504
LONGEST = 500  # characters of what it said that are passed on


def refused(status: int, body: bytes, retry_after: str | None = None) -> UpstreamFailed:
    """An answer that is no success, or an event in a stream that is an error.

    Its 4xx keeps status and message; 409, on which old clients try again for ever, and 422, which they have
    no name for, become 400. Its 5xx is 502 here, other than 503, which says that it may work later.
    """
    said = _error(body)
    message = str(said.get("message") or said.get("detail") or body.decode("utf-8", "replace")).strip()
    told = f"upstream: {message[:LONGEST] or f'got HTTP {status} and no message'}"
    if status in (409, 422):
        status = 400
    elif status != 503 and not 400 <= status < 500:  # a redirect, too, for it is not followed
        status = 502
    usual = "server_error" if status >= 500 else "invalid_request_error"
    kind, param, code = (said.get(key) for key in ("type", "param", "code"))
    return UpstreamFailed(
        told,
        status=status,
        kind=kind if isinstance(kind, str) else usual,
        param=param if isinstance(param, str) else None,
        code=code if isinstance(code, str) else None,  # some servers write the status here
        retry_after=retry_after,
    )


def unreachable(url: str, error: httpx.HTTPError) -> UpstreamUnreachable:
    """No answer at all, or one that broke off."""
    reason = str(error) or type(error).__name__
    if isinstance(error, httpx.TimeoutException):
        return UpstreamUnreachable(
            f"upstream: {url} did not answer in time ({reason}); try again.", status=504
        )
    return UpstreamUnreachable(f"upstream: {url} cannot be reached ({reason}); see whether it runs.")


def broken_off(url: str) -> UpstreamUnreachable:
    """A stream without its end."""
    return UpstreamUnreachable(f"upstream: {url} broke off its answer; try again.")


def parsed(data: bytes, url: str) -> dict[str, Any]:
    """The object that an answer is.

    **Errors:** `UpstreamFailed` for what is none, and for what could not go on to a client: NaN and infinity,
    which JSON lacks, and half a surrogate pair.
    """
    try:
        plain = json.loads(data, parse_constant=_refuse)
        json.dumps(plain, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        plain = None
    if isinstance(plain, dict):
        return plain
    got = data.decode("utf-8", "replace")[:LONGEST]
    raise UpstreamFailed(f"upstream: got {got} from {url}, expected an answer in OpenAI's form.")


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _error(body: bytes) -> dict[str, Any]:
    """The object that holds the message: OpenAI's is inside `error`, older servers' is the whole body."""
    try:
        plain = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(plain, dict):
        return {}
    inner = plain.get("error", plain)
    return inner if isinstance(inner, dict) else {"message": inner}
