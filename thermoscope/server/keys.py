"""Who may ask: whoever shows one of the server's keys. /health is open, so that a supervisor can look."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from thermoscope.server.errors import respond

OPEN = "/health"
API = "/v1/"
REALM = 'Basic realm="Thermoscope, any name and the key as password", charset="UTF-8"'


class Keys:
    """Answers those who show a key, as OpenAI's clients do: `Authorization: Bearer KEY`; all others get 401.

    A browser that opens the page has no such header, so it may show the key as a password under any name
    (`Basic`); outside of /v1/, where clients ask and no people, it is told that it may, and asks for it.
    """

    def __init__(self, app: ASGIApp, keys: Iterable[str]) -> None:
        self.app = app
        self._digests = [_digest(key.encode()) for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102
        if scope["type"] != "http" or scope["path"] == OPEN:
            await self.app(scope, receive, send)
            return
        given = _key(Headers(scope=scope).get("authorization", ""))
        if given is not None and self._known(given):
            await self.app(scope, receive, send)
            return
        got = "none" if given is None else "another"
        refusal = HTTPException(
            401,
            f"API key: got {got}, expected one that this server was started with, "
            "as in the header Authorization: Bearer KEY.",
            {"WWW-Authenticate": "Bearer" if scope["path"].startswith(API) else REALM},
        )
        await respond(refusal)(scope, receive, send)

    def _known(self, given: bytes) -> bool:
        """Every key is compared, and all of each, so that the time tells nothing."""
        digest = _digest(given)
        return sum(hmac.compare_digest(digest, each) for each in self._digests) > 0


def _key(authorization: str) -> bytes | None:
    scheme, _, credentials = authorization.partition(" ")
    shown = credentials.strip().encode("latin-1")  # as headers come
    match scheme.lower():
        case "bearer":
            return shown
        case "basic":
            try:
                return base64.b64decode(shown, validate=True).partition(b":")[2]
            except binascii.Error:
                return None
    return None


def _digest(key: bytes) -> bytes:
    """Of equal length for every key: a comparison's time would tell a key's length."""
    return hashlib.sha256(key).digest()
